import Core
import Foundation

extension ModelExporter {
    /// Writes the model as a GGUF file that llama.cpp runs, with all changes in its weights. The file appears at `path` whole or not at all.
    ///
    /// Before the weights are written, what this program itself reads from the new file's head is compared with the model, so that a model
    /// that GGUF can't express is refused.
    ///
    /// - Parameters: as for `write(to:replacing:progress:)`.
    public func writeGGUF(to path: String, replacing: [String: Values] = [:], progress: (String) -> Bool = { _ in true }) throws(ModelError) {
        try refuseUnknown(replacing)
        guard ElementType.written.contains(dataType) else {
            throw ModelError(.unsupported, file: path, "\(dataType) can't be written", remedy: "possible: F32, F16, BF16, Q8_0")
        }
        let (metadata, tables, tensors) = try ggufParts(replacing)
        let place = try ExportFile(path, overwrites: overwrites, source: source.places)
        do throws(ModelError) {
            try GGUFWriter(metadata: metadata, tables: tables, tensors: tensors, dataType: dataType)
                .write(to: place.partial, check: { file throws(ModelError) in try check(file) }, progress: progress)
            try place.finish()
        } catch {
            place.abandon()
            throw error
        }
    }

    private func ggufParts(_ replacing: [String: Values]) throws(ModelError) -> (GGUFMetadata, [GGUFTable], [OutputTensor]) {
        let configuration = source.configuration
        guard let name = configuration.family.exportedAs else {
            throw ModelError(
                .unsupported, file: source.path, "is a \(configuration.family.name), which llama.cpp does not know", remedy: "write another format")
        }
        let architecture = GGUFArchitecture(name, layerCount: configuration.layerCount)
        var metadata = GGUFMetadata()
        metadata.set("general.architecture", name)
        metadata.set("general.type", "model")
        metadata.set("general.name", URL(filePath: source.reference).lastPathComponent)
        if let license = source.license { metadata.set("general.license", license) }
        if !card.isEmpty { metadata.set("general.description", card) }
        metadata.set("general.file_type", Self.fileTypes[dataType] ?? 0)
        metadata.set("general.quantization_version", 2)
        let (own, tables) = try configuration.ggufMetadata(architecture, file: source.path)
        metadata.append(own)
        metadata.append(
            try source.tokenizer.ggufMetadata(
                count: configuration.vocabularySize, endings: configuration.eosTokens, chatTemplate: source.chatTemplateSource, file: source.path))
        var tensors = outputTensors(in: \.gguf, replacing)
        try addHead(architecture, to: &tensors)
        return (metadata, tables, tensors)
    }

    /// llama.cpp's numbers for the kinds of files (`enum llama_ftype`).
    private static let fileTypes: [ElementType: Int] = [.f32: 0, .f16: 1, .q8_0: 7, .bf16: 32]

    /// Writes a tied head as a head of its own, if it changed or if the architecture needs one.
    private func addHead(_ architecture: GGUFArchitecture, to tensors: inout [OutputTensor]) throws(ModelError) {
        if architecture.head == .never, headChange != nil || !source.configuration.tiedHead {
            throw ModelError(
                .unsupported, file: source.path,
                "has a head that differs from its embedding, which llama.cpp does not know for a \(architecture.name)",
                remedy: "write another format")
        }
        guard source.configuration.tiedHead, headChange == nil, architecture.head == .required else { return }
        guard let embedding = tensors.first(where: { $0.name == "token_embd.weight" }) else { return }
        tensors.append(OutputTensor(name: "output.weight", shape: embedding.shape, copyRows: embedding.copyRows))
    }

    /// Refuses to go on if the new file's head describes another model.
    private func check(_ file: GGUFFile) throws(ModelError) {
        let written: ModelConfiguration
        do throws(ModelError) {
            written = try ModelConfiguration.read(file).configuration
        } catch {
            throw inexpressible([error.subject, error.problem].compactMap { $0 }.joined(separator: " "))
        }
        if let difference = source.configuration.firstDifference(from: written) { throw inexpressible(difference) }
        let (asked, other) = (try source.tokenizer, try tokenizer(of: file))
        let lost = Set(source.configuration.eosTokens).subtracting(written.eosTokens)
        if let token = lost.filter({ !Self.knownEndings.contains(asked.token($0) ?? "") }).min() {
            throw inexpressible("the token \(token) (\((asked.token(token) ?? "").debugDescription)) ends a text, too")
        }
        for sample in Self.samples + (asked.merges.unit == .bytes ? [] : asked.mixedTexts()) where asked.encode(sample) != other.encode(sample) {
            throw ModelError(
                .unsupported, file: source.path, subject: "tokenizer", "cuts texts in a way that GGUF does not express: \(sample.debugDescription)",
                remedy: "write another format, and convert it with llama.cpp's convert_hf_to_gguf.py if that knows the tokenizer")
        }
    }

