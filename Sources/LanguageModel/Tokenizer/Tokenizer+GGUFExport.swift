/// The tokenizer's part of a GGUF file's metadata.
extension Tokenizer {
    /// Types of tokens in GGUF files.
    private enum TokenType: Int32 { case normal = 1, unknown, control, userDefined, unused, byte }

    /// Returns the metadata from which llama.cpp gives the same ids.
    ///
    /// - Parameters:
    ///   - count: the number of rows of the embedding. Numbers without a token get a text that no other token has.
    ///   - endings: tokens that end a text.
    /// - Throws: `ModelError` for a tokenizer that GGUF can't express.
    package func ggufMetadata(count: Int, endings: [Int32], chatTemplate: String?, file: String) throws(ModelError) -> GGUFMetadata {
        guard vocabularySize <= count else {
            throw ModelError(
                .unsupported, file: file, "has \(vocabularySize) tokens but \(count) embeddings, which GGUF does not allow",
                remedy: "write another format")
        }
        var metadata = GGUFMetadata()
        let isByteLevel = merges.unit == .bytes
        if isByteLevel {
            guard let name = GGUFPreTokenizers.name(of: self) else { throw inexpressible(file) }
            metadata.set("tokenizer.ggml.model", "gpt2")
            metadata.set("tokenizer.ggml.pre", name)
        }
        let types = tokenTypes(count)
        let addedTokens = Set(added.entries.map(\.token))
        let texts = (0..<Int32(count)).map { ggufText($0, isAdded: addedTokens.contains($0)) }
        var listed = isByteLevel ? mergeTexts(texts) : nil
        if !isByteLevel {
            guard let prefix = sentencePiecePrefix else { throw inexpressible(file) }
            metadata.set("tokenizer.ggml.add_space_prefix", prefix)
            if let scores = scores(count) {
                metadata.set("tokenizer.ggml.model", "llama")
                metadata.set("tokenizer.ggml.pre", "default")
                metadata.set("tokenizer.ggml.scores", .array(scores.map { .single($0) }))
            } else {
                // The other kind of vocabulary with characters has merges, and no space in front of texts.
                guard !prefix, !mergeList.contains(where: { texts[Int($0.merged)].contains(0x0a) }) else { throw inexpressible(file) }
                metadata.set("tokenizer.ggml.model", "gemma4")
                listed = mergeTexts(texts)
            }
        }
        metadata.set("tokenizer.ggml.tokens", .strings(StringTable(texts)))
        metadata.set("tokenizer.ggml.token_type", .integers(types))
        if let listed { metadata.set("tokenizer.ggml.merges", .strings(listed)) }
        try addSpecialTokens(endings, file, to: &metadata)
        if let chatTemplate { metadata.set("tokenizer.chat_template", chatTemplate) }
        return metadata
    }

    private func inexpressible(_ file: String) -> ModelError {
        ModelError(
            .unsupported, file: file, subject: "tokenizer", "cuts or joins texts in a way for which GGUF has no name",
            remedy: "write another format, and convert it with llama.cpp's convert_hf_to_gguf.py if that knows the tokenizer")
    }

    private func tokenTypes(_ count: Int) -> [Int32] {
        let entries = Dictionary(added.entries.map { ($0.token, $0) }, uniquingKeysWith: { first, _ in first })
        let bytes = Set(merges.unit == .bytes ? [] : merges.byteTokens.filter { $0 >= 0 })
        return (0..<Int32(count)).map { token in
            let type: TokenType
            if token == merges.unknown, merges.unit != .bytes {
                type = .unknown
            } else if let entry = entries[token] {
                type = entry.isSpecial ? .control : .userDefined
            } else if bytes.contains(token) {
                type = .byte
            } else {
                type = token >= vocabularySize || vocabulary.tokens[Int(token)].isEmpty ? .unused : .normal
            }
            return type.rawValue
        }
    }

