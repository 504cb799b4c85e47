import Foundation

extension Tokenizer {
    /// Reads a directory's tokenizer.json, and the special tokens that the files beside it name: tokenizer_config.json,
    /// special_tokens_map.json, added_tokens.json.
    package init(directory: String) throws(ModelError) {
        let path = directory + "/tokenizer.json"
        guard FileManager.default.fileExists(atPath: path) else { throw Self.missing(path, directory) }
        let file = TokenizerFile(path: path, json: try JSON.read(path))
        func beside(_ name: String) throws(ModelError) -> JSON? {
            let path = directory + "/" + name
            return FileManager.default.fileExists(atPath: path) ? try JSON.read(path) : nil
        }
        let config = try beside("tokenizer_config.json")
        for member in config?["added_tokens_decoder"]?.members ?? [] where Int32(member.key) == nil {
            throw ModelError(
                .malformed, file: directory + "/tokenizer_config.json", subject: "added_tokens_decoder",
                "the key \(member.key.debugDescription) is no token's number")
        }
        let names = SpecialTokenNames(config: config, map: try beside("special_tokens_map.json"), added: try beside("added_tokens.json"))

        guard let model = file.json["model"] else { throw file.malformed("model", "is missing") }
        // Files older than this key also have a vocabulary and merges.
        let type = model["type"]?.string ?? "BPE"
        guard type == "BPE" else {
            throw file.unsupported("model.type", "\"\(type)\"", "supported: \"BPE\" (byte pairs, byte-level or from SentencePiece)")
        }
        guard let members = model["vocab"]?.members, let merges = model["merges"]?.array else {
            throw file.malformed("model", "has no vocab or no merges")
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] where !(model[key] ?? .null).isNull && model[key] != "" {
            throw file.unsupported("model.\(key)", model[key]?.text(indent: 0) ?? "", "supported: none")
        }
        if let dropout = model["dropout"]?.double, dropout != 0 { throw file.unsupported("model.dropout", "\(dropout)", "supported: null") }

        let preTokenizer = try file.preTokenizer()
        // The unit is bytes if a step turns the text into bytes, else characters.
        let isByteLevel = preTokenizer.steps.contains { if case .byteLevel = $0 { true } else { false } }
        let unit = isByteLevel ? BytePairMerges.Unit.bytes : .characters(joinsUnknown: model["fuse_unk"]?.bool ?? false)
        var builder = TokenizerBuilder(file: path, preTokenizer: preTokenizer, unit: unit)
        builder.normalizer = try file.normalizer()
        builder.decoder = try file.decoder()
        builder.ignoresMerges = model["ignore_merges"]?.bool ?? false
        builder.hasByteFallback = isByteLevel || model["byte_fallback"]?.bool ?? false
        var ids: [String: Int32] = [:]
        for member in members {
            guard let token = member.value.integer.flatMap(Int32.init(exactly:)) else {
                throw file.malformed("model.vocab", "the token \(member.key.debugDescription) has no number")
            }
            try builder.vocabularyToken(token, text: member.key)
            ids[member.key] = token
        }
        for (i, merge) in merges.enumerated() {
            let parts =
                merge.string.map { $0.split(separator: " ", omittingEmptySubsequences: false).map(String.init) }
                ?? merge.array.flatMap { parts in parts.allSatisfy { $0.string != nil } ? parts.compactMap(\.string) : nil } ?? []
            guard parts.count == 2 else { throw file.malformed("model.merges", "entry \(i) is not two tokens") }
            builder.merge(parts[0], parts[1])
        }
        try Self.addTokens(file, names, &ids, to: &builder)
        builder.specialTokenTexts = names.texts
        builder.bosToken = names.text("bos_token").flatMap { ids[$0] }
        builder.eosToken = names.text("eos_token").flatMap { ids[$0] }
        builder.padToken = names.text("pad_token").flatMap { ids[$0] }
        builder.unknownToken = model["unk_token"]?.string.flatMap { ids[$0] }
        (builder.leadingTokens, builder.trailingTokens) = try file.surroundings(ids)
        // Two classes of transformers do not read the post-processor: they put these tokens around every text.
        switch config?["tokenizer_class"]?.string {
        case "GPTNeoXTokenizer", "GPTNeoXTokenizerFast": (builder.leadingTokens, builder.trailingTokens) = ([], [])
        case "CodeLlamaTokenizer", "CodeLlamaTokenizerFast":
            (builder.leadingTokens, builder.trailingTokens) = ([builder.bosToken].compactMap { $0 }, [])
        default: break
        }
        self = try builder.build()
    }

