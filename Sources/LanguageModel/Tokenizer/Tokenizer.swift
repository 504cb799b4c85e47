/// A byte-pair tokenizer on bytes or characters. It is immutable, so any number of threads may use it at the same time.
public struct Tokenizer: Sendable {
    package let vocabulary: Vocabulary
    /// The text of each token, if it differs from what the token matches.
    package let decoded: StringTable?
    package let merges: BytePairMerges
    /// Merges in the order of their ranks, kept for exports.
    package let mergeList: [BytePairMerges.Merge]
    package let preTokenizer: PreTokenizer
    package let normalizer: Normalizer?
    package let added: AddedTokens
    package let decoder: TokenDecoder
    /// Whether a piece that equals a token becomes that token, whatever the merges say.
    package let ignoresMerges: Bool
    /// Tokens that the model expects before every text, such as Llama 3's `<|begin_of_text|>`; empty for SmolLM2. `encode` does not add
    /// them.
    public let leadingTokens: [Int32]
    /// Tokens that the model expects after every text; empty for nearly all models.
    public let trailingTokens: [Int32]
    /// Token that begins a text; nil if the files name none.
    public let bosToken: Int32?
    /// Token that ends a text; nil if the files name none.
    public let eosToken: Int32?
    package let padToken: Int32?
    /// Texts of the tokens that the files call `bos_token`, `unk_token` and so on.
    package let specialTokenTexts: [String: String]
    private let controlTokens: Set<Int32>

    package init(
        vocabulary: Vocabulary, decoded: StringTable?, merges: BytePairMerges, mergeList: [BytePairMerges.Merge],
        preTokenizer: PreTokenizer,
        normalizer: Normalizer?, added: AddedTokens, decoder: TokenDecoder, ignoresMerges: Bool, leadingTokens: [Int32],
        trailingTokens: [Int32],
        bosToken: Int32?, eosToken: Int32?, padToken: Int32?, specialTokenTexts: [String: String]
    ) {
        self.vocabulary = vocabulary
        self.decoded = decoded
        self.merges = merges
        self.mergeList = mergeList
        self.preTokenizer = preTokenizer
        self.normalizer = normalizer
        self.added = added
        self.decoder = decoder
        self.ignoresMerges = ignoresMerges
        self.leadingTokens = leadingTokens
        self.trailingTokens = trailingTokens
        self.bosToken = bosToken
        self.eosToken = eosToken
        self.padToken = padToken
        self.specialTokenTexts = specialTokenTexts
        controlTokens = Set(added.entries.filter(\.isSpecial).map(\.token))
    }

    /// The largest token plus one. The model's embedding may have more rows.
    public var vocabularySize: Int { vocabulary.count }

    /// Returns a text's tokens.
    ///
    /// - Parameter allowSpecial: whether control tokens such as `<|im_end|>` are recognised in the text. Leave it false for text from
    ///   outside. Hugging Face's `encode` behaves as if it were true.
    public func encode(_ text: String, allowSpecial: Bool = false) -> [Int32] {
        var text = text
        return text.withUTF8 { bytes in
            var sink = TokenSink(wantsSpans: false)
            encode(bytes, into: &sink) { entry, _ in allowSpecial || !entry.isSpecial }
            return sink.tokens
        }
    }

