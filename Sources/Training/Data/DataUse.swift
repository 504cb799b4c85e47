import Core
import Glibc
import LanguageModel

/// What a run's files are used for, and which examples two uses share. Data are held out only if they neither train nor steer.
public struct DataUse: Sendable {
    /// Uses of a file in a run: it trains the run, steers it, or judges it.
    public enum Use: String, Hashable, Sendable, CaseIterable {
        case training, validation, evaluation
    }

    /// Examples of one use that another use also has.
    public struct Overlap: Hashable, Sendable {
        /// The use whose data overlap.
        public let use: Use
        /// The other use.
        public let with: Use
        /// Number of examples of `use`; `shared` of them are also examples of `with`.
        public let examples: Int
        public let shared: Int
        /// File of `use`.
        public let path: String
        /// File of `with`.
        public let otherPath: String
        /// Whether both uses read the same file, possibly under two names.
        public let isSameFile: Bool

        /// Whether every example is shared.
        public var isWhole: Bool { shared == examples }
    }

    private struct Part {
        let path: String
        /// Keys of the examples, in order.
        let keys: [Int]
    }

    private var parts: [Use: Part] = [:]

    public init() {}

    /// Notes what a use's file holds.
    ///
    /// Two examples count as the same if the model sees the same tokens, whatever their labels and unused fields say: a model that was
    /// trained on a text has seen it.
    public mutating func note(_ use: Use, path: String, _ examples: [Example]) {
        parts[use] = Part(path: path, keys: examples.map(Self.key))
    }

    /// Overlaps of evaluation data with training and validation data, and of validation data with training data. Uses that share no
    /// examples are left out.
    public var overlaps: [Overlap] {
        let pairs: [(Use, Use)] = [(.evaluation, .training), (.evaluation, .validation), (.validation, .training)]
        return pairs.compactMap { use, other in
            guard let part = parts[use], let against = parts[other] else { return nil }
            let known = Set(against.keys)
            let shared = part.keys.count { known.contains($0) }
            guard shared > 0 else { return nil }
            return Overlap(
                use: use, with: other, examples: part.keys.count, shared: shared, path: part.path, otherPath: against.path,
                isSameFile: Self.isSameFile(part.path, against.path))
        }
    }

    /// Returns 64 bits of a keyed hash. Two different examples among a million collide with a probability of 1 in 10 million.
    private static func key(_ example: Example) -> Int {
        var hasher = Hasher()
        for sequence in example.sequences { hasher.combine(sequence.tokens) }
        return hasher.finalize()
    }

    /// Whether two paths name the same file, or files with the same bytes.
    package static func isSameFile(_ a: String, _ b: String) -> Bool {
        var (first, second) = (stat(), stat())
        guard stat(a, &first) == 0, stat(b, &second) == 0 else { return false }
        if first.st_dev == second.st_dev, first.st_ino == second.st_ino { return true }
        guard first.st_size == second.st_size, let one = try? MappedFile(path: a), let other = try? MappedFile(path: b) else { return false }
        return withExtendedLifetime((one, other)) {
            guard one.count == other.count, let left = one.bytes.baseAddress, let right = other.bytes.baseAddress else {
                return one.count == other.count
            }
            return memcmp(left, right, one.count) == 0
        }
    }
}

extension DataUse.Overlap: CustomStringConvertible {
    /// The overlap as one sentence for the user.
    public var description: String {
        let role = use == .evaluation ? "the evaluation data" : "the validation data"
        let other = with == .training ? "the training data" : "the validation data"
        if isSameFile {
            let names = path == otherPath ? path : "\(path) and \(otherPath) are the same file: it"
            return "\(names) is both \(role) and \(other); \(Self.consequence(use))"
        }
        if isWhole { return "every example of \(path), \(role), is also in \(otherPath), \(other); \(Self.consequence(use))" }
        return "\(shared) of the \(examples) examples of \(path), \(role), are also in \(otherPath), \(other)"
    }

    private static func consequence(_ use: DataUse.Use) -> String {
        use == .evaluation
            ? "no example is held out, so the result says nothing about new data"
            : "the model has seen these examples, so they can't show when it stops to generalise"
    }
}
