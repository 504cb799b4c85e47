import Core
import Foundation
import Kernels
import LanguageModel
import Testing
import Training

/// Directories and files from real users are read, or refused in one sentence.
@Suite struct FilesAsTheyComeTests {
    private func loss(_ source: ModelSource, _ fixture: FamilyFixture) throws -> Double {
        let model = try TrainableModel(source: source)
        let set = try ExampleSet([ForwardParityTests.text(fixture.tokens)], for: source.configuration)
        return try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
    }

    private func expectRefusal(
        _ text: String, of name: String = "llama", settings: [String: Any] = [:], sourceLocation: SourceLocation = #_sourceLocation,
        _ change: (String, FamilyFixture) throws -> Void = { _, _ in }
    ) throws {
        let fixture = try FamilyFixture.named(name)
        try withTemporaryDirectory { directory in
            try fixture.write(to: directory, settings: settings)
            try change(directory, fixture)
            let error = #expect(throws: ModelError.self, sourceLocation: sourceLocation) { try ModelSource.open(directory) }
            #expect(error?.description.contains(text) == true, "\(error?.description ?? "")", sourceLocation: sourceLocation)
        }
    }

    private func remove(_ name: String, in directory: String) throws { try FileManager.default.removeItem(atPath: directory + "/" + name) }
    private func write(_ text: String, to name: String, in directory: String) throws {
        try Data(text.utf8).write(to: URL(filePath: directory + "/" + name))
    }

    /// Older config.json files use other keys for θ and its scaling.
    @Test func olderConfigurations() throws {
        let cases: [(String, [String: Any])] = [
            ("llama", ["rope_parameters": NSNull(), "rope_theta": 10000, "rope_scaling": NSNull()]),
            ("llama", ["rope_parameters": NSNull(), "rope_theta": 10000.0, "rope_scaling": ["type": "linear", "factor": 1.0]]),
            ("llama-linear", ["rope_parameters": NSNull(), "rope_theta": 10000.0, "rope_scaling": ["type": "linear", "factor": 4.0]]),
            ("llama-dynamic", ["rope_parameters": NSNull(), "rope_theta": 10000.0, "rope_scaling": ["type": "dynamic", "factor": 2.0]]),
            ("gemma3", ["rope_parameters": NSNull(), "rope_theta": 1_000_000.0, "rope_local_base_freq": 10000.0, "layer_types": NSNull()]),
            ("gemma2", ["layer_types": NSNull()]), ("cohere2", ["layer_types": NSNull()]), ("smollm3", ["no_rope_layers": NSNull()]),
            ("pythia", ["rope_parameters": NSNull(), "rotary_pct": 0.25, "rotary_emb_base": 10000]),
        ]
        for (name, settings) in cases {
            let fixture = try FamilyFixture.named(name)
            try withTemporaryDirectory { directory in
                try fixture.write(to: directory)
                let wanted = try ModelSource.open(directory).configuration
                try fixture.write(to: directory, settings: settings)
                #expect(try ModelSource.open(directory).configuration == wanted, "\(name)")
            }
        }
    }

    /// Checkpoints of the bare model omit the common beginning of all names; those with a vision part have more in front.
    @Test func namesOfOtherCheckpoints() throws {
        let gpt2 = try FamilyFixture.named("gpt2")
        try withTemporaryDirectory { directory in
            try gpt2.write(to: directory) { String($0.dropFirst("transformer.".count)) }
            let wanted = gpt2.losses.reduce(0, +) / Double(gpt2.losses.count)
            #expect(try abs(loss(ModelSource.open(directory), gpt2) - wanted) < 1e-5 * wanted)
        }
        let gemma3 = try FamilyFixture.named("gemma3")
        for prefix in ["language_model.model.", "model.language_model."] {
            try withTemporaryDirectory { directory in
                try gemma3.write(to: directory) { prefix + $0.dropFirst("model.".count) }
                let whole: [String: Any] = [
                    "model_type": "gemma3", "text_config": gemma3.config, "vision_config": ["hidden_size": 8], "eos_token_id": [1, 7],
                ]
                try JSONSerialization.data(withJSONObject: whole).write(to: URL(filePath: directory + "/config.json"))
                let source = try ModelSource.open(directory)
                let wanted = gemma3.losses.reduce(0, +) / Double(gemma3.losses.count)
                #expect(try abs(loss(source, gemma3) - wanted) < 1e-5 * wanted)
                // The export is the text model alone.
                try ModelExporter(source: source).write(to: directory + "/out")
                let copy = try ModelSource.open(directory + "/out")
                #expect(copy.configuration.family == ModelFamily.all.first { $0.name == "gemma3_text" })
                #expect(try abs(loss(copy, gemma3) - wanted) < 1e-5 * wanted)
            }
        }
    }

