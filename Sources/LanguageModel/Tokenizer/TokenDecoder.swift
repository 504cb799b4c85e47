/// How tokens become text.
package struct TokenDecoder: Hashable, Sendable {
    /// What a token's text has in place of a space: SentencePiece's `▁`. Nil for byte-level vocabularies.
    package var space: String?
    /// Whether a space at the very beginning is dropped.
    package var stripsFirstSpace = false

    package static let byteLevel = TokenDecoder()
    package static let sentencePiece = TokenDecoder(space: "▁", stripsFirstSpace: true)

    package init(space: String? = nil, stripsFirstSpace: Bool = false) {
        self.space = space
        self.stripsFirstSpace = stripsFirstSpace
    }

    /// Returns the bytes that a token of the vocabulary stands for.
    func bytes(_ text: [UInt8]) -> [UInt8] {
        guard let space else { return text }
        if let byte = Self.byte(text) { return [byte] }
        return String(decoding: text, as: UTF8.self).replacing(space, with: " ").utf8.map { $0 }
    }

    /// Parses a byte token such as `<0x0A>`; nil for other text.
    static func byte(_ text: [UInt8]) -> UInt8? {
        guard text.count == 6, text.starts(with: Array("<0x".utf8)), text[5] == UInt8(ascii: ">") else { return nil }
        return UInt8(String(decoding: text[3...4], as: UTF8.self), radix: 16)
    }
}