    private static func missing(_ path: String, _ directory: String) -> ModelError {
        let others = ["tokenizer.model", "tekken.json", "vocab.json", "spiece.model"].filter {
            FileManager.default.fileExists(atPath: directory + "/" + $0)
        }
        return ModelError(
            .notFound, file: path, others.first.map { "there is no such file, only \($0)" } ?? "there is no such file",
            remedy: "only tokenizer.json is read: load the tokenizer with transformers' AutoTokenizer and save_pretrained it")
    }

    /// Adds the tokens of tokenizer.json, and those that only the files beside it name.
    private static func addTokens(
        _ file: TokenizerFile, _ names: SpecialTokenNames, _ ids: inout [String: Int32], to builder: inout TokenizerBuilder
    ) throws(ModelError) {
        func entry(_ json: JSON, _ token: Int32, _ content: String) -> AddedTokens.Entry {
            let isSpecial = json["special"]?.bool ?? false
            return AddedTokens.Entry(
                token: token, content: Array(content.utf8), isSpecial: isSpecial, stripsLeft: json["lstrip"]?.bool ?? false,
                stripsRight: json["rstrip"]?.bool ?? false, isSingleWord: json["single_word"]?.bool ?? false,
                isNormalized: json["normalized"]?.bool ?? !isSpecial)
        }
        var contents: Set<String> = []
        for json in file.json["added_tokens"]?.array ?? [] {
            guard let token = json["id"]?.integer.flatMap(Int32.init(exactly:)), let content = json["content"]?.string, !content.isEmpty
            else {
                throw file.malformed("added_tokens", "an entry lacks its id or content")
            }
            try builder.addToken(entry(json, token, content))
            ids[content] = token
            contents.insert(content)
        }
        for (token, json) in names.addedTokens {
            guard let content = json["content"]?.string, !content.isEmpty, !contents.contains(content), !builder.isAdded(token) else {
                continue
            }
            try builder.addToken(entry(json, token, content))
            ids[content] = token
            contents.insert(content)
        }
        for name in names.all {
            guard let token = ids[name] else { continue }
            if contents.contains(name) {
                builder.makeSpecial(token)
            } else {
                try builder.addToken(AddedTokens.Entry(token: token, content: Array(name.utf8), isSpecial: true))
                contents.insert(name)
            }
        }
    }
}

/// The tokens that the files beside tokenizer.json call special.
private struct SpecialTokenNames {
    private static let keys = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]

    private let config: JSON?
    private let map: JSON?
    /// Tokens with their numbers, in ascending order.
    let addedTokens: [(token: Int32, entry: JSON)]

    init(config: JSON?, map: JSON?, added: JSON?) {
        self.config = config
        self.map = map
        var tokens: [(Int32, JSON)] = []
        for member in config?["added_tokens_decoder"]?.members ?? [] {
            if let token = Int32(member.key) { tokens.append((token, member.value)) }
        }
        if tokens.isEmpty {
            for member in added?.members ?? [] {
                if let token = member.value.integer.flatMap(Int32.init(exactly:)) {
                    tokens.append((token, ["content": .string(member.key), "special": false, "normalized": false]))
                }
            }
        }
        addedTokens = tokens.sorted { $0.0 < $1.0 }
    }

    private static func text(_ value: JSON?) -> String? { value?.string ?? value?["content"]?.string }

    func text(_ key: String) -> String? {
        // A key with the value null says that there is no such token.
        if let value = config?[key] { return Self.text(value) }
        return Self.text(map?[key])
    }

    var texts: [String: String] {
        var texts: [String: String] = [:]
        for key in Self.keys { texts[key] = text(key) }
        return texts
    }

    var all: [String] {
        var names = Self.keys.compactMap(text)
        for file in [config, map] {
            for key in ["additional_special_tokens", "extra_special_tokens"] {
                let list = file?[key]
                names += (list?.array ?? list?.members?.map(\.value) ?? []).compactMap(Self.text)
            }
        }
        return names
    }
}
