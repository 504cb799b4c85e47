import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Directories of LoRA adapters are read as the models that peft makes of them (Fixtures/make_peft.py).
@Suite struct PEFTAdapterTests {
    struct Adapter: @unchecked Sendable, CustomTestStringConvertible {  // constants of a file
        let name: String
        let family: String
        let config: [String: Any]
        let tensors: [String: [Any]]
        let losses: [Double]
        var testDescription: String { name }

        static let all: [Adapter] = {
            guard let data = try? Data(contentsOf: fixture("peft.json")),
                let list = try? JSONSerialization.jsonObject(with: data) as? [[String: Any]]
            else { return [] }
            return list.compactMap { json in
                guard let name = json["name"] as? String, let family = json["family"] as? String, let config = json["config"] as? [String: Any],
                    let tensors = json["tensors"] as? [String: [Any]], let losses = json["losses"] as? [Double]
                else { return nil }
                return Adapter(name: name, family: family, config: config, tensors: tensors, losses: losses)
            }
        }()

        /// Writes base and adapter side by side.
        func write(to directory: String, settings: [String: Any] = [:], writesBase: Bool = true) throws {
            for name in ["base", "adapter"] {
                try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
            }
            if writesBase { try FamilyFixture.named(family).write(to: directory + "/base") }
            let own = config.merging(["base_model_name_or_path": directory + "/base"]) { $1 }.merging(settings) { $1 }
            try JSONSerialization.data(withJSONObject: own).write(to: URL(filePath: directory + "/adapter/adapter_config.json"))
            let files = try tensors.map { key, form -> (name: String, shape: [Int], values: [Float]) in
                let shape = try #require(form[0] as? [Int])
                let (mean, halfWidth) = (try #require(form[1] as? Double), try #require(form[2] as? Double))
                return (
                    name: key, shape: shape, values: FamilyFixture.values(key, shape.reduce(1, *), mean: mean, halfWidth: halfWidth)
                )
            }
            try FamilyFixture.writeSafetensors(files, to: directory + "/adapter/adapter_model.safetensors")
        }
    }

    private static func loss(_ source: ModelSource, _ tokens: [Int32]) throws -> Double {
        let model = try TrainableModel(source: source)
        let set = try ExampleSet([ForwardParityTests.text(tokens)], for: source.configuration)
        return try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
    }

