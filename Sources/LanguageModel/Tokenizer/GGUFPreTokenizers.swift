/// The meaning of the names in `tokenizer.ggml.pre`. A name stands for a model; the patterns are from that model's tokenizer.json.
enum GGUFPreTokenizers {
    struct Entry {
        let steps: [PreTokenizer.Step]
        /// llama.cpp's defaults for the name, for files that do not say.
        var ignoresMerges = false
        var addsBos = false
        /// Whether the model's tokenizer.json composes characters first (NFC); GGUF files do not say.
        var composes = false
    }

    /// Names with the same meaning.
    private static let families: [(names: [String], family: String)] = [
        (["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "a.x-4.0", "mellum", "exaone4"], "gpt2"),
        (["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"], "smollm"),
        (["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], "llama3"),
        (["dbrx", "smaug-bpe", "chatglm-bpe"], "cl100k"),
        (["glm4", "glm5"], "glm4"),
        (["qwen2", "deepseek-r1-qwen", "kormo", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"], "qwen2"),
        (["qwen35"], "qwen35"),
        (["gpt-4o", "llama4", "kanana2", "minimax-m2"], "o200k"),
        (["tekken"], "tekken"),
        (["deepseek-llm"], "deepseek-llm"),
        (["deepseek-coder"], "deepseek-coder"),
        (["deepseek-v3", "hunyuan-dense", "joyai-llm"], "deepseek-v3"),
        (["falcon"], "falcon"),
        (["bloom", "poro-chat", "gpt3-finnish"], "bloom"),
        (["viking"], "viking"),
        (["bailingmoe", "bailingmoe2", "llada-moe"], "bailingmoe"),
        (["seed-coder"], "seed-coder"),
        (["tiny_aya", "cohere2moe"], "tiny-aya"),
        (["minicpm5"], "minicpm5"),
        (["exaone-moe"], "exaone-moe"),
    ]

    /// Returns the name of a tokenizer's way to cut texts into pieces; nil if llama.cpp has none for it.
    static func name(of tokenizer: Tokenizer) -> String? {
        let composes = tokenizer.normalizer.map { if case .unicode(.nfc) = $0 { true } else { false } }
        // GGUF says nothing about normalisers. llama.cpp composes no characters, so that NFC alone is left out, as its converter does.
        guard composes ?? true else { return nil }
        let names = families.flatMap(\.names)
        func first(_ isSame: (Entry) -> Bool) -> String? { names.first { entry($0).map(isSame) ?? false } }
        func fits(_ entry: Entry) -> Bool {
            entry.ignoresMerges == tokenizer.ignoresMerges && PreTokenizer(entry.steps).cutsLike(tokenizer.preTokenizer)
        }
        return first { fits($0) && $0.composes == (composes != nil) } ?? first(fits)
    }

    static func entry(_ name: String) -> Entry? {
        guard let family = families.first(where: { $0.names.contains(name) })?.family else { return nil }
        switch family {
        case "gpt2": return Entry(steps: [.byteLevel(addsPrefixSpace: false, usesPattern: true)])
        case "smollm":
            return Entry(steps: [
                .split(.scalars(.digits), .isolated, isInverted: false), .byteLevel(addsPrefixSpace: false, usesPattern: true),
            ])
        case "llama3": return Entry(steps: patterns([PieceScanner.llama3Pattern]), ignoresMerges: true, addsBos: true)
        case "cl100k": return Entry(steps: patterns([PieceScanner.llama3Pattern]))
        case "glm4": return Entry(steps: patterns([PieceScanner.llama3Pattern]), ignoresMerges: true)
        case "qwen2": return Entry(steps: patterns([PieceScanner.qwen2Pattern]), composes: ["qwen2", "deepseek-r1-qwen"].contains(name))
        case "qwen35":
            return Entry(
                steps: patterns([contractions + #"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"# + spaces]))
        case "tekken": return Entry(steps: patterns([tekken]), ignoresMerges: true, addsBos: true)
        case "minicpm5":
            return Entry(
                steps: patterns([#"\p{N}{1,3}"#, contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*"# + spaces]),
                ignoresMerges: true)
        case "falcon":
            return Entry(
                steps: [
                    .split(.scalars(.punctuation), .contiguous, isInverted: false), .byteLevel(addsPrefixSpace: false, usesPattern: true),
                    .split(.scalars(.digits), .contiguous, isInverted: false),
                ] + patterns(["[0-9][0-9][0-9]"]).dropLast())
        default: return more[family].map { Entry(steps: patterns($0)) }
        }
    }

    private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    private static let spaces = #"|\s*[\r\n]+|\s+(?!\S)|\s+"#
    private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    private static let tekken =
        #"[^\r\n\p{L}\p{N}]?\#(upper)*\#(lower)+|[^\r\n\p{L}\p{N}]?\#(upper)+\#(lower)*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"# + spaces
    private static let o200k =
        #"[^\r\n\p{L}\p{N}]?\#(upper)*\#(lower)+\#(contractions)?|[^\r\n\p{L}\p{N}]?\#(upper)+\#(lower)*\#(contractions)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"#
        + spaces
    private static let deepSeekWords =
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"## + spaces
    private static let bloom = #" ?[^(\s|.,!?…。，、।۔،)]+"#

    private static let more: [String: [String]] = [
        "o200k": [o200k],
        "deepseek-llm": [
            #"[\r\n]"#,
            #"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"#,
            #"\s?[!-/:-~！-／：-～‘-‟　-。]+"#, #"\s+$"#, #"[一-龥ࠀ-一가-퟿]+"#, #"\p{N}+"#,
        ],
        "deepseek-coder": [#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, #"[一-龥ࠀ-一가-퟿]+"#, #"\p{N}"#],
        "deepseek-v3": [#"\p{N}{1,3}"#, "[一-龥぀-ゟ゠-ヿ]+", deepSeekWords],
        "bloom": [bloom],
        "viking": [bloom, #"\p{N}"#],
        "bailingmoe": [#"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#],
        "seed-coder": [contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"# + spaces],
        "tiny-aya": [#"\d{1,3}(?=(?:\d{3})*\b)"#, o200k],
        "exaone-moe": [
            contractions + #"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"#
        ],
    ]

    /// Returns steps in which each pattern splits the pieces of the one before it; at the end the text becomes bytes.
    private static func patterns(_ sources: [String]) -> [PreTokenizer.Step] {
        sources.compactMap { source in
            if let scanner = PieceScanner(pattern: source) {
                return .split(.scanner(source: source, scanner), .isolated, isInverted: false)
            }
            return (try? Pattern(source)).map { .split(.pattern(source: source, $0), .isolated, isInverted: false) }
        } + [.byteLevel(addsPrefixSpace: false, usesPattern: false)]
    }
}
