import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Every family equals transformers, and everything that trains equals the family's own clean pass.
@Suite struct FamilyTests {
    @Test func allFamiliesAreTested() {
        let tested = Set(FamilyFixture.all.values.compactMap { $0.config["model_type"] as? String })
        // A model with a vision part has the same pass as the one without.
        #expect(Set(ModelFamily.all.map(\.name)).subtracting(tested) == ["gemma3"])
    }

    @Test(arguments: FamilyFixture.names)
    func lossesAreThoseOfTransformers(_ name: String) throws {
        let expected = try FamilyFixture.named(name)
        try expected.with { source in
            let model = try TrainableModel(source: source)
            func loss(_ example: Example) throws -> Double {
                let set = try ExampleSet([example], for: source.configuration)
                return try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
            }
            let text = expected.losses.reduce(0, +) / Double(expected.losses.count)
            let found = try loss(ForwardParityTests.text(expected.tokens))
            #expect(abs(found - text) < 1e-5 * text, "\(found), not \(text)")
            let choice = try loss(expected.choiceExample)
            #expect(abs(choice - expected.choice) < 1e-5 * max(expected.choice, 1), "\(choice), not \(expected.choice)")
            // Short inputs use no products of many rows and no attention in blocks. They are rotated otherwise if the whole is a long text.
            for count in source.configuration.longTextLength ?? .max < expected.tokens.count ? [] : [2, 7] {
                let beginning = expected.losses.prefix(count - 1).reduce(0, +) / Double(count - 1)
                #expect(try abs(loss(ForwardParityTests.text(Array(expected.tokens.prefix(count)))) - beginning) < 1e-5 * beginning)
            }
        }
    }

    /// Hidden states in 8-bit integers give nearly the same losses in every family: gated or not, with biases, with transposed matrices.
    @Test(arguments: FamilyFixture.names)
    func hiddenStatesInInt8AreNear(_ name: String) throws {
        let expected = try FamilyFixture.named(name)
        try expected.with { source in
            let model = try TrainableModel(source: source)
            let set = try ExampleSet([ForwardParityTests.text(expected.tokens)], for: source.configuration)
            func loss(_ precision: Precision) throws -> Double {
                let cache = try PrefixCache(model: model, set: set, options: .init(precision: precision))
                return try Evaluator(model: model, cache: cache).evaluate().meanLoss
            }
            let (float, int8) = try (loss(.float), loss(.int8))
            #expect(int8 != float)
            #expect(abs(int8 - float) < 0.02 * float, "\(int8), not \(float)")
        }
    }

    @Test(arguments: FamilyFixture.names)
    func writesWhatTransformersWrites(_ name: String) throws {
        let expected = try FamilyFixture.named(name)
        try expected.with { source in
            let prompt = Array(expected.tokens.prefix(8))
            for threads in [1, 2] {
                let generator = try Generator(model: TrainableModel(source: source), threads: threads)
                #expect(try generator.generate(prompt: prompt, options: .init(maxTokens: expected.written.count)) == expected.written)
            }
            for patterns in [["layers.\(source.configuration.layerCount - 1)"], ["all"]] {
                let writer = try BatchWriter(
                    model: EstimatorTests.model(source, patterns), prompts: [prompt], maxTokens: expected.written.count, endings: [],
                    memoryLimit: 1 << 30,
                    threads: 1)
                // Many texts at once end before they would be rotated otherwise.
                let count = source.configuration.longTextLength.map { $0 - prompt.count } ?? expected.written.count
                #expect(try writer.write(prompts: [0]).map(\.node.written) == [Array(expected.written.prefix(count))])
            }
        }
    }

