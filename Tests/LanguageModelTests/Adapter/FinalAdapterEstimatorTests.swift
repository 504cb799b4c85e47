import Core
import Foundation
import LanguageModel
import Synchronization
import Testing
import Training

struct FinalAdapterEstimatorTests {
    private func gradients(
        _ run: AdaptedTinyLlama, _ cache: PrefixCache, _ options: EstimatorOptions, samples: Range<SampleNumber> = 0..<24
    ) throws -> ProjectedGradients {
        try FinalAdapterEstimator(model: run.model, directions: run.directions, cache: cache, options: options)
            .projectedGradients(machine: AdaptedTinyLlama.machine, samples: samples)
    }

    /// ⟨z, ∂L/∂C⟩ equals central differences of the evaluator's loss, up to F32 noise of some 1e-6/2ε.
    @Test(arguments: ["candidates", "options", "tokens", "all"], [DirectionSampling.random, .orthogonal])
    func isTheSlopeOfTheLoss(_ kind: String, _ sampling: DirectionSampling) throws {
        let run = try AdaptedTinyLlama(sampling: sampling)
        let examples = try AdaptedTinyLlama.examples(kind)
        let found = try gradients(run, run.cache(examples), .init(batchSize: 0))
        let epsilon = Double(sign: .plus, exponent: -6, significand: 1)
        let size = Double(found.values.map(abs).max() ?? 0)
        #expect(size > 0.1)
        for sample in [0, 1, 7, 23] as [SampleNumber] {
            let plus = try run.loss(examples, movedBy: [1], from: sample, scale: epsilon)
            let minus = try run.loss(examples, movedBy: [-1], from: sample, scale: epsilon)
            let wanted = (plus - minus) / (2 * epsilon)
            #expect(abs(Double(found.values[Int(sample)]) - wanted) < 1e-3 + 1e-2 * size, "\(found.values[Int(sample)]) \(wanted) of \(size)")
        }
        let clean = try Evaluator(model: run.model, cache: run.cache(examples)).evaluate().meanLoss
        #expect(abs(found.meanLoss - clean) < 1e-5 * clean)
    }

