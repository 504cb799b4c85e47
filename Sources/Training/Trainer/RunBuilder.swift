import Core
import LanguageModel

/// Builds what a worker needs for a run from the run's spec and this host's data.
struct RunBuilder {
    /// Smallest number of examples with which a machine takes part. The others should not wait for it, nor get bytes that all tell of one
    /// example.
    private static let headStartExamples = 16

    private let spec: RunSpec
    private let source: ModelSource
    private let baseDigest: Digest?
    private let configuration: LanguageModelTrainer.Configuration
    private let task: TaskContext
    private let tensors: [TrainedTensor]
    private let parameters: Parameters
    private let model: TrainableModel
    private let directions: Directions
    private let program: ScoringProgram?
    private var memoryLeft: Int
    /// Prefix caches of held-out and validation data.
    private var measured: [PrefixCache] = []

    init(
        _ spec: RunSpec, basis: RunBasis?, source: ModelSource, baseDigest: Digest?,
        configuration: LanguageModelTrainer.Configuration, _ task: TaskContext
    ) throws {
        self.spec = spec
        self.source = source
        self.baseDigest = baseDigest
        self.configuration = configuration
        self.task = task
        tensors = try source.trainedTensors(matching: spec.train, basis: basis)
        parameters = try source.makeParameters(tensors)
        model = try TrainableModel(source: source, parameters: parameters, basis: basis)
        directions = try Directions(spec, tensors: tensors)
        program = try Self.scoringProgram(for: spec.task, configuration)
        memoryLeft = configuration.cacheMemory
    }

    /// Builds the run, with as many hidden states as the first measurement and the first samples need.
    ///
    /// - Throws: `Abandoned` if the work is no longer wanted; `ProcessFailure`, `TrainingError` or `DataError` if this host can't take part
    ///   in the run; errors from the model's files.
    mutating func build() throws -> PreparedRun {
        let account = try privacyAccount()
        let (estimator, trainingCache) = try makeEstimator()
        let evaluator = try configuration.heldOutExamples.map { try makeEvaluator($0, asTrained: false) }
        let validator = try configuration.validationExamples.map { try makeEvaluator($0, asTrained: true) }
        try fillHeldOut()
        if let trainingCache { try fillEnough(trainingCache) }
        return try PreparedRun(
            spec: spec, directions: directions, tensors: tensors, parameters: parameters, model: model, estimator: estimator,
            trainingCache: trainingCache, evaluator: evaluator, validator: validator, program: program, threads: configuration.threads,
            privateBytes: estimator.flatMap { privateBytes($0, account) })
    }

    // MARK: Privacy

    /// Returns the account of a worker that trains in a private run.
    ///
    /// - Throws: `PrivacyError` if run and host do not agree on whether bytes are private.
    private func privacyAccount() throws -> PrivacyAccount? {
        guard configuration.trainingExamples != nil else { return nil }
        if spec.privacy == nil, configuration.privacy?.budget != nil {
            throw PrivacyError(code: .notPrivate, description: "this worker gives only private bytes, and the run's bytes have no noise")
        }
        guard spec.privacy != nil else { return nil }
        guard let account = configuration.privacy else {
            throw PrivacyError(code: .noAccount, description: "the run is private, and this worker has no file to keep its account in")
        }
        return account
    }

    private func privateBytes(_ estimator: any GradientEstimator, _ account: PrivacyAccount?) -> PrivateBytes? {
        guard let privacy = spec.privacy, let account else { return nil }
        let count = estimator.exampleCount
        let delta = account.budget?.delta ?? privacy.delta
        if delta * Double(count) > 1.000001 {
            configuration.onRemark("δ = \(delta) is above 1/\(count), the part of one example: publishing a whole example would count as private")
        }
        return PrivateBytes(privacy, account: account, exampleCount: count, options: estimatorOptions)
    }

    // MARK: Parts

    /// - Throws: `ScoringError` if the run needs a program and this host was given none; the spec never names one.
    private static func scoringProgram(
        for task: TaskSpec, _ configuration: LanguageModelTrainer.Configuration
    ) throws -> ScoringProgram? {
        guard task.objective == .command else { return nil }
        guard let options = configuration.scoring else {
            throw ScoringError(.missing, "the run's objective is a command's score, and this host was given no command")
        }
        return ScoringProgram(options, log: configuration.onScoringLine)
    }

    private var estimatorOptions: EstimatorOptions {
        EstimatorOptions(
            epsilon: spec.epsilon, batchSize: spec.batchSize, samplesPerBatch: spec.samplesPerBatch ?? 1,
            estimator: spec.estimator ?? .twoSided, generalizedCrossEntropy: spec.task.generalizedCrossEntropy ?? 0,
            orderSeed: configuration.orderSeed, threads: configuration.threads, objective: spec.task.objective,
            precision: configuration.precision)
    }

