/// Tokens that are found in the text itself, before any pattern or merge, such as `<|im_start|>`.
package struct AddedTokens: Sendable {
    package struct Entry: Hashable, Sendable {
        package let token: Int32
        /// The token's text as UTF-8.
        package let content: [UInt8]
        /// Whether it is a control token. Control tokens are matched only where the caller allows it, so that a user's text can't forge a
        /// turn.
        package let isSpecial: Bool
        /// Whether the token includes the white space before it.
        package var stripsLeft = false
        /// Whether the token includes the white space after it.
        package var stripsRight = false
        /// Whether it is matched only if no letter, digit or underscore touches it.
        package var isSingleWord = false
        /// Whether the token, in normalised form, is matched in the normalised text. If false, it is matched in the original text, before
        /// the tokens of the first kind.
        package var isNormalized = false

        package init(
            token: Int32, content: [UInt8], isSpecial: Bool, stripsLeft: Bool = false, stripsRight: Bool = false,
            isSingleWord: Bool = false,
            isNormalized: Bool = false
        ) {
            self.token = token
            self.content = content
            self.isSpecial = isSpecial
            self.stripsLeft = stripsLeft
            self.stripsRight = stripsRight
            self.isSingleWord = isSingleWord
            self.isNormalized = isNormalized
        }
    }

    package let entries: [Entry]
    let raw: TokenFinder
    let normalized: TokenFinder

    package init(_ entries: [Entry], normalizer: Normalizer? = nil) {
        self.entries = entries
        raw = TokenFinder(entries.filter { !$0.isNormalized }.map { ($0.content, $0) })
        normalized = TokenFinder(
            entries.filter(\.isNormalized).map { entry in
                guard let normalizer else { return (entry.content, entry) }
                let text = entry.content.withUnsafeBufferPointer { AlignedText($0[...]) }
                return (normalizer.apply(text).bytes, entry)
            })
    }
}

/// Finds added tokens in a text: the leftmost first, and the longest of those that begin at the same place.
struct TokenFinder: Sendable {
    private struct Target: Sendable {
        let text: [UInt8]
        let entry: AddedTokens.Entry
    }

    /// Tokens by their first byte, the longest first.
    private let byFirstByte: [[Target]]
    private let isEmpty: Bool

    init(_ targets: [(text: [UInt8], entry: AddedTokens.Entry)]) {
        var byFirstByte = [[Target]](repeating: [], count: 256)
        for (text, entry) in targets { if let first = text.first { byFirstByte[Int(first)].append(Target(text: text, entry: entry)) } }
        self.byFirstByte = byFirstByte.map { $0.sorted { $0.text.count > $1.text.count } }
        isEmpty = targets.allSatisfy(\.text.isEmpty)
    }

    /// Splits a range of a text at the tokens. In order, `textBody` receives each stretch of plain text and `tokenBody` each token with its
    /// range.
    ///
    /// - Parameter allows: whether a control token at this range is recognised.
    func split(
        _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, allows: (AddedTokens.Entry, Range<Int>) -> Bool,
        text textBody: (Range<Int>) -> Void,
        token tokenBody: (Int32, Range<Int>) -> Void
    ) {
        var start = range.lowerBound
        var i = isEmpty ? range.upperBound : start
        while i < range.upperBound {
            let candidates = byFirstByte[Int(text[i])]
            guard !candidates.isEmpty,
                let match = candidates.first(where: {
                    $0.text.count <= range.upperBound - i && text[i..<i + $0.text.count].elementsEqual($0.text)
                })
            else {
                i += 1
                continue
            }
            var found = i..<i + match.text.count
            i = found.upperBound
            guard allows(match.entry, found), !match.entry.isSingleWord || isAlone(text, range, found) else { continue }
            if match.entry.stripsLeft {
                while found.lowerBound > start, let before = Self.space(before: found.lowerBound, text, start) {
                    found = before..<found.upperBound
                }
            }
            if match.entry.stripsRight {
                while found.upperBound < range.upperBound, ScalarSet.spaces.contains(PieceScanner.scalar(text, found.upperBound)) {
                    found = found.lowerBound..<found.upperBound + scalarLength(text[found.upperBound])
                }
            }
            if start < found.lowerBound { textBody(start..<found.lowerBound) }
            tokenBody(match.entry.token, found)
            start = found.upperBound
            i = max(i, start)
        }
        if start < range.upperBound { textBody(start..<range.upperBound) }
    }

    /// Returns the start of the white space that ends here.
    private static func space(before end: Int, _ text: UnsafeBufferPointer<UInt8>, _ first: Int) -> Int? {
        var start = end - 1
        while start > first, text[start] & 0xc0 == 0x80 { start -= 1 }
        return ScalarSet.spaces.contains(PieceScanner.scalar(text, start)) ? start : nil
    }

    private func isAlone(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ found: Range<Int>) -> Bool {
        if found.upperBound < range.upperBound, ScalarSet.words.contains(PieceScanner.scalar(text, found.upperBound)) { return false }
        guard found.lowerBound > range.lowerBound else { return true }
        var before = found.lowerBound - 1
        while before > range.lowerBound, text[before] & 0xc0 == 0x80 { before -= 1 }
        return !ScalarSet.words.contains(PieceScanner.scalar(text, before))
    }
}
