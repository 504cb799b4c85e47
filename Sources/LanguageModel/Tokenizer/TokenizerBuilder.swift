/// What both file formats say about a tokenizer, checked and put together in one place.
package struct TokenizerBuilder {
    package let file: String
    package let preTokenizer: PreTokenizer
    package var normalizer = Tokenizer.Normalizer.none
    package var ignoresMerges = false
    /// In the byte alphabet, in the order of their ranks.
    package var merges: [(left: String, right: String)] = []
    package var leadingTokens: [Int32] = []
    package var bosToken: Int32?
    package var eosToken: Int32?
    package var padToken: Int32?
    /// Stands for bytes that no token has; they vanish where it is nil, which is the usual case.
    package var unknownByteToken: Int32?

    private var tokens: [Int32: [UInt8]] = [:]
    private var added: [AddedTokens.Entry] = []
    private var addedTokens: Set<Int32> = []

    /// A vocabulary of millions is no vocabulary.
    package static let tokensMax: Int32 = 4_000_000

    package init(file: String, preTokenizer: PreTokenizer) {
        self.file = file
        self.preTokenizer = preTokenizer
    }

    /// A token of the byte-pair vocabulary.
    ///
    /// - Parameter text: in the byte alphabet. A few vocabularies hold text outside of it; such a token stands for its UTF-8.
    package mutating func vocabularyToken(_ token: Int32, text: String) throws(ModelError) {
        try check(token)
        let bytes = ByteAlphabet.bytes(of: text.unicodeScalars) ?? Array(text.utf8)
        guard tokens.updateValue(bytes, forKey: token) == nil else {
            throw ModelError(.malformed, file: file, subject: "token \(token)", "appears twice in the vocabulary")
        }
    }

    /// A token that is found in the text as it stands. It may be in the vocabulary too.
    package mutating func addToken(_ token: Int32, content: [UInt8], isSpecial: Bool) throws(ModelError) {
        try check(token)
        guard addedTokens.insert(token).inserted else {
            throw ModelError(.malformed, file: file, subject: "token \(token)", "is added twice")
        }
        tokens[token] = content
        added.append(AddedTokens.Entry(token: token, content: content, isSpecial: isSpecial))
    }

    private func check(_ token: Int32) throws(ModelError) {
        guard (0..<Self.tokensMax).contains(token) else {
            throw ModelError(.malformed, file: file, subject: "token \(token)", "is not between 0 and \(Self.tokensMax)")
        }
    }

    package func build() throws(ModelError) -> Tokenizer {
        guard let last = tokens.keys.max() else { throw ModelError(.malformed, file: file, "has no tokens") }
        var table = StringTable()
        for token in 0...last { table.append(tokens[token] ?? []) }
        let addedTokens = Set(added.map(\.token))
        let vocabulary = Vocabulary(tokens: table) { !addedTokens.contains(Int32($0)) }

        var list: [BytePairMerges.Merge] = []
        list.reserveCapacity(merges.count)
        for (left, right) in merges {
            let leftBytes = ByteAlphabet.bytes(of: left.unicodeScalars) ?? Array(left.utf8)
            let rightBytes = ByteAlphabet.bytes(of: right.unicodeScalars) ?? Array(right.utf8)
            guard let leftToken = vocabulary.token(leftBytes), let rightToken = vocabulary.token(rightBytes),
                let merged = vocabulary.token(leftBytes + rightBytes)
            else {
                throw ModelError(
                    .malformed, file: file, subject: "merge \(list.count) (\(left) \(right))",
                    "names a token that the vocabulary does not have")
            }
            list.append(BytePairMerges.Merge(left: leftToken, right: rightToken, merged: merged))
        }
        let byteTokens = (0..<256).map { vocabulary.token([UInt8($0)]) ?? -1 }
        return Tokenizer(
            vocabulary: vocabulary, merges: BytePairMerges(byteTokens: byteTokens, unknown: unknownByteToken, merges: list),
            mergeList: list, preTokenizer: preTokenizer, normalizer: normalizer, added: AddedTokens(added), ignoresMerges: ignoresMerges,
            leadingTokens: leadingTokens, bosToken: bosToken, eosToken: eosToken, padToken: padToken)
    }
}
