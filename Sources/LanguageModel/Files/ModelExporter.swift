import Core
import Foundation

/// Writes a model as a Hugging Face directory that transformers loads (configuration, tokenizer, weights, model card), or as a GGUF file.
public struct ModelExporter {
    /// Writes the values of a range of a tensor's elements (row-major), in place of the source's.
    public typealias Values = (_ elements: Range<Int>, _ into: UnsafeMutablePointer<Float>) -> Void

    public let source: ModelSource
    /// Type of the written weights. F32 keeps trained values almost exactly; F16 and BF16 halve the size and round.
    public var dataType = ElementType.f32
    /// Largest size of a file in bytes; larger models are written in several files.
    public var shardBytesMax = 5_000_000_000
    /// Markdown below the model card's title: what was trained, on what, and how well.
    public var card = ""
    /// The adapters' changes. If the head changes, it is a tensor of its own in a merged model, because the embedding does not change.
    public var changes: [AdapterChange] = []
    /// Form of the export.
    public var format = Format.merged

    /// Forms in which a fine-tuned model is written.
    public enum Format: String, CaseIterable, Sendable {
        /// A model that transformers loads, with all changes in its weights.
        case merged
        /// Only the adapters, as a LoRA adapter that `peft` loads onto the base model.
        case peft
    }

    /// Whether existing files are replaced once the new directory is complete. If false, a directory that is not empty is refused.
    public var overwrites = false

    public init(source: ModelSource) { self.source = source }

    /// Writes the directory. It appears at `path` whole or not at all.
    ///
    /// - Parameters:
    ///   - replacing: values by tensor name; all other tensors keep the source's values.
    ///   - progress: receives each tensor's name before it is written. Returning false ends the export with `ModelError.Code.cancelled` and
    ///     leaves nothing.
    public func write(to path: String, replacing: [String: Values] = [:], progress: (String) -> Bool = { _ in true }) throws(ModelError) {
        try refuseUnknown(replacing)
        let place = try ExportPlace(path, overwrites: overwrites, source: source.places, isOfExport: Self.isOfExport)
        do throws(ModelError) {
            try writeFiles(place.partial, replacing, progress)
            try place.finish(isOfExport: Self.isOfExport)
        } catch {
            place.abandon()
            throw error
        }
    }

    func refuseUnknown(_ replacing: [String: Values]) throws(ModelError) {
        guard let unknown = replacing.keys.filter({ source.shape(of: $0) == nil }).min() else { return }
        throw ModelError(.badRequest, file: source.path, subject: unknown, "the model has no such tensor")
    }

    /// Whether a directory of an exported model may hold a file of this name.
    private static func isOfExport(_ name: String) -> Bool {
        name.hasSuffix(".safetensors") || passedOn.contains(name)
            || ["config.json", "README.md", "model.safetensors.index.json", "adapter_config.json"].contains(name)
    }

    private func writeFiles(_ directory: String, _ replacing: [String: Values], _ progress: (String) -> Bool) throws(ModelError) {
        if format == .peft {
            guard !changes.isEmpty, replacing.isEmpty else {
                throw ModelError(
                    .badRequest, file: directory, "can't be a LoRA adapter: the run trains more than adapters", remedy: "write the merged model")
            }
            guard source.path == source.basePath else {
                throw ModelError(
                    .unsupported, file: source.path, "is an adapter itself, and a LoRA adapter of an adapter can't be read again",
                    remedy: "write the merged model")
            }
            let card = try OutputFile(path: directory + "/README.md")
            try card.write(Array(modelCard().utf8))
            try card.sync()
            return try AdapterChange.writeLoRA(changes, of: source, to: directory, dataType: dataType)
        }
        for (name, bytes) in try smallFiles() {
            let file = try OutputFile(path: directory + "/" + name)
            try file.write(bytes)
            try file.sync()
        }
        let tensors = outputTensors(in: \.file, replacing)
        try SafetensorsWriter(dataType: dataType, shardBytesMax: shardBytesMax).write(tensors, to: directory, progress: progress)
    }

