/// The list of a base model's tensors. Equal manifests prove that two workers hold the same weights.
public struct BaseManifest: Hashable, Sendable {
    /// A tensor of the base model.
    public struct Entry: Hashable, Sendable {
        /// Hugging Face name of the tensor.
        public let name: String
        public let shape: TensorShape
        /// SHA-256 of the values as little-endian F32, row-major.
        public let digest: Digest
        public init(name: String, shape: TensorShape, digest: Digest) {
            self.name = name
            self.shape = shape
            self.digest = digest
        }
    }

    /// All tensors of the model, sorted by the UTF-8 bytes of their names.
    public let entries: [Entry]

    /// Sorts `entries`. Returns nil if a name occurs twice.
    public init?(entries: [Entry]) {
        let sorted = entries.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        for (a, b) in zip(sorted, sorted.dropFirst()) where a.name.utf8.elementsEqual(b.name.utf8) { return nil }
        self.entries = sorted
    }

    /// - Parameter entries: in the order of their names; no name occurs twice.
    init(sorted entries: [Entry]) { self.entries = entries }

    /// Returns the differences between a worker's base and this one, in the order of the names; empty if the two are the same.
    public func differences(from other: BaseManifest) -> [String] {
        // Both are in the order of the names' bytes. Strings that only look the same (é as one character or two) are two names here, although Swift
        // calls them equal.
        var found: [String] = []
        var (mine, theirs) = (entries[...], other.entries[...])
        while mine.first != nil || theirs.first != nil {
            let entry = mine.first
            let match = theirs.first
            if let entry, match.map({ entry.name.utf8.lexicographicallyPrecedes($0.name.utf8) }) ?? true {
                found.append("\(entry.name) is missing")
                mine = mine.dropFirst()
            } else if let match, entry.map({ match.name.utf8.lexicographicallyPrecedes($0.name.utf8) }) ?? true {
                found.append("\(match.name) is not in the run's base")
                theirs = theirs.dropFirst()
            } else if let entry, let match {
                if match.shape != entry.shape {
                    found.append("\(entry.name) has the shape \(match.shape), not \(entry.shape)")
                } else if match.digest != entry.digest {
                    let digests = match.digest.contrasted(with: entry.digest)
                    found.append("\(entry.name) has other values (\(digests.own), not \(digests.other))")
                }
                (mine, theirs) = (mine.dropFirst(), theirs.dropFirst())
            }
        }
        return found
    }
}