    /// The bytes of a whole block give every element of the gradient: Σ q·z / N = G.
    @Test(arguments: ["candidates", "tokens"])
    func aWholeBlockSaysTheGradient(_ kind: String) throws {
        let run = try AdaptedTinyLlama()
        let examples = try AdaptedTinyLlama.examples(kind)
        let size = run.directions.coordinates.blockSize
        #expect(size == 16)
        func gradient(block: Int) throws -> [Double] {
            let first = SampleNumber(block * size)
            let found = try gradients(run, run.cache(examples), .init(batchSize: 0), samples: first..<first + SampleNumber(size))
            let exponent = Int8(Int(log2(found.values.map(abs).max() ?? 1)) - 5)
            var sum = [Double](repeating: 0, count: 15)
            for (i, g) in found.values.enumerated() {
                let byte = ByteCodec.encode(g, scaleExponent: exponent)
                let value = try #require(ByteCodec.decode(byte, scaleExponent: exponent))
                for (j, z) in self.direction(run, first + SampleNumber(i)).enumerated() { sum[j] += value * Double(z) / Double(size) }
            }
            return sum
        }
        let (one, other) = (try gradient(block: 0), try gradient(block: 5))
        let largest = one.map(abs).max() ?? 0
        for (a, b) in zip(one, other) { #expect(abs(a - b) < 0.05 * largest) }
        // Bytes of a whole block with the signs of one coordinate move that coordinate alone.
        let epsilon = Double(sign: .plus, exponent: -6, significand: 1)
        for coordinate in [0, 6, 14] {
            let signs = (0..<size).map { direction(run, SampleNumber($0))[coordinate] }
            let scale = epsilon / Double(size)
            let plus = try run.loss(examples, movedBy: signs, from: 0, scale: scale)
            let minus = try run.loss(examples, movedBy: signs.map { -$0 }, from: 0, scale: scale)
            #expect(abs(one[coordinate] - (plus - minus) / (2 * epsilon)) < 1e-3 + 0.05 * largest)
        }
    }

    private func direction(_ run: AdaptedTinyLlama, _ sample: SampleNumber) -> [Int8] {
        let count = run.tensors[0].shape.count
        return [Int8](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let start = buffer.baseAddress {
                run.directions.dense(
                    of: run.tensors[0], SampleName(machine: AdaptedTinyLlama.machine, sample: sample), elements: 0..<count, into: start)
            }
            initialized = count
        }
    }

    /// A limited batch reads the same examples as the estimator by differences.
    @Test(arguments: ["candidates", "options", "tokens", "all"], [(size: 2, samples: 1), (size: 3, samples: 4)])
    func limitedBatchesAreThoseOfDifferences(_ kind: String, _ batch: (size: Int, samples: Int)) throws {
        let run = try AdaptedTinyLlama()
        let examples = try AdaptedTinyLlama.examples(kind)
        let options = EstimatorOptions(epsilon: 5e-3, batchSize: batch.size, samplesPerBatch: batch.samples, orderSeed: 4)
        let found = try gradients(run, run.cache(examples), options, samples: 3..<25)
        let wanted = try Estimator(model: run.model, directions: run.directions, cache: run.cache(examples), options: options)
            .projectedGradients(machine: AdaptedTinyLlama.machine, samples: 3..<25)
        let size = wanted.values.map(abs).max() ?? 0
        #expect(size > 0.1)
        for (a, b) in zip(found.values, wanted.values) { #expect(abs(a - b) < 3e-3 + 1e-2 * size, "\(a) \(b) of \(size)") }
        #expect(abs(found.meanLoss - wanted.meanLoss) < 1e-2 * wanted.meanLoss)
    }

    @Test func generalizedCrossEntropy() throws {
        let run = try AdaptedTinyLlama()
        let examples = try AdaptedTinyLlama.examples("classes")
        let found = try gradients(run, run.cache(examples), .init(batchSize: 0, generalizedCrossEntropy: 0.7))
        let epsilon = Double(sign: .plus, exponent: -6, significand: 1)
        let size = Double(found.values.map(abs).max() ?? 0)
        for sample in [0, 5, 20] as [SampleNumber] {
            let plus = try run.loss(examples, movedBy: [1], from: sample, scale: epsilon, generalizedCrossEntropy: 0.7)
            let minus = try run.loss(examples, movedBy: [-1], from: sample, scale: epsilon, generalizedCrossEntropy: 0.7)
            #expect(abs(Double(found.values[Int(sample)]) - (plus - minus) / (2 * epsilon)) < 1e-3 + 1e-2 * size)
        }
        #expect(throws: TrainingError.self) {
            try gradients(run, run.cache(AdaptedTinyLlama.examples("tokens")), .init(generalizedCrossEntropy: 0.7))
        }
    }

    /// For scores without a derivative, whole examples become right or wrong, as in the estimator by forward passes.
    @Test(arguments: [Objective.accuracy, .f1], EstimatorKind.allCases)
    func objectives(_ objective: Objective, _ kind: EstimatorKind) throws {
        let run = try AdaptedTinyLlama()
        let examples = AdaptedTinyLlama.sentences(60)
        for batchSize in [0, 20] {
            let options = EstimatorOptions(
                epsilon: 0.5, batchSize: batchSize, samplesPerBatch: 8, estimator: kind, orderSeed: 4, threads: 2, objective: objective)
            let found = try gradients(run, run.cache(examples), options)
            let wanted = try Estimator(model: run.model, directions: run.directions, cache: run.cache(examples), options: options)
                .projectedGradients(machine: AdaptedTinyLlama.machine, samples: 0..<24)
            #expect(Set(found.values).count > 3)
            let same = zip(found.values, wanted.values).count { abs($0 - $1) < 1e-5 }
            #expect(same >= 22, "but where a score is on the edge")
            #expect(abs(found.meanLoss - wanted.meanLoss) < 5e-3)
        }
        #expect(throws: TrainingError.self) {
            try gradients(run, run.cache(AdaptedTinyLlama.examples("tokens")), .init(objective: .exactMatch))
        }
    }

