extension Tokenizer {
    /// The ggml token types that matter here. Control tokens and user-defined ones are found in the text itself; merging produces only
    /// normal and user-defined ones.
    private enum TokenType {
        static let normal: Int32 = 1
        static let unknown: Int32 = 2
        static let control: Int32 = 3
        static let userDefined: Int32 = 4
    }

    package init(_ file: GGUFFile) throws(ModelError) {
        guard let model = try file.string("tokenizer.ggml.model") else {
            throw ModelError(.malformed, file: file.path, subject: "tokenizer.ggml.model", "is missing: the file has no tokenizer")
        }
        switch model {
        case "gpt2": self = try Self.byteLevel(file)
        case "llama": self = try Self.sentencePiece(file, hasMerges: false)
        case "gemma4": self = try Self.sentencePiece(file, hasMerges: true)
        default:
            throw ModelError(
                .unsupported, file: file.path, subject: "tokenizer.ggml.model",
                "tokenizers of type \(model.debugDescription) are not supported",
                remedy: "supported: \"gpt2\" (byte-level byte pairs) and \"llama\" (SentencePiece)")
        }
    }

    private static func byteLevel(_ file: GGUFFile) throws(ModelError) -> Tokenizer {
        let key = "tokenizer.ggml.pre"
        let elsewhere = "use the model's Hugging Face directory, or convert it again with a current llama.cpp"
        guard let pre = try file.string(key) else {
            throw ModelError(
                .unsupported, file: file.path, subject: key, "is missing, so that nothing says how texts are cut into pieces", remedy: elsewhere)
        }
        guard let entry = GGUFPreTokenizers.entry(pre) else {
            throw ModelError(.unsupported, file: file.path, subject: key, "the pre-tokenizer \(pre.debugDescription) is not known", remedy: elsewhere)
        }
        let parts = try GGUFTokenizerParts(file)
        var builder = TokenizerBuilder(file: file.path, preTokenizer: PreTokenizer(entry.steps))
        if entry.composes { builder.normalizer = .unicode(.nfc) }
        for i in parts.texts.indices {
            switch parts.types[i] {
            case TokenType.control, TokenType.userDefined:
                try builder.addToken(.init(token: Int32(i), content: Array(parts.texts[i]), isSpecial: parts.types[i] == TokenType.control))
            default: try builder.vocabularyToken(Int32(i), text: String(decoding: parts.texts[i], as: UTF8.self))
            }
        }
        try addMerges(file, to: &builder)
        // `unknown_token_id` has no effect: byte-level tokenizers, including llama.cpp's, drop a byte that no token stands for.
        try parts.nameTokens(addsBos: entry.addsBos, in: &builder)
        builder.ignoresMerges = entry.ignoresMerges
        return try builder.build()
    }