    /// Makes the estimator and the hidden states that it reads; both are nil for a worker that only evaluates.
    private mutating func makeEstimator() throws -> ((any GradientEstimator)?, PrefixCache?) {
        guard let examples = configuration.trainingExamples else { return (nil, nil) }
        guard spec.retiredCandidatesPerExample ?? 1 == 1 else {
            throw ProcessFailure(
                .configuration,
                "this run chooses examples by importance, which this version no longer does; its ledger can be replayed and evaluated, but not continued"
            )
        }
        if let program, let writing = spec.task.writing {
            let scored = try ScoreEstimator(
                model: model, directions: directions, examples: try examples(spec.task, source), writing: writing,
                tokenizer: try source.tokenizer, program: program, memoryLimit: configuration.cacheMemory, options: estimatorOptions)
            try fill(scored.fill)
            return (scored, nil)
        }
        let cache = try makeCache(examples, asRead: true)
        if FinalAdapterEstimator.canEstimate(tensors, cache.set, objective: spec.task.objective) {
            return (try FinalAdapterEstimator(model: model, directions: directions, cache: cache, options: estimatorOptions), cache)
        }
        if AdapterGradientEstimator.canEstimate(tensors, source, objective: spec.task.objective) {
            return (try AdapterGradientEstimator(model: model, directions: directions, cache: cache, options: estimatorOptions), cache)
        }
        return (try Estimator(model: model, directions: directions, cache: cache, options: estimatorOptions), cache)
    }

    /// Makes an evaluator of held-out or validation examples.
    ///
    /// - Parameter asTrained: whether to measure by the loss that the run minimises, if that differs from the loss by which runs are
    ///   compared.
    private mutating func makeEvaluator(
        _ examples: (TaskSpec, ModelSource) throws -> [Example], asTrained: Bool
    ) throws -> any HeldOutEvaluator {
        guard let program, let writing = spec.task.writing else {
            let cache = try makeCache(examples, asRead: false)
            measured.append(cache)
            return Evaluator(
                model: model, cache: cache, threads: configuration.threads, objective: spec.task.objective,
                generalizedCrossEntropy: asTrained ? spec.task.generalizedCrossEntropy ?? 0 : 0)
        }
        let evaluator = try ScoreEvaluator(
            model: model, examples: try examples(spec.task, source), writing: writing, tokenizer: try source.tokenizer, program: program,
            memoryLimit: configuration.cacheMemory, threads: configuration.threads)
        try fill(evaluator.fill)
        return evaluator
    }

    /// Makes a prefix cache, with what remains of the memory limit.
    ///
    /// - Parameter asRead: whether to order the cache as samples read the examples. What measures is computed in floats, as those who use the
    ///   model compute.
    private mutating func makeCache(_ examples: (TaskSpec, ModelSource) throws -> [Example], asRead: Bool) throws -> PrefixCache {
        let set = try ExampleSet(try examples(spec.task, source), for: source.configuration)
        let cache = try PrefixCache(
            model: model, set: set, order: asRead ? ExampleOrder.firstEpoch(of: set.count, seed: configuration.orderSeed) : nil,
            options: PrefixCache.Options(
                memoryLimit: memoryLeft, directory: configuration.cacheDirectory, baseDigest: baseDigest, threads: configuration.threads,
                precision: asRead ? configuration.prefixPrecision : .float))
        memoryLeft -= cache.memoryBytes
        for warning in cache.warnings { configuration.onRemark(warning) }
        return cache
    }

    // MARK: Hidden states

    /// Computes all hidden states of held-out and validation data, which their first measurement needs.
    private func fillHeldOut() throws {
        let positions = measured.map { Double($0.set.positionCount) }
        var before = 0.0
        for (cache, count) in zip(measured, positions) {
            try fill { report in
                try cache.fill { _, _ in report(Int(before + cache.filledPart * count), Int(positions.reduce(0, +))) }
            }
            before += count
        }
    }

    /// Computes all hidden states of training data if every sample reads all examples. Otherwise it computes a head start; the rest follows
    /// when samples ask for it or in idle time.
    private func fillEnough(_ cache: PrefixCache) throws {
        if spec.batchSize == 0 { return try fill(cache.fill) }
        let end = monotonicSeconds() + configuration.headStartSeconds
        let least = max(Self.headStartExamples, spec.batchSize)
        while try cache.fillSlice(), cache.readyCount < least || monotonicSeconds() < end {
            guard !task.isAbandoned() else { throw Abandoned() }
            task.progress(cache.filledPart)
        }
    }

    /// Fills something to its end and reports the task's progress.
    private func fill(_ fill: ((Int, Int) -> Bool) throws -> Void) throws {
        do {
            try fill { done, total in
                task.progress(Double(done) / Double(max(total, 1)))
                return !task.isAbandoned()
            }
        } catch let error as TrainingError where error.code == .cancelled {
            throw Abandoned()
        }
    }
}
