import Foundation

extension Tokenizer {
    /// The `Split` patterns of tokenizer.json files that there is a scanner for.
    package static let splitPatterns: [String: PreTokenizer] = [
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#: .llama3,
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#: .qwen2,
    ]

    /// From a directory's tokenizer.json, with the names of the special tokens from tokenizer_config.json where there is one.
    package init(directory: String) throws(ModelError) {
        let path = directory + "/tokenizer.json"
        guard FileManager.default.fileExists(atPath: path) else {
            throw ModelError(
                .notFound, file: path, "there is no such file",
                remedy: "only tokenizer.json is read: load the tokenizer with transformers' AutoTokenizer and save_pretrained it")
        }
        let json = try JSON.read(path)
        let configPath = directory + "/tokenizer_config.json"
        let config = FileManager.default.fileExists(atPath: configPath) ? try JSON.read(configPath) : nil

        func unsupported(_ key: String, _ value: JSON?, _ remedy: String) -> ModelError {
            ModelError(
                .unsupported, file: path, subject: key, "\(value?.text(indent: 0) ?? "nothing") is not supported", remedy: "supported: \(remedy)")
        }
        guard let model = json["model"] else { throw ModelError(.malformed, file: path, subject: "model", "is missing") }
        // Files older than the key have a vocabulary and merges all the same.
        guard let members = model["vocab"]?.members, let merges = model["merges"]?.array, model["type"] ?? "BPE" == "BPE" else {
            throw unsupported("model.type", model["type"], "\"BPE\" with vocab and merges")
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] where !(model[key] ?? .null).isNull && model[key] != "" {
            throw unsupported("model.\(key)", model[key], "none")
        }
        if let dropout = model["dropout"]?.double, dropout != 0 { throw unsupported("model.dropout", model["dropout"], "null") }
        if model["byte_fallback"] == true { throw unsupported("model.byte_fallback", true, "false (byte-level vocabularies)") }

        var builder = TokenizerBuilder(file: path, preTokenizer: try Self.preTokenizer(json["pre_tokenizer"] ?? .null, file: path))
        builder.normalizer = try Self.normalizer(json["normalizer"] ?? .null, file: path)
        builder.ignoresMerges = model["ignore_merges"]?.bool ?? false
        for member in members {
            guard let token = member.value.integer.flatMap(Int32.init(exactly:)) else {
                throw ModelError(.malformed, file: path, subject: "model.vocab", "the token \(member.key.debugDescription) has no number")
            }
            try builder.vocabularyToken(token, text: member.key)
        }
        for (i, merge) in merges.enumerated() {
            let parts: [String]
            if let text = merge.string {
                parts = text.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
            } else {
                parts = (merge.array ?? []).compactMap(\.string)
            }
            guard parts.count == 2 else { throw ModelError(.malformed, file: path, subject: "model.merges", "entry \(i) is not two tokens") }
            builder.merges.append((parts[0], parts[1]))
        }
        var ids: [String: Int32] = [:]
        for entry in json["added_tokens"]?.array ?? [] {
            guard let token = entry["id"]?.integer.flatMap(Int32.init(exactly:)), let content = entry["content"]?.string, !content.isEmpty
            else { throw ModelError(.malformed, file: path, subject: "added_tokens", "an entry lacks its id or content") }
            for key in ["single_word", "lstrip", "rstrip"] where entry[key] == true {
                throw unsupported("added_tokens \(content.debugDescription) \(key)", true, "false")
            }
            try builder.addToken(token, content: Array(content.utf8), isSpecial: entry["special"]?.bool ?? false)
            ids[content] = token
        }
        func named(_ key: String) -> Int32? {
            let value = config?[key]
            return (value?.string ?? value?["content"]?.string).flatMap { ids[$0] }
        }
        builder.bosToken = named("bos_token")
        builder.eosToken = named("eos_token")
        builder.padToken = named("pad_token")
        if let unknown = model["unk_token"]?.string {
            builder.unknownByteToken = ids[unknown] ?? members.first { $0.key == unknown }?.value.integer.flatMap(Int32.init(exactly:))
        }
        builder.leadingTokens = try Self.leadingTokens(json["post_processor"] ?? .null, ids: ids, file: path)
        self = try builder.build()
    }

    private static func preTokenizer(_ json: JSON, file: String) throws(ModelError) -> PreTokenizer {
        func isByteLevel(_ step: JSON, regex: Bool) -> Bool {
            step["type"] == "ByteLevel" && step["add_prefix_space"] == false && (step["use_regex"] ?? true) == .bool(regex)
        }
        let steps = json["type"] == "Sequence" ? json["pretokenizers"]?.array ?? [] : [json]
        if steps.count == 1, isByteLevel(steps[0], regex: true) { return .gpt2 }
        if steps.count == 2 {
            if steps[0]["type"] == "Digits", steps[0]["individual_digits"] == true, isByteLevel(steps[1], regex: true) { return .smollm }
            if steps[0]["type"] == "Split", steps[0]["behavior"] == "Isolated", steps[0]["invert"] ?? false == false,
                let pattern = steps[0]["pattern"]?["Regex"]?.string, let known = splitPatterns[pattern],
                isByteLevel(steps[1], regex: false)
            {
                return known
            }
        }
        throw ModelError(
            .unsupported, file: file, subject: "pre_tokenizer", "\(json.text(indent: 0)) is not supported",
            remedy: "supported are those of GPT-2, SmolLM, Llama 3 and Qwen 2, without a prefix space")
    }

    private static func normalizer(_ json: JSON, file: String) throws(ModelError) -> Normalizer {
        if json.isNull || json["normalizers"] == [] { return .none }
        if json["type"] == "NFC" { return .nfc }
        throw ModelError(
            .unsupported, file: file, subject: "normalizer", "\(json.text(indent: 0)) is not supported", remedy: "supported: none and NFC")
    }

    /// The special tokens that a template puts before a text.
    private static func leadingTokens(_ json: JSON, ids: [String: Int32], file: String) throws(ModelError) -> [Int32] {
        switch json["type"]?.string {
        case nil, "ByteLevel"?: return []
        case "Sequence"?:
            var tokens: [Int32] = []
            for step in json["processors"]?.array ?? [] { tokens += try leadingTokens(step, ids: ids, file: file) }
            return tokens
        case "TemplateProcessing"?:
            var tokens: [Int32] = []
            for (i, item) in (json["single"]?.array ?? []).enumerated() {
                if item["Sequence"] != nil { continue }
                guard let name = item["SpecialToken"]?["id"]?.string, let token = ids[name], tokens.count == i else {
                    throw ModelError(
                        .unsupported, file: file, subject: "post_processor", "\(item.text(indent: 0)) is not supported",
                        remedy: "supported are added tokens before the text")
                }
                tokens.append(token)
            }
            return tokens
        case let type?:
            throw ModelError(
                .unsupported, file: file, subject: "post_processor", "\(type) is not supported", remedy: "supported: ByteLevel, TemplateProcessing")
        }
    }
}