    @Test func thereAreAdapters() { #expect(Adapter.all.count == 12) }

    @Test(arguments: Adapter.all)
    func lossesAreThoseOfPEFT(_ adapter: Adapter) throws {
        let tokens = try FamilyFixture.named(adapter.family).tokens
        let expected = adapter.losses.reduce(0, +) / Double(adapter.losses.count)
        try withTemporaryDirectory { directory in
            try adapter.write(to: directory)
            let source = try ModelSource.open(directory + "/adapter")
            let found = try Self.loss(source, tokens)
            #expect(abs(found - expected) < 1e-5 * expected, "\(found), not \(expected)")
            // The merged model that is exported is the same one.
            try ModelExporter(source: source).write(to: directory + "/merged")
            let copy = try ModelSource.open(directory + "/merged")
            #expect(copy.configuration.tiedHead == source.configuration.tiedHead)
            #expect(copy.baseManifest(threads: 1) == source.baseManifest(threads: 1))
            let base = try ModelSource.open(directory + "/base")
            #expect(source.baseManifest(threads: 1) != base.baseManifest(threads: 1))
        }
    }

    /// An adapter that this program exports, onto a GGUF file, is read as the trained model.
    @Test func readsItsOwnExports() throws {
        let source = try ModelSource.open(fixture("tiny-llama.gguf").path)
        let run = try AdaptedModel(source, ["adapter:layers.1", "adapter:final"], outputs: 2, inputs: 3)
        let moved = try run.moved([60, -90, 30], scale: 0x1p-11)
        let tokens: [Int32] = [5, 17, 9, 3, 200, 31, 7]
        let set = try ExampleSet([ForwardParityTests.text(tokens)], for: source.configuration)
        let own = try Evaluator(model: moved.model, cache: PrefixCache(model: moved.model, set: set)).evaluate().meanLoss
        try withTemporaryDirectory { directory in
            var exporter = ModelExporter(source: source)
            exporter.changes = try AdapterChange.all(source: source, parameters: moved.parameters, basis: run.basis)
            exporter.format = .peft
            try exporter.write(to: directory + "/adapter")
            let read = try ModelSource.open(directory + "/adapter")
            #expect(!read.configuration.tiedHead)
            let found = try Self.loss(read, tokens)
            #expect(abs(found - own) < 2e-5 * own, "\(found), not \(own)")
            #expect(try read.tokenizer.encode("It was") == source.tokenizer.encode("It was"))
        }
    }

    @Test func refusals() throws {
        let plain = try #require(Adapter.all.first { $0.name == "plain" })
        let cases: [(settings: [String: Any], text: String)] = [
            (["peft_type": "IA3"], "peft_type: is IA3; only LORA adapters are read"),
            (["init_lora_weights": "pissa_niter_4"], "init_lora_weights: is pissa_niter_4, which changes the base as well"),
            (["lora_bias": true], "lora_bias: the adapter has biases of its own"),
            (["trainable_token_indices": [1, 2]], "trainable_token_indices: the adapter changes single tokens"),
            (["alpha_pattern": [#"layers\.[01]\..*"#: 3]], "is no module's name with a number"),
            (["base_model_name_or_path": ""], "base_model_name_or_path: is missing"),
            (["base_model_name_or_path": "/nowhere/model"], "the base model /nowhere/model can't be opened: /nowhere/model: "),
        ]
        for (settings, text) in cases {
            try withTemporaryDirectory { directory in
                try plain.write(to: directory, settings: settings)
                let error = #expect(throws: ModelError.self) { try ModelSource.open(directory + "/adapter") }
                #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
            }
        }
        // Another base than the adapter's.
        try withTemporaryDirectory { directory in
            try plain.write(to: directory, writesBase: false)
            try FamilyFixture.named("opt").write(to: directory + "/base")
            let error = #expect(throws: ModelError.self) { try ModelSource.open(directory + "/adapter") }
            #expect(error?.description.contains("is no matrix that a opt is known to have") == true, "\(error?.description ?? "")")
            try plain.write(to: directory, settings: ["base_model_name_or_path": directory + "/adapter"], writesBase: false)
            let itself = #expect(throws: ModelError.self) { try ModelSource.open(directory + "/adapter") }
            #expect(itself?.description.contains("is itself an adapter") == true)
            try Data().write(to: URL(filePath: directory + "/adapter/model.safetensors"))
            let both = #expect(throws: ModelError.self) { try ModelSource.open(directory + "/adapter") }
            #expect(both?.problem.contains("and a whole model (model.safetensors), and it can't be both") == true, "\(both?.description ?? "")")
            try FileManager.default.removeItem(atPath: directory + "/adapter/model.safetensors")
            try FileManager.default.removeItem(atPath: directory + "/adapter/adapter_model.safetensors")
            try Data().write(to: URL(filePath: directory + "/adapter/adapter_model.bin"))
            let pickle = #expect(throws: ModelError.self) { try ModelSource.open(directory + "/adapter") }
            #expect(pickle?.problem.hasPrefix("is a pickle") == true)
        }
    }

    /// The sums are those of double precision in a fixed order, so that every processor gives the base the same digest.
    @Test func mergedRowsHaveTheSameBitsEverywhere() {
        // numpy: v = w.astype(float64); for k in range(2): v = v + float64(b[k]) * a[k].astype(float64); then m·v/√Σv² and float32.
        let w: [Float] = [0.1, -0.7, 3.3, 1e-8, 2.5]
        let change = { (magnitudes: [Float]?) in
            LowRankChange(
                rank: 2, columns: 5, inputs: [0.3, 0.7, -1.1, 5e-9, 0.013, 1.7, -0.9, 0.37, 2e-8, -3.1], outputs: [0.77, -0.33],
                magnitudes: magnitudes, view: TensorView())
        }
        for (magnitudes, bits) in [
            (nil, [0xBE6B8521, 0x3E0B4395, 0x40152D77, 0x31F91BAC, 0x40621CD6]),
            ([1.9], [0xBDD306B3, 0x3D798FB3, 0x3F85A9CB, 0x315F3379, 0x3FCA98DD]),
        ] as [([Float]?, [UInt32])] {
            var row = w
            row.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { change(magnitudes).apply(to: base, row: 0) } }
            #expect(row.map(\.bitPattern) == bits)
        }
    }

    /// What an adapter's ledgers need is never written over: the adapter, its base, and every file of them.
    @Test func anExportSparesTheBase() throws {
        let plain = try #require(Adapter.all.first { $0.name == "plain" })
        try withTemporaryDirectory { directory in
            try plain.write(to: directory)
            var exporter = ModelExporter(source: try ModelSource.open(directory + "/adapter"))
            exporter.overwrites = true
            let before = try FileManager.default.contentsOfDirectory(atPath: directory + "/base").sorted()
            for place in ["base", "adapter", "./base/../base/"] {
                let error = #expect(throws: ModelError.self) { try exporter.write(to: "\(directory)/\(place)") }
                #expect(error?.problem == "is the model itself or its base, which its ledgers need", "\(error?.description ?? "")")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/base").sorted() == before)
            exporter.format = .peft
            exporter.changes = []
            #expect(throws: ModelError.self) { try exporter.write(to: directory + "/new") }
        }
        // A GGUF file as the base.
        let source = try ModelSource.open(fixture("tiny-llama.gguf").path)
        try withTemporaryDirectory { directory in
            let base = directory + "/base.gguf"
            try FileManager.default.copyItem(atPath: source.path, toPath: base)
            let run = try AdaptedModel(try ModelSource.open(base), ["adapter:final"], outputs: 2, inputs: 3)
            var exporter = ModelExporter(source: try ModelSource.open(base))
            exporter.changes = try AdapterChange.all(
                source: exporter.source, parameters: run.moved([60], scale: 0x1p-11).parameters, basis: run.basis)
            exporter.format = .peft
            try exporter.write(to: directory + "/adapter")
            let adapted = try ModelSource.open(directory + "/adapter")
            var again = ModelExporter(source: adapted)
            again.overwrites = true
            let gguf = #expect(throws: ModelError.self) { try again.writeGGUF(to: base) }
            #expect(gguf?.problem == "is the model itself or its base, which its ledgers need", "\(gguf?.description ?? "")")
            #expect(FileManager.default.contentsEqual(atPath: base, andPath: source.path))
            // A LoRA adapter of an adapter could not be read again.
            again.format = .peft
            again.changes = exporter.changes
            let twice = #expect(throws: ModelError.self) { try again.write(to: directory + "/twice") }
            #expect(twice?.problem.hasPrefix("is an adapter itself") == true, "\(twice?.description ?? "")")
        }
    }

    /// An adapter's own chat template is the one that its export has, in whatever file the base keeps its own.
    @Test func anExportHasTheAdaptersTemplate() throws {
        let plain = try #require(Adapter.all.first { $0.name == "plain" })
        try withTemporaryDirectory { directory in
            try plain.write(to: directory)
            for (place, tokenizer) in [("base", "{}"), ("adapter", #"{"chat_template": "adapter's {{ messages[0].content }}"}"#)] {
                try FamilyFixture.named(plain.family).writeTokenizer(to: "\(directory)/\(place)")
                try Data(tokenizer.utf8).write(to: URL(filePath: "\(directory)/\(place)/tokenizer_config.json"))
            }
            try Data("base's {{ messages[0].content }}".utf8).write(to: URL(filePath: directory + "/base/chat_template.jinja"))
            let source = try ModelSource.open(directory + "/adapter")
            try ModelExporter(source: source).write(to: directory + "/merged")
            let copy = try ModelSource.open(directory + "/merged")
            #expect(copy.chatTemplateSource == "adapter's {{ messages[0].content }}")
            #expect(copy.chatTemplateSource == source.chatTemplateSource)
        }
    }

    /// A path that the adapter's configuration means from its own directory.
    @Test func theBaseMayLieBesideTheAdapter() throws {
        let plain = try #require(Adapter.all.first { $0.name == "plain" })
        try withTemporaryDirectory { directory in
            try plain.write(to: directory, settings: ["base_model_name_or_path": "../base"])
            #expect(throws: Never.self) { try ModelSource.open(directory + "/adapter") }
        }
    }
}
