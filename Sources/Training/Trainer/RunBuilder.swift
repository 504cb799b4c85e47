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
    /// For each training record the number of its example; nil for a record that says nothing.
    private var exampleOfRecord: [Int?] = []
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
            privateBytes: estimator == nil ? nil : privateBytes(account))
    }

    // MARK: Privacy

    /// Returns the account of a worker that trains in a private run.
    ///
    /// - Throws: `PrivacyError` if run and host do not agree on whether bytes are private.
    private func privacyAccount() throws -> PrivacyAccount? {
        guard configuration.trainingExamples != nil else { return nil }
        let account = configuration.privacy
        guard spec.privacy != nil else {
            if account?.isForPrivateRunsAlone == true {
                throw PrivacyError(code: .notPrivate, description: "this worker gives only private bytes, and the run's bytes have no noise")
            }
            if let account, account.rho > 0 {
                throw PrivacyError(
                    code: .notPrivate,
                    description:
                        "these examples have an account of what private runs revealed of them, and this run's bytes, which have no noise, would make it void"
                )
            }
            return nil
        }
        guard let account else {
            throw PrivacyError(code: .noAccount, description: "the run is private, and this worker has no file to keep its account in")
        }
        return account
    }

    private func privateBytes(_ account: PrivacyAccount?) -> PrivateBytes? {
        guard let privacy = spec.privacy, let account else { return nil }
        let count = exampleOfRecord.count
        let delta = account.budget?.delta ?? privacy.delta
        // The default of a local cluster is a tenth of 1/n.
        if delta * Double(count) > 0.1 * (1 + 1e-6) {
            configuration.onRemark(
                "δ = \(delta) is above 1/\(10 * count), a tenth of one of \(count) examples: with δ = 1/\(count), publishing a whole example would count as private"
            )
        }
        if program != nil {
            configuration.onRemark(
                "an example counts for no more than its clip only if the scoring program judges each text by itself, whatever else it is given or remembers"
            )
        }
        return PrivateBytes(privacy, account: account, examples: exampleOfRecord, options: estimatorOptions)
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
            precision: configuration.precision.samples)
    }

    /// Makes the estimator and the hidden states that it reads; both are nil for a worker that only evaluates.
    private mutating func makeEstimator() throws -> ((any GradientEstimator)?, PrefixCache?) {
        guard let read = configuration.trainingExamples else { return (nil, nil) }
        guard spec.retiredCandidatesPerExample ?? 1 == 1 else {
            throw ProcessFailure(
                .configuration,
                "this run chooses examples by importance, which this version no longer does; its ledger can be replayed and evaluated, but not continued"
            )
        }
        let examples = number(try read(spec, source))
        if spec.privacy != nil, examples.isEmpty { return (NothingToLearn(), nil) }
        if let program, let writing = spec.task.writing {
            let scored = try ScoreEstimator(
                model: model, directions: directions, examples: examples, writing: writing,
                tokenizer: try source.tokenizer, program: program, memoryLimit: configuration.cacheMemory, options: estimatorOptions)
            try fill(scored.fill)
            return (scored, nil)
        }
        let records = spec.privacy == nil ? Array(examples.indices) : exampleOfRecord
        let order = ExampleOrder.firstEpoch(of: records.count, seed: configuration.orderSeed).compactMap { records[$0] }
        let cache = try makeCache(examples, order: order)
        if FinalAdapterEstimator.canEstimate(tensors, cache.set, objective: spec.task.objective) {
            return (try FinalAdapterEstimator(model: model, directions: directions, cache: cache, options: estimatorOptions), cache)
        }
        if AdapterGradientEstimator.canEstimate(tensors, source, objective: spec.task.objective) {
            return (try AdapterGradientEstimator(model: model, directions: directions, cache: cache, options: estimatorOptions), cache)
        }
        return (try Estimator(model: model, directions: directions, cache: cache, options: estimatorOptions), cache)
    }

    /// Numbers the examples of all records. In a private run an example that the model can't take says nothing, as any other misfit does.
    private mutating func number(_ records: [Example?]) -> [Example] {
        var examples: [Example] = []
        exampleOfRecord = records.map { example in
            guard let example else { return nil }
            let isRefused = spec.privacy != nil && program == nil && ExampleSet.problem(of: example, for: source.configuration) != nil
            guard !isRefused else { return nil }
            examples.append(example)
            return examples.count - 1
        }
        return examples
    }

    /// Makes an evaluator of held-out or validation examples.
    ///
    /// - Parameter asTrained: whether to measure by the loss that the run minimises, if that differs from the loss by which runs are
    ///   compared.
    private mutating func makeEvaluator(
        _ examples: (TaskSpec, ModelSource) throws -> [Example], asTrained: Bool
    ) throws -> any HeldOutEvaluator {
        guard let program, let writing = spec.task.writing else {
            let cache = try makeCache(try examples(spec.task, source), order: nil)
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
    /// - Parameter order: the order in which samples read the examples; nil for examples that measure. Those are computed in floats, as everybody
    ///   computes who uses the model.
    private mutating func makeCache(_ examples: [Example], order: [Int]?) throws -> PrefixCache {
        let set = try ExampleSet(examples, for: source.configuration)
        let cache = try PrefixCache(
            model: model, set: set, order: order,
            options: PrefixCache.Options(
                memoryLimit: memoryLeft, directory: configuration.cacheDirectory, baseDigest: baseDigest, threads: configuration.threads,
                precision: order == nil ? .float : configuration.precision.hiddenStates))
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
