/// Reads the parts of a tokenizer.json. Unknown parts are refused by name, because a tokenizer that is almost right gives other tokens.
struct TokenizerFile {
    let path: String
    let json: JSON

    /// Largest depth of nested parts.
    private static let depthMax = 8

    func unsupported(_ key: String, _ what: String, _ remedy: String) -> ModelError {
        ModelError(.unsupported, file: path, subject: key, "\(what) is not supported", remedy: remedy)
    }

    func malformed(_ key: String, _ problem: String) -> ModelError { ModelError(.malformed, file: path, subject: key, problem) }

    private static func named(_ json: JSON) -> String { json["type"]?.string.map { "\"\($0)\"" } ?? json.text(indent: 0) }

    private static let convert = "use a model whose tokenizer is byte pairs, byte-level or from SentencePiece"

    // MARK: Normaliser

    func normalizer() throws(ModelError) -> Normalizer? {
        let json = json["normalizer"] ?? .null
        if json.isNull { return nil }
        let normalizer = try normalizer(json, 0)
        if case .sequence(let steps) = normalizer, steps.isEmpty { return nil }
        return normalizer
    }

    private func normalizer(_ json: JSON, _ depth: Int) throws(ModelError) -> Normalizer {
        guard depth < Self.depthMax else { throw malformed("normalizer", "is nested more than \(Self.depthMax) deep") }
        switch json["type"]?.string {
        case "Sequence":
            var steps: [Normalizer] = []
            for step in json["normalizers"]?.array ?? [] { steps.append(try normalizer(step, depth + 1)) }
            return steps.count == 1 ? steps[0] : .sequence(steps)
        case "NFC": return .unicode(.nfc)
        case "NFD": return .unicode(.nfd)
        case "NFKC": return .unicode(.nfkc)
        case "NFKD": return .unicode(.nfkd)
        case "Lowercase": return .lowercase
        case "Strip": return .strip(left: json["strip_left"]?.bool ?? true, right: json["strip_right"]?.bool ?? true)
        case "Prepend": return .prepend(json["prepend"]?.string ?? "")
        case "Replace":
            guard let content = json["content"]?.string else { throw malformed("normalizer Replace", "has no content") }
            if let literal = json["pattern"]?["String"]?.string { return .replace(literal, with: content) }
            let (source, pattern) = try pattern(json, "normalizer Replace")
            return .replacePattern(source: source, pattern, with: content)
        default: throw unsupported("normalizer", Self.named(json), Self.convert)
        }
    }

    private func pattern(_ json: JSON, _ key: String) throws(ModelError) -> (String, Pattern) {
        guard let source = json["pattern"]?["Regex"]?.string else { throw malformed(key, "has no pattern") }
        do throws(PatternError) {
            return (source, try Pattern(source))
        } catch {
            throw ModelError(
                .unsupported, file: path, subject: key, "the pattern \(source.debugDescription) \(error.problem)",
                remedy: "no other tokenizer's pattern may stand in for it, so the model can't be read")
        }
    }

    // MARK: Pre-tokenizer

    func preTokenizer() throws(ModelError) -> PreTokenizer {
        let json = json["pre_tokenizer"] ?? .null
        return PreTokenizer(json.isNull ? [] : try steps(json, 0))
    }

    private func steps(_ json: JSON, _ depth: Int) throws(ModelError) -> [PreTokenizer.Step] {
        guard depth < Self.depthMax else { throw malformed("pre_tokenizer", "is nested more than \(Self.depthMax) deep") }
        switch json["type"]?.string {
        case "Sequence":
            var steps: [PreTokenizer.Step] = []
            for step in json["pretokenizers"]?.array ?? [] { steps += try self.steps(step, depth + 1) }
            return steps
        case "ByteLevel":
            return [.byteLevel(addsPrefixSpace: json["add_prefix_space"]?.bool ?? true, usesPattern: json["use_regex"]?.bool ?? true)]
        case "Split": return [try split(json)]
        case "Digits":
            let behavior = json["individual_digits"]?.bool ?? false ? PreTokenizer.SplitBehavior.isolated : .contiguous
            return [.split(.scalars(.digits), behavior, isInverted: false)]
        case "Punctuation": return [.split(.scalars(.punctuation), try behavior(json, "Punctuation"), isInverted: false)]
        case "WhitespaceSplit": return [.split(.scalars(.whitespace), .removed, isInverted: false)]
        case "CharDelimiterSplit":
            guard let delimiter = json["delimiter"]?.string, !delimiter.isEmpty else {
                throw malformed("pre_tokenizer CharDelimiterSplit", "has no delimiter")
            }
            return [.split(.literal(delimiter), .removed, isInverted: false)]
        case "Metaspace":
            let older = json["add_prefix_space"]?.bool ?? true ? PreTokenizer.PrependScheme.always : .never
            let scheme = json["prepend_scheme"]?.string
            guard let scheme = scheme == nil ? older : PreTokenizer.PrependScheme(rawValue: scheme ?? "") else {
                throw unsupported(
                    "pre_tokenizer Metaspace", "the prepend_scheme \((scheme ?? "").debugDescription)", "known are always, first, never")
            }
            return [.metaspace(replacement: json["replacement"]?.string ?? "▁", scheme, splits: json["split"]?.bool ?? true)]
        default: throw unsupported("pre_tokenizer", Self.named(json), Self.convert)
        }
    }