    /// Texts of tokens that llama.cpp takes for an end by themselves (`special_eog_ids` in llama-vocab.cpp). A GGUF file has room for two others.
    private static let knownEndings: Set<String> = [
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]",
        "<|end_of_text|>", "<end_of_utterance>",
    ]

    /// Reads the new file's tokenizer. Its name is still a hidden one, which an error need not show.
    private func tokenizer(of file: GGUFFile) throws(ModelError) -> Tokenizer {
        do throws(ModelError) {
            return try Tokenizer(file)
        } catch {
            throw inexpressible([error.subject, error.problem].compactMap { $0 }.joined(separator: " "))
        }
    }

    private func inexpressible(_ what: String) -> ModelError {
        ModelError(
            .unsupported, file: source.path,
            "can't be written as GGUF, which does not express this about a \(source.configuration.family.name): \(what)",
            remedy: "write another format")
    }

    /// Texts in which tokenizers differ: digits, contractions, capitals, white space, line breaks, accents, several scripts, signs.
    private static let samples = [
        "It's 1234567 o'clock, WE'LL see\u{21}\n\n  - a\tb  c \r\n", "naïve café — „Straße“ № 42½ ×3", "东京都、한국어 кириллица हिन्दी 🙂👩‍👩‍👧",
        "def f(x_1): return x**2  # comment\n\n\n", "   leading and trailing   ", "camelCaseWord HTTPServer2 a.b/c:d?e=f&g", "",
    ]
}

extension Tokenizer {
    private static let (mixedTextCount, mixedTextTokens) = (200, 40)

    /// Returns texts that consist of tokens drawn at random, the same at each call.
    fileprivate func mixedTexts() -> [String] {
        var random = SplitMix64(state: 1)
        return (0..<Self.mixedTextCount).map { _ in
            let tokens = (0..<Self.mixedTextTokens).map { _ in Int.random(in: 0..<max(vocabularySize, 1), using: &random) }
            return String(decoding: tokens.flatMap { vocabulary.tokens[$0] }, as: UTF8.self)
        }
    }
}

/// The destination of an export that is one file.
private struct ExportFile {
    private let path: String
    private let overwrites: Bool
    let partial: String

    /// - Parameters: as for `ExportPlace`. Only a GGUF file is replaced.
    init(_ path: String, overwrites: Bool, source: Set<String>) throws(ModelError) {
        self.path = path
        self.overwrites = overwrites
        let url = URL(filePath: path)
        partial =
            url.deletingLastPathComponent().appending(path: ".\(url.lastPathComponent).partial-\(ProcessInfo.processInfo.processIdentifier)").path
        var isDirectory: ObjCBool = false
        if FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) {
            if isDirectory.boolValue {
                throw ModelError(
                    .badRequest, file: path, "is a directory, but a GGUF file is one file", remedy: "name it, such as \(path)/model.gguf")
            }
            guard overwrites else { throw ModelError(.occupied, file: path, "already exists", remedy: "choose another name") }
            let target = ExportPlace.resolved(path)
            guard !source.contains(where: { ExportPlace.resolved($0) == target }) else {
                throw ModelError(
                    .badRequest, file: path, "is the model itself or its base, which its ledgers need", remedy: "choose another name")
            }
            guard Self.isGGUF(path) else {
                throw ModelError(.badRequest, file: path, "is no GGUF file, and is not replaced", remedy: "choose another name")
            }
        }
        do {
            try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        } catch {
            throw ModelError(
                .inputOutput, file: path, "cannot be created: \(systemReason(of: error))", remedy: "choose a place that this user may write to")
        }
        try? FileManager.default.removeItem(atPath: partial)
    }

    private static func isGGUF(_ path: String) -> Bool {
        guard let file = try? MappedFile(path: path) else { return false }
        return withExtendedLifetime(file) { file.bytes.prefix(4).elementsEqual("GGUF".utf8) }
    }

    func finish() throws(ModelError) {
        if !overwrites {
            // A link replaces nothing, so a file that appeared during the export stays.
            if link(partial, path) == 0 {
                unlink(partial)
                return
            }
            guard errno != EEXIST else { throw ModelError(.occupied, file: path, "already exists", remedy: "choose another name") }
            // The file system has no links.
        }
        guard rename(partial, path) == 0 else { throw ModelError(.inputOutput, file: path, "cannot be put in place: \(errnoText())") }
    }

    func abandon() { unlink(partial) }
}
