extension Tokenizer {
    /// A tokenizer.json with which Hugging Face's tokenizers gives the same ids.
    package func file() -> JSON {
        let addedById = Dictionary(uniqueKeysWithValues: added.entries.map { ($0.token, $0) })
        func text(_ token: Int32) -> String {
            let bytes = bytes(of: token)
            return addedById[token] == nil ? ByteAlphabet.text(of: bytes) : String(decoding: bytes, as: UTF8.self)
        }
        let vocabularyMembers = (0..<Int32(vocabularySize)).compactMap { token -> JSON.Member? in
            bytes(of: token).isEmpty ? nil : JSON.Member(key: text(token), value: .integer(token))
        }
        let addedTokens = added.entries.sorted { $0.token < $1.token }.map { entry -> JSON in
            [
                "id": .integer(entry.token), "content": .string(String(decoding: entry.content, as: UTF8.self)), "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": .bool(entry.isSpecial),
            ]
        }
        let merges = mergeList.map { JSON.array([.string(text($0.left)), .string(text($0.right))]) }
        return [
            "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(addedTokens),
            "normalizer": normalizer == .nfc ? ["type": "NFC"] : .null, "pre_tokenizer": preTokenizer.file(), "post_processor": postProcessor(),
            "decoder": Self.byteLevel(usesPattern: true),
            "model": [
                "type": "BPE", "dropout": .null, "unk_token": self.merges.unknown.map { .string(text($0)) } ?? .null, "continuing_subword_prefix": .null, "end_of_word_suffix": .null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": .bool(ignoresMerges), "vocab": .object(vocabularyMembers), "merges": .array(merges),
            ],
        ]
    }

    /// tokenizer_config.json. The class is the one that takes tokenizer.json as it is: others build their own pre-tokenizer.
    package func configurationFile(chatTemplate: String?) -> JSON {
        var json: JSON = ["clean_up_tokenization_spaces": false, "tokenizer_class": "PreTrainedTokenizerFast"]
        for member in specialTokens().members ?? [] { json.set(member.key, member.value) }
        if let chatTemplate { json.set("chat_template", .string(chatTemplate)) }
        return json
    }

    /// special_tokens_map.json.
    package func specialTokens() -> JSON {
        var json: JSON = [:]
        for (name, id) in [("bos_token", bosToken), ("eos_token", eosToken), ("pad_token", padToken)] {
            if let id, let text = token(id) { json.set(name, .string(text)) }
        }
        return json
    }

    package static func byteLevel(usesPattern: Bool) -> JSON {
        ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": .bool(usesPattern)]
    }

    private func postProcessor() -> JSON {
        if leadingTokens.isEmpty { return .null }
        let names = leadingTokens.map { token($0) ?? "" }
        let leading = names.map { ["SpecialToken": ["id": .string($0), "type_id": 0]] as JSON }
        let special = zip(names, leadingTokens).map { name, id in
            JSON.Member(key: name, value: ["id": .string(name), "ids": [.integer(id)], "tokens": [.string(name)]])
        }
        func sequence(_ id: String, _ type: Int) -> JSON { ["Sequence": ["id": .string(id), "type_id": .integer(type)]] }
        return [
            "type": "TemplateProcessing", "single": .array(leading + [sequence("A", 0)]),
            "pair": .array(leading + [sequence("A", 0)] + leading + [sequence("B", 1)]), "special_tokens": .object(special),
        ]
    }
}

extension PreTokenizer {
    /// As tokenizer.json writes it.
    package func file() -> JSON {
        switch self {
        case .gpt2: return Tokenizer.byteLevel(usesPattern: true)
        case .smollm:
            return [
                "type": "Sequence",
                "pretokenizers": [["type": "Digits", "individual_digits": true], Tokenizer.byteLevel(usesPattern: true)],
            ]
        case .llama3, .qwen2:
            let pattern = Tokenizer.splitPatterns.first { $0.value == self }?.key ?? ""
            return [
                "type": "Sequence",
                "pretokenizers": [
                    ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false],
                    Tokenizer.byteLevel(usesPattern: false),
                ],
            ]
        }
    }
}
