import Core
import Foundation

extension ModelSource {
    /// Opens a Hugging Face directory: config.json and safetensors.
    package static func openDirectory(_ path: String, reference: String) throws(ModelError) -> ModelSource {
        let configFile = path + "/config.json"
        guard FileManager.default.fileExists(atPath: configFile) else { throw whatItIs(path) }
        let config = try ConfigurationFile(path: configFile)
        guard let name = try config.string("model_type") else {
            throw ModelError(.malformed, file: configFile, subject: "model_type", "is missing")
        }
        let family = try ModelFamily.named(name, file: configFile)
        let (settings, generatedConfiguration) = family.textPart(of: config)
        var configuration = try ModelConfiguration(settings, family: family).validated(file: configFile)
        try addStopTokens(path, to: &configuration)

        var found: [String: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)] = [:]
        for weights in try weightFiles(path) {
            let file = try SafetensorsFile(path: weights)
            for (name, tensor) in file.tensors where found.updateValue((file, tensor), forKey: name) != nil {
                throw ModelError(.malformed, file: weights, subject: name, "is also in another file of the directory")
            }
        }
        let scales = try takeScales(&found)
        try refuseOtherKinds(config, Array(found.keys))
        if configuration.tiedHead, headDiffers(configuration, found) { configuration.tiedHead = false }
        let described = configuration
        try configuration.readActivations(path) { layer throws(ModelError) in
            described.activationNames(layer: layer).map { takeNumber($0, from: &found) }
        }
        let stored = try stored(configuration, &found, scales, path: path)
        if let extra = found.keys.filter({ !configuration.isRedundant($0) }).min() {
            throw ModelError(.unsupported, file: path, subject: extra, "is a tensor that a \(configuration.family.name) is not known to have")
        }
        return ModelSource(
            reference: reference, path: path, configuration: configuration, stored: stored,
            tokenizer: Result { () throws(ModelError) in try Tokenizer(directory: path) },
            chatTemplateSource: try chatTemplateSource(path), isDirectory: true, generatedConfiguration: generatedConfiguration)
    }

    /// Removes the scales of 8-bit weights from `found` and returns them by the names of the weights: one for a whole matrix, or one for each of
    /// its rows. Scales of blocks are left.
    private static func takeScales(
        _ found: inout [String: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)]
    ) throws(ModelError) -> [String: [Float]] {
        var scales: [String: [Float]] = [:]
        for (name, (file, tensor)) in found where name.hasSuffix(".weight_scale") {
            let weight = String(name.dropLast("_scale".count))
            let count = tensor.dimensions.reduce(1, *)
            guard let matrix = found[weight]?.tensor, matrix.typeName.hasPrefix("F8"), let type = tensor.type, count > 0,
                count == 1 || (count == matrix.dimensions.first && count == tensor.dimensions.first)
            else { continue }
            var values = [Float](repeating: 0, count: count)
            values.withUnsafeMutableBufferPointer { buffer in
                guard let base = buffer.baseAddress else { return }
                StoredTensor(
                    file: file.file, offset: tensor.offset, type: type, shape: .vector(count), storedColumns: count, view: TensorView()
                ).copyFloats(rows: 0..<1, into: base)
            }
            guard values.allSatisfy(\.isFinite) else { throw ModelError(.malformed, file: file.file.path, subject: name, "holds what is no number") }
            scales[weight] = values
            found[name] = nil
            // The scale of the layer's inputs is of no use, because these stay floats.
            found[String(weight.dropLast("weight".count)) + "input_scale"] = nil
        }
        return scales
    }

    /// Removes a tensor of one number from `found` and returns the number.
    private static func takeNumber(_ name: String, from found: inout [String: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)]) -> Float? {
        guard let (file, tensor) = found[name], let type = tensor.type, tensor.dimensions.reduce(1, *) == 1 else { return nil }
        found[name] = nil
        var number: Float = 0
        StoredTensor(file: file.file, offset: tensor.offset, type: type, shape: .vector(1), storedColumns: 1, view: TensorView())
            .copyFloats(rows: 0..<1, into: &number)
        return number
    }

    /// Explains why a directory without config.json is not a model.
    private static func whatItIs(_ path: String) -> ModelError {
        func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path + "/" + name) }
        if has("params.json") {
            return ModelError(
                .unsupported, file: path, "is in the format of its makers (params.json), not in Hugging Face's",
                remedy: "take the repository's files with config.json, or convert them with transformers' conversion script of the family")
        }
        return ModelError(
            .notFound, file: path + "/config.json", "there is no such file",
            remedy: "a model directory holds config.json, tokenizer.json and model.safetensors")
    }

    /// Adds tokens that end a text. Chat models name the ends of their turns only in generation_config.json.
    private static func addStopTokens(_ path: String, to configuration: inout ModelConfiguration) throws(ModelError) {
        let file = path + "/generation_config.json"
        guard FileManager.default.fileExists(atPath: file) else { return }
        for token in try ConfigurationFile(path: file).tokens("eos_token_id") where !configuration.eosTokens.contains(token) {
            guard (0..<configuration.vocabularySize).contains(Int(token)) else {
                throw ModelError(
                    .malformed, file: file, subject: "eos_token_id", "\(token) is not in the vocabulary of \(configuration.vocabularySize)",
                    remedy: "remove it there, if the model's texts end without it")
            }
            configuration.eosTokens.append(token)
        }
    }

    /// Refuses weights that are not plain numbers, and models whose head does not predict tokens.
    private static func refuseOtherKinds(_ config: ConfigurationFile, _ names: [String]) throws(ModelError) {
        let marks = [
            ".qweight", ".qzeros", ".absmax", ".SCB", ".weight_scale", ".weight_scale_inv", ".weight_packed", ".codebooks", ".weight_format",
        ]
        if let name = names.filter({ name in marks.contains { name.hasSuffix($0) } }).min() {
            let method = config.present("quantization_config")?["quant_method"]?.string ?? "a method that config.json does not name"
            throw ModelError(
                .unsupported, file: config.path, subject: name, "the checkpoint is quantised by \(method), which is not read",
                remedy: "take the model's original in BF16, F16 or F32, or a GGUF file of it")
        }
        if let head = config.present("architectures")?.array?.first?.string,
            head.hasSuffix("ForSequenceClassification") || head.hasSuffix("ForTokenClassification")
        {
            throw ModelError(
                .unsupported, file: config.path, subject: "architectures", "\(head) has a head that classifies and does not write tokens",
                remedy: "take the language model that it was made from")
        }
    }

    /// Whether a model with a tied head has a head of its own with other values, which transformers would use.
    private static func headDiffers(
        _ configuration: ModelConfiguration, _ found: [String: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)]
    ) -> Bool {
        let names = configuration.description.names
        let embeddings = configuration.family.namesInFiles(of: names.name(.embedding)) + [String(names.name(.embedding).dropFirst(names.root.count))]
        guard let head = found[names.name(.head)], let embedding = embeddings.lazy.compactMap({ found[$0] }).first else { return false }
        let count = head.tensor.dimensions.reduce(1, *) * (head.tensor.type?.blockBytes ?? 0)
        guard head.tensor.dimensions == embedding.tensor.dimensions, head.tensor.typeName == embedding.tensor.typeName, count > 0,
            let a = head.file.file.bytes.baseAddress, let b = embedding.file.file.bytes.baseAddress
        else { return true }
        return memcmp(a + head.tensor.offset, b + embedding.tensor.offset, count) != 0
    }

    /// Returns the model's tensors as they are stored in files, and removes what was found from `found`.
    private static func stored(
        _ configuration: ModelConfiguration, _ found: inout [String: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)],
        _ scales: [String: [Float]], path: String
    ) throws(ModelError) -> [String: StoredTensor] {
        let root = configuration.description.names.root
        var stored: [String: StoredTensor] = [:]
        var used: Set<String> = []
        for expected in configuration.tensors {
            let place = expected.file
            // Checkpoints of the bare model omit the common beginning of all names.
            let names =
                configuration.family.namesInFiles(of: place.name) + (place.name.hasPrefix(root) ? [String(place.name.dropFirst(root.count))] : [])
            guard let name = names.first(where: { found[$0] != nil }), let (file, tensor) = found[name] else {
                throw ModelError(
                    .missingTensor, file: path, subject: place.name, "is in none of the directory's safetensors files",
                    remedy: "the directory is incomplete, or its config.json belongs to another model")
            }
            guard tensor.dimensions == place.dimensions else {
                throw ModelError(
                    .wrongShape, file: file.file.path, subject: name,
                    "has the shape \(tensor.dimensions.map(String.init).joined(separator: "×")), but config.json asks for \(place.dimensions.map(String.init).joined(separator: "×"))"
                )
            }
            guard let type = tensor.type else {
                throw ModelError(
                    .unsupported, file: file.file.path, subject: name, "has the dtype \(tensor.typeName), which is not supported",
                    remedy: "supported: \(SafetensorsFile.types.keys.sorted().joined(separator: ", "))")
            }
            used.insert(name)
            stored[expected.name] = StoredTensor(
                file: file.file, offset: tensor.offset, type: type, shape: expected.shape,
                storedColumns: place.dimensions[place.dimensions.count - 1], view: place.view, scales: scales[name] ?? [])
        }
        for name in used { found[name] = nil }
        return stored
    }

    /// Returns chat_template.jinja, or `chat_template` of tokenizer_config.json, which may be a list with a template named `default`.
    static func chatTemplateSource(_ path: String) throws(ModelError) -> String? {
        let file = path + "/chat_template.jinja"
        if FileManager.default.fileExists(atPath: file) {
            guard let text = String(validating: try readSmallFile(file, limit: 1 << 20), as: UTF8.self) else {
                throw ModelError(.malformed, file: file, "is not UTF-8", remedy: "obtain it again")
            }
            return text
        }
        let configPath = path + "/tokenizer_config.json"
        guard FileManager.default.fileExists(atPath: configPath) else { return nil }
        let template = try JSON.read(configPath)["chat_template"]
        return template?.string ?? template?.array?.first { $0["name"] == "default" }?["template"]?.string
    }

    /// Returns the files listed in model.safetensors.index.json if it exists, else model.safetensors.
    private static func weightFiles(_ path: String) throws(ModelError) -> [String] {
        let index = path + "/model.safetensors.index.json"
        let single = path + "/model.safetensors"
        if FileManager.default.fileExists(atPath: single) { return [single] }
        guard FileManager.default.fileExists(atPath: index) else {
            let others = (try? FileManager.default.contentsOfDirectory(atPath: path))?.sorted() ?? []
            if let pickle = others.first(where: { name in [".bin", ".pt", ".pth", ".ckpt"].contains { name.hasSuffix($0) } }) {
                throw ModelError(
                    .unsupported, file: path + "/" + pickle, "is a pickle, which can run code when it is read, and is not",
                    remedy: "convert it: in Python, AutoModelForCausalLM.from_pretrained(\"\(path)\").save_pretrained(\"safe\") writes safetensors")
            }
            throw ModelError(
                .notFound, file: single, "there is no such file, and no model.safetensors.index.json",
                remedy: "only safetensors weights are read, no pickles: convert the model with transformers' save_pretrained")
        }
        let json = try JSON.read(index, limit: 64 << 20)
        guard let map = json["weight_map"]?.members, !map.isEmpty else {
            throw ModelError(.malformed, file: index, subject: "weight_map", "is missing or empty")
        }
        var names: Set<String> = []
        for member in map {
            // Only a plain file name is allowed: the index must not lead out of its directory.
            guard let name = member.value.string, name.hasSuffix(".safetensors"), !name.contains("/"), !name.hasPrefix(".") else {
                throw ModelError(.malformed, file: index, subject: member.key, "does not name a safetensors file of this directory")
            }
            names.insert(name)
        }
        return names.sorted().map { path + "/" + $0 }
    }
}
