extension Tokenizer {
    /// Returns a tokenizer.json from which Hugging Face's tokenizers library gives the same ids.
    package func file() -> JSON {
        let addedTokens = Set(added.entries.map(\.token))
        func text(_ token: Int32) -> String { fileText(token, isAdded: addedTokens.contains(token)) }
        let vocabularyMembers = (0..<Int32(vocabularySize)).compactMap { token -> JSON.Member? in
            vocabulary.tokens[Int(token)].isEmpty ? nil : JSON.Member(key: text(token), value: .integer(token))
        }
        let addedEntries = added.entries.sorted { $0.token < $1.token }.map { entry -> JSON in
            [
                "id": .integer(entry.token), "content": .string(String(decoding: entry.content, as: UTF8.self)),
                "single_word": .bool(entry.isSingleWord), "lstrip": .bool(entry.stripsLeft), "rstrip": .bool(entry.stripsRight),
                "normalized": .bool(entry.isNormalized), "special": .bool(entry.isSpecial),
            ]
        }
        let mergePairs = mergeList.map { JSON.array([.string(text($0.left)), .string(text($0.right))]) }
        let isByteLevel = self.merges.unit == .bytes
        return [
            "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(addedEntries),
            "normalizer": normalizer?.file() ?? .null, "pre_tokenizer": preTokenizer.file(), "post_processor": postProcessor(),
            "decoder": decoder.file(),
            "model": [
                "type": "BPE", "dropout": .null, "unk_token": self.merges.unknown.map { .string(text($0)) } ?? .null,
                "continuing_subword_prefix": .null, "end_of_word_suffix": .null,
                "fuse_unk": .bool(self.merges.unit == .characters(joinsUnknown: true)),
                "byte_fallback": .bool(!isByteLevel && self.merges.byteTokens.contains { $0 >= 0 }), "ignore_merges": .bool(ignoresMerges),
                "vocab": .object(vocabularyMembers), "merges": .array(mergePairs),
            ],
        ]
    }

    /// Returns a token's text as files write it: in the byte alphabet, if the vocabulary is of bytes.
    func fileText(_ token: Int32, isAdded: Bool) -> String {
        let bytes = vocabulary.tokens[Int(token)]
        return !isAdded && merges.unit == .bytes ? ByteAlphabet.text(of: bytes) : String(decoding: bytes, as: UTF8.self)
    }

    /// Returns tokenizer_config.json. Its class uses tokenizer.json unchanged; other classes would build their own pre-tokenizer.
    package func configurationFile(chatTemplate: String?) -> JSON {
        var json: JSON = ["clean_up_tokenization_spaces": false, "tokenizer_class": "PreTrainedTokenizerFast"]
        for member in specialTokens().members ?? [] { json.set(member.key, member.value) }
        if let chatTemplate { json.set("chat_template", .string(chatTemplate)) }
        return json
    }

    /// Returns special_tokens_map.json.
    package func specialTokens() -> JSON {
        var json: JSON = [:]
        for (name, id) in [("bos_token", bosToken), ("eos_token", eosToken), ("pad_token", padToken)] {
            if let id, let text = token(id) { json.set(name, .string(text)) }
        }
        return json
    }

    private func postProcessor() -> JSON {
        if leadingTokens.isEmpty, trailingTokens.isEmpty { return .null }
        func special(_ tokens: [Int32]) -> [JSON] {
            tokens.map { ["SpecialToken": ["id": .string(token($0) ?? ""), "type_id": 0]] as JSON }
        }
        let used = Set(leadingTokens + trailingTokens).sorted().map { id in
            JSON.Member(
                key: token(id) ?? "", value: ["id": .string(token(id) ?? ""), "ids": [.integer(id)], "tokens": [.string(token(id) ?? "")]])
        }
        func sequence(_ id: String, _ type: Int) -> [JSON] { [["Sequence": ["id": .string(id), "type_id": .integer(type)]]] }
        let (before, after) = (special(leadingTokens), special(trailingTokens))
        return [
            "type": "TemplateProcessing", "single": .array(before + sequence("A", 0) + after),
            "pair": .array(before + sequence("A", 0) + after + before + sequence("B", 1) + after), "special_tokens": .object(used),
        ]
    }
}

extension Normalizer {
    /// Returns the entry in tokenizer.json.
    package func file() -> JSON {
        switch self {
        case .sequence(let steps): ["type": "Sequence", "normalizers": .array(steps.map { $0.file() })]
        case .unicode(let form): ["type": .string(form.rawValue)]
        case .lowercase: ["type": "Lowercase"]
        case .strip(let left, let right): ["type": "Strip", "strip_left": .bool(left), "strip_right": .bool(right)]
        case .prepend(let text): ["type": "Prepend", "prepend": .string(text)]
        case .replace(let literal, let content): ["type": "Replace", "pattern": ["String": .string(literal)], "content": .string(content)]
        case .replacePattern(let source, _, let content):
            ["type": "Replace", "pattern": ["Regex": .string(source)], "content": .string(content)]
        }
    }
}

extension PreTokenizer {
    /// Returns the entry in tokenizer.json.
    package func file() -> JSON {
        switch steps.count {
        case 0: .null
        case 1: Self.file(steps[0])
        default: ["type": "Sequence", "pretokenizers": .array(steps.map(Self.file))]
        }
    }

    private static func file(_ step: Step) -> JSON {
        switch step {
        case .byteLevel(let addsPrefixSpace, let usesPattern):
            return ["type": "ByteLevel", "add_prefix_space": .bool(addsPrefixSpace), "trim_offsets": true, "use_regex": .bool(usesPattern)]
        case .metaspace(let replacement, let scheme, let splits):
            return [
                "type": "Metaspace", "replacement": .string(replacement), "prepend_scheme": .string(scheme.rawValue),
                "split": .bool(splits),
            ]
        case .split(.scalars(.digits), let behavior, _): return ["type": "Digits", "individual_digits": .bool(behavior == .isolated)]
        case .split(.scalars(.punctuation), let behavior, _): return ["type": "Punctuation", "behavior": .string(behavior.rawValue)]
        case .split(.scalars(.whitespace), _, _): return ["type": "WhitespaceSplit"]
        case .split(let splitter, let behavior, let isInverted):
            let pattern: JSON =
                switch splitter {
                case .literal(let text): ["String": .string(text)]
                case .pattern(let source, _), .scanner(let source, _): ["Regex": .string(source)]
                case .scalars: .null
                }
            return ["type": "Split", "pattern": pattern, "behavior": .string(behavior.rawValue), "invert": .bool(isInverted)]
        }
    }
}

extension TokenDecoder {
    /// Returns the entry in tokenizer.json.
    package func file() -> JSON {
        guard let space else { return ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true] }
        let steps: [JSON] = [
            ["type": "Replace", "pattern": ["String": .string(space)], "content": " "], ["type": "ByteFallback"], ["type": "Fuse"],
        ]
        return [
            "type": "Sequence",
            "decoders": .array(steps + (stripsFirstSpace ? [["type": "Strip", "content": " ", "start": 1, "stop": 0]] : [])),
        ]
    }
}
