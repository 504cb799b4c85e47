import Core

extension ModelSource {
    /// Opens a GGUF file.
    package static func openGGUF(_ path: String, reference: String) throws(ModelError) -> ModelSource {
        let file = try GGUFFile.open(path)
        let (configuration, json) = try ModelConfiguration.read(file)
        var stored: [String: StoredTensor] = [:]
        var known: Set<String> = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"]
        for expected in configuration.tensors {
            let place = expected.gguf
            known.insert(place.name)
            guard let tensor = file.tensors[place.name] else {
                throw ModelError(
                    .missingTensor, file: path, subject: place.name, "is not in the file (it would be \(expected.name))",
                    remedy: "the file is incomplete, or its metadata belong to another model")
            }
            let dimensions = Array(tensor.dimensions.reversed())
            guard dimensions == place.dimensions else {
                throw ModelError(
                    .wrongShape, file: path, subject: place.name,
                    "has the shape \(dimensions.map(String.init).joined(separator: "×")), but the metadata ask for \(place.dimensions.map(String.init).joined(separator: "×"))"
                )
            }
            stored[expected.name] = StoredTensor(
                file: tensor.file, offset: tensor.offset, type: tensor.type, shape: expected.shape, storedColumns: dimensions[dimensions.count - 1],
                view: place.view)
        }
        if let extra = file.tensors.keys.filter({ !known.contains($0) }).min() {
            throw ModelError(.unsupported, file: path, subject: extra, "is a tensor that a \(configuration.family.name) is not known to have")
        }
        return ModelSource(
            reference: reference, path: path, configuration: configuration, stored: stored,
            tokenizer: Result { () throws(ModelError) in try Tokenizer(file) },
            chatTemplateSource: try file.string("tokenizer.chat_template"), isDirectory: false,
            license: try file.string("general.license"), generatedConfiguration: json)
    }
}
