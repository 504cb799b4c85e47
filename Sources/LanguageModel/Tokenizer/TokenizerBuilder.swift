/// Checks and combines what a file says about a tokenizer, for both file formats.
package struct TokenizerBuilder {
    package let file: String
    package let preTokenizer: PreTokenizer
    package var normalizer: Normalizer?
    package var decoder = TokenDecoder.byteLevel
    package var unit = BytePairMerges.Unit.bytes
    package var ignoresMerges = false
    package var leadingTokens: [Int32] = []
    package var trailingTokens: [Int32] = []
    package var bosToken: Int32?
    package var eosToken: Int32?
    package var padToken: Int32?
    /// Texts of special tokens by name, for chat templates; those of BOS, EOS and padding are added.
    package var specialTokenTexts: [String: String] = [:]
    /// The token for text that no token matches. If it is nil, which is usual, such text is dropped.
    package var unknownToken: Int32?

    private var tokens: [Int32: [UInt8]] = [:]
    /// Tokens that a piece of text can become.
    private var vocabularyTokens: Set<Int32> = []
    private var added: [AddedTokens.Entry] = []
    private var addedTokens: Set<Int32> = []
    /// Merges as pairs of texts in the order of their ranks; `scores` takes their place in other files.
    private var merges: [(left: [UInt8], right: [UInt8])] = []
    private var scores: (values: [Float], tokens: [Int32])?

    /// Largest number of tokens; no real vocabulary has millions more.
    package static let tokensMax: Int32 = 4_000_000

    /// - Parameter unit: `bytes` if the tokens' texts are in the byte alphabet; otherwise they are literal.
    package init(file: String, preTokenizer: PreTokenizer, unit: BytePairMerges.Unit = .bytes) {
        self.file = file
        self.preTokenizer = preTokenizer
        self.unit = unit
    }

    /// Adds a token of the byte-pair vocabulary.
    ///
    /// - Parameter text: bytes in the byte alphabet. A few vocabularies hold text outside of it; such a token decodes to its UTF-8, but no
    ///   text is encoded as it.
    package mutating func vocabularyToken(_ token: Int32, text: String) throws(ModelError) {
        try check(token)
        let bytes = matched(text)
        guard tokens.updateValue(bytes ?? Array(text.utf8), forKey: token) == nil else {
            throw ModelError(.malformed, file: file, subject: "token \(token)", "appears twice in the vocabulary")
        }
        if bytes != nil { vocabularyTokens.insert(token) }
    }

    private func matched(_ text: String) -> [UInt8]? { unit == .bytes ? ByteAlphabet.bytes(of: text.unicodeScalars) : Array(text.utf8) }

    /// Adds a merge. A merge of text outside the byte alphabet never happens.
    package mutating func merge(_ left: String, _ right: String) {
        if let left = matched(left), let right = matched(right) { merges.append((left, right)) }
    }

    /// Uses scores in place of merges: every pair whose text is one of these tokens is merged, the token with the highest score first.
    package mutating func mergeByScores(_ scores: [Float], of tokens: [Int32]) { self.scores = (scores, tokens) }

    /// Adds a token that is found in the text itself. It may be in the vocabulary too.
    package mutating func addToken(_ entry: AddedTokens.Entry) throws(ModelError) {
        try check(entry.token)
        guard addedTokens.insert(entry.token).inserted else {
            throw ModelError(.malformed, file: file, subject: "token \(entry.token)", "is added twice")
        }
        tokens[entry.token] = entry.content
        added.append(entry)
    }

    package func isAdded(_ token: Int32) -> Bool { addedTokens.contains(token) }

    /// Marks an added token that another file calls a control token.
    package mutating func makeSpecial(_ token: Int32) {
        guard let i = added.firstIndex(where: { $0.token == token }), !added[i].isSpecial else { return }
        let old = added[i]
        added[i] = AddedTokens.Entry(
            token: token, content: old.content, isSpecial: true, stripsLeft: old.stripsLeft, stripsRight: old.stripsRight,
            isSingleWord: old.isSingleWord, isNormalized: old.isNormalized)
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
        let special = Set(added.filter(\.isSpecial).map(\.token))
        // No piece of text becomes a control token, even if the vocabulary holds the token too.
        let vocabulary = Vocabulary(tokens: table) { vocabularyTokens.contains(Int32($0)) && !special.contains(Int32($0)) }
        // Merges may name added tokens, because GGUF does not say whether these are in the vocabulary too.
        let all = Vocabulary(tokens: table) { vocabularyTokens.contains(Int32($0)) || addedTokens.contains(Int32($0)) }
        let list: [BytePairMerges.Merge]
        if let scores { list = mergesByScores(scores.values, scores.tokens, all) } else { list = try mergesByRank(all, special) }
        let byteTokens = (0..<256).map { byte in
            if unit == .bytes { return vocabulary.token([UInt8(byte)]) ?? -1 }
            let hexadecimal = String(byte, radix: 16, uppercase: true)
            return all.token(Array("<0x\(hexadecimal.count == 1 ? "0" : "")\(hexadecimal)>".utf8)) ?? -1
        }
        var names: [String: String] = [:]
        for (name, token) in [("bos_token", bosToken), ("eos_token", eosToken), ("pad_token", padToken)] {
            if let token, table.indices.contains(Int(token)) { names[name] = String(decoding: table[Int(token)], as: UTF8.self) }
        }
        return Tokenizer(
            vocabulary: vocabulary, decoded: decodedTable(table, special),
            merges: BytePairMerges(
                unit: unit, byteTokens: hasByteFallback ? byteTokens : [Int32](repeating: -1, count: 256), unknown: unknownToken,
                merges: list),
            mergeList: list, preTokenizer: preTokenizer, normalizer: normalizer, added: AddedTokens(added, normalizer: normalizer),
            decoder: decoder,
            ignoresMerges: ignoresMerges, leadingTokens: leadingTokens, trailingTokens: trailingTokens, bosToken: bosToken,
            eosToken: eosToken,
            padToken: padToken, specialTokenTexts: specialTokenTexts.merging(names) { named, _ in named })
    }

    /// Whether a character that the vocabulary lacks becomes the tokens of its bytes.
    package var hasByteFallback = true

    private func decodedTable(_ table: StringTable, _ special: Set<Int32>) -> StringTable? {
        guard decoder.space != nil else { return nil }
        return StringTable(
            table.indices.map { token in
                special.contains(Int32(token)) ? Array(table[token]) : decoder.bytes(Array(table[token]))
            })
    }

    private func mergesByRank(_ vocabulary: Vocabulary, _ special: Set<Int32>) throws(ModelError) -> [BytePairMerges.Merge] {
        var list: [BytePairMerges.Merge] = []
        list.reserveCapacity(merges.count)
        for (rank, merge) in merges.enumerated() {
            guard let left = vocabulary.token(merge.left), let right = vocabulary.token(merge.right),
                let merged = vocabulary.token(merge.left + merge.right)
            else {
                let (left, right) = (String(decoding: merge.left, as: UTF8.self), String(decoding: merge.right, as: UTF8.self))
                throw ModelError(
                    .malformed, file: file, subject: "merge \(rank) (\(left) \(right))", "names a token that the vocabulary does not have")
            }
            if !special.contains(merged) { list.append(BytePairMerges.Merge(left: left, right: right, merged: merged, rank: Int32(rank))) }
        }
        return list
    }

    /// Ranks merges by SentencePiece's rule. Tokens with the same score have the same rank, so that the leftmost is merged first.
    private func mergesByScores(_ scores: [Float], _ tokens: [Int32], _ vocabulary: Vocabulary) -> [BytePairMerges.Merge] {
        let ranks = Dictionary(uniqueKeysWithValues: Set(scores).sorted(by: >).enumerated().map { ($1, Int32($0)) })
        var list: [BytePairMerges.Merge] = []
        for token in tokens where scores.indices.contains(Int(token)) && vocabulary.tokens.indices.contains(Int(token)) {
            let text = Array(vocabulary.tokens[Int(token)])
            guard text.count > 1, let rank = ranks[scores[Int(token)]] else { continue }
            for cut in 1..<text.count where text[cut] & 0xc0 != 0x80 {
                guard let left = vocabulary.token(text[..<cut]), let right = vocabulary.token(text[cut...]) else { continue }
                list.append(BytePairMerges.Merge(left: left, right: right, merged: token, rank: rank))
            }
        }
        return list.sorted { ($0.rank, $0.left) < ($1.rank, $1.left) }
    }
}