    /// Returns the tensors of a file with all changes in them, in no order. A tied head that changed is a tensor of its own.
    func outputTensors(in format: KeyPath<ExpectedTensor, ExpectedTensor.Place>, _ replacing: [String: Values]) -> [OutputTensor] {
        let changed = Dictionary(changes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        var tensors = source.fileTensors(in: format) { name, stored in
            if let change = changed[name] { return { change.copyMergedRows($0, of: replacing[name], into: $1) } }
            guard let values = replacing[name] else { return stored.copyFloats }
            return { rows, out in values(rows.lowerBound * stored.columns..<rows.upperBound * stored.columns, out) }
        }
        if let headChange, source.configuration.tiedHead {
            let names = source.configuration.description.names
            let shape = TensorShape.matrix(rows: headChange.rows, columns: headChange.columns)
            // The head below the adapter is the embedding, trained or not.
            let embedding = replacing[names.name(.embedding)]
            tensors.append(
                OutputTensor(name: format == \.gguf ? names.ggufName(.head) : names.name(.head), shape: shape) {
                    headChange.copyMergedRows($0, of: embedding, into: $1)
                })
        }
        return tensors
    }

    /// Returns all files except the weights. Those of a Hugging Face directory are copied unchanged; those of a GGUF file are generated.
    private func smallFiles() throws(ModelError) -> [(name: String, bytes: [UInt8])] {
        var files: [(String, [UInt8])] = []
        var config: JSON
        if source.isDirectory {
            if let made = source.generatedConfiguration { config = made } else { config = try JSON.read(source.basePath + "/config.json") }
            // The exported weights are not quantised.
            config.remove("quantization_config")
            for name in Self.passedOn {
                let places = [source.path, source.basePath].map { $0 + "/" + name }
                guard let path = places.first(where: { FileManager.default.fileExists(atPath: $0) }) else { continue }
                files.append((name, try readSmallFile(path, limit: 256 << 20)))
            }
            // The adapter's template may lie in another kind of file than the base's, which must not win.
            if source.path != source.basePath, let template = source.chatTemplateSource {
                files.removeAll { $0.0 == "chat_template.jinja" }
                files.append(("chat_template.jinja", Array(template.utf8)))
            }
        } else {
            config = source.generatedConfiguration ?? [:]
            let tokenizer = try source.tokenizer
            files.append(("tokenizer.json", Array((tokenizer.file().text() + "\n").utf8)))
            files.append(("tokenizer_config.json", Array((tokenizer.configurationFile(chatTemplate: source.chatTemplateSource).text() + "\n").utf8)))
            files.append(("special_tokens_map.json", Array((tokenizer.specialTokens().text() + "\n").utf8)))
            if let template = source.chatTemplateSource { files.append(("chat_template.jinja", Array(template.utf8))) }
        }
        if !files.contains(where: { $0.0 == "generation_config.json" }) {
            var generation: JSON = ["_from_model_config": true]
            generation.setSpecialTokens(of: source.configuration)
            files.append(("generation_config.json", Array((generation.text() + "\n").utf8)))
        }
        let type = dataType == .f32 ? "float32" : dataType == .f16 ? "float16" : "bfloat16"
        // transformers 5 calls it `dtype` and still reads the older name.
        if config["dtype"] != nil { config.set("dtype", .string(type)) } else { config.set("torch_dtype", .string(type)) }
        if headChange != nil || (source.path != source.basePath && !source.configuration.tiedHead) { config.set("tie_word_embeddings", .bool(false)) }
        files.append(("config.json", Array((config.text() + "\n").utf8)))
        files.append(("README.md", Array(modelCard().utf8)))
        return files
    }

    var headChange: AdapterChange? { changes.first(where: \.isHead) }

    private static let passedOn = [
        "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "chat_template.jinja", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "NOTICE.md", "USE_POLICY.md",
    ]

    private func modelCard() -> String {
        var front =
            "---\nlibrary_name: \(format == .peft ? "peft" : "transformers")\npipeline_tag: text-generation\ntags:\n- onebyte\n- zeroth-order-optimization\n"
        if let license = source.license { front += "license: \(JSON.string(license).text())\n" }
        let base = URL(filePath: source.reference).lastPathComponent
        return front + "---\n\n# Fine-tuned from \(base)\n\n" + card + (card.isEmpty || card.hasSuffix("\n") ? "" : "\n")
    }
}

extension JSON {
    /// Sets `bos_token_id` and `eos_token_id` from the configuration.
    package mutating func setSpecialTokens(of configuration: ModelConfiguration) {
        if let bos = configuration.bosToken { set("bos_token_id", .integer(bos)) }
        let eos = configuration.eosTokens.map { JSON.integer($0) }
        if eos.count == 1 { set("eos_token_id", eos[0]) } else if !eos.isEmpty { set("eos_token_id", .array(eos)) }
    }
}
