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
                let crossesLines = mergeList.contains { merge in
                    let text = texts[Int(merge.merged)]
                    return text.contains(0x0a) && text.contains { $0 != 0x0a }
                }
                guard !prefix, !crossesLines else { throw inexpressible(file) }
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

    /// Returns scores with which SentencePiece's way of merging gives the same tokens: it may join any two tokens whose texts make a third, the
    /// third with the highest score first. Returns nil if that is not proved.
    private func scores(_ count: Int) -> [Float]? {
        guard let places = mergePlaces(), furtherMergesAreIdle else { return nil }
        let last = Int32(places.count)
        return (0..<Int32(count)).map { token in -Float(places[token] ?? last) }
    }

    /// Number of pairs of merges that are compared to bring merges of one token together.
    private static let comparisonsMax = 20_000_000

    /// Returns the place of each merged token, where the merges of a token, and those of one rank, have one place. A merge whose token has
    /// been merged before moves there, if it commutes with all merges that it passes. Returns nil if one does not.
    private func mergePlaces() -> [Int32: Int32]? {
        var firstUse: [Int32: Int] = [:]
        for (i, merge) in mergeList.enumerated() {
            for part in [merge.left, merge.right] where firstUse[part] == nil { firstUse[part] = i }
        }
        var groups: [[BytePairMerges.Merge]] = []
        var places: [Int32: Int32] = [:]
        var comparisons = 0
        var last: (rank: Int32, place: Int32)?
        for (i, merge) in mergeList.enumerated() {
            let place: Int32
            if let own = places[merge.merged] {
                for other in groups[(Int(own) + 1)...].joined() {
                    comparisons += 1
                    guard comparisons <= Self.comparisonsMax, merge.commutes(with: other) else { return nil }
                    // A token that has been a part of an earlier merge could go on merging at once.
                    for token in [merge.merged, other.merged] where firstUse[token] ?? .max < i { return nil }
                }
                place = own
                groups[Int(place)].append(merge)
            } else if let last, last.rank == merge.rank {
                place = last.place
                groups[Int(place)].append(merge)
            } else {
                place = Int32(groups.count)
                groups.append([merge])
            }
            places[merge.merged] = place
            last = (merge.rank, place)
        }
        return places
    }

    /// Whether the merges that SentencePiece knows beyond these never find their two tokens beside each other.
    ///
    /// If two neighbours come about in any text, they also do in the text that consists of them alone, and stay if no merge joins them. So it is
    /// enough to look at what becomes of each token's own text.
    private var furtherMergesAreIdle: Bool {
        let pairs = Set(mergeList.map { UInt64(UInt32(bitPattern: $0.left)) << 32 | UInt64(UInt32(bitPattern: $0.right)) })
        let special = Dictionary(added.entries.map { ($0.content, $0.token) }, uniquingKeysWith: { first, _ in first })
        let bytes = Set(merges.byteTokens)
        // The token of a text that a merge can take.
        func token(_ text: ArraySlice<UInt8>) -> Int32? { vocabulary.token(text) ?? special[Array(text)] }
        for (number, entry) in vocabulary.tokens.indices.map({ (Int32($0), vocabulary.tokens[$0]) }) where !entry.isEmpty {
            guard !bytes.contains(number), vocabulary.token(entry) == number else { continue }
            let text = Array(entry)
            let isFurther = text.indices.dropFirst().contains { cut in
                guard text[cut] & 0xc0 != 0x80, let left = token(text[..<cut]), let right = token(text[cut...]) else { return false }
                return !pairs.contains(UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right)))
            }
            guard isFurther else { continue }
            var pieces: [Int32] = []
            text.withUnsafeBufferPointer { merges.encode($0[...], vocabulary, into: &pieces) }
            if pieces.count == 2 { return false }
        }
        return true
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

extension BytePairMerges.Merge {
    /// Whether the order of two merges of different tokens makes no difference: neither takes what the other makes, and no token can be the
    /// right part of one and the left part of the other.
    fileprivate func commutes(with other: Self) -> Bool {
        right != other.left && left != other.right && merged != other.left && merged != other.right && left != other.merged
            && right != other.merged
    }
}
