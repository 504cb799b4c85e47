import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Tests that a model with adapters on matrices of its layers equals the model with these matrices changed.
struct LayerAdapterTests {
    static let patterns: [[String]] = [
        ["adapter:layers.2.mlp.down_proj"], ["adapter:layers.2.self_attn.o_proj"],
        ["adapter:layers.2.self_attn.q_proj", "adapter:layers.2.self_attn.v_proj"],
        ["adapter:layers.1.mlp.down_proj"], ["adapter:layers.1.mlp"], ["adapter:layers.1-2.self_attn.*"],
        ["adapter:layers.2.self_attn.o_proj", "adapter:layers.2.mlp"],
        ["adapter:all", "adapter:final"],
    ]
    private static let prompts: [[Int32]] = (0..<4).map { (i: Int) -> [Int32] in
        (0..<4 + i).map { (j: Int) -> Int32 in Int32((i * 41 + j * 13 + 3) % 200) }
    }

    @Test(arguments: patterns)
    func isTheModelWithItsMatricesMerged(_ patterns: [String]) throws {
        let run = try AdaptedModel(EstimatorTests.tiny(), patterns)
        let (parameters, model) = try run.moved([60, -90, 127, 20], scale: 0x1p-10)
        let examples = try AdaptedTinyLlama.examples("all")
        func losses(_ model: TrainableModel) throws -> [Double] {
            try Evaluator(model: model, cache: PrefixCache(model: model, set: ExampleSet(examples, for: model.configuration))).evaluate().items.map(
                \.loss)
        }
        let own = try losses(model)
        let generator = try Generator(model: model)
        let texts = try Self.prompts.map { try generator.generate(prompt: $0, options: .init(maxTokens: 8)) }
        try withTemporaryDirectory { directory in
            var exporter = ModelExporter(source: run.source)
            exporter.changes = try AdapterChange.all(source: run.source, parameters: parameters, basis: run.basis)
            try exporter.write(to: directory + "/out")
            let merged = try TrainableModel(source: ModelSource.open(directory + "/out"))
            for (a, b) in zip(own, try losses(merged)) { #expect(abs(a - b) < 5e-5 * max(b, 1)) }
            let other = try Generator(model: merged)
            for (i, prompt) in Self.prompts.enumerated() {
                let (a, b) = (try generator.nextLogits(after: prompt), try other.nextLogits(after: prompt))
                let size = b.map(abs).max() ?? 0
                for (x, y) in zip(a, b) { #expect(abs(x - y) < 5e-5 * size) }
                #expect(try other.generate(prompt: prompt, options: .init(maxTokens: 8)) == texts[i])
            }
        }
        let before = try losses(TrainableModel(source: run.source))
        #expect(zip(own, before).map { abs($0 - $1) }.max() ?? 0 > 1e-3, "C changes something")
    }

    /// Samples with the head's derivative (texts) and without (classes), one- and two-sided, alone and sharing examples.
    @Test(arguments: patterns)
    func samplesAreDifferences(_ patterns: [String]) throws {
        for kind in ["classes", "tokens"] {
            try AdaptedModel(EstimatorTests.tiny(), patterns).expectDifferences(AdaptedTinyLlama.examples(kind), epsilon: 0x1p-8, within: 2e-2)
        }
    }

    /// Sharing work among directions in the first layer does not change the losses; only bytes instead of floats do.
    @Test(arguments: patterns)
    func bytesAreNearFloats(_ patterns: [String]) throws {
        let run = try AdaptedModel(EstimatorTests.tiny(), patterns)
        let model = try run.moved([60, -90], scale: 0x1p-11).model
        func gradients(_ precision: Precision) throws -> [Float] {
            let cache = try PrefixCache(model: model, set: ExampleSet(AdaptedTinyLlama.examples("classes"), for: run.source.configuration))
            return try Estimator(
                model: model, directions: run.directions, cache: cache,
                options: .init(epsilon: 0x1p-7, batchSize: 3, samplesPerBatch: 4, estimator: .oneSided, precision: precision)
            ).projectedGradients(machine: AdaptedModel.machine, samples: 0..<16).values
        }
        let (plain, bytes) = (try gradients(.float), try gradients(.int8))
        let size = (plain.reduce(0) { $0 + $1 * $1 } / Float(plain.count)).squareRoot()
        let difference = (zip(plain, bytes).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Float(plain.count)).squareRoot()
        #expect(difference < 0.2 * size, "\(difference) of \(size)")
    }

    @Test func writesAlongDirections() throws {
        let run = try AdaptedModel(EstimatorTests.tiny(), ["adapter:layers.1.self_attn", "adapter:layers.2.mlp.down_proj"])
        let (parameters, model) = try run.moved([60, -90], scale: 0x1p-10)
        let epsilon = 0.0625
        let samples = (0..<4).map { SampleName(machine: AdaptedModel.machine, sample: SampleNumber($0)) }
        let writer = try BatchWriter(model: model, prompts: Self.prompts, maxTokens: 6, endings: [], memoryLimit: 1 << 30, threads: 2)
        let lines = try writer.write(samples: samples, prompts: samples.map { _ in [0, 3] }, directions: run.directions, epsilon: epsilon)
            .map(\.node.written)
        var expected: [[Int32]] = []
        for sample in samples {
            for sign in [Int8(1), -1] {
                let other = try run.source.makeParameters(run.tensors)
                #expect(other.assign(parameters))
                run.apply([sign], from: sample.sample, scale: epsilon, to: other)
                let generator = try Generator(model: TrainableModel(source: run.source, parameters: other, basis: run.basis))
                expected += try [0, 3].map { try generator.generate(prompt: Self.prompts[$0], options: .init(maxTokens: 6)) }
            }
        }
        #expect(lines == expected)
        #expect(Set(lines).count > 2, "ε changes something")
    }

    @Test func patternsNamePlaces() throws {
        let source = try EstimatorTests.tiny()
        func names(_ patterns: [String]) throws -> [String] { try source.adapterPlaces(matching: patterns).map(\.name) }
        #expect(try names(["adapter:layers.2.mlp.down_proj"]) == ["model.layers.2.mlp.down_proj.weight"])
        #expect(try names(["adapter:layers.1-2.mlp.*"]).count == 6)
        #expect(try names(["adapter:layers.0"]).count == 7, "no norms")
        #expect(try names(["adapter:all", "adapter:layers.1"]).count == 21, "each once, and no embedding")
        #expect(try names(["adapter:*.v_proj.*", "adapter:final"]).last == "final")
        for (pattern, words) in [
            ("adapter:model.embed_tokens.weight", "names no matrix of a layer"), ("adapter:layers.7", "beyond the model's last layer"),
            ("adapter:", "no tensor"),
            ("adapter:layers.0.input_layernorm", "names no matrix of a layer"), ("adapter:layers.2-1", "no tensor"),
        ] {
            let problem = try #require(throws: TrainingError.self) { try source.checkPatterns([pattern]) }.description
            #expect(problem.contains(words) && problem.contains("'\(pattern)'"), "\(problem)")
        }
    }

    // MARK: Bases

    private static let texts: [String] = (0..<40).map { (i: Int) -> String in
        "\(["the film is good", "a bad story of the sea", "no one here", "it was fine and the end", "what a day for them"][i % 5]) \(i)"
    }
    private static let labels = TaskSpec(
        kind: .classification, template: "{text} It was:", labels: ["a", "b", "c"].map { LabelWord(label: $0, word: $0) }, maxLength: 48)
    private static let text = TaskSpec(kind: .text, maxLength: 24)

    private func makeBases(
        _ patterns: [String], _ task: TaskSpec = labels, outputs: AdapterBasisMaker.OutputDirections? = nil, threads: Int = 1
    ) throws -> [AdapterBasis] {
        let source = try EstimatorTests.tiny()
        return try AdapterBasisMaker.makeBases(
            source: source, task: task, texts: Self.texts, places: source.adapterPlaces(matching: patterns),
            options: .init(inputs: 6, outputs: 3, outputDirections: outputs, threads: threads))
    }

    private func vectors(_ factor: FixedPointVectors) -> [[Double]] {
        let floats = factor.floats()
        return (0..<factor.count).map { floats[$0 * factor.length..<($0 + 1) * factor.length].map(Double.init) }
    }

    private func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }

    @Test func basesOfAllPlaces() throws {
        let source = try EstimatorTests.tiny()
        let bases = try makeBases(["adapter:all", "adapter:final"])
        #expect(bases.count == 22)
        for basis in bases {
            let place = try #require(source.adapterPlaces(matching: ["adapter:all", "adapter:final"]).first { $0.name == basis.place })
            let widths = try #require(source.widths(of: place))
            #expect(basis.outputs.length == widths.outputs && basis.inputs.length == widths.inputs && basis.inputs.count == 6)
            let isWriter = basis.place.contains("o_proj") || basis.place.contains("down_proj") || basis.place == "final"
            #expect(basis.outputs.count == (isWriter ? 2 : 3), "\(basis.place)")
        }
        #expect(try makeBases(["adapter:all", "adapter:final"], threads: 2) == bases, "threads change nothing")
        // The basis at a place is the same, whatever else is adapted.
        let alone = try makeBases(["adapter:layers.1.mlp.down_proj"])
        #expect(alone[0] == bases.first { $0.place == alone[0].place })
        _ = try source.trainedTensors(matching: ["adapter:all", "adapter:final"], basis: RunBasis(spaces: [], adapters: bases))
    }

    /// VᵀSV = diag(λ/(λ + τλ₂)), where S is the second moment of the matrix's inputs.
    @Test(arguments: ["layers.0.self_attn.q_proj", "layers.1.mlp.down_proj", "layers.1.self_attn.o_proj", "layers.2.mlp.up_proj"])
    func inputsWhiten(_ place: String) throws {
        let source = try EstimatorTests.tiny()
        let v = vectors(try makeBases(["adapter:\(place)"])[0].inputs)
        let tensor = LayerModule.matrices.first { place.hasSuffix(source.configuration.description.names.modules[$0]?.name ?? "?") }
        let module = try #require(tensor)
        let space = try #require(InputSpace(of: LayerTensor(module)))
        let layer = try #require(Int(place.split(separator: ".")[1]))
        let model = try TrainableModel(source: source)
        let pass = ForwardPass(model: model)
        var rows: [[Double]] = []
        pass.observer = { at, own, x, stride, count in
            guard at == layer, own == space else { return }
            for row in 0..<count { rows.append((0..<v[0].count).map { Double(x[row * stride + $0]) }) }
        }
        model.preparePositions(64)
        pass.begin(directions: nil)
        var kept: [ScratchBuffer<Int32>] = []
        for sequence in try TaskEncoder(task: Self.labels, model: source).encodePublicText(Self.texts).flatMap(\.sequences) {
            let reads = sequence.targets.map { Int32($0.position) }
            let length = Int(try #require(reads.last)) + 1
            kept += [ScratchBuffer(sequence.tokens), ScratchBuffer(reads)]
            let own = ForwardPass.Sequence(
                length: length, reads: UnsafeBufferPointer(start: kept[kept.count - 1].pointer, count: reads.count),
                tokens: UnsafeBufferPointer(start: kept[kept.count - 2].pointer, count: sequence.tokens.count), hidden: nil)
            _ = pass.add(segmentOf: pass.add(own))
        }
        try pass.runFromEmbeddings(to: 3)
        for (i, a) in v.enumerated() {
            for (j, b) in v.enumerated() where i <= j {
                let moment = rows.reduce(0.0) { $0 + dot($1, a) * dot($1, b) } / Double(rows.count)
                #expect(i == j ? moment > 0 && moment < 1.01 : abs(moment) < 2e-2, "\(i) \(j) \(moment)")
                if i == j, i < 2 { #expect(moment > 0.9) }
            }
        }
    }

    /// One unit of a coordinate moves the class scores by an orthonormal contrast, through the final norm's weights.
    @Test func outputsOfLabels() throws {
        let source = try EstimatorTests.tiny()
        let bases = try makeBases(["adapter:layers.2.mlp.down_proj", "adapter:layers.0.self_attn.o_proj"])
        #expect(bases[0].outputs == bases[1].outputs)
        let head = try AdaptedTinyLlama.values(of: source.headName, source)
        let norm = try AdaptedTinyLlama.values(of: "model.norm.weight", source)
        let tokens = try ["a", "b", "c"].map { Int(try source.tokenizer.encode($0)[0]) }
        let seen = tokens.map { token in (0..<32).map { Double(head[token * 32 + $0]) * Double(norm[$0]) } }
        let scores = vectors(bases[0].outputs).map { u -> [Double] in
            let all = seen.map { dot($0, u) }
            let mean = all.reduce(0, +) / 3
            return all.map { $0 - mean }
        }
        let size = dot(scores[0], scores[0])
        #expect(abs(dot(scores[1], scores[1]) - size) < 2e-3 * size && abs(dot(scores[0], scores[1])) < 2e-3 * size)
        #expect(try makeBases(["adapter:layers.2.mlp.down_proj"], outputs: .seed)[0].outputs != bases[0].outputs)
    }

    /// Outputs are orthogonal, and as long as the matrix's outputs usually are.
    @Test(arguments: [AdapterBasisMaker.OutputDirections.seed, .singular])
    func outputsWithoutLabels(_ kind: AdapterBasisMaker.OutputDirections) throws {
        let source = try EstimatorTests.tiny()
        let u = vectors(try makeBases(["adapter:layers.1.self_attn.q_proj"], outputs: kind)[0].outputs)
        let size = dot(u[0], u[0])
        #expect(size > 0)
        for (i, a) in u.enumerated() { for (j, b) in u.enumerated() { #expect(abs(dot(a, b) - (i == j ? size : 0)) < 2e-3 * size) } }
        guard kind == .singular else { return }
        let w = try AdaptedTinyLlama.values(of: "model.layers.1.self_attn.q_proj.weight", source).map(Double.init)
        let gains = u.map { (u: [Double]) -> Double in
            var sum = 0.0
            for j in 0..<32 {
                var gain = 0.0
                for i in 0..<32 { gain += w[i * 32 + j] * u[i] }
                sum += gain * gain
            }
            return sum
        }
        #expect(gains == gains.sorted(by: >))
    }

    /// The random signs follow from the seed, and at a matrix from its place too; otherwise machines would make other bases.
    @Test func randomOutputsFollowFromTheSeed() throws {
        let source = try EstimatorTests.tiny()
        for (pattern, isFinal) in [("adapter:layers.1.self_attn.q_proj", false), ("adapter:final", true)] {
            let place = try source.adapterPlaces(matching: [pattern])[0]
            var random = SplitMix64(state: isFinal ? 0 : UInt64(place.adapterIndex) << 32)
            let signs = (0..<32).map { _ in Bool.random(using: &random) }
            let first = vectors(try makeBases([pattern], outputs: .seed)[0].outputs)[0]
            #expect(first.map { $0 > 0 } == signs, "\(pattern)")
            #expect(Set(first.map(abs)).count == 1)
        }
    }

    /// Bases come in the order of the places asked for, and a place that is no matrix of a layer is named.
    @Test func placesKeepTheirOrder() throws {
        let source = try EstimatorTests.tiny()
        let places = try Array(source.adapterPlaces(matching: ["adapter:layers.1.self_attn", "adapter:final"]).reversed())
        func bases(_ places: [AdapterPlace]) throws -> [AdapterBasis] {
            try AdapterBasisMaker.makeBases(
                source: source, task: Self.labels, texts: Self.texts, places: places, options: .init(inputs: 4, outputs: 2))
        }
        #expect(try bases(places).map(\.place) == places.map(\.name))
        let found = try #require(throws: TrainingError.self) { try bases([.tensor(name: "model.norm.weight", index: 0)]) }
        #expect(found.description.contains("model.norm.weight is no matrix of a layer"), "\(found)")
    }

    @Test func outputsThatAPlaceCannotHave() throws {
        let cases: [(String, TaskSpec, AdapterBasisMaker.OutputDirections)] = [
            ("adapter:layers.1.mlp.up_proj", Self.labels, .labels), ("adapter:layers.1.mlp.down_proj", Self.text, .labels),
            ("adapter:layers.1.mlp.down_proj", Self.labels, .loss), ("adapter:layers.1.self_attn.v_proj", Self.text, .loss),
            ("adapter:final", Self.labels, .singular),
        ]
        for (pattern, task, kind) in cases {
            #expect(throws: TrainingError.self) { try makeBases([pattern], task, outputs: kind) }
        }
        #expect(try makeBases(["adapter:layers.1.mlp.down_proj"], Self.text)[0].outputs.count == 3, "loss")
    }
}