    private func behavior(_ json: JSON, _ key: String) throws(ModelError) -> PreTokenizer.SplitBehavior {
        let name = json["behavior"]?.string ?? "Isolated"
        guard let behavior = PreTokenizer.SplitBehavior(rawValue: name) else {
            throw unsupported(
                "pre_tokenizer \(key)", "the behavior \(name.debugDescription)",
                "known are \(PreTokenizer.SplitBehavior.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return behavior
    }

    private func split(_ json: JSON) throws(ModelError) -> PreTokenizer.Step {
        let behavior = try behavior(json, "Split")
        let isInverted = json["invert"]?.bool ?? false
        if let literal = json["pattern"]?["String"]?.string { return .split(.literal(literal), behavior, isInverted: isInverted) }
        let (source, pattern) = try pattern(json, "pre_tokenizer Split")
        if let scanner = PieceScanner(pattern: source) {
            return .split(.scanner(source: source, scanner), behavior, isInverted: isInverted)
        }
        return .split(.pattern(source: source, pattern), behavior, isInverted: isInverted)
    }

    // MARK: Decoder

    func decoder() throws(ModelError) -> TokenDecoder {
        var decoder = TokenDecoder()
        try read(json["decoder"] ?? .null, 0, into: &decoder)
        return decoder
    }

    private func read(_ json: JSON, _ depth: Int, into decoder: inout TokenDecoder) throws(ModelError) {
        guard depth < Self.depthMax else { throw malformed("decoder", "is nested more than \(Self.depthMax) deep") }
        switch json["type"]?.string {
        case nil, "ByteLevel", "ByteFallback", "Fuse": return
        case "Sequence": for step in json["decoders"]?.array ?? [] { try read(step, depth + 1, into: &decoder) }
        case "Metaspace":
            decoder.space = json["replacement"]?.string ?? "▁"
            decoder.stripsFirstSpace = json["prepend_scheme"]?.string ?? "always" != "never" && json["add_prefix_space"]?.bool ?? true
        case "Replace":
            guard let text = json["pattern"]?["String"]?.string, json["content"] == " " else {
                throw unsupported("decoder", json.text(indent: 0), "known is the one that writes a space")
            }
            decoder.space = text
        case "Strip":
            guard json["content"] == " ", json["stop"]?.integer ?? 0 == 0 else {
                throw unsupported("decoder", json.text(indent: 0), "known is a space at the start")
            }
            decoder.stripsFirstSpace = json["start"]?.integer ?? 0 > 0
        default: throw unsupported("decoder", Self.named(json), Self.convert)
        }
    }

    // MARK: Post-processor

    /// Returns the tokens put before and after a text.
    func surroundings(_ ids: [String: Int32]) throws(ModelError) -> (before: [Int32], after: [Int32]) {
        try surroundings(json["post_processor"] ?? .null, ids, 0)
    }

    private func surroundings(_ json: JSON, _ ids: [String: Int32], _ depth: Int) throws(ModelError) -> (before: [Int32], after: [Int32]) {
        guard depth < Self.depthMax else { throw malformed("post_processor", "is nested more than \(Self.depthMax) deep") }
        switch json["type"]?.string {
        case nil, "ByteLevel": return ([], [])
        case "Sequence":
            var (before, after): ([Int32], [Int32]) = ([], [])
            for step in json["processors"]?.array ?? [] {
                let more = try surroundings(step, ids, depth + 1)
                before = more.before + before
                after += more.after
            }
            return (before, after)
        case "RobertaProcessing", "BertProcessing":
            guard let first = json["cls"]?.array?.last?.integer.flatMap(Int32.init(exactly:)),
                let last = json["sep"]?.array?.last?.integer.flatMap(Int32.init(exactly:))
            else { throw malformed("post_processor", "lacks the numbers of cls and sep") }
            return ([first], [last])
        case "TemplateProcessing":
            var (before, after): ([Int32], [Int32]) = ([], [])
            var hasText = false
            for item in json["single"]?.array ?? [] {
                if item["Sequence"] != nil {
                    guard !hasText else { throw unsupported("post_processor", "a template that holds the text twice", Self.convert) }
                    hasText = true
                    continue
                }
                guard let name = item["SpecialToken"]?["id"]?.string else {
                    throw malformed("post_processor", "\(item.text(indent: 0)) is no special token")
                }
                let listed = json["special_tokens"]?[name]?["ids"]?.array?.compactMap { $0.integer.flatMap(Int32.init(exactly:)) }
                guard let tokens = listed ?? ids[name].map({ [$0] }) else {
                    throw malformed("post_processor", "the token \(name.debugDescription) is not in the vocabulary")
                }
                if hasText { after += tokens } else { before += tokens }
            }
            return (before, after)
        default: throw unsupported("post_processor", Self.named(json), Self.convert)
        }
    }
}
