/// A family of models whose files this program reads. To add one, describe it in a file beside this one and list it in `all`.
public struct ModelFamily: Sendable {
    /// `model_type` of config.json.
    public let name: String
    /// Models of the family.
    public let title: String
    /// Differences from llama; for llama itself, its form.
    public let form: String
    /// `general.architecture` of GGUF files; nil if these can't be read.
    public let gguf: String?
    /// `general.architecture` under which llama.cpp runs an export; nil if it does not know the family.
    package let exportedAs: String?
    /// `architectures` of config.json.
    package let className: String
    /// Turns llama's configuration, with config.json's sizes, into this family's.
    package let describe: @Sendable (inout ModelConfiguration, ConfigurationFile) throws(ModelError) -> Void
    /// Adds to the config.json made from a GGUF file what the usual keys do not say.
    package let addGGUFSettings: @Sendable (inout JSON, GGUFFile) throws(ModelError) -> Void

    /// Prefixes of tensor names that belong to other parts of the model, which are left out.
    package let ignoredPrefixes: [String]

    package init(
        _ name: String, title: String, form: String, gguf: String? = nil, exportedAs: String? = nil, className: String,
        ignoredPrefixes: [String] = [],
        describe: @escaping @Sendable (inout ModelConfiguration, ConfigurationFile) throws(ModelError) -> Void,
        addGGUFSettings: @escaping @Sendable (inout JSON, GGUFFile) throws(ModelError) -> Void = { (_, _) throws(ModelError) in }
    ) {
        self.name = name
        self.title = title
        self.form = form
        self.gguf = gguf
        self.exportedAs = exportedAs ?? gguf
        self.className = className
        self.ignoredPrefixes = ignoredPrefixes
        self.describe = describe
        self.addGGUFSettings = addGGUFSettings
    }

    /// Returns the configuration of the part that reads and writes text, and that part's own config.json if the model has other parts.
    func textPart(of file: ConfigurationFile) -> (ConfigurationFile, JSON?) {
        guard let part = file.present("text_config"), part.members != nil else { return (file, nil) }
        var json = part
        for key in ["bos_token_id", "eos_token_id"] where json[key] == nil { if let value = file.present(key) { json.set(key, value) } }
        var made = json
        if let text = Self.all.first(where: { $0.className == className }) { made.set("model_type", .string(text.name)) }
        made.set("architectures", [.string(className)])
        return (ConfigurationFile(path: file.path, json: json), made)
    }

    /// Returns the names that files may use for a tensor. Models with a vision part have one more name in front.
    func namesInFiles(of name: String) -> [String] {
        guard name.hasPrefix("model."), ignoredPrefixes != [] else { return [name] }
        return [name, "language_model." + name, "model.language_model." + name.dropFirst("model.".count)]
    }

    /// All families that this program reads.
    public static let all: [ModelFamily] = [
        .llama, .mistral, .ministral3, .qwen2, .qwen3, .gemma, .gemma2, .gemma3Text, .gemma3, .opt, .gpt2, .gptNeo, .gptJ, .gptNeoX, .phi, .phi3,
        .smolLM3,
        .granite, .granite4, .olmo, .olmo2, .olmo3, .stableLM, .starCoder2, .cohere, .cohere2, .hunYuan, .exaone4, .apertus, .arcee, .ernie, .helium,
        .falcon,
        .bloom,
    ]

    /// Returns a family by `model_type` of config.json.
    package static func named(_ name: String, file: String) throws(ModelError) -> ModelFamily {
        guard let family = all.first(where: { $0.name == name }) else { throw unknown(name, file: file, key: "model_type") }
        return family
    }

    /// Returns a family by `general.architecture` of a GGUF file.
    package static func named(gguf name: String, file: String) throws(ModelError) -> ModelFamily {
        guard let family = all.first(where: { $0.gguf == name }) else { throw unknown(name, file: file, key: "general.architecture") }
        return family
    }

    private static func unknown(_ name: String, file: String, key: String) -> ModelError {
        if let reason = refusals[name] { return ModelError(.unsupported, file: file, subject: key, "\(name) is not supported: \(reason)") }
        return ModelError(
            .unsupported, file: file, subject: key, "architecture \(name.debugDescription) is not supported",
            remedy: "supported: \(all.map(\.name).joined(separator: ", "))")
    }
}

extension ModelFamily: Hashable {
    public static func == (a: ModelFamily, b: ModelFamily) -> Bool { a.name == b.name }
    public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}
