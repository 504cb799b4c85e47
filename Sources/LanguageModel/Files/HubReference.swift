/// `org/name` or `org/name@revision`: a repository of the Hugging Face hub.
package struct HubReference: Hashable {
    package let organisation: String
    package let name: String
    /// A branch, a tag or a commit.
    package let revision: String

    /// Returns nil for text that can't be a repository's name. The check is strict, since the parts become directory names and parts of
    /// URLs.
    package init?(_ text: String) {
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        let names = parts[0].split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        revision = parts.count == 2 ? String(parts[1]) : "main"
        guard names.count == 2, (names + [revision]).allSatisfy(Self.isPlainName) else { return nil }
        organisation = names[0]
        name = names[1]
    }

    /// Whether text is a single path component of harmless characters that does not begin with a dot.
    package static func isPlainName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 96 && !text.hasPrefix(".") && !text.contains("--")
            && text.utf8.allSatisfy { byte in
                Character(Unicode.Scalar(byte)).isLetter && byte < 0x80 || (0x30...0x39).contains(byte) || [0x2d, 0x2e, 0x5f].contains(byte)
            }
    }

    package var repository: String { "\(organisation)/\(name)" }
    /// Name of its directory in the cache.
    package var directory: String { "models--\(organisation)--\(name)" }
}