    private static func addMerges(_ file: GGUFFile, to builder: inout TokenizerBuilder) throws(ModelError) {
        guard let texts = try file.strings("tokenizer.ggml.merges") else {
            throw ModelError(.malformed, file: file.path, subject: "tokenizer.ggml.merges", "is missing")
        }
        for i in texts.indices {
            // Neither alphabet contains a space, so the only space separates the two parts.
            let parts = texts[i].split(separator: 0x20, omittingEmptySubsequences: false)
            guard parts.count == 2 else {
                throw ModelError(.malformed, file: file.path, subject: "tokenizer.ggml.merges", "entry \(i) is not two tokens")
            }
            builder.merge(String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self))
        }
    }

    /// - Parameter hasMerges: whether the file lists merges. If not, the tokens' scores determine the order of merges.
    private static func sentencePiece(_ file: GGUFFile, hasMerges: Bool) throws(ModelError) -> Tokenizer {
        let parts = try GGUFTokenizerParts(file)
        let addsPrefix = try file.bool("tokenizer.ggml.add_space_prefix") ?? true
        var steps: [PreTokenizer.Step] = []
        if hasMerges, let lines = try? Pattern("[^\\n]+|[\\n]+") {
            // llama.cpp's step; no merge of such a vocabulary crosses a line break.
            steps = [.split(.pattern(source: "[^\\n]+|[\\n]+", lines), .isolated, isInverted: false)]
        }
        var builder = TokenizerBuilder(file: file.path, preTokenizer: PreTokenizer(steps), unit: .characters(joinsUnknown: true))
        let spaces = Normalizer.replace(" ", with: "▁")
        builder.normalizer = addsPrefix ? .sequence([.prepend("▁"), spaces]) : spaces
        builder.decoder = TokenDecoder(space: "▁", stripsFirstSpace: addsPrefix)
        let stripsRight = try file.string("general.architecture") == "phi3"
        for i in parts.texts.indices {
            let text = parts.texts[i]
            let type = parts.types[i]
            if type == TokenType.control || type == TokenType.userDefined {
                let name = String(decoding: text, as: UTF8.self)
                // Phi-3's turn marks include the line break after them, which its GGUF files do not say.
                let strips = stripsRight && type == TokenType.control && !["<s>", "<unk>", "<|endoftext|>"].contains(name)
                try builder.addToken(
                    .init(token: Int32(i), content: Array(text), isSpecial: type == TokenType.control, stripsRight: strips))
            }
            if type != TokenType.control, type != TokenType.userDefined {
                try builder.vocabularyToken(Int32(i), text: String(decoding: text, as: UTF8.self))
            }
        }
        if hasMerges {
            try addMerges(file, to: &builder)
        } else {
            builder.mergeByScores(
                try parts.scores(), of: parts.types.indices.filter { parts.types[$0] == TokenType.normal }.map(Int32.init))
        }
        builder.unknownToken = try parts.token("unknown") ?? parts.types.firstIndex(of: TokenType.unknown).map(Int32.init)
        try parts.nameTokens(addsBos: true, in: &builder)
        return try builder.build()
    }
}

/// The parts that every kind of tokenizer in a GGUF file has.
private struct GGUFTokenizerParts {
    let file: GGUFFile
    let texts: StringTable
    let types: [Int32]

    init(_ file: GGUFFile) throws(ModelError) {
        self.file = file
        guard let texts = try file.strings("tokenizer.ggml.tokens"), texts.count > 0 else {
            throw ModelError(.malformed, file: file.path, subject: "tokenizer.ggml.tokens", "is missing or empty")
        }
        self.texts = texts
        guard let types = try file.integers("tokenizer.ggml.token_type") else {
            throw ModelError(
                .malformed, file: file.path, subject: "tokenizer.ggml.token_type", "is missing, so control tokens can't be told from text",
                remedy: "convert the model again with llama.cpp's convert_hf_to_gguf.py, or give the model's Hugging Face directory")
        }
        self.types = types
        guard types.count == texts.count else {
            throw ModelError(
                .malformed, file: file.path, subject: "tokenizer.ggml.token_type", "has \(types.count) entries for \(texts.count) tokens")
        }
    }

    func token(_ name: String) throws(ModelError) -> Int32? {
        let key = "tokenizer.ggml.\(name)_token_id"
        guard let value = try file.integer(key) else { return nil }
        guard texts.indices.contains(value) else {
            throw ModelError(.malformed, file: file.path, subject: key, "is \(value), but there are \(texts.count) tokens")
        }
        return Int32(value)
    }

    func scores() throws(ModelError) -> [Float] {
        let key = "tokenizer.ggml.scores"
        guard case .array(let values)? = file.metadata[key], values.count == texts.count else {
            throw ModelError(.malformed, file: file.path, subject: key, "is missing, or has not a number for each token")
        }
        var scores: [Float] = []
        for value in values {
            guard case .single(let score) = value, score.isFinite else {
                throw ModelError(.malformed, file: file.path, subject: key, "holds what is no number")
            }
            scores.append(score)
        }
        return scores
    }

    /// - Parameter addsBos: llama.cpp's default if the file does not say.
    func nameTokens(addsBos: Bool, in builder: inout TokenizerBuilder) throws(ModelError) {
        builder.bosToken = try token("bos")
        builder.eosToken = try token("eos")
        builder.padToken = try token("padding")
        if try file.bool("tokenizer.ggml.add_bos_token") ?? addsBos, let bos = builder.bosToken { builder.leadingTokens = [bos] }
        if try file.bool("tokenizer.ggml.add_eos_token") ?? false, let eos = builder.eosToken { builder.trailingTokens = [eos] }
    }
}
