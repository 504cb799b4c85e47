import Core
import Foundation

/// A model's files: its configuration, its tensors (memory-mapped, read-only, dequantised on request) and its tokenizer.
public final class ModelSource: Sendable {
    /// The reference that was given to `open`.
    public let reference: String
    /// The .gguf file or the directory that the reference led to.
    public let path: String
    /// The base model's place, if `path` is an adapter of one; else `path`.
    package let basePath: String
    /// The model's sizes and its computation.
    public let configuration: ModelConfiguration
    /// Hugging Face names of all the model's tensors, sorted by UTF-8 bytes; a tensor's position here is its τ
    /// (docs/reference/arithmetic.md). The list does not depend on the files' format.
    public let tensorNames: [String]

    /// The model's tokenizer. Throws if it is not supported; the tensors can still be read.
    public var tokenizer: Tokenizer {
        get throws(ModelError) { try tokenizerResult.get() }
    }

    /// How the model writes conversations; nil if its files do not say. Throws if the template can't be read.
    public var chatTemplate: ChatTemplate? {
        get throws(ModelError) {
            guard let chatTemplateSource else { return nil }
            let tokenizer = try tokenizer
            return try ChatTemplate(source: chatTemplateSource, specialTokens: tokenizer.specialTokenTexts, file: path)
        }
    }

    /// Whether the base path is a Hugging Face directory; if not, it is a GGUF file.
    package let isDirectory: Bool
    /// The licence that the files name, such as `apache-2.0`.
    package let license: String?
    /// The Jinja source of the model's chat template.
    package let chatTemplateSource: String?
    package let stored: [String: StoredTensor]
    /// A config.json for a model that came without one.
    package let generatedConfiguration: JSON?
    let tokenizerResult: Result<Tokenizer, ModelError>

    package init(
        reference: String, path: String, basePath: String? = nil, configuration: ModelConfiguration, stored: [String: StoredTensor],
        tokenizer: Result<Tokenizer, ModelError>, chatTemplateSource: String?, isDirectory: Bool, license: String? = nil,
        generatedConfiguration: JSON? = nil
    ) {
        self.generatedConfiguration = generatedConfiguration
        self.reference = reference
        self.path = path
        self.basePath = basePath ?? path
        self.configuration = configuration
        self.stored = stored
        tokenizerResult = tokenizer
        self.chatTemplateSource = chatTemplateSource
        self.isDirectory = isDirectory
        self.license = license
        tensorNames = stored.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Opens a `.gguf` file, a Hugging Face directory, a directory of a LoRA adapter (which names its base), or `org/name` (or
    /// `org/name@revision`) through the hub's cache, which may download it.
    ///
    /// - Parameter log: receives a line for each download.
    public static func open(_ reference: String, log: (String) -> Void = { _ in }) throws(ModelError) -> ModelSource {
        try open(reference, environment: ProcessInfo.processInfo.environment, log: log)
    }

    /// Opens a model with a given environment; see `HubCache` for the variables.
    package static func open(
        _ reference: String, environment: [String: String], log: (String) -> Void = { _ in }
    ) throws(ModelError) -> ModelSource {
        let source = try open(reference, isBase: false, environment: environment, log: log)
        for remark in source.remarks { log("note: \(remark)") }
        return source
    }

    /// - Parameter isBase: whether an adapter named this model as its base. It may be no adapter itself.
    private static func open(
        _ reference: String, isBase: Bool, environment: [String: String], log: (String) -> Void
    ) throws(ModelError) -> ModelSource {
        func merged(_ directory: String) throws(ModelError) -> ModelSource {
            guard !isBase else {
                throw ModelError(.unsupported, file: directory, "is itself an adapter", remedy: "merge that one into its base first")
            }
            return try PEFTAdapter(directory).merged(reference: reference) { base throws(ModelError) in
                try open(base, isBase: true, environment: environment, log: log)
            }
        }
        var isDirectory: ObjCBool = false
        if FileManager.default.fileExists(atPath: reference, isDirectory: &isDirectory) {
            if isDirectory.boolValue, try PEFTAdapter.isAt(reference) { return try merged(reference) }
            return isDirectory.boolValue
                ? try openDirectory(reference, reference: reference) : try openGGUF(reference, reference: reference)
        }
        let cache = HubCache(environment: environment)
        let hub = HubReference(reference)
        if let problem = LocalModelPath.problem(reference, isCached: hub.map(cache.has) ?? false) { throw problem }
        guard let hub else {
            throw ModelError(
                .notFound, file: reference, "there is no such file or directory",
                remedy: "give a .gguf file, a directory with config.json and model.safetensors, or org/name")
        }
        let directory = try cache.directory(of: hub, log: log)
        return try PEFTAdapter.isAt(directory) ? merged(directory) : openDirectory(directory, reference: reference)
    }

    /// All files and directories that make up the model: an adapter's and its base's, every part of a split file.
    var places: Set<String> {
        var places: Set<String> = [path, basePath]
        for file in stored.values.map(\.file.path) { places.formUnion([file, URL(filePath: file).deletingLastPathComponent().path]) }
        return places
    }

    /// Number of bytes of the tensors in their files.
    public var mappedBytes: Int {
        stored.values.reduce(0) { $0 + ($1.type.byteCount(of: $1.shape.count) ?? 0) }
    }

    /// Returns the shape of a tensor; nil if the name is not in `tensorNames`.
    public func shape(of name: String) -> TensorShape? { stored[name]?.shape }

    /// Returns the type in which the file stores a tensor; nil if the name is not in `tensorNames`.
    public func dataType(of name: String) -> ElementType? { stored[name]?.type }

    /// Copies all values of a tensor as F32, row-major, in Hugging Face's order of rows.
    ///
    /// - Parameter out: must have room for `shape(of: name)!.count` values.
    public func copyFloats(_ name: String, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        let tensor = try storedTensor(name)
        tensor.copyFloats(rows: 0..<tensor.rows, into: out)
    }

    /// Copies some rows of a matrix as F32, in Hugging Face's order of rows. A vector counts as one row.
    ///
    /// - Parameter out: must have room for `rows.count` × the number of columns.
    public func copyFloats(_ name: String, rows: Range<Int>, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        let tensor = try storedTensor(name)
        guard rows.lowerBound >= 0, rows.upperBound <= tensor.rows else { throw rowError(name, tensor, "\(rows)") }
        tensor.copyFloats(rows: rows, into: out)
    }

    /// Copies the rows of a matrix with these numbers, one after the other, as an embedding lookup does.
    ///
    /// - Parameter out: must have room for `rows.count` × the number of columns.
    public func gatherFloats(_ name: String, rows: some Collection<Int32>, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        let tensor = try storedTensor(name)
        if let wrong = rows.first(where: { !(0..<tensor.rows).contains(Int($0)) }) { throw rowError(name, tensor, "\(wrong)") }
        tensor.copyFloats(rows: rows.map(Int.init), into: out)
    }

    /// Returns a tensor as it lies in its file.
    package func storedTensor(_ name: String) throws(ModelError) -> StoredTensor {
        guard let tensor = stored[name] else { throw ModelError(.badRequest, file: path, subject: name, "the model has no such tensor") }
        return tensor
    }

    private func rowError(_ name: String, _ tensor: StoredTensor, _ rows: String) -> ModelError {
        ModelError(.badRequest, file: path, subject: name, "row \(rows) is beyond its \(tensor.rows) rows")
    }
}