    /// All positions of a text above the model's usual length turn by other factors, whatever else is in a batch.
    @Test func longTextsHaveTheirOwnRotation() throws {
        let fixture = try FamilyFixture.named("phi-3.5-long")
        let (short, long) = ([1.0, 1.1, 1.3, 2.0], [1.0, 2.0, 4.0, 8.0])
        func losses(_ factors: (short: [Double], long: [Double]), _ counts: [Int]) throws -> Double {
            var parameters = try #require(fixture.config["rope_parameters"] as? [String: Any])
            parameters.merge(["short_factor": factors.short, "long_factor": factors.long]) { $1 }
            return try withTemporaryDirectory { directory in
                try fixture.write(to: directory, settings: ["rope_parameters": parameters])
                let source = try ModelSource.open(directory)
                #expect(source.configuration.longTextLength == (factors.short == factors.long ? nil : 24))
                let model = try TrainableModel(source: source)
                let examples = counts.map { ForwardParityTests.text(Array(fixture.tokens.prefix($0))) }
                let set = try ExampleSet(examples, for: source.configuration)
                return try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
            }
        }
        let (at24, at25) = (try losses((short, short), [24]), try losses((long, long), [25]))
        #expect(try losses((short, long), [24]) == at24)
        #expect(try losses((short, long), [25]) == at25)
        #expect(try abs(losses((long, long), [24]) - at24) > 1e-3)
        #expect(try abs(losses((short, long), [24, 25]) - (at24 + at25) / 2) < 1e-6)

        try fixture.with { source in
            let prompts = [30, 10, 25].map { Array(fixture.tokens.prefix($0)) }
            let generator = try Generator(model: TrainableModel(source: source))
            let expected = try prompts.map { try generator.generate(prompt: $0, options: .init(maxTokens: 9)) }
            for patterns in [["layers.1"], ["all"]] {
                let writer = try BatchWriter(
                    model: EstimatorTests.model(source, patterns), prompts: prompts, maxTokens: 9, endings: [], memoryLimit: 1 << 30, threads: 1)
                #expect(try writer.write(prompts: [0, 1, 2]).map(\.node.written) == expected)
            }
            let error = #expect(throws: TrainingError.self) {
                try ExampleSet([ForwardParityTests.text(Array(repeating: 3, count: 97))], for: source.configuration)
            }
            #expect(error.map { "\($0)" }?.contains("is 97 tokens long, the model takes 96") == true)
        }
    }

    /// An export has the same tensors under the same names as the files that were read.
    @Test(arguments: FamilyFixture.names)
    func exportsItsOwnFiles(_ name: String) throws {
        let expected = try FamilyFixture.named(name)
        try withTemporaryDirectory { directory in
            try FileManager.default.createDirectory(atPath: directory + "/in", withIntermediateDirectories: false)
            try expected.write(to: directory + "/in")
            let source = try ModelSource.open(directory + "/in")
            try ModelExporter(source: source).write(to: directory + "/out")
            let written = try SafetensorsFile(path: directory + "/out/model.safetensors")
            let read = try SafetensorsFile(path: directory + "/in/model.safetensors")
            #expect(written.tensors.mapValues(\.dimensions) == read.tensors.mapValues(\.dimensions))
            for (name, tensor) in read.tensors {
                let other = try #require(written.tensors[name])
                let count = tensor.dimensions.reduce(4, *)
                #expect(
                    read.file.bytes[tensor.offset..<tensor.offset + count].elementsEqual(written.file.bytes[other.offset..<other.offset + count]),
                    "\(name)")
            }
            let copy = try ModelSource.open(directory + "/out")
            #expect(copy.configuration == source.configuration)
            #expect(copy.baseManifest(threads: 1) == source.baseManifest(threads: 1))
        }
    }

    /// g of each sample equals that of models whose parameters are θ ± εz.
    @Test(arguments: FamilyFixture.names, [PerturbationFamily.rank1, .rademacher])
    func gradientsAreDifferencesOfCleanPasses(_ name: String, _ family: PerturbationFamily) throws {
        let fixture = try FamilyFixture.named(name)
        try fixture.with { source in
            let last = source.configuration.layerCount - 1
            for patterns in [["layers.\(last)"], ["layers.\(last - 1)-\(last)"], ["all"]] {
                let tensors = try source.trainedTensors(matching: patterns, basis: nil)
                let directions = Directions(seed: RunSeed(5), family: family)
                let epsilon = 0x1p-7
                let model = try TrainableModel(source: source, parameters: source.makeParameters(tensors))
                let set = try ExampleSet(fixture.examples, for: source.configuration)
                let found = try Estimator(
                    model: model, directions: directions, cache: PrefixCache(model: model, set: set),
                    options: .init(epsilon: epsilon, batchSize: set.count, samplesPerBatch: 2), throughHead: true
                ).projectedGradients(machine: MachineID(3), samples: 0..<2)
                for sample in [0, 1] as [SampleNumber] {
                    func loss(_ sign: Int8) throws -> Double {
                        let parameters = try source.makeParameters(tensors)
                        let record = RoundRecord(
                            round: 0, scaleExponent: 0, step: .nearest(rate: epsilon),
                            contributions: [Contribution(machine: MachineID(3), firstSample: sample, bytes: [-sign])])
                        parameters.apply([record], directions: directions, threads: 1)
                        let moved = try TrainableModel(source: source, parameters: parameters)
                        return try Evaluator(model: moved, cache: PrefixCache(model: moved, set: set)).evaluate().meanLoss
                    }
                    let (plus, minus) = (try loss(1), try loss(-1))
                    let wanted = (plus - minus) / (2 * epsilon)
                    // The F32 noise of a loss is some 1e-6 of it.
                    let tolerance = 8e-6 * max(plus, 1) / (2 * epsilon) + 2e-4 * abs(wanted)
                    #expect(abs(Double(found.values[Int(sample)]) - wanted) < tolerance, "\(patterns): \(found.values[Int(sample)]), not \(wanted)")
                }
            }
        }
    }

    /// The head's gradient gives the same result as both signs through the head, and 8-bit products nearly the same.
    @Test(arguments: FamilyFixture.names)
    func shortWaysGiveTheSame(_ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        try fixture.with { source in
            let last = source.configuration.layerCount - 1
            for patterns in [["layers.\(last)"], ["layers.\(last - 1)-\(last)"]] {
                let model = try EstimatorTests.model(source, patterns)
                let cache = try PrefixCache(model: model, set: ExampleSet(fixture.textExamples, for: source.configuration))
                func gradients(closed: Bool, _ precision: Precision = .float) throws -> [Float] {
                    try Estimator(
                        model: model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: cache,
                        options: .init(epsilon: 1e-3, batchSize: 2, samplesPerBatch: 3, orderSeed: 4, precision: precision), throughHead: !closed
                    ).projectedGradients(machine: MachineID(2), samples: 0..<24).values
                }
                let (plain, closed, bytes) = (try gradients(closed: false), try gradients(closed: true), try gradients(closed: true, .int8))
                let size = (plain.reduce(0) { $0 + $1 * $1 } / Float(plain.count)).squareRoot()
                #expect(size > 0.01)
                for (a, b) in zip(plain, closed) { #expect(abs(a - b) < 6e-3 + 1e-2 * size, "\(a) \(b) of \(size)") }
                let difference = (zip(plain, bytes).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Float(plain.count)).squareRoot()
                #expect(difference < 0.2 * size, "\(difference) of \(size)")
                #expect(bytes != closed)
            }
        }
    }

    /// The gradient of an adapter at `final` is the slope of the loss, and its export is the same model.
    @Test(arguments: FamilyFixture.names)
    func adaptersAtFinal(_ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        try fixture.with { source in
            let width = LayerSizes(source.configuration).embedding
            var random = SplitMix64(state: 17)
            func vectors(_ count: Int, _ size: Double) -> [[Double]] {
                (0..<count).map { _ in (0..<width).map { _ in Double.random(in: -size...size, using: &random) } }
            }
            let basis = try RunBasis(
                spaces: [],
                adapters: [
                    AdapterBasis(
                        place: "final", outputs: FixedPointVectors(rounding: vectors(3, 1)), inputs: FixedPointVectors(rounding: vectors(4, 0.3)))
                ])
            let tensors = try source.trainedTensors(matching: ["adapter:final"], basis: basis)
            let directions = try Directions(seed: RunSeed(9), family: .rank1, sampling: .orthogonal, tensors: tensors)
            let set = try ExampleSet(fixture.examples, for: source.configuration)
            func moved(_ bytes: [Int8], _ rate: Double) throws -> (parameters: Parameters, model: TrainableModel) {
                let parameters = try source.makeParameters(tensors)
                let record = RoundRecord(
                    round: 0, scaleExponent: 0, step: .nearest(rate: rate),
                    contributions: [Contribution(machine: MachineID(3), firstSample: 0, bytes: bytes)])
                parameters.apply([record], directions: directions, threads: 1)
                return (parameters, try TrainableModel(source: source, parameters: parameters, basis: basis))
            }
            func loss(_ model: TrainableModel) throws -> Double {
                try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
            }
            let base = try moved([0], 1).model
            let found = try FinalAdapterEstimator(
                model: base, directions: directions, cache: PrefixCache(model: base, set: set), options: .init(batchSize: 0)
            ).projectedGradients(machine: MachineID(3), samples: 0..<2)
            let epsilon = 0x1p-7
            let wanted = try (loss(moved([-1], epsilon).model) - loss(moved([1], epsilon).model)) / (2 * epsilon)
            #expect(abs(Double(found.values[0]) - wanted) < 3e-3 + 1e-2 * abs(wanted), "\(found.values[0]), not \(wanted)")

            let (parameters, trained) = try moved([60, -90], 0x1p-9)
            try withTemporaryDirectory { directory in
                var exporter = ModelExporter(source: source)
                exporter.changes = try AdapterChange.all(source: source, parameters: parameters, basis: basis)
                try exporter.write(to: directory + "/out")
                let copy = try ModelSource.open(directory + "/out")
                #expect(!copy.configuration.tiedHead)
                let model = try TrainableModel(source: copy)
                let merged = try Evaluator(model: model, cache: PrefixCache(model: model, set: ExampleSet(fixture.examples, for: copy.configuration)))
                    .evaluate().meanLoss
                let own = try loss(trained)
                #expect(abs(merged - own) < 2e-5 * own, "\(merged), not \(own)")
                #expect(try abs(own - loss(base)) > 1e-3)
            }
        }
    }

    /// With adapters on all matrices of all layers and at `final`, samples are differences of losses, and the export is the same model.
    @Test(arguments: FamilyFixture.names)
    func adaptersOnMatrices(_ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        try fixture.with { source in
            let patterns = ["adapter:layers.0-\(source.configuration.layerCount - 1)", "adapter:final"]
            let run = try AdaptedModel(source, patterns, outputs: 2, inputs: 3)
            let matrices = LayerModule.matrices.count { LayerSizes(source.configuration).has($0) }
            #expect(run.tensors.count == matrices * source.configuration.layerCount + 1)
            let set = try ExampleSet(fixture.examples, for: source.configuration)
            let moved = try run.moved([60, -90, 30], scale: 0x1p-11)
            let own = try Evaluator(model: moved.model, cache: PrefixCache(model: moved.model, set: set)).evaluate().meanLoss
            try withTemporaryDirectory { directory in
                var exporter = ModelExporter(source: source)
                exporter.changes = try AdapterChange.all(source: source, parameters: moved.parameters, basis: run.basis)
                try exporter.write(to: directory + "/out")
                let copy = try ModelSource.open(directory + "/out")
                let model = try TrainableModel(source: copy)
                let merged = try Evaluator(model: model, cache: PrefixCache(model: model, set: ExampleSet(fixture.examples, for: copy.configuration)))
                    .evaluate().meanLoss
                #expect(abs(merged - own) < 5e-5 * own, "\(merged), not \(own)")
                let base = try run.moved([0], scale: 1).model
                let before = try Evaluator(model: base, cache: PrefixCache(model: base, set: set)).evaluate().meanLoss
                #expect(abs(before - own) > 1e-4)
            }
            try run.expectDifferences(fixture.examples, epsilon: 0x1p-9, within: 2e-2)
        }
    }

    /// Bases are made from the inputs of every space of a layer.
    @Test(arguments: FamilyFixture.names)
    func basesAreMade(_ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        try fixture.with { source in
            let pattern = "layers.\(source.configuration.layerCount - 1)"
            let basis = try BasisMaker.makeBasis(source: source, training: [pattern], examples: fixture.textExamples, components: 2)
            #expect(basis.spaces.count == 4)
            let tensors = try source.trainedTensors(matching: [pattern], basis: basis)
            #expect(tensors.allSatisfy { $0.basis != nil } && tensors.count >= 6)
        }
    }

    /// Ledgers hold the hash of this text, so it must not change whatever is renamed.
    @Test func identitiesStayWhatTheyAre() throws {
        try FamilyFixture.named("gemma3").with { source in
            #expect(
                source.configuration.identity == """
                    sizes 32 40 6 4 1 12 61
                    norm rms 1e-05 1.0 weights=true bias=false
                    places inputNorm feedForwardNorm attentionOutputNorm feedForwardOutputNorm
                    layer parallel=false shared=false residual=1.0
                    attention qk=perHead after=false scale=0.28867513 softcap=0.0 alibi=false
                    feed-forward geluTanh gated=true
                    biases\u{20}
                    embedding scale=5.656854 positions=0 offset=0 norm=false width=0
                    head tied=true norm=true bias=false scale=1.0 softcap=0.0
                    rotation theta=1000000.0 width=12 interleaved=false amplitude=1.0 none
                    rotation theta=10000.0 width=12 interleaved=false amplitude=1.0 none
                    layer 0 rotation=1 window=5
                    layer 1 rotation=1 window=5
                    layer 2 rotation=1 window=5
                    layer 3 rotation=1 window=5
                    layer 4 rotation=1 window=5
                    layer 5 rotation=0 window=0

                    """)
            let manifest = source.baseManifest(threads: 1)
            #expect(manifest.entries.first { $0.name == "configuration" }?.digest == Digest.sha256(Array(source.configuration.identity.utf8)))
        }
        for (name, isPlain) in [("llama", true), ("llama-biased", false), ("llama-3.1", false), ("qwen2", false)] {
            try FamilyFixture.named(name).with { source in
                #expect(source.baseManifest(threads: 1).entries.contains { $0.name == "configuration" } == !isPlain, "\(name)")
            }
        }
    }

    /// The same tensors with another window are another base, and have another manifest.
    @Test func anotherConfigurationIsAnotherBase() throws {
        let fixture = try FamilyFixture.named("mistral")
        let own = try fixture.with { $0.baseManifest(threads: 1) }
        try withTemporaryDirectory { directory in
            try fixture.write(to: directory, settings: ["sliding_window": 6])
            let other = try ModelSource.open(directory).baseManifest(threads: 1)
            #expect(other.differences(from: own).count == 1)
            #expect(other.differences(from: own)[0].hasPrefix("configuration has other values"))
        }
    }
}