    /// The bits do not depend on the number of threads, on how samples are requested, or on when the cache was filled.
    @Test(arguments: ["tokens", "sentences"], [0, 3])
    func theSameBits(_ kind: String, _ batchSize: Int) throws {
        let run = try AdaptedTinyLlama()
        let examples = try kind == "tokens" ? (0..<40).flatMap { _ in try AdaptedTinyLlama.examples("tokens") } : AdaptedTinyLlama.sentences(700)
        func bits(threads: Int, parts: Int, isFilled: Bool) throws -> [UInt32] {
            let cache = try PrefixCache(model: run.model, set: ExampleSet(examples, for: run.source.configuration), options: .init(threads: threads))
            if isFilled { try cache.fill() }
            let estimator = try FinalAdapterEstimator(
                model: run.model, directions: run.directions, cache: cache,
                options: .init(batchSize: batchSize, samplesPerBatch: 4, threads: threads))
            let size = 24 / parts
            return try (0..<parts).flatMap { (part: Int) -> [UInt32] in
                let samples = SampleNumber(part * size)..<SampleNumber((part + 1) * size)
                return try estimator.projectedGradients(machine: AdaptedTinyLlama.machine, samples: samples).values.map(\.bitPattern)
            }
        }
        let expected = try bits(threads: 1, parts: 1, isFilled: true)
        #expect(Set(expected).count > 8)
        #expect(try bits(threads: 3, parts: 1, isFilled: false) == expected)
        #expect(try bits(threads: 2, parts: 4, isFilled: true) == expected)
    }

    /// Rounds of bytes lower the loss, and what is kept from one round is not used in another.
    @Test(arguments: [0, 16])
    func learns(_ batchSize: Int) throws {
        let run = try AdaptedTinyLlama(isMoved: false)
        let examples = AdaptedTinyLlama.sentences(80)
        let cache = try run.cache(examples)
        let estimator = try FinalAdapterEstimator(
            model: run.model, directions: run.directions, cache: cache, options: .init(batchSize: batchSize, samplesPerBatch: 16))
        let evaluator = Evaluator(model: run.model, cache: cache)
        let before = try evaluator.evaluate().meanLoss
        for round in 0..<40 {
            let first = SampleNumber(16 * round)
            let found = try estimator.projectedGradients(machine: AdaptedTinyLlama.machine, samples: first..<first + 16)
            let bytes = found.values.map { ByteCodec.encode($0, scaleExponent: -3) }
            run.parameters.apply(
                [
                    RoundRecord(
                        round: RoundNumber(round), scaleExponent: -3, step: .nearest(rate: 0.01 / 8 / 16),
                        contributions: [Contribution(machine: AdaptedTinyLlama.machine, firstSample: first, bytes: bytes)])
                ], directions: run.directions, threads: 1)
            run.model.parametersChanged(threads: 1)
        }
        let after = try evaluator.evaluate().meanLoss
        #expect(after < before - 0.05, "\(before) → \(after)")
    }

