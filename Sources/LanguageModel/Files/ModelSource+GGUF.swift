import Core

extension ModelSource {
    /// Opens a GGUF file.
    package static func openGGUF(_ path: String, reference: String) throws(ModelError) -> ModelSource {
        let file = try GGUFFile(path: path)
        guard let name = try file.string("general.architecture") else {
            throw ModelError(.malformed, file: path, subject: "general.architecture", "is missing")
        }
        let architecture = try Architecture.named(name, file: path, key: "general.architecture")
        let configuration = try architecture.files.configuration(file).validated(file: path)
        var stored: [String: StoredTensor] = [:]
        var known: Set<String> = []
        for expected in architecture.files.tensors(configuration) {
            known.insert(expected.ggufName)
            guard let tensor = file.tensors[expected.ggufName] else {
                throw ModelError(
                    .missingTensor, file: path, subject: expected.ggufName, "is not in the file (it would be \(expected.name))",
                    remedy: "the file is incomplete, or its metadata belong to another model")
            }
            let dimensions = Array(tensor.dimensions.reversed())
            guard dimensions == expected.shape.dimensions else {
                throw ModelError(
                    .wrongShape, file: path, subject: expected.ggufName,
                    "has the shape \(dimensions.map(String.init).joined(separator: "×")), but the metadata ask for \(expected.shape)")
            }
            stored[expected.name] = StoredTensor(
                file: file.file, offset: tensor.offset, type: tensor.type, shape: expected.shape, rowOrder: expected.ggufRowOrder)
        }
        if let extra = file.tensors.keys.filter({ !known.contains($0) }).min() {
            throw ModelError(.unsupported, file: path, subject: extra, "is a tensor that a \(architecture.rawValue) is not known to have")
        }
        return ModelSource(
            reference: reference, path: path, configuration: configuration, stored: stored,
            tokenizer: Result { () throws(ModelError) in try Tokenizer(file) },
            chatTemplateSource: try file.string("tokenizer.chat_template"), isDirectory: false,
            license: try file.string("general.license"))
    }
}
