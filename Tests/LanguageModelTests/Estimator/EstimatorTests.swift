import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Results of PyTorch in F64 on the tiny Llama (make_estimator.py).
struct EstimatorFixture: Decodable {
    struct Sequence: Decodable {
        let tokens: [Int32]
        let targets: [[Int32]]
    }
    struct Item: Decodable {
        let kind: String
        let candidates: [Int32]?
        let correct: Int?
        let sequences: [Sequence]
    }
    struct Case: Decodable {
        let family: PerturbationFamily
        let patterns: [String]
        let shaped: Bool
        /// Losses at θ + εz and θ − εz, for sample i on example i.
        let losses: [[Double]]
    }
    let epsilon: Double
    let seed: UInt64
    let machine: UInt32
    let components: Int
    let examples: [Item]
    let clean: [Double]
    let basis: [String: [[Int16]]]
    let cases: [Case]

    static let shared = Result { () -> EstimatorFixture in
        try JSONDecoder().decode(EstimatorFixture.self, from: Data(contentsOf: fixture("estimator.json")))
    }

    func trainingExamples() -> [Example] {
        examples.map { item in
            let sequences = item.sequences.map { sequence in
                TokenSequence(
                    tokens: sequence.tokens, targets: sequence.targets.map { .init(position: Int($0[0]), token: $0[1]) })
            }
            let objective: ExampleObjective =
                switch item.kind {
                case "candidates": .candidates(item.candidates ?? [], correct: item.correct ?? 0)
                case "options": .options(correct: item.correct ?? 0)
                default: .tokens
                }
            return Example(sequences: sequences, objective: objective)
        }
    }

    func runBasis() throws -> RunBasis {
        try RunBasis(
            spaces: basis.keys.sorted().map { space in
                let vectors = basis[space] ?? []
                return InputBasis(space: space, width: vectors[0].count, values: vectors.flatMap { $0 })
            })
    }
}

struct EstimatorTests {
    static func tiny() throws -> ModelSource { try ModelSource.open(fixture("tiny-llama").path) }

    static func model(_ source: ModelSource, _ patterns: [String], basis: RunBasis? = nil) throws -> TrainableModel {
        let parameters = try source.makeParameters(source.trainedTensors(matching: patterns, basis: basis))
        return try TrainableModel(source: source, parameters: parameters)
    }

    @Test func cleanLosses() throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        for patterns in [[], ["layers.2"], ["layers.1-2", "model.norm.weight"], ["all"], ["model.norm.weight"]] {
            let model = try patterns.isEmpty ? TrainableModel(source: source) : Self.model(source, patterns)
            let set = try ExampleSet(expected.trainingExamples(), for: source.configuration)
            let evaluation = try Evaluator(model: model, cache: PrefixCache(model: model, set: set), threads: 2).evaluate()
            for (item, wanted) in zip(evaluation.items, expected.clean) { #expect(abs(item.loss - wanted) < 1e-5 * max(wanted, 1)) }
        }
    }

