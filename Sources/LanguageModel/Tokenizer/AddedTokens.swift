/// Tokens that are found in the text itself, before any pattern or merge: `<|im_start|>` and its like.
package struct AddedTokens: Sendable {
    package struct Entry: Hashable, Sendable {
        package let token: Int32
        /// The text that it stands for, as UTF-8.
        package let content: [UInt8]
        /// A control token: matched only where the caller allows it, so that a user's text can't forge a turn.
        package let isSpecial: Bool
    }

    package let entries: [Entry]
    /// By the first byte; the longest first.
    private let byFirstByte: [[Entry]]
    private let hasPlain: Bool

    package init(_ entries: [Entry]) {
        self.entries = entries
        var byFirstByte = [[Entry]](repeating: [], count: 256)
        for entry in entries { if let first = entry.content.first { byFirstByte[Int(first)].append(entry) } }
        self.byFirstByte = byFirstByte.map { $0.sorted { $0.content.count > $1.content.count } }
        hasPlain = entries.contains { !$0.isSpecial }
    }

    /// Cuts a text at its added tokens: `body` gets each stretch of text that is none, and each added token, in order.
    /// Leftmost match first, the longest of those that begin there.
    package func split(
        _ text: UnsafeBufferPointer<UInt8>, allowSpecial: Bool, text textBody: (Range<Int>) -> Void, token tokenBody: (Int32) -> Void
    ) {
        var start = 0
        if allowSpecial || hasPlain {
            var i = 0
            while i < text.count {
                let match = byFirstByte[Int(text[i])].first { entry in
                    (allowSpecial || !entry.isSpecial) && entry.content.count <= text.count - i
                        && text[i..<i + entry.content.count].elementsEqual(entry.content)
                }
                guard let match else {
                    i += 1
                    continue
                }
                if start < i { textBody(start..<i) }
                tokenBody(match.token)
                i += match.content.count
                start = i
            }
        }
        if start < text.count { textBody(start..<text.count) }
    }
}