    /// transformers does not tie a head that the file holds with other values, whatever config.json says.
    @Test func aHeadThatDiffersFromTheEmbedding() throws {
        let fixture = try FamilyFixture.named("llama")
        let wanted = fixture.losses.reduce(0, +) / Double(fixture.losses.count)
        try withTemporaryDirectory { directory in
            try fixture.write(to: directory, settings: ["tie_word_embeddings": true])
            let source = try ModelSource.open(directory)
            #expect(!source.configuration.tiedHead)
            #expect(try abs(loss(source, fixture) - wanted) < 1e-5 * wanted)
        }
        // A head with the same values counts as tied.
        let tied = try FamilyFixture.named("qwen2")
        try withTemporaryDirectory { directory in
            try tied.write(to: directory)
            let embedding = try #require(tied.tensors.first { $0.name == "model.embed_tokens.weight" })
            let values = FamilyFixture.values(embedding.name, 61 * 32, mean: 0, halfWidth: embedding.halfWidth)
            try FamilyFixture.writeSafetensors([("lm_head.weight", [61, 32], values)], to: directory + "/model-00002-of-00002.safetensors")
            try FileManager.default.moveItem(atPath: directory + "/model.safetensors", toPath: directory + "/model-00001-of-00002.safetensors")
            let index = #"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#
            try write(index, to: "model.safetensors.index.json", in: directory)
            #expect(try ModelSource.open(directory).configuration.tiedHead)
        }
    }

    @Test func whatIsNoModel() throws {
        try expectRefusal("pytorch_model.bin: is a pickle, which can run code when it is read") { directory, _ in
            try remove("model.safetensors", in: directory)
            try write("x", to: "pytorch_model.bin", in: directory)
        }
        try expectRefusal("is a pointer of Git LFS, not the file itself") { directory, _ in
            try write("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", to: "model.safetensors", in: directory)
        }
        try expectRefusal("is in the format of its makers") { directory, _ in
            try remove("config.json", in: directory)
            try write("{}", to: "params.json", in: directory)
        }
        try expectRefusal("has a head that classifies", settings: ["architectures": ["LlamaForSequenceClassification"]])
        let reasons = [
            ("lfm2", "convolutions"), ("gemma3n", "embeddings of their own"), ("mixtral", "mixture of experts"), ("roberta", "it is an encoder"),
            ("qwen3_5_text", "linear attention"),
        ]
        for (family, reason) in reasons {
            try expectRefusal(reason, settings: ["model_type": family])
        }
    }

    @Test func quantisedCheckpointsAreNamed() throws {
        let gptq = ["quantization_config": ["quant_method": "gptq"]]
        try expectRefusal("the checkpoint is quantised by gptq, which is not read") { directory, fixture in
            try fixture.write(to: directory, settings: gptq) {
                $0.contains("gate_proj") ? $0.replacingOccurrences(of: ".weight", with: ".qweight") : $0
            }
        }
        // Plain weights whose configuration asks for fewer bits on loading stay plain, and the export does not ask for it again.
        let fixture = try FamilyFixture.named("llama")
        try withTemporaryDirectory { directory in
            try FileManager.default.createDirectory(atPath: directory + "/in", withIntermediateDirectories: false)
            try fixture.write(to: directory + "/in", settings: ["quantization_config": ["quant_method": "bitsandbytes", "load_in_8bit": true]])
            try ModelExporter(source: ModelSource.open(directory + "/in")).write(to: directory + "/out")
            #expect(try JSON.read(directory + "/out/config.json")["quantization_config"] == nil)
        }
    }

    /// 8-bit floats without a scale, with one for the whole matrix, and with one for each row; scales of blocks are refused by name.
    @Test func eightBitFloats() throws {
        let fixture = try FamilyFixture.named("phi-4")
        func matrix(_ name: String, _ shape: [Int]) -> [UInt8] {
            // Bytes of numbers between 2⁻⁶ and 0.1 in E4M3, of both signs.
            FamilyFixture.values(name, shape.reduce(1, *), mean: 0, halfWidth: 1).map { 0x08 + UInt8($0.magnitude * 0x18) + ($0 < 0 ? 0x80 : 0) }
        }
        func scales(_ name: String, _ shape: [Int]) -> (shape: [Int], values: [Float])? {
            if name.contains("qkv") { return ([shape[0], 1], FamilyFixture.values(name, shape[0], mean: 4, halfWidth: 1)) }
            return name.contains("down") ? ([], [3]) : nil
        }
        var (eight, plain): ([RawTensor], [RawTensor]) = ([], [])
        for tensor in fixture.tensors {
            let isMatrix = tensor.name.contains("proj")
            let count = tensor.shape.reduce(1, *)
            var values = FamilyFixture.values(tensor.name, count, mean: tensor.mean, halfWidth: tensor.halfWidth)
            guard isMatrix else {
                eight.append(RawTensor(tensor.name, "F32", tensor.shape, values))
                plain.append(RawTensor(tensor.name, "F32", tensor.shape, values))
                continue
            }
            let bytes = matrix(tensor.name, tensor.shape)
            ob_dequantise(ElementType.f8E4M3.rawValue, bytes, &values, count)
            eight.append(RawTensor(tensor.name, "F8_E4M3", tensor.shape, bytes))
            if let scale = scales(tensor.name, tensor.shape) {
                eight.append(RawTensor(tensor.name + "_scale", "F32", scale.shape, scale.values))
                eight.append(RawTensor(String(tensor.name.dropLast("weight".count)) + "input_scale", "F32", [], [1] as [Float]))
                for i in 0..<count { values[i] *= scale.values.count == 1 ? scale.values[0] : scale.values[i / tensor.shape[1]] }
            }
            plain.append(RawTensor(tensor.name, "F32", tensor.shape, values))
        }
        try withTemporaryDirectory { directory in
            try fixture.write(to: directory)
            try RawTensor.write(plain, to: directory + "/model.safetensors")
            let wanted = try ModelSource.open(directory).baseManifest(threads: 1)
            try RawTensor.write(eight, to: directory + "/model.safetensors")
            let source = try ModelSource.open(directory)
            #expect(source.baseManifest(threads: 1) == wanted)
            #expect(source.dataType(of: "model.layers.0.mlp.down_proj.weight") == .f8E4M3)
            let blocks = RawTensor("model.layers.0.mlp.down_proj.weight_scale_inv", "F32", [1, 2], [1, 1] as [Float])
            try RawTensor.write(eight + [blocks], to: directory + "/model.safetensors")
            let error = #expect(throws: ModelError.self) { try ModelSource.open(directory) }
            #expect(error?.description.contains("the checkpoint is quantised by a method that config.json does not name, which is not read") == true)
        }
    }