    @Test func brokenNumbersAreNoValue() throws {
        let run = try AdaptedTinyLlama()
        let large = AdapterBasis(
            place: "final", outputs: try FixedPointVectors(rounding: Array(repeating: Array(repeating: 1e19, count: 32), count: 3)),
            inputs: try FixedPointVectors(rounding: Array(repeating: Array(repeating: 1e19, count: 32), count: 5)))
        let far = try Parameters(tensors: run.tensors) { _, _ in }
        far.apply([AdaptedTinyLlama.record([127], from: 0, scale: 0.5)], directions: run.directions, threads: 1)
        let model = try TrainableModel(source: run.source, parameters: far, basis: RunBasis(spaces: [], adapters: [large]))
        let cache = try PrefixCache(model: model, set: ExampleSet(AdaptedTinyLlama.examples("tokens"), for: run.source.configuration))
        let found = try FinalAdapterEstimator(model: model, directions: run.directions, cache: cache, options: .init(batchSize: 0))
            .projectedGradients(machine: AdaptedTinyLlama.machine, samples: 0..<4)
        #expect(found.values.allSatisfy(\.isNaN) && found.meanLoss.isNaN)
    }

    @Test func whatIsNotTheAdaptersIsRefused() throws {
        let run = try AdaptedTinyLlama()
        let examples = AdaptedTinyLlama.sentences(8)
        let other = try EstimatorTests.model(run.source, ["layers.2"])
        let cache = try PrefixCache(model: other, set: ExampleSet(examples, for: run.source.configuration))
        #expect(throws: TrainingError.self) { try FinalAdapterEstimator(model: other, directions: run.directions, cache: cache, options: .init()) }
        // Samples of all examples would take hours through a layer.
        #expect(throws: TrainingError.self) { try Estimator(model: other, directions: run.directions, cache: cache, options: .init(batchSize: 0)) }
        let plain = Directions(seed: RunSeed(1), family: .rank1)
        #expect(throws: TrainingError.self) {
            try FinalAdapterEstimator(model: run.model, directions: plain, cache: run.cache(examples), options: .init())
        }
    }

    /// A worker in a run with samples of all examples computes all hidden states before it is ready, reads its whole share in each sample,
    /// and sends bytes that do not depend on its threads.
    @Test func theTrainerTakesTheWholeShare() throws {
        let run = try AdaptedTinyLlama(isMoved: false)
        let spec = RunSpec(
            seed: 11, train: AdaptedTinyLlama.train, sampling: .orthogonal, learningRate: 1e-2, rounds: 10, samplesPerRound: 48, batchSize: 0,
            task: TaskSpec(kind: .text, maxLength: 16))
        func bytes(threads: Int) throws -> [Int8] {
            var configuration = LanguageModelTrainer.Configuration(
                model: try fixture("tiny-llama").path, trainingExamples: { _, _ in AdaptedTinyLlama.sentences(900) }, threads: threads)
            configuration.headStartSeconds = 0
            let trainer = try LanguageModelTrainer(configuration)
            let progress = Progress()
            try trainer.prepare(spec, basis: run.basis.encoded(), TaskContext(progress: { progress.add($0) }))
            #expect(progress.parts.count > 1 && progress.parts.last == 1)
            #expect(try trainer.useIdleTime() == nil)
            let order = ComputeOrder(round: 0, machine: AdaptedTinyLlama.machine, firstSample: 5, count: 40, scaleExponent: -6)
            let (bytes, statistics) = try trainer.compute(order, TaskContext())
            #expect(statistics.meanLoss.isFinite)
            return bytes
        }
        let one = try bytes(threads: 1)
        #expect(one.count == 40 && Set(one).count > 10)
        #expect(try bytes(threads: 2) == one)
        let trainer = try LanguageModelTrainer(
            .init(model: try fixture("tiny-llama").path, trainingExamples: { _, _ in AdaptedTinyLlama.sentences(900) }))
        #expect(throws: Abandoned.self) {
            try trainer.prepare(spec, basis: run.basis.encoded(), TaskContext(isAbandoned: { true }))
        }
    }

    private final class Progress: Sendable {
        private let all = Mutex<[Double]>([])
        func add(_ part: Double) { all.withLock { $0.append(part) } }
        var parts: [Double] { all.withLock { $0 } }
    }
}
