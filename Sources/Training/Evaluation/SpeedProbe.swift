import Core
import LanguageModel

/// Measures how fast this machine computes for a run, on some of the run's own examples.
public struct SpeedProbe: Sendable {
    /// Seconds that a position takes through everything below the trained tensors; 0 if nothing is below them.
    public private(set) var secondsPerPosition = 0.0
    /// The same for held-out data, whose hidden states are floats whatever those of training examples are.
    public private(set) var secondsPerHeldOutPosition = 0.0
    /// Seconds that a sample takes on all cores together; 0 for adapters, whose samples need no pass through a layer.
    public private(set) var secondsPerSample = 0.0
    /// Seconds that a position read by the loss takes through the head, if the loss needs the logits of all tokens.
    public private(set) var secondsPerRead = 0.0
    /// Seconds that the measurement took.
    public private(set) var seconds = 0.0

    /// Largest number of examples that go through the model.
    private static let examplesMost = 256
    private static let samplesAtOnce = 8

    /// - Parameters:
    ///   - spec: the run's spec. No basis is needed, because directions that avoid components cost the same as others.
    ///   - examples: some of the training data.
    ///   - threads: number of threads of all workers together.
    ///   - budget: seconds to spend; a run that is shorter ends the measurement sooner.
    /// - Throws: errors of the model's files, and errors for examples that the run could not read.
    public init(
        _ spec: RunSpec, source: ModelSource, examples: [Example], precision: ComputePrecision, threads: Int, budget: Double = 2
    ) throws {
        let began = monotonicSeconds()
        defer { seconds = monotonicSeconds() - began }
        MatrixLibrary.setThreads(1)
        let some =
            examples.count <= Self.examplesMost
            ? examples : stride(from: 0, to: examples.count, by: examples.count / Self.examplesMost + 1).map { examples[$0] }
        let set = try ExampleSet(some, for: source.configuration)
        if spec.trainsAdapters {
            _ = try measureFilling(TrainableModel(source: source), set, precision.hiddenStates, threads: threads, budget: budget)
            if set.needsFullVocabulary { measureHead(source.configuration) }
        } else {
            try measureLayers(spec, source, set, precision, threads, budget)
        }
    }

    private mutating func measureLayers(
        _ spec: RunSpec, _ source: ModelSource, _ set: ExampleSet, _ precision: ComputePrecision,
        _ threads: Int, _ budget: Double
    ) throws {
        let tensors = try source.trainedTensors(matching: spec.train, basis: nil)
        let parameters = try source.makeParameters(tensors)
        let model = try TrainableModel(source: source, parameters: parameters)
        let cache = try measureFilling(model, set, precision.hiddenStates, threads: threads, budget: budget / 2)
        var plain = spec
        plain.dampedComponents = 0
        plain.basisDigest = nil
        let estimator = try Estimator(
            model: model, directions: try Directions(plain, tensors: tensors), cache: cache,
            options: EstimatorOptions(
                epsilon: spec.epsilon, batchSize: spec.batchSize, samplesPerBatch: spec.samplesPerBatch ?? 1,
                estimator: spec.estimator ?? .twoSided, threads: threads, objective: spec.task.objective, precision: precision.samples))
        // Samples read the hidden states that exist, so that the rest need not be computed.
        cache.replacesMissing = true
        let count = SampleNumber(Self.samplesAtOnce * max(1, spec.samplesPerBatch ?? 1))
        // The first samples also allocate memory and make copies, once per run.
        _ = try estimator.projectedGradients(machine: MachineID(1), samples: 0..<1)
        let start = monotonicSeconds()
        var done: SampleNumber = 0
        while done == 0 || monotonicSeconds() - start < budget / 2, Int(done) < spec.samplesPerRound * min(spec.rounds, 4) {
            _ = try estimator.projectedGradients(machine: MachineID(1), samples: done..<done + count)
            done += count
        }
        secondsPerSample = (monotonicSeconds() - start) / Double(done)
    }

    /// Measures how fast hidden states are computed, in floats too if those of training examples are not.
    ///
    /// - Returns: the cache with the training examples' states, as far as they were computed.
    private mutating func measureFilling(
        _ model: TrainableModel, _ set: ExampleSet, _ precision: Precision, threads: Int, budget: Double
    ) throws -> PrefixCache {
        let cache = try PrefixCache(model: model, set: set, options: .init(threads: threads, precision: precision))
        guard precision != .float else {
            secondsPerPosition = try Self.secondsPerPosition(filling: cache, budget: budget)
            secondsPerHeldOutPosition = secondsPerPosition
            return cache
        }
        secondsPerPosition = try Self.secondsPerPosition(filling: cache, budget: budget / 2)
        let floats = try PrefixCache(model: model, set: set, options: .init(threads: threads))
        secondsPerHeldOutPosition = try Self.secondsPerPosition(filling: floats, budget: budget / 2)
        return cache
    }

    /// Fills a cache for as long as the budget allows, and at least a layer of some blocks. Returns 0 if there is nothing to fill.
    private static func secondsPerPosition(filling cache: PrefixCache, budget: Double) throws -> Double {
        guard !cache.isFilled else { return 0 }
        let start = monotonicSeconds()
        var positions = 0
        do {
            try cache.fill { done, _ in
                positions = done
                return monotonicSeconds() - start < budget
            }
        } catch let error as TrainingError where error.code == .cancelled {}
        return positions > 0 ? (monotonicSeconds() - start) / Double(positions) : 0
    }

    /// Estimates the head's speed from the layers' speed in floats, because both are matrix products of similar size.
    private mutating func measureHead(_ configuration: ModelConfiguration) {
        let whole = SampleCost(configuration, training: [], family: .rank1, tokens: 64, reads: 64, fullVocabulary: true)
        let head = Double(whole.perSample) / 2
        guard whole.prefix > 0 else { return }
        secondsPerRead = secondsPerHeldOutPosition * head / Double(whole.prefix)
    }
}