    /// g of sample i on example i, for every family, depth and objective, is PyTorch's.
    @Test(arguments: 0..<15)
    func projectedGradientsAreThoseOfPyTorch(_ number: Int) throws {
        let expected = try EstimatorFixture.shared.get()
        let one = try #require(expected.cases.indices.contains(number) ? expected.cases[number] : nil)
        let source = try Self.tiny()
        let model = try Self.model(source, one.patterns, basis: one.shaped ? expected.runBasis() : nil)
        let directions = Directions(seed: RunSeed(expected.seed), family: one.family)
        for (i, example) in expected.trainingExamples().enumerated() {
            let cache = try PrefixCache(model: model, set: ExampleSet([example], for: source.configuration))
            let sample = SampleNumber(i)
            func found(_ estimator: EstimatorKind = .twoSided, throughHead: Bool) throws -> ProjectedGradients {
                try Estimator(
                    model: model, directions: directions, cache: cache,
                    options: .init(epsilon: expected.epsilon, estimator: estimator), throughHead: throughHead
                ).projectedGradients(machine: MachineID(expected.machine), samples: sample..<sample + 1)
            }
            let (result, closed) = (try found(throughHead: true), try found(throughHead: false))
            let (plus, minus) = (one.losses[i][0], one.losses[i][1])
            let wanted = (plus - minus) / (2 * expected.epsilon)
            // The F32 noise of a loss is some 1e-6 of it; the difference is divided by 2ε.
            let tolerance = 4e-6 * max(plus, 1) / (2 * expected.epsilon) + 1e-4 * abs(wanted)
            #expect(abs(Double(result.values[0]) - wanted) < tolerance, "\(one.family) \(one.patterns) example \(i): \(result.values[0]), \(wanted)")
            #expect(abs(result.meanLoss - (plus + minus) / 2) < 1e-5 * max(plus, 1))
            #expect(abs(Double(closed.values[0]) - wanted) < tolerance, "\(one.family) \(one.patterns) example \(i): \(closed.values[0]), \(wanted)")
            let oneSided = try found(.oneSided, throughHead: true)
            let slope = (plus - expected.clean[i]) / expected.epsilon
            #expect(
                abs(Double(oneSided.values[0]) - slope) < 2 * tolerance + 1e-4 * abs(slope),
                "\(one.family) \(one.patterns) example \(i): \(oneSided.values[0]), \(slope)")
            #expect(abs(oneSided.meanLoss - expected.clean[i]) < 1e-5 * max(plus, 1))
            // This mean loss is at θ itself, so it lacks the curvature.
            #expect(abs(closed.meanLoss - (plus + minus) / 2) < 1e-3 * max(plus, 1))
        }
    }

    /// A round in one call equals its samples computed one by one, on any number of threads, with or without shared examples.
    @Test(arguments: [PerturbationFamily.rank1, .gaussian], ["layers.2", "layers.1-2", "all"])
    func batchesDoNotChangeResults(_ family: PerturbationFamily, _ pattern: String) throws {
        for kind in EstimatorKind.allCases { try batchesDoNotChangeResults(family, pattern, kind) }
    }

    private func batchesDoNotChangeResults(_ family: PerturbationFamily, _ pattern: String, _ kind: EstimatorKind) throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let model = try Self.model(source, [pattern])
        let directions = Directions(seed: RunSeed(9), family: family)
        func estimator(threads: Int, perBatch: Int) throws -> Estimator {
            let cache = try PrefixCache(model: model, set: ExampleSet(expected.trainingExamples(), for: source.configuration))
            return try Estimator(
                model: model, directions: directions, cache: cache,
                options: .init(
                    epsilon: 1e-2, batchSize: 2, samplesPerBatch: perBatch, estimator: kind, orderSeed: 4, threads: threads))
        }
        for perBatch in [1, 3] {
            let alone = try estimator(threads: 1, perBatch: perBatch)
            let single = try (10..<31).map {
                try alone.projectedGradients(machine: MachineID(2), samples: SampleNumber($0)..<SampleNumber($0) + 1).values[0]
            }
            for threads in [1, 2] {
                let together = try estimator(threads: threads, perBatch: perBatch).projectedGradients(machine: MachineID(2), samples: 10..<31)
                for (a, b) in zip(single, together.values) { #expect(abs(a - b) < 2e-3 + 1e-3 * abs(a)) }
            }
        }
    }

    /// The weights that a pass makes from the integers equal those that a model keeps for writing texts, before and after a round. This
    /// covers layers, and the label words' rows of a trained head.
    @Test(arguments: PerturbationFamily.allCases, [["all"], ["layers.0-1"], ["layers.0.self_attn.q_proj.weight", "layers.1"]])
    func madeLayersAreThoseThatAreKept(_ family: PerturbationFamily, _ patterns: [String]) throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let parameters = try source.makeParameters(source.trainedTensors(matching: patterns, basis: nil))
        let directions = Directions(seed: RunSeed(9), family: family)
        let examples = expected.trainingExamples().filter { if case .candidates = $0.objective { true } else { false } }
        let set = try ExampleSet(examples, for: source.configuration)
        func gradients(_ model: TrainableModel) throws -> [Float] {
            try Estimator(model: model, directions: directions, cache: PrefixCache(model: model, set: set), options: .init())
                .projectedGradients(machine: MachineID(2), samples: 0..<8).values
        }
        let (made, kept) = (try TrainableModel(source: source, parameters: parameters), try TrainableModel(source: source, parameters: parameters))
        _ = try Generator(model: kept)
        let before = try gradients(made)
        #expect(try gradients(kept) == before)
        let round = RoundRecord(
            round: RoundNumber(0), scaleExponent: 0, step: .nearest(rate: 1e-4),
            contributions: [Contribution(machine: MachineID(1), firstSample: 0, bytes: [100, -90, 80])])
        parameters.apply([round], directions: directions, threads: 1)
        for model in [made, kept] { model.parametersChanged(threads: 2) }
        let after = try gradients(made)
        #expect(after != before)
        #expect(try gradients(kept) == after)
    }

    /// Products of differences in 8-bit integers give nearly the same g, also after the weights have changed.
    @Test(arguments: ["layers.2", "layers.1-2", "all"], EstimatorKind.allCases)
    func byteProducts(_ pattern: String, _ kind: EstimatorKind) throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let tensors = try source.trainedTensors(matching: [pattern], basis: nil)
        let parameters = try source.makeParameters(tensors)
        let model = try TrainableModel(source: source, parameters: parameters)
        let directions = Directions(seed: RunSeed(9), family: .rank1)
        let cache = try PrefixCache(model: model, set: ExampleSet(expected.trainingExamples(), for: source.configuration))
        func gradients(_ precision: Precision) throws -> [Float] {
            try Estimator(
                model: model, directions: directions, cache: cache,
                options: .init(batchSize: 2, samplesPerBatch: 3, estimator: kind, orderSeed: 4, precision: precision)
            ).projectedGradients(machine: MachineID(2), samples: 0..<48).values
        }
        func agree() throws {
            let (float, bytes) = (try gradients(.float), try gradients(.int8))
            #expect(float != bytes)
            let size = (float.reduce(0) { $0 + $1 * $1 } / Float(float.count)).squareRoot()
            let difference = (zip(float, bytes).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Float(float.count)).squareRoot()
            #expect(difference < 0.2 * size, "\(difference) of \(size)")
        }
        try agree()
        let bytes = (0..<64).map { Int8($0 * 3 - 96) }
        let round = RoundRecord(
            round: RoundNumber(0), scaleExponent: 0, step: .nearest(rate: 1e-4),
            contributions: [Contribution(machine: MachineID(1), firstSample: 0, bytes: bytes)])
        parameters.apply([round], directions: directions, threads: 1)
        model.parametersChanged(threads: 2)
        try agree()
    }

    @Test func byteProductsAreForRank1() throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let model = try Self.model(source, ["layers.2"])
        let cache = try PrefixCache(model: model, set: ExampleSet(expected.trainingExamples(), for: source.configuration))
        #expect(throws: TrainingError.self) {
            try Estimator(
                model: model, directions: Directions(seed: RunSeed(9), family: .gaussian), cache: cache, options: .init(precision: .int8))
        }
    }

    /// The head's gradient gives the same result as both signs through the head, also for samples with several, shared examples.
    @Test(arguments: ["layers.2", "layers.1-2", "model.norm.weight"])
    func headGradient(_ pattern: String) throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let model = try Self.model(source, [pattern])
        let examples = expected.trainingExamples().filter { $0.objective == .tokens }
        try #require(examples.count > 1)
        let cache = try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration))
        func gradients(_ closed: Bool, _ kind: EstimatorKind = .twoSided) throws -> ProjectedGradients {
            try Estimator(
                model: model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: cache,
                options: .init(batchSize: 2, samplesPerBatch: 3, estimator: kind, orderSeed: 4), throughHead: !closed
            ).projectedGradients(machine: MachineID(2), samples: 0..<24)
        }
        let (plain, closed) = (try gradients(false), try gradients(true))
        #expect(abs(plain.meanLoss - closed.meanLoss) < 1e-4 * plain.meanLoss)
        let size = plain.values.map(abs).max() ?? 0
        #expect(size > 0.01)
        // The F32 noise of a loss difference is some 1e-6 / 2ε.
        for (a, b) in zip(plain.values, closed.values) { #expect(abs(a - b) < 3e-3 + 2e-3 * size, "\(a) \(b) of \(size)") }
        #expect(plain.values != closed.values)
        // One-sided, the closed form also omits ε times a curvature.
        let oneSided = try gradients(true, .oneSided)
        for (a, b) in zip(plain.values, oneSided.values) { #expect(abs(a - b) < 6e-3 + 5e-2 * size, "\(a) \(b) of \(size)") }
        #expect(oneSided.values != closed.values)
    }

    /// A score without a derivative is compared with that at θ if the estimator is one-sided.
    @Test func oneSidedObjective() throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let model = try Self.model(source, ["layers.1-2"])
        let examples = expected.trainingExamples().filter { if case .candidates = $0.objective { true } else { false } }
        try #require(!examples.isEmpty)
        let cache = try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration))
        let clean = try Evaluator(model: model, cache: cache, objective: .accuracy).evaluate().meanLoss
        let found = try Estimator(
            model: model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: cache,
            options: .init(epsilon: 0.1, batchSize: examples.count, samplesPerBatch: 4, estimator: .oneSided, objective: .accuracy)
        ).projectedGradients(machine: MachineID(2), samples: 0..<64)
        #expect(abs(found.meanLoss - clean) < 1e-6)
        // Whole examples become right or wrong.
        let unit = 1 / (0.1 * Float(examples.count))
        for g in found.values { #expect(abs((g / unit).rounded() - g / unit) < 1e-3) }
        #expect(Set(found.values).count > 1)
    }

    /// Steps along the bytes lower the loss: directions, gradients, parameters and F32 copies mean the same z.
    @Test(arguments: PerturbationFamily.allCases, ["layers.2", "all"])
    func learns(_ family: PerturbationFamily, _ pattern: String) throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let parameters = try source.makeParameters(source.trainedTensors(matching: [pattern], basis: nil))
        let model = try TrainableModel(source: source, parameters: parameters)
        let examples = Array(expected.trainingExamples().prefix(5))
        let cache = try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration))
        let directions = Directions(seed: RunSeed(1), family: family)
        let estimator = try Estimator(model: model, directions: directions, cache: cache, options: .init())
        let evaluator = Evaluator(model: model, cache: cache)
        let before = try evaluator.evaluate().meanLoss
        let samples = 64
        for round in 0..<40 {
            let first = SampleNumber(round * samples)
            let result = try estimator.projectedGradients(machine: MachineID(0), samples: first..<first + SampleNumber(samples))
            let bytes = result.values.map { ByteCodec.encode($0, scaleExponent: -3) }
            let step = StepSize.nearest(rate: 3e-4 / 8 / Double(samples))
            let record = RoundRecord(
                round: RoundNumber(round), scaleExponent: -3, step: step,
                contributions: [Contribution(machine: MachineID(0), firstSample: first, bytes: bytes)])
            parameters.apply([record], directions: directions, threads: 1)
            model.parametersChanged(threads: 1)
        }
        let after = try evaluator.evaluate().meanLoss
        #expect(after < before - 0.02, "\(before) → \(after)")
    }

    @Test func notFiniteLossesAreNaN() throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try Self.tiny()
        let model = try Self.model(source, ["layers.2"])
        let cache = try PrefixCache(model: model, set: ExampleSet(expected.trainingExamples(), for: source.configuration))
        let estimator = try Estimator(
            model: model, directions: Directions(seed: RunSeed(1), family: .rank1), cache: cache, options: .init(epsilon: 1e30))
        let result = try estimator.projectedGradients(machine: MachineID(0), samples: 0..<4)
        #expect(result.values.allSatisfy { !$0.isFinite || $0 == 0 })
        #expect(ByteCodec.encode(Float.nan, scaleExponent: 0) == Contribution.noValue)
    }

    @Test func badOptionsAndExamplesAreRefused() throws {
        let source = try Self.tiny()
        let c = source.configuration
        func problem(_ sequences: [TokenSequence], _ objective: ExampleObjective) -> String {
            do {
                _ = try ExampleSet([Example(sequences: sequences, objective: objective)], for: c)
                return ""
            } catch { return error.description }
        }
        func sequence(_ tokens: [Int32], _ positions: [Int]) -> TokenSequence {
            TokenSequence(tokens: tokens, targets: positions.map { .init(position: $0, token: 1) })
        }
        #expect(problem([], .tokens).contains("example 1: has no tokens"))
        #expect(problem([sequence([1, 400], [0])], .tokens).contains("token 400"))
        #expect(problem([sequence([1, 2], [])], .tokens).contains("no position"))
        #expect(problem([sequence([1, 2], [1, 0])], .tokens).contains("rise"))
        #expect(problem([sequence([1, 2], [2])], .tokens).contains("rise"))
        #expect(problem([sequence(Array(repeating: 1, count: 300), [0])], .tokens).contains("300 tokens long"))
        #expect(problem([sequence([1, 2], [1])], .candidates([5], correct: 1)).contains("right class"))
        #expect(problem([sequence([1, 2], [0, 1])], .candidates([5], correct: 0)).contains("one target"))
        #expect(problem([sequence([1, 2], [1])], .options(correct: 1)).contains("right class"))

        let model = try Self.model(source, ["layers.2"])
        let set = try ExampleSet([Example(sequences: [sequence([1, 2], [1])], objective: .tokens)], for: c)
        let directions = Directions(seed: RunSeed(0), family: .rank1)
        let cache = try PrefixCache(model: model, set: set)
        #expect(throws: TrainingError.self) {
            try Estimator(model: model, directions: directions, cache: cache, options: .init(epsilon: 0))
        }
        #expect(throws: TrainingError.self) {
            try Estimator(model: model, directions: directions, cache: cache, options: .init(batchSize: 0))
        }
        #expect(throws: TrainingError.self) { try PrefixCache(model: model, set: ExampleSet([], for: c)) }
    }

    @Test func everyExampleIsReadOnceAnEpoch() {
        var order = ExampleOrder(exampleCount: 7, batchSize: 2, samplesPerBatch: 3, seed: 5)
        var again = order
        var epochs: [[Int]] = []
        for sample in stride(from: 0, to: 21, by: 3) {
            for i in 0..<2 {
                let example = order.example(machine: MachineID(4), sample: SampleNumber(sample), i)
                #expect(order.example(machine: MachineID(4), sample: SampleNumber(sample + 2), i) == example, "samples of a draw")
                #expect(again.example(machine: MachineID(4), sample: SampleNumber(sample), i) == example)
                if epochs.last?.count ?? 7 == 7 { epochs.append([]) }
                epochs[epochs.count - 1].append(example)
            }
        }
        #expect(epochs.count == 2)
        for epoch in epochs { #expect(epoch.sorted() == Array(0..<7)) }
        #expect(epochs[0] != epochs[1])
    }
}