    @Test func stopTokensAreBlamedOnTheirFile() throws {
        try expectRefusal("generation_config.json: eos_token_id: 700 is not in the vocabulary of 61") { directory, _ in
            try write(#"{"eos_token_id":[1,700]}"#, to: "generation_config.json", in: directory)
        }
        try expectRefusal("config.json: special token: 700 is not in the vocabulary of 61", settings: ["eos_token_id": 700])
    }

    /// Lists and switches that would trap or loop forever if they were trusted.
    @Test func hostileConfigurations() throws {
        try expectRefusal("rotary_dim: is 4611686018427387904", of: "gpt-j", settings: ["rotary_dim": 1 << 62])
        try expectRefusal("attention_types: ", of: "gpt-neo", settings: ["attention_layers": NSNull(), "attention_types": [[["global"], 1 << 60]]])
        try expectRefusal("layer_types: does not name a type for each of 6 layers", of: "gemma3", settings: ["layer_types": ["full_attention"]])
        try expectRefusal("layer_types: names \"conv\"", of: "gemma3", settings: ["layer_types": Array(repeating: "conv", count: 6)])
        try expectRefusal("no_rope_layers", of: "smollm3", settings: ["no_rope_layers": [1]])
        try expectRefusal(
            "short_factor: does not hold 4 numbers", of: "phi-3.5", settings: ["rope_parameters": ["rope_type": "longrope", "short_factor": [1.0]]])
        let short: [String: Any] = ["rope_type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0], "original_max_position_embeddings": 64]
        try expectRefusal("long_factor: does not hold 4 numbers", of: "phi-3.5", settings: ["rope_parameters": short])
        let negative = short.merging(["original_max_position_embeddings": -1]) { $1 }
        try expectRefusal("is -1.0, which is no number of tokens", of: "phi-3.5", settings: ["rope_parameters": negative])
        try expectRefusal("query_pre_attn_scalar: is 0.0", of: "gemma2", settings: ["query_pre_attn_scalar": 0.0])
        try expectRefusal("hidden_act: is \"tanh\", which is not supported", of: "pythia", settings: ["hidden_act": "tanh"])
        try expectRefusal("alibi: is true: the form of Falcon-RW is not supported", of: "falcon", settings: ["alibi": true])
        try expectRefusal("but config.json asks for 61×20", of: "opt", settings: ["word_embed_proj_dim": 20])
        try expectRefusal("possible are 1 to", of: "opt", settings: ["word_embed_proj_dim": 0])
        let nested: [String: Any] = ["rope_parameters": ["full_attention": ["rope_theta": 1.0]]]
        try expectRefusal("rope_parameters.full_attention: are settings of one type of layer", settings: nested)
        try expectRefusal("sliding_window: is -3", of: "mistral", settings: ["sliding_window": -3])
    }
}

/// A tensor of any type in a safetensors file.
private struct RawTensor {
    let name: String
    let type: String
    let shape: [Int]
    let bytes: Data

    init<Element: BitwiseCopyable>(_ name: String, _ type: String, _ shape: [Int], _ values: [Element]) {
        self.name = name
        self.type = type
        self.shape = shape
        bytes = values.withUnsafeBytes { Data($0) }
    }

    static func write(_ tensors: [RawTensor], to path: String) throws {
        var header: [String: Any] = [:]
        var data = Data()
        for tensor in tensors {
            header[tensor.name] = ["dtype": tensor.type, "shape": tensor.shape, "data_offsets": [data.count, data.count + tensor.bytes.count]]
            data.append(tensor.bytes)
        }
        let json = try JSONSerialization.data(withJSONObject: header)
        var file = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
        file.append(json)
        file.append(data)
        try file.write(to: URL(filePath: path))
    }
}
