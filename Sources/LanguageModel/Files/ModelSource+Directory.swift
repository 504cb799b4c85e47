import Core
import Foundation

extension ModelSource {
    /// Opens a Hugging Face directory: config.json and safetensors.
    package static func openDirectory(_ path: String, reference: String) throws(ModelError) -> ModelSource {
        let configFile = path + "/config.json"
        guard FileManager.default.fileExists(atPath: configFile) else {
            throw ModelError(
                .notFound, file: configFile, "there is no such file",
                remedy: "a model directory holds config.json, tokenizer.json and model.safetensors")
        }
        let config = try ConfigurationFile(path: configFile)
        guard let name = try config.string("model_type") else {
            throw ModelError(.malformed, file: configFile, subject: "model_type", "is missing")
        }
        let architecture = try Architecture.named(name, file: configFile, key: "model_type")
        var configuration = try architecture.files.configuration(config)
        let generationFile = path + "/generation_config.json"
        if FileManager.default.fileExists(atPath: generationFile) {
            // Chat models name the ends of their turns only here.
            for token in try ConfigurationFile(path: generationFile).tokens("eos_token_id") where !configuration.eosTokens.contains(token) {
                configuration.eosTokens.append(token)
            }
        }
        configuration = try configuration.validated(file: configFile)

        var found: [String: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)] = [:]
        for weights in try weightFiles(path) {
            let file = try SafetensorsFile(path: weights)
            for (name, tensor) in file.tensors where found.updateValue((file, tensor), forKey: name) != nil {
                throw ModelError(.malformed, file: weights, subject: name, "is also in another file of the directory")
            }
        }
        var stored: [String: StoredTensor] = [:]
        for expected in architecture.files.tensors(configuration) {
            guard let (file, tensor) = found.removeValue(forKey: expected.name) else {
                throw ModelError(
                    .missingTensor, file: path, subject: expected.name, "is in none of the directory's safetensors files",
                    remedy: "the directory is incomplete, or its config.json belongs to another model")
            }
            guard tensor.dimensions == expected.shape.dimensions else {
                throw ModelError(
                    .wrongShape, file: file.file.path, subject: expected.name,
                    "has the shape \(tensor.dimensions.map(String.init).joined(separator: "×")), but config.json asks for \(expected.shape)")
            }
            stored[expected.name] = StoredTensor(
                file: file.file, offset: tensor.offset, type: tensor.type, shape: expected.shape, rowOrder: .asIs)
        }
        if let extra = found.keys.filter({ !architecture.files.isRedundant($0, configuration) }).min() {
            throw ModelError(.unsupported, file: path, subject: extra, "is a tensor that a \(architecture.rawValue) is not known to have")
        }
        return ModelSource(
            reference: reference, path: path, configuration: configuration, stored: stored,
            tokenizer: Result { () throws(ModelError) in try Tokenizer(directory: path) },
            chatTemplateSource: try chatTemplateSource(path), isDirectory: true)
    }

    /// chat_template.jinja, or `chat_template` of tokenizer_config.json, where it may be a list with one that is named `default`.
    private static func chatTemplateSource(_ path: String) throws(ModelError) -> String? {
        let file = path + "/chat_template.jinja"
        if FileManager.default.fileExists(atPath: file) {
            return String(decoding: try readSmallFile(file, limit: 1 << 20), as: UTF8.self)
        }
        let configPath = path + "/tokenizer_config.json"
        guard FileManager.default.fileExists(atPath: configPath) else { return nil }
        let template = try JSON.read(configPath)["chat_template"]
        return template?.string ?? template?.array?.first { $0["name"] == "default" }?["template"]?.string
    }

    /// model.safetensors.index.json's files where there is one, else model.safetensors.
    private static func weightFiles(_ path: String) throws(ModelError) -> [String] {
        let index = path + "/model.safetensors.index.json"
        let single = path + "/model.safetensors"
        if FileManager.default.fileExists(atPath: single) { return [single] }
        guard FileManager.default.fileExists(atPath: index) else {
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
            // A plain file name: the index may not lead out of its directory.
            guard let name = member.value.string, name.hasSuffix(".safetensors"), !name.contains("/"), !name.hasPrefix(".") else {
                throw ModelError(.malformed, file: index, subject: member.key, "does not name a safetensors file of this directory")
            }
            names.insert(name)
        }
        return names.sorted().map { path + "/" + $0 }
    }
}
