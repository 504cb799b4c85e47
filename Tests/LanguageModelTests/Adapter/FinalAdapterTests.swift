import Core
import Foundation
import LanguageModel
import Testing
import Training

/// A model with an adapter at `final` equals the model whose head is E + (E·U)·C·Vᵀ.
struct FinalAdapterTests {
    private static let prompts: [[Int32]] = (0..<5).map { (i: Int) -> [Int32] in
        (0..<4 + i).map { (j: Int) -> Int32 in Int32((i * 41 + j * 13 + 3) % 200) }
    }

    @Test func isTheModelWithItsHeadMerged() throws {
        let run = try AdaptedTinyLlama()
        let examples = try AdaptedTinyLlama.examples("all")
        let losses = try Evaluator(model: run.model, cache: run.cache(examples)).evaluate().items.map(\.loss)
        let logits = try run.model.lastLogits(of: Self.prompts)
        let generator = try Generator(model: run.model)
        let texts = try Self.prompts.map { try generator.generate(prompt: $0, options: .init(maxTokens: 8)) }
        let base = try TrainableModel(source: run.source)
        let plain = try base.lastLogits(of: Self.prompts)
        try AdaptedTinyLlama.withHead(run.mergedHead()) { source in
            let merged = try TrainableModel(source: source)
            let set = try ExampleSet(examples, for: source.configuration)
            let wanted = try Evaluator(model: merged, cache: PrefixCache(model: merged, set: set)).evaluate().items.map(\.loss)
            for (a, b) in zip(losses, wanted) { #expect(abs(a - b) < 2e-5 * max(b, 1)) }
            let wantedLogits = try merged.lastLogits(of: Self.prompts)
            let next = try Generator(model: merged)
            for (i, prompt) in Self.prompts.enumerated() {
                let size = wantedLogits[i].map(abs).max() ?? 0
                let step = try generator.nextLogits(after: prompt)
                for token in wantedLogits[i].indices {
                    #expect(abs(logits[i][token] - wantedLogits[i][token]) < 2e-5 * size)
                    #expect(abs(step[token] - wantedLogits[i][token]) < 2e-5 * size)
                }
                #expect(try next.generate(prompt: prompt, options: .init(maxTokens: 8)) == texts[i])
                let change = zip(logits[i], plain[i]).map { abs($0 - $1) }.max() ?? 0
                #expect(change > 1e-2 * size, "C changes something")
            }
        }
    }

    /// Texts written along directions, with or without a clean pass, are those of a model whose C is moved by ±εz.
    @Test(arguments: [DirectionSampling.random, .orthogonal])
    func writesAlongDirections(_ sampling: DirectionSampling) throws {
        let run = try AdaptedTinyLlama(sampling: sampling)
        let epsilon = 0.0625
        let samples = (0..<4).map { SampleName(machine: AdaptedTinyLlama.machine, sample: SampleNumber($0)) }
        let writer = try BatchWriter(
            model: run.model, prompts: Self.prompts, maxTokens: 6, endings: [], memoryLimit: 1 << 30, threads: 2)
        let lines = try writer.write(
            samples: samples, prompts: samples.map { _ in [0, 3] }, directions: run.directions, epsilon: epsilon
        ).map(\.node.written)
        var expected: [[Int32]] = []
        for sample in samples {
            for sign in [Int8(1), -1] {
                let other = try Parameters(tensors: run.tensors) { _, _ in }
                #expect(other.assign(run.parameters))
                let record = AdaptedTinyLlama.record([-sign], from: sample.sample, scale: epsilon)
                other.apply([record], directions: run.directions, threads: 1)
                let generator = try Generator(model: TrainableModel(source: run.source, parameters: other, basis: run.basis))
                expected += try [0, 3].map { try generator.generate(prompt: Self.prompts[$0], options: .init(maxTokens: 6)) }
            }
        }
        #expect(lines == expected)
        #expect(Set(lines).count > 2, "ε changes something")
    }

    /// The adapter is trained together with a layer of the model. Samples go through the forward pass, and the closed form gives the same
    /// head derivative.
    @Test func goesWithOtherTensors() throws {
        let run = try AdaptedTinyLlama()
        let tensors = try run.source.trainedTensors(matching: ["adapter:final", "layers.2"], basis: run.basis)
        #expect(tensors.map(\.isAdapter) == Array(repeating: false, count: 7) + [true])
        let model = try TrainableModel(source: run.source, parameters: run.source.makeParameters(tensors), basis: run.basis)
        #expect(model.entry == .layer(2))
        let examples = try AdaptedTinyLlama.examples("tokens")
        let cache = try PrefixCache(model: model, set: ExampleSet(examples, for: run.source.configuration))
        let directions = try Directions(seed: RunSeed(2), family: .rank1, sampling: nil, tensors: tensors)
        func gradients(_ closed: Bool) throws -> [Float] {
            try Estimator(
                model: model, directions: directions, cache: cache, options: .init(epsilon: 5e-3, batchSize: 3), throughHead: !closed
            ).projectedGradients(machine: MachineID(1), samples: 0..<12).values
        }
        let (plain, closed) = (try gradients(false), try gradients(true))
        let size = plain.map(abs).max() ?? 0
        #expect(size > 0.1)
        for (a, b) in zip(plain, closed) { #expect(abs(a - b) < 2e-3 + 1e-2 * size, "\(a) \(b)") }
    }

    @Test func patternsNameTheAdapter() throws {
        let run = try AdaptedTinyLlama()
        #expect(run.tensors.map(\.name) == ["final.adapter"])
        #expect(run.tensors[0].shape == .matrix(rows: 3, columns: 5))
        #expect(run.model.entry == .layer(3))
        #expect(try run.source.trainedTensors(matching: ["adapter:final", "adapter:final"], basis: run.basis) == run.tensors)
        try run.source.checkPatterns(["adapter:final"])
        func problem(_ patterns: [String], _ basis: RunBasis?) throws -> String {
            try #require(throws: TrainingError.self) { try run.source.trainedTensors(matching: patterns, basis: basis) }.description
        }
        #expect(try problem(["adapter:final"], nil).contains("onebyte prepare"))
        #expect(try problem(["adapter:final"], RunBasis(spaces: [])).contains("onebyte prepare"))
        #expect(try problem(["adapter:layers.2"], run.basis).contains("adapters can be placed at final"))
        #expect(throws: TrainingError.self) { try run.source.checkPatterns(["adapter:layers.2"]) }
        let wide = AdapterBasis(
            place: "final", outputs: try FixedPointVectors(rounding: [Array(repeating: 1, count: 31)]),
            inputs: try FixedPointVectors(rounding: [Array(repeating: 1, count: 31)]))
        #expect(try problem(["adapter:final"], RunBasis(spaces: [], adapters: [wide])).contains("31"))
        // Without the factors the model would silently be the base.
        #expect(throws: ModelError.self) { try TrainableModel(source: run.source, parameters: run.parameters) }
    }
}
