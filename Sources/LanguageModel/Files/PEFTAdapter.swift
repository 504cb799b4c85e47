import Core
import Foundation

/// A directory that `peft` writes: a LoRA adapter without its base model.
struct PEFTAdapter {
    private let path: String
    private let config: ConfigurationFile
    private let weights: SafetensorsFile
    private static let prefix = "base_model.model."

    /// Whether a directory holds an adapter.
    ///
    /// - Throws: `ModelError` if it holds a whole model as well: one of the two would be ignored.
    static func isAt(_ path: String) throws(ModelError) -> Bool {
        func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path + "/" + name) }
        guard has("adapter_config.json") else { return false }
        guard let model = ["model.safetensors", "model.safetensors.index.json"].first(where: has) else { return true }
        throw ModelError(
            .malformed, file: path, "holds an adapter (adapter_config.json) and a whole model (\(model)), and it can't be both",
            remedy: "move the one that is not meant to another directory")
    }

    init(_ path: String) throws(ModelError) {
        self.path = path
        config = try ConfigurationFile(path: path + "/adapter_config.json")
        let kind = try config.string("peft_type") ?? "of no kind"
        guard kind == "LORA" else { throw Self.unmerged(config.path, "peft_type", "is \(kind); only LORA adapters are read", path) }
        for (key, reason) in [
            ("lora_bias", "has biases of its own"), ("use_qalora", "is made for quantised weights"), ("use_bdlora", "is block-diagonal"),
            ("layer_replication", "repeats layers"), ("alora_invocation_tokens", "changes the model only behind some tokens"),
            ("trainable_token_indices", "changes single tokens"), ("target_parameters", "changes parameters that are no modules"),
        ] {
            guard let value = config.present(key), value != false, value != [], value != [:] else { continue }
            throw Self.unmerged(config.path, key, "the adapter \(reason), which is not read", path)
        }
        if let start = config.present("init_lora_weights")?.string, !["gaussian", "eva", "orthogonal"].contains(start.lowercased()) {
            throw Self.unmerged(config.path, "init_lora_weights", "is \(start), which changes the base as well", path)
        }
        let file = path + "/adapter_model.safetensors"
        guard FileManager.default.fileExists(atPath: file) else {
            let pickle = FileManager.default.fileExists(atPath: path + "/adapter_model.bin")
            throw ModelError(
                pickle ? .unsupported : .notFound, file: pickle ? path + "/adapter_model.bin" : file,
                pickle ? "is a pickle, which can run code when it is read, and is not" : "there is no such file",
                remedy: "save the adapter again with a current peft, which writes adapter_model.safetensors")
        }
        weights = try SafetensorsFile(path: file)
    }

    private static func unmerged(_ file: String, _ subject: String, _ problem: String, _ path: String) -> ModelError {
        ModelError(
            .unsupported, file: file, subject: subject, problem,
            remedy: "merge it first: in Python, AutoPeftModelForCausalLM.from_pretrained(\"\(path)\").merge_and_unload().save_pretrained(\"merged\")")
    }

    /// Opens the base model and returns it with the adapter in its weights.
    func merged(
        reference: String, open: (_ reference: String) throws(ModelError) -> ModelSource
    ) throws(ModelError) -> ModelSource {
        let key = "base_model_name_or_path"
        guard let name = try config.string(key), !name.isEmpty else {
            throw ModelError(
                .malformed, file: config.path, subject: key, "is missing", remedy: "set it to the base model's directory, GGUF file or org/name")
        }
        // A path may be meant from the adapter's directory.
        let beside = path + "/" + name
        let revision = try config.string("revision")
        var place = name
        if !FileManager.default.fileExists(atPath: name) {
            if !name.hasPrefix("/"), FileManager.default.fileExists(atPath: beside) {
                place = beside
            } else if let revision {
                place += "@" + revision
            }
        }
        let base: ModelSource
        do throws(ModelError) {
            base = try open(place)
        } catch {
            throw ModelError(
                error.code, file: config.path, subject: key, "the base model \(name) can't be opened: \(error.description)",
                remedy: "set it to the place where the base model is")
        }
        return try merge(into: base, reference: reference)
    }

    // MARK: Merging

    /// An adapter's tensors of one module.
    private struct Module {
        var inputs, outputs, magnitudes: SafetensorsFile.Tensor?
        var isEmbedding = false
    }

    private func merge(into base: ModelSource, reference: String) throws(ModelError) -> ModelSource {
        var configuration = base.configuration
        var stored = base.stored
        let names = configuration.description.names
        let (modules, whole) = try tensors()
        // An adapter of a tied head changes the head and not the embedding, and the other way round.
        let (head, embedding) = (names.name(.head), names.name(.embedding))
        let changed = Set(modules.keys.map { $0 + ".weight" } + whole.keys)
        let wasTied = configuration.tiedHead
        if wasTied, changed.contains(head) || changed.contains(embedding) {
            configuration.tiedHead = false
            stored[head] = stored[embedding]
        }
        // A family may have several names for a tensor, such as a text model's own and those that it has beside a vision part.
        var expected: [String: [ExpectedTensor]] = [:]
        for tensor in configuration.tensors {
            for name in configuration.family.namesInFiles(of: tensor.file.name) { expected[name, default: []].append(tensor) }
        }
        for (name, replaced) in whole {
            guard let parts = expected[name] else { throw unknown(name, configuration) }
            for part in parts { stored[part.name] = try replacement(of: part, by: replaced.tensor, name) }
            // The weight below an adapter is still the one that head and embedding share.
            guard wasTied, replaced.isBase, name == head || name == embedding else { continue }
            stored[name == head ? embedding : head] = stored[name]
        }
        for (name, module) in modules {
            guard let parts = expected[name + ".weight"] else { throw unknown(name, configuration) }
            for part in parts {
                guard case .matrix(_, let columns) = part.shape else { throw unknown(name, configuration) }
                let rows = part.file.view.isTransposed ? part.file.dimensions[1] : part.file.dimensions[0]
                stored[part.name]?.change = try change(name, module, rows: rows, columns: columns, view: part.file.view)
            }
        }
        return ModelSource(
            reference: reference, path: path, basePath: base.path, configuration: configuration, stored: stored,
            tokenizer: FileManager.default.fileExists(atPath: path + "/tokenizer.json")
                ? Result { () throws(ModelError) in try Tokenizer(directory: path) } : base.tokenizerResult,
            chatTemplateSource: try ModelSource.chatTemplateSource(path) ?? base.chatTemplateSource, isDirectory: base.isDirectory,
            license: base.license, generatedConfiguration: base.generatedConfiguration)
    }

    private func unknown(_ name: String, _ configuration: ModelConfiguration) -> ModelError {
        ModelError(
            .unsupported, file: weights.file.path, subject: name, "is no matrix that a \(configuration.family.name) is known to have",
            remedy: "is base_model_name_or_path the model that the adapter was made for?")
    }

    /// Sorts the file's tensors into those of LoRA modules, and those that replace one of the base.
    private func tensors() throws(ModelError) -> ([String: Module], [String: (tensor: SafetensorsFile.Tensor, isBase: Bool)]) {
        var modules: [String: Module] = [:]
        var whole: [String: (tensor: SafetensorsFile.Tensor, isBase: Bool)] = [:]
        for (full, tensor) in weights.tensors {
            guard full.hasPrefix(Self.prefix) else {
                throw ModelError(.unsupported, file: weights.file.path, subject: full, "does not begin with \(Self.prefix)")
            }
            let name = String(full.dropFirst(Self.prefix.count))
            func stem(_ ending: String) -> String? { name.hasSuffix(ending) ? String(name.dropLast(ending.count)) : nil }
            if let module = stem(".lora_A.weight") {
                modules[module, default: Module()].inputs = tensor
            } else if let module = stem(".lora_B.weight") {
                modules[module, default: Module()].outputs = tensor
            } else if let module = stem(".lora_embedding_A") {
                modules[module, default: Module()].inputs = tensor
                modules[module]?.isEmbedding = true
            } else if let module = stem(".lora_embedding_B") {
                modules[module, default: Module()].outputs = tensor
            } else if let module = stem(".lora_magnitude_vector") ?? stem(".lora_magnitude_vector.weight") {
                modules[module, default: Module()].magnitudes = tensor
            } else if name.contains(".lora_") || name.contains("token_adapter") {
                throw ModelError(.unsupported, file: weights.file.path, subject: full, "is a part of an adapter that is not read")
            } else {
                whole[name.replacing(".modules_to_save", with: "").replacing(".base_layer", with: "")] = (tensor, name.contains(".base_layer."))
            }
        }
        return (modules, whole)
    }

    private func replacement(
        of part: ExpectedTensor, by tensor: SafetensorsFile.Tensor, _ name: String
    ) throws(ModelError) -> StoredTensor {
        guard let type = tensor.type else { throw wrong(name, "has the dtype \(tensor.typeName), which is not supported") }
        guard tensor.dimensions == part.file.dimensions else {
            if tensor.dimensions.count == 2, tensor.dimensions.last == part.file.dimensions.last, tensor.dimensions != part.file.dimensions,
                name.contains("embed") || name.contains("lm_head") || name.contains("wte")
            {
                throw Self.unmerged(
                    weights.file.path, name, "has \(tensor.dimensions[0]) tokens, but the base has \(part.file.dimensions[0])", path)
            }
            throw wrong(name, "has another shape than the base's tensor of that name")
        }
        return StoredTensor(
            file: weights.file, offset: tensor.offset, type: type, shape: part.shape,
            storedColumns: part.file.dimensions[part.file.dimensions.count - 1], view: part.file.view)
    }

    private func wrong(_ name: String, _ problem: String) -> ModelError {
        ModelError(
            .wrongShape, file: weights.file.path, subject: name, problem,
            remedy: "is base_model_name_or_path the model that the adapter was made for?")
    }

    private func change(_ name: String, _ module: Module, rows: Int, columns: Int, view: TensorView) throws(ModelError) -> LowRankChange {
        guard let a = module.inputs, let b = module.outputs, a.dimensions.count == 2, b.dimensions.count == 2, a.dimensions[0] > 0 else {
            throw wrong(name, "has not both factors of an adapter")
        }
        let rank = a.dimensions[0]
        // An embedding's weight has a row for each input, and its adapter is transposed.
        let (first, second) = module.isEmbedding ? (b, a) : (a, b)
        let (wantedA, wantedB) = module.isEmbedding ? ([rank, rows], [columns, rank]) : ([rank, columns], [rows, rank])
        guard a.dimensions == wantedA, b.dimensions == wantedB, !(module.isEmbedding && module.magnitudes != nil) else {
            throw wrong(name, "has an adapter of the shapes \(a.dimensions) and \(b.dimensions), which do not fit a matrix of \(rows)×\(columns)")
        }
        let scale = try scale(name, rank)
        var inputs = try values(first, name)
        var outputs = try values(second, name)
        if module.isEmbedding { (inputs, outputs) = (transposed(inputs, rows: columns), transposed(outputs, rows: rank)) }
        for i in outputs.indices { outputs[i] *= scale }
        var magnitudes: [Float]?
        if let m = module.magnitudes {
            guard m.dimensions.reduce(1, *) == rows else { throw wrong(name, "has \(m.dimensions) magnitudes for \(rows) rows") }
            magnitudes = try values(m, name)
        }
        return LowRankChange(rank: rank, columns: columns, inputs: inputs, outputs: outputs, magnitudes: magnitudes, view: view)
    }

    private func transposed(_ values: [Float], rows: Int) -> [Float] {
        let columns = values.count / max(rows, 1)
        return (0..<columns).flatMap { column in (0..<rows).map { values[$0 * columns + column] } }
    }

    private func values(_ tensor: SafetensorsFile.Tensor, _ name: String) throws(ModelError) -> [Float] {
        guard let type = tensor.type else { throw wrong(name, "has the dtype \(tensor.typeName), which is not supported") }
        let count = tensor.dimensions.reduce(1, *)
        let stored = StoredTensor(
            file: weights.file, offset: tensor.offset, type: type, shape: .vector(count), storedColumns: count, view: TensorView())
        var values = [Float](repeating: 0, count: count)
        values.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { stored.copyFloats(rows: 0..<1, into: base) } }
        return values
    }

    /// The factor of B·A: α/r, or α/√r for rank-stabilised adapters (Kalajdzievski, arXiv 2312.03732).
    private func scale(_ name: String, _ rank: Int) throws(ModelError) -> Float {
        var alpha = try config.double("lora_alpha") ?? 8
        for member in config.present("alpha_pattern")?.members ?? [] {
            let isPlain = member.key.utf8.allSatisfy { $0 == 0x2e || $0 == 0x5f || (0x30...0x39).contains($0) || (0x41...0x5a).contains($0 & 0xdf) }
            guard isPlain, let value = member.value.double else {
                throw Self.unmerged(config.path, "alpha_pattern", "\(member.key.debugDescription) is no module's name with a number", path)
            }
            if name == member.key || name.hasSuffix("." + member.key) {
                alpha = value
                break
            }
        }
        let scale = try alpha / (config.bool("use_rslora") ?? false ? Double(rank).squareRoot() : Double(rank))
        guard scale.isFinite else { throw ModelError(.malformed, file: config.path, subject: "lora_alpha", "is \(alpha)") }
        return Float(scale)
    }
}