    private func ggufText(_ token: Int32, isAdded: Bool) -> [UInt8] {
        guard token < vocabularySize, !vocabulary.tokens[Int(token)].isEmpty else { return Array("[PAD\(token)]".utf8) }
        return Array(fileText(token, isAdded: isAdded).utf8)
    }

    private func mergeTexts(_ texts: [[UInt8]]) -> StringTable {
        StringTable(mergeList.map { texts[Int($0.left)] + [0x20] + texts[Int($0.right)] })
    }

    /// Whether SentencePiece's space comes before a text; nil if the tokenizer does something else to texts than SentencePiece.
    private var sentencePiecePrefix: Bool? {
        let spaces = Normalizer.replace(" ", with: "▁").file()
        let prefixed = Normalizer.sequence([.prepend("▁"), .replace(" ", with: "▁")]).file()
        guard preTokenizer.steps.count <= 1 else { return nil }
        switch (normalizer?.file(), preTokenizer.steps.first) {
        case (spaces, nil): return false
        case (prefixed, nil): return true
        case (nil, .metaspace(replacement: "▁", let scheme, splits: false)): return scheme != .never
        // Merges that cross no line break, as this program reads them from GGUF.
        case (spaces, .split(.pattern(source: "[^\\n]+|[\\n]+", _), .isolated, isInverted: false)): return false
        // Gemma's tokenizer.json splits at spaces, of which its normaliser has left none.
        case (spaces, .split(.literal(" "), .mergedWithPrevious, isInverted: false)): return false
        default: return nil
        }
    }

    /// Returns scores that order merges as their ranks do; nil if there are none, because not every way to cut a token is a merge or because
    /// the merges of different tokens alternate.
    private func scores(_ count: Int) -> [Float]? {
        var first: [Int32: Int32] = [:]
        var current: Int32?
        var pairs = 0
        for merge in mergeList {
            if merge.merged != current, first.updateValue(Int32(first.count), forKey: merge.merged) != nil { return nil }
            current = merge.merged
            pairs += 1
        }
        let added = Set(added.entries.map(\.content))
        // Whether a text is a token that a merge can take.
        func isToken(_ text: ArraySlice<UInt8>) -> Bool { vocabulary.token(text) != nil || added.contains(Array(text)) }
        for token in first.keys {
            let text = vocabulary.tokens[Int(token)]
            for cut in text.indices.dropFirst() where text[cut] & 0xc0 != 0x80 {
                if isToken(text[..<cut]), isToken(text[cut...]) { pairs -= 1 }
            }
        }
        guard pairs == 0 else { return nil }
        return (0..<Int32(count)).map { token in first[token].map { -Float($0) } ?? -Float(first.count) }
    }

    private func addSpecialTokens(_ endings: [Int32], _ file: String, to metadata: inout GGUFMetadata) throws(ModelError) {
        let bos = leadingTokens.first ?? bosToken
        let eos = trailingTokens.first ?? eosToken ?? endings.first
        guard leadingTokens.count <= 1, trailingTokens.count <= 1 else {
            throw ModelError(
                .unsupported, file: file, subject: "tokenizer", "puts several tokens before or behind each text, for which GGUF has no place",
                remedy: "write another format")
        }
        if let bos { metadata.set("tokenizer.ggml.bos_token_id", Int(bos)) }
        if let eos { metadata.set("tokenizer.ggml.eos_token_id", Int(eos)) }
        if let turn = endings.first(where: { $0 != eos }) { metadata.set("tokenizer.ggml.eot_token_id", Int(turn)) }
        if let unknown = merges.unknown { metadata.set("tokenizer.ggml.unknown_token_id", Int(unknown)) }
        if let padToken { metadata.set("tokenizer.ggml.padding_token_id", Int(padToken)) }
        metadata.set("tokenizer.ggml.add_bos_token", !leadingTokens.isEmpty)
        metadata.set("tokenizer.ggml.add_eos_token", !trailingTokens.isEmpty)
    }
}
