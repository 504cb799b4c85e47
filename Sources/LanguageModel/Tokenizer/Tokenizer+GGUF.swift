extension Tokenizer {
    /// `tokenizer.ggml.pre` → pattern.
    package static let ggufPreTokenizers: [String: PreTokenizer] = [
        "smollm": .smollm, "gpt-2": .gpt2, "llama-bpe": .llama3, "llama3": .llama3, "llama-v3": .llama3, "qwen2": .qwen2,
    ]

    /// ggml's token types that matter here: control tokens and user-defined ones are found in the text, unused ones never.
    private enum TokenType {
        static let control: Int32 = 3
        static let userDefined: Int32 = 4
    }

    package init(_ file: GGUFFile) throws(ModelError) {
        func wrong(_ code: ModelError.Code, _ key: String, _ problem: String, _ remedy: String? = nil) -> ModelError {
            ModelError(code, file: file.path, subject: key, problem, remedy: remedy)
        }
        guard let model = try file.string("tokenizer.ggml.model") else {
            throw wrong(.malformed, "tokenizer.ggml.model", "is missing: the file has no tokenizer")
        }
        guard model == "gpt2" else {
            throw wrong(
                .unsupported, "tokenizer.ggml.model", "tokenizers of type \(model.debugDescription) are not supported",
                "supported: \"gpt2\" (byte-level byte pairs)")
        }
        let pre = try file.string("tokenizer.ggml.pre") ?? "(none)"
        guard let preTokenizer = Self.ggufPreTokenizers[pre] else {
            let known = Self.ggufPreTokenizers.keys.sorted().joined(separator: ", ")
            throw wrong(
                .unsupported, "tokenizer.ggml.pre", "the pre-tokenizer \(pre.debugDescription) is not supported", "supported: \(known)")
        }
        guard let texts = try file.strings("tokenizer.ggml.tokens"), texts.count > 0 else {
            throw wrong(.malformed, "tokenizer.ggml.tokens", "is missing or empty")
        }
        guard let mergeTexts = try file.strings("tokenizer.ggml.merges") else {
            throw wrong(.malformed, "tokenizer.ggml.merges", "is missing")
        }
        let types = try file.integers("tokenizer.ggml.token_type") ?? [Int32](repeating: 1, count: texts.count)
        guard types.count == texts.count else {
            throw wrong(.malformed, "tokenizer.ggml.token_type", "has \(types.count) entries for \(texts.count) tokens")
        }
        func token(_ name: String) throws(ModelError) -> Int32? {
            let key = "tokenizer.ggml.\(name)_token_id"
            guard let value = try file.integer(key) else { return nil }
            guard texts.indices.contains(value) else {
                throw wrong(.malformed, key, "is \(value), but there are \(texts.count) tokens")
            }
            return Int32(value)
        }
        var builder = TokenizerBuilder(file: file.path, preTokenizer: preTokenizer)
        for i in texts.indices {
            let isAdded = types[i] == TokenType.control || types[i] == TokenType.userDefined
            if isAdded {
                try builder.addToken(Int32(i), content: Array(texts[i]), isSpecial: types[i] == TokenType.control)
            } else {
                try builder.vocabularyToken(Int32(i), text: String(decoding: texts[i], as: UTF8.self))
            }
        }
        for i in mergeTexts.indices {
            // The alphabet has no space, so the one space divides the two.
            let parts = mergeTexts[i].split(separator: 0x20, omittingEmptySubsequences: false)
            guard parts.count == 2 else { throw wrong(.malformed, "tokenizer.ggml.merges", "entry \(i) is not two tokens") }
            builder.merges.append((String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self)))
        }
        builder.bosToken = try token("bos")
        builder.eosToken = try token("eos")
        builder.padToken = try token("padding")
        // `unknown_token_id` only names a token: byte-level tokenizers, llama.cpp's too, drop a byte that no token stands for.
        // llama.cpp's default where the key is missing.
        let addsBos = try file.bool("tokenizer.ggml.add_bos_token") ?? (preTokenizer == .llama3)
        if addsBos, let bos = builder.bosToken { builder.leadingTokens = [bos] }
        builder.ignoresMerges = preTokenizer == .llama3
        self = try builder.build()
    }
}
