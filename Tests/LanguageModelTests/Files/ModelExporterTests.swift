import Core
import Foundation
import LanguageModel
import Testing
import Training

@Suite struct ModelExporterTests {
    /// An exported model reads back the same: configuration, values, ids, conversations.
    @Test(arguments: ["tiny-llama", "tiny-llama.gguf"])
    func readsBackTheSame(name: String) throws {
        let source = try ModelSource.open(fixture(name).path)
        try withTemporaryDirectory { directory in
            try ModelExporter(source: source).write(to: directory + "/out")
            let copy = try ModelSource.open(directory + "/out")
            #expect(copy.configuration == source.configuration)
            #expect(copy.baseManifest(threads: 1) == source.baseManifest(threads: 1))
            #expect(copy.dataType(of: "model.norm.weight") == .f32)
            let ids = try source.tokenizer.encode("It was <|im_end|> 1234\r\n été", allowSpecial: true)
            #expect(try copy.tokenizer.encode("It was <|im_end|> 1234\r\n été", allowSpecial: true) == ids)
            #expect(try copy.tokenizer.bosToken == source.tokenizer.bosToken)
            #expect(try copy.chatTemplate == source.chatTemplate)
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["out"])
        }
    }

    /// Whoever passes a model on passes its licence on: the files, and what they call it.
    @Test func theLicenceGoesWithTheModel() throws {
        try withTemporaryDirectory { directory in
            let base = directory + "/base"
            try FileManager.default.copyItem(atPath: fixture("tiny-llama").path, toPath: base)
            let files = ["LICENSE": "the terms", "NOTICE.txt": "who made it", "USE_POLICY.md": "what for"]
            for (name, text) in files { try Data(text.utf8).write(to: URL(filePath: base + "/" + name)) }
            for name in ["training_args.bin", "README.md"] { try Data("of the base".utf8).write(to: URL(filePath: base + "/" + name)) }
            try ModelExporter(source: try ModelSource.open(base)).write(to: directory + "/out")
            for (name, text) in files { #expect(try String(contentsOfFile: directory + "/out/" + name, encoding: .utf8) == text, "\(name)") }
            #expect(!FileManager.default.fileExists(atPath: directory + "/out/training_args.bin"))
            #expect(try !String(contentsOfFile: directory + "/out/README.md", encoding: .utf8).contains("of the base"))
            // A file of an earlier base is not left beside another.
            var again = ModelExporter(source: try ModelSource.open(fixture("tiny-llama").path))
            again.overwrites = true
            try again.write(to: directory + "/out")
            #expect(!FileManager.default.fileExists(atPath: directory + "/out/LICENSE"))
        }
    }

    @Test func replacesTensorsAndSplitsLargeModels() throws {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        let changed = "model.layers.2.mlp.down_proj.weight"
        try withTemporaryDirectory { directory in
            var exporter = ModelExporter(source: source)
            exporter.dataType = .bf16
            exporter.shardBytesMax = 20_000
            exporter.card = "Trained a little."
            try exporter.write(
                to: directory + "/out", replacing: [changed: { range, out in for i in range { out[i - range.lowerBound] = Float(i) } }])
            let files = try FileManager.default.contentsOfDirectory(atPath: directory + "/out")
            #expect(files.contains("model.safetensors.index.json") && files.contains("model-00001-of-00004.safetensors"))
            let copy = try ModelSource.open(directory + "/out")
            var values = [Float](repeating: 0, count: 32 * 64)
            try copy.copyFloats(changed, into: &values)
            #expect(values[0..<256].elementsEqual((0..<256).map(Float.init)))
            #expect(copy.dataType(of: changed) == .bf16)
            let card = try String(contentsOfFile: directory + "/out/README.md", encoding: .utf8)
            #expect(card.hasPrefix("---\nlibrary_name: transformers\n") && card.hasSuffix("Trained a little.\n"))
        }
    }

    /// A matrix that a run trained and that has an adapter as well is exported with both changes, the head that shares the embedding too.
    @Test func aTrainedMatrixWithAnAdapterKeepsBoth() throws {
        let source = try ModelSource.open(fixture("tiny-llama.gguf").path)
        let name = "model.layers.1.mlp.down_proj.weight"
        let run = try AdaptedModel(source, ["adapter:layers.1.mlp.down_proj", "adapter:final"], outputs: 2, inputs: 3)
        let changes = try AdapterChange.all(
            source: source, parameters: run.moved([60, -90, 30], scale: 0x1p-11).parameters, basis: run.basis)
        func exported(_ replacing: [String: ModelExporter.Values], adapted: Bool) throws -> [String: [Float]] {
            try withTemporaryDirectory { directory in
                var exporter = ModelExporter(source: source)
                exporter.changes = adapted ? changes : []
                try exporter.write(to: directory + "/model", replacing: replacing)
                let copy = try ModelSource.open(directory + "/model")
                return try Dictionary(
                    uniqueKeysWithValues: [name, "lm_head.weight"].filter { copy.shape(of: $0) != nil }.map { name in
                        var values = [Float](repeating: 0, count: try #require(copy.shape(of: name)).count)
                        try copy.copyFloats(name, into: &values)
                        return (name, values)
                    })
            }
        }
        // The trained matrices are the base's, doubled.
        func doubled(_ tensor: String) throws -> ModelExporter.Values {
            var values = [Float](repeating: 0, count: try #require(source.shape(of: tensor)).count)
            try source.copyFloats(tensor, into: &values)
            return { elements, out in for (i, element) in elements.enumerated() { out[i] = 2 * values[element] } }
        }
        let embedding = "model.embed_tokens.weight"
        let trained = try [name: doubled(name), embedding: doubled(embedding)]
        let (plain, adapted) = (try exported([:], adapted: false), try exported([:], adapted: true))
        let both = try exported(trained, adapted: true)
        // W + BA and 2W + BA.
        let (w, wa, wb) = (try #require(plain[name]), try #require(adapted[name]), try #require(both[name]))
        #expect(wa != w)
        for i in w.indices { #expect(abs(wb[i] - wa[i] - w[i]) < 1e-5) }
        // E + E·U·C·Vᵀ is linear in E.
        let (head, headBoth) = (try #require(adapted["lm_head.weight"]), try #require(both["lm_head.weight"]))
        for i in head.indices { #expect(abs(headBoth[i] - 2 * head[i]) < 1e-5) }
    }

    @Test func doesNotWriteOverWhatIsThere() throws {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        try withTemporaryDirectory { directory in
            try Data("mine".utf8).write(to: URL(filePath: directory + "/precious"))
            let error = #expect(throws: ModelError.self) { try ModelExporter(source: source).write(to: directory) }
            #expect(error?.description.contains("already exists and contains ") == true)
            #expect(try String(contentsOfFile: directory + "/precious", encoding: .utf8) == "mine")
            var exporter = ModelExporter(source: source)
            exporter.overwrites = true
            try exporter.write(to: directory + "/out")
            try exporter.write(to: directory + "/out")
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == ["out", "precious"])
            // Only an export is replaced: never a directory with other files, and never the model that is being read.
            let others = #expect(throws: ModelError.self) { try exporter.write(to: directory) }
            #expect(others?.description.contains("precious") == true || others?.description.contains("contains out") == true)
            #expect(try String(contentsOfFile: directory + "/precious", encoding: .utf8) == "mine")
            var itself = ModelExporter(source: try ModelSource.open(directory + "/out"))
            itself.overwrites = true
            #expect(throws: ModelError.self) { try itself.write(to: directory + "/out") }
            #expect(throws: Never.self) { try ModelSource.open(directory + "/out") }
        }
    }

    @Test func leavesNothingWhenItIsStopped() throws {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        try withTemporaryDirectory { directory in
            var told = 0
            let error = #expect(throws: ModelError.self) {
                try ModelExporter(source: source).write(to: directory + "/out") { _ in
                    told += 1
                    return told < 3
                }
            }
            #expect(error?.code == .cancelled && told == 3)
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left.isEmpty)
        }
    }

    @Test func anUnwritablePlaceIsOneClearError() throws {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        let error = #expect(throws: ModelError.self) { try ModelExporter(source: source).write(to: "/proc/nowhere/out") }
        #expect(error?.code == .inputOutput)
        let unknown = #expect(throws: ModelError.self) {
            try ModelExporter(source: source).write(to: "/proc/nowhere/out", replacing: ["lm_head.weight": { _, _ in }])
        }
        #expect(unknown?.subject == "lm_head.weight")
    }

    /// Keeps the export for a check with transformers: `ONEBYTE_TEST_EXPORT=<directory> swift test --filter exportsSmolLM2`.
    @Test(
        .enabled(
            if: TestModels.smollm2 != nil && ProcessInfo.processInfo.environment["ONEBYTE_TEST_EXPORT"] != nil,
            "needs SmolLM2 and ONEBYTE_TEST_EXPORT"))
    func exportsSmolLM2() throws {
        let source = try ModelSource.open(try #require(TestModels.smollm2))
        let target = try #require(ProcessInfo.processInfo.environment["ONEBYTE_TEST_EXPORT"])
        try ModelExporter(source: source).write(to: target)
        #expect(try ModelSource.open(target).baseManifest(threads: 2) == source.baseManifest(threads: 2))
    }
}

/// Runs `body` with a directory that is removed afterwards.
func withTemporaryDirectory<T>(_ body: (String) throws -> T) throws -> T {
    let directory = FileManager.default.temporaryDirectory.appending(path: "onebyte-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    return try body(directory.path)
}
