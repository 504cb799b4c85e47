import Core

/// The model families whose files this program reads. To add one: a case here, and a file like `LlamaFiles.swift`.
public enum Architecture: String, Hashable, Sendable, CaseIterable {
    case llama

    package var files: any ArchitectureFiles.Type {
        switch self {
        case .llama: LlamaFiles.self
        }
    }

    /// By `model_type` of config.json or `general.architecture` of a GGUF file, which agree.
    package static func named(_ name: String, file: String, key: String) throws(ModelError) -> Architecture {
        guard let architecture = Architecture(rawValue: name) else {
            let known = allCases.map(\.rawValue).joined(separator: ", ")
            throw ModelError(
                .unsupported, file: file, subject: key, "architecture \(name.debugDescription) is not supported", remedy: "supported: \(known)")
        }
        return architecture
    }
}

/// What the files of one architecture look like: configuration keys and tensors, in both formats.
package protocol ArchitectureFiles {
    static func configuration(_ file: ConfigurationFile) throws(ModelError) -> ModelConfiguration
    static func configuration(_ file: GGUFFile) throws(ModelError) -> ModelConfiguration
    /// The config.json that transformers reads for a model that did not come with one.
    static func configurationFile(_ configuration: ModelConfiguration) -> JSON
    /// All tensors of the model, and no others: their places in the sorted list of names are τ.
    static func tensors(_ configuration: ModelConfiguration) -> [ExpectedTensor]
    /// Tensors that some files carry although the model does not need them (tables that follow from the configuration).
    static func isRedundant(_ name: String, _ configuration: ModelConfiguration) -> Bool
}

/// A tensor that the architecture needs.
package struct ExpectedTensor {
    /// Hugging Face's.
    package let name: String
    package let ggufName: String
    package let shape: TensorShape
    package var ggufRowOrder = StoredTensor.RowOrder.asIs
}