    /// Returns the text of tokens. Bytes that are not UTF-8 become U+FFFD; tokens that do not exist are skipped.
    ///
    /// - Parameter fromStart: whether the tokens begin a text, so that SentencePiece's first space is dropped.
    public func decode(_ tokens: some Sequence<Int32>, fromStart: Bool = true) -> String {
        var bytes: [UInt8] = []
        for token in tokens { bytes.append(contentsOf: self.bytes(of: token)) }
        if fromStart, decoder.stripsFirstSpace, bytes.first == 0x20 { bytes.removeFirst() }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Returns the bytes that a token stands for, which may be parts of characters; empty for a token that does not exist.
    public func bytes(of token: Int32) -> ArraySlice<UInt8> {
        guard vocabulary.tokens.indices.contains(Int(token)) else { return [] }
        return decoded?[Int(token)] ?? vocabulary.tokens[Int(token)]
    }

    /// Returns the text of one token, for people to read; nil for a token that does not exist.
    public func token(_ id: Int32) -> String? {
        let bytes = bytes(of: id)
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }

    /// Returns the token with exactly this text: an added token or one of the vocabulary. Nil if there is none.
    public func id(of text: String) -> Int32? {
        let bytes = Array(text.utf8)
        return added.entries.first { $0.content == bytes }?.token ?? vocabulary.token(bytes)
    }

    /// Whether some characters have no tokens: their bytes are dropped, or become the unknown token.
    package var lacksCharacters: Bool {
        // No UTF-8 holds the bytes C0, C1 and F5 … FF.
        merges.byteTokens.enumerated().contains { byte, token in token < 0 && ![0xC0, 0xC1].contains(byte) && byte < 0xF5 }
    }

    /// Whether text that no token matches becomes a token of its own. If not, it is dropped.
    package var hasUnknownToken: Bool { merges.unknown != nil }

    /// Whether a character has no tokens, so that a text loses it or has the unknown token in its place.
    package func lacks(_ character: Unicode.Scalar) -> Bool {
        var text = String(character)
        if vocabulary.token(Array(text.utf8)) != nil || added.entries.contains(where: { $0.content.elementsEqual(text.utf8) }) { return false }
        let (changed, pieces) = text.withUTF8 { bytes in
            let text = AlignedText(bytes[...])
            return preTokenizer.pieces(of: normalizer?.apply(text) ?? text)
        }
        func isMissing(_ bytes: some Sequence<UInt8>) -> Bool { bytes.contains { merges.byteTokens[Int($0)] < 0 } }
        return pieces.contains { piece in
            let bytes = changed.bytes[piece]
            guard case .characters = merges.unit else { return isMissing(bytes) }
            return String(decoding: bytes, as: UTF8.self).unicodeScalars.contains { scalar in
                let bytes = Array(String(scalar).utf8)
                return vocabulary.token(bytes) == nil && isMissing(bytes)
            }
        }
    }

    /// Whether the token is a control token.
    public func isSpecial(_ token: Int32) -> Bool { controlTokens.contains(token) }

    /// Returns the control tokens that a text spells out, each once, in their order in the text.
    public func specialTokens(spelledIn text: String) -> [String] {
        var text = text
        return text.withUTF8 { bytes in
            var found: [String] = []
            let allTokens = { (_: AddedTokens.Entry, _: Range<Int>) in true }
            added.raw.split(bytes, 0..<bytes.count, allows: allTokens, text: { _ in }) { token, _ in
                if isSpecial(token), let name = self.token(token), !found.contains(name) { found.append(name) }
            }
            return found
        }
    }
}

/// Turns a stream of tokens into text as they arrive. A character is returned once it is complete.
public struct StreamingDecoder {
    private let tokenizer: Tokenizer
    private var pending: [UInt8] = []

    public init(_ tokenizer: Tokenizer) { self.tokenizer = tokenizer }

    /// Returns the text that the token completes; empty while a character lacks bytes.
    public mutating func append(_ token: Int32) -> String {
        pending.append(contentsOf: tokenizer.bytes(of: token))
        let whole = pending.count - Self.incompleteTail(pending)
        defer { pending.removeFirst(whole) }
        return String(decoding: pending[..<whole], as: UTF8.self)
    }

    /// Returns the rest, with an incomplete character as U+FFFD.
    public mutating func finish() -> String {
        defer { pending = [] }
        return String(decoding: pending, as: UTF8.self)
    }

    /// Returns the number of bytes of an incomplete character at the end; 0 if the bytes end with a complete character or are not UTF-8.
    private static func incompleteTail(_ bytes: [UInt8]) -> Int {
        for length in 1...3 where length <= bytes.count {
            let byte = bytes[bytes.count - length]
            if byte & 0xc0 == 0x80 { continue }  // a continuation: its character began before it
            let needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
            return needed > length ? length : 0
        }
        return 0
    }
}
