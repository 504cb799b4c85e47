import Core
import Glibc
import LanguageModel

/// Trains and evaluates a language model: base from its files, examples from this host.
public final class LanguageModelTrainer: Trainer {
    public struct Configuration: Sendable {
        /// A .gguf file, a Hugging Face directory, or org/name.
        public var model: String
        /// The private training examples, once the task is known; nil for a worker that only evaluates.
        public var trainingExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])?
        /// The held-out examples; nil for a worker that only trains.
        public var heldOutExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])?
        /// Examples that steer the run and judge nothing; nil for none. Needs `heldOutExamples`.
        public var validationExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])?
        public var threads: Int
        /// Of the products of training; held-out data are measured in floats.
        public var precision: Precision
        /// Bytes of hidden states that may be kept in memory; a set of examples that would go beyond goes to a file.
        public var cacheMemory: Int
        /// Where that file goes; nil: always memory.
        public var cacheDirectory: String?
        /// That the filling of the training examples' hidden states is given before the worker says that it is ready.
        public var headStartSeconds = 2.0
        /// Told what is worth a line in the log.
        public var onRemark: @Sendable (String) -> Void
        /// Of the order of this worker's examples.
        public var orderSeed: UInt64
        /// The program that scores texts, for runs whose objective that is. Never from the coordinator.
        public var scoring: ScoringProgram.Options?
        /// Takes what that program says on its stderr, line by line.
        public var onScoringLine: @Sendable (String) -> Void

        public init(
            model: String, trainingExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])? = nil,
            heldOutExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])? = nil,
            validationExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])? = nil, threads: Int = 1,
            precision: Precision = .float, cacheMemory: Int = 2 << 30, cacheDirectory: String? = nil, orderSeed: UInt64 = 0,
            onRemark: @escaping @Sendable (String) -> Void = { _ in }, scoring: ScoringProgram.Options? = nil,
            onScoringLine: @escaping @Sendable (String) -> Void = { _ in }
        ) {
            self.onRemark = onRemark
            self.scoring = scoring
            self.onScoringLine = onScoringLine
            self.model = model
            self.trainingExamples = trainingExamples
            self.heldOutExamples = heldOutExamples
            self.threads = threads
            self.precision = precision
            self.cacheMemory = cacheMemory
            self.cacheDirectory = cacheDirectory
            self.validationExamples = validationExamples
            self.orderSeed = orderSeed
        }
    }

    /// What there is once the run is known.
    private struct Prepared {
        let specDigest: Digest
        let directions: Directions
        let tensors: [TrainedTensor]
        let parameters: Parameters
        let model: TrainableModel
        let estimator: (any GradientEstimator)?
        /// What the estimator reads, where it reads tokens that are given.
        let trainingCache: PrefixCache?
        let evaluator: (any HeldOutEvaluator)?
        let validator: (any HeldOutEvaluator)?
        /// The texts' judge, where the run has one.
        let program: ScoringProgram?
        let isTimeBoxed: Bool
        /// Who is how fast has no part in what such a run's ledger holds.
        let isIndependentOfTime: Bool
        var hasComputed = false
        /// Of the parameters at the last digest.
        /// Nil where the parameters since then are not those of rounds alone.
        var probe: ParameterProbe?
        /// A round with a step was applied since.
        var hasStepped = false
        var nextRound: RoundNumber = 0
        /// Whether the model's floats are behind the parameters.
        var isStale = false
    }

    private let configuration: Configuration
    private let source: ModelSource
    private var baseDigest: Digest?
    private var prepared: Prepared?

    public init(_ configuration: Configuration) throws {
        self.configuration = configuration
        source = try ModelSource.open(configuration.model)
    }

    public func hashBase(_ task: TaskContext) throws -> BaseManifest {
        let total = Double(max(source.tensorNames.count, 1))
        let done = Counter()
        let manifest = source.baseManifest(threads: configuration.threads) { task.progress(Double(done.next()) / total) }
        var hash = SHA256()
        for entry in manifest.entries { hash.update(entry.digest.bytes) }
        baseDigest = hash.finalize()
        return manifest
    }

    public func prepare(_ spec: RunSpec, basis: [UInt8]?, _ task: TaskContext) throws {
        let basis: RunBasis? = if let basis { try RunBasis(decoding: basis) } else { nil }
        let tensors = try source.trainedTensors(matching: spec.train, basis: basis)
        let parameters = try source.makeParameters(tensors)
        let model = try TrainableModel(source: source, parameters: parameters)
        let directions = try Directions(spec, tensors: tensors)

        let program = try scoringProgram(for: spec.task)
        var memoryLeft = configuration.cacheMemory
        func cache(_ examples: (TaskSpec, ModelSource) throws -> [Example], asRead: Bool = false) throws -> PrefixCache {
            let set = try ExampleSet(try examples(spec.task, source), for: source.configuration)
            let cache = try PrefixCache(
                model: model, set: set, order: asRead ? ExampleOrder.firstEpoch(of: set.count, seed: configuration.orderSeed) : nil,
                options: PrefixCache.Options(
                    memoryLimit: memoryLeft, directory: configuration.cacheDirectory, baseDigest: baseDigest, threads: configuration.threads))
            memoryLeft -= cache.memoryBytes
            for warning in cache.warnings { configuration.onRemark(warning) }
            return cache
        }
        /// What a frozen part makes of prompts, all at once: writing needs it from the first sample on.
        func fill(_ fill: ((Int, Int) -> Bool) throws -> Void) throws {
            do {
                try fill { done, total in
                    task.progress(Double(done) / Double(max(total, 1)))
                    return !task.isAbandoned()
                }
            } catch let error as TrainingError where error.code == .cancelled {
                throw Abandoned()
            }
        }
        var trainingCache: PrefixCache?
        var estimator: (any GradientEstimator)?
        if let examples = configuration.trainingExamples {
            guard spec.retiredCandidatesPerExample ?? 1 == 1 else {
                throw ProcessFailure(
                    .configuration,
                    "this run chooses examples by importance, which this version no longer does; its ledger can be replayed and evaluated, but not continued")
            }
            let options = Estimator.Options(
                epsilon: spec.epsilon, batchSize: spec.batchSize, samplesPerBatch: spec.samplesPerBatch ?? 1,
                estimator: spec.estimator ?? .twoSided,
                generalizedCrossEntropy: spec.task.generalizedCrossEntropy ?? 0, orderSeed: configuration.orderSeed, threads: configuration.threads,
                objective: spec.task.objective, precision: configuration.precision)
            if let program, let writing = spec.task.writing {
                let scored = try ScoreEstimator(
                    model: model, directions: directions, examples: try examples(spec.task, source), writing: writing,
                    tokenizer: try source.tokenizer, program: program, memoryLimit: configuration.cacheMemory, options: options)
                try fill(scored.fill)
                estimator = scored
            } else {
                let own = try cache(examples, asRead: true)
                estimator = try Estimator(model: model, directions: directions, cache: own, options: options)
                trainingCache = own
            }
        }
        var measured: [PrefixCache] = []
        func measurer(_ examples: (TaskSpec, ModelSource) throws -> [Example], asTrained: Bool = false) throws -> any HeldOutEvaluator {
            guard let program, let writing = spec.task.writing else {
                let own = try cache(examples)
                measured.append(own)
                return Evaluator(
                    model: model, cache: own, threads: configuration.threads, objective: spec.task.objective,
                    generalizedCrossEntropy: asTrained ? spec.task.generalizedCrossEntropy ?? 0 : 0)
            }
            let evaluator = try ScoreEvaluator(
                model: model, examples: try examples(spec.task, source), writing: writing, tokenizer: try source.tokenizer, program: program,
                memoryLimit: configuration.cacheMemory, threads: configuration.threads)
            try fill(evaluator.fill)
            return evaluator
        }
        let evaluator = try configuration.heldOutExamples.map { try measurer($0) }
        let validator = try configuration.validationExamples.map { try measurer($0, asTrained: true) }
        try fillEnough(
            trainingCache, evaluators: measured, batchSize: spec.batchSize,
            headStartSeconds: configuration.headStartSeconds, task)
        prepared = Prepared(
            specDigest: try spec.digest(), directions: directions, tensors: tensors, parameters: parameters, model: model,
            estimator: estimator, trainingCache: trainingCache, evaluator: evaluator, validator: validator, program: program,
            isTimeBoxed: spec.roundSeconds != nil,
            isIndependentOfTime: spec.roundSeconds == nil && spec.staleness == 0 && spec.roundDeadlineFactor == 0,
            probe: ParameterProbe(parameters))
    }

    public func apply(_ changes: [HistoryChange]) throws {
        try withPrepared { prepared in
            var rounds: [RoundRecord] = []
            func applyRounds() {
                guard !rounds.isEmpty else { return }
                prepared.parameters.apply(rounds, directions: prepared.directions, threads: configuration.threads)
                rounds.removeAll()
            }
            for change in changes {
                switch change {
                case .apply(let round):
                    rounds.append(round)
                    if round.step != .zero, round.contributions.contains(where: { $0.validCount > 0 }) { prepared.hasStepped = true }
                    prepared.nextRound = round.round + 1
                case .revert(let round):
                    applyRounds()
                    prepared.probe = nil
                    prepared.parameters.revert(round, directions: prepared.directions, threads: configuration.threads)
                case .replace(let old, let new):
                    applyRounds()
                    prepared.probe = nil
                    prepared.parameters.replace(old, with: new, directions: prepared.directions, threads: configuration.threads)
                }
            }
            applyRounds()
            prepared.isStale = true
        }
    }

    /// - Throws: `ProcessFailure` where the run needs a program and this host was given none: the spec never names one.
    private func scoringProgram(for task: TaskSpec) throws -> ScoringProgram? {
        guard task.objective == .command else { return nil }
        guard let options = configuration.scoring else {
            throw ProcessFailure(
                .configuration,
                "this run minimises −(the score of a command), and which command that is, every worker is told by its own host: give it with --objective-command '…'")
        }
        return ScoringProgram(options, log: configuration.onScoringLine)
    }

    /// Samples after which a worker looks whether they are still wanted: fewer where a sample costs a pass through many layers. A
    /// constant of the run's settings, never of the clock, so that the same run again gives the same bytes.
    private func samplesPerLook(_ model: TrainableModel, isTimeBoxed: Bool, isScored: Bool) -> Int {
        // Each is many texts.
        if isScored { return isTimeBoxed ? 8 : 64 }
        guard !isTimeBoxed, case .layer(let first) = model.entry else { return 32 }
        let layers = max(model.configuration.layerCount - first, 1)
        return (1024 / layers + 31) / 32 * 32
    }

    public func compute(_ order: ComputeOrder, _ task: TaskContext) throws -> (bytes: [Int8], statistics: SampleStatistics) {
        try withPrepared { prepared in
            guard let estimator = prepared.estimator else {
                throw ProcessFailure(.internalError, "a worker without training data was asked for samples")
            }
            refresh(&prepared)
            if !prepared.hasComputed {
                // The first machines of a run compute what their samples read, so that the same run again is the same ledger. A machine that
                // comes later is there by the clock anyway, and the others are not to wait for its cache.
                prepared.trainingCache?.replacesMissing = order.round > 0 || !prepared.isIndependentOfTime
                prepared.hasComputed = true
            }
            let start = monotonicSeconds()
            var bytes: [Int8] = []
            bytes.reserveCapacity(Int(order.count))
            var lossSum = 0.0
            var lossCount = 0
            defer { prepared.trainingCache?.onProgress = nil }
            let look = samplesPerLook(prepared.model, isTimeBoxed: prepared.isTimeBoxed, isScored: prepared.program != nil)
            while bytes.count < Int(order.count) {
                let hasSome = !bytes.isEmpty
                let isOver: @Sendable () -> Bool = { task.isAbandoned() || (hasSome && task.isTimeUp()) }
                if isOver() { break }
                prepared.program?.isCancelled = isOver
                prepared.trainingCache?.onProgress = { part in
                    task.progress(part)
                    return !isOver()
                }
                let first = order.firstSample + SampleNumber(bytes.count)
                let count = min(look, Int(order.count) - bytes.count)
                let found: ProjectedGradients
                do {
                    found = try estimator.projectedGradients(machine: order.machine, samples: first..<first + SampleNumber(count))
                } catch let error as TrainingError where error.code == .cancelled {
                    break
                } catch let error as ScoringError where error.code == .cancelled {
                    break
                }
                for g in found.values { bytes.append(ByteCodec.encode(g, scaleExponent: order.scaleExponent)) }
                if found.meanLoss.isFinite {
                    lossSum += found.meanLoss * Double(count)
                    lossCount += count
                }
            }
            return (
                bytes,
                SampleStatistics(meanLoss: lossCount > 0 ? lossSum / Double(lossCount) : .nan, seconds: monotonicSeconds() - start)
            )
        }
    }

    public func digest() throws -> (Digest, largestMagnitude: UInt32, unchanged: Double?) {
        try withPrepared { prepared in
            let parameters = prepared.parameters
            let unchanged = prepared.hasStepped ? prepared.probe?.unchangedPart(in: parameters) : nil
            (prepared.probe, prepared.hasStepped) = (ParameterProbe(parameters), false)
            return (parameters.digest(threads: configuration.threads), parameters.largestMagnitude(threads: configuration.threads), unchanged)
        }
    }

    public func evaluate(round: RoundNumber, _ task: TaskContext) throws -> EvaluationReport {
        try withPrepared { prepared in
            guard let evaluator = prepared.evaluator else {
                throw ProcessFailure(.internalError, "a worker without held-out data was asked to evaluate")
            }
            refresh(&prepared)
            let start = monotonicSeconds()
            prepared.program?.isCancelled = task.isAbandoned
            let found: Evaluation
            let validation: Evaluation?
            do {
                found = try evaluator.evaluate()
                validation = try prepared.validator?.evaluate()
            } catch let error as ScoringError where error.code == .cancelled {
                throw Abandoned()
            }
            return EvaluationReport(
                round: round, examples: UInt32(found.items.count), loss: found.meanLoss, accuracy: found.accuracy ?? .nan,
                bestThresholdAccuracy: found.accuracyAtBestThreshold ?? .nan, auc: found.areaUnderCurve ?? .nan,
                seconds: monotonicSeconds() - start,
                validation: validation.map {
                    .init(examples: UInt32($0.items.count), loss: $0.meanLoss, accuracy: $0.accuracy ?? .nan)
                })
        }
    }

    public func reset() throws {
        // In place: the model, its prefix caches and the estimator hold on to these very parameters.
        try withPrepared { prepared in
            guard prepared.parameters.assign(try source.makeParameters(prepared.tensors)) else {
                throw ProcessFailure(.internalError, "\(configuration.model) has changed since it was opened; start the worker again")
            }
            prepared.nextRound = 0
            prepared.probe = nil
            prepared.isStale = true
        }
    }

    public func writeSnapshot(to path: String, at ledger: LedgerPosition?) throws {
        try withPrepared { prepared in
            let partial = path + ".partial"
            let descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
            func failure() -> ProcessFailure {
                ProcessFailure(.inputOutput, "can't write \(path): \(String(cString: strerror(errno)))")
            }
            guard descriptor >= 0 else { throw failure() }
            defer { close(descriptor) }
            var isWhole = false
            // On a full disk what there is of it would take the room that the ledger waits for.
            defer { if !isWhole { unlink(partial) } }
            let position = SnapshotPosition(run: prepared.specDigest, nextRound: prepared.nextRound, ledger: ledger)
            try prepared.parameters.writeSnapshot(position) { bytes in
                var done = 0
                while done < bytes.count {
                    let wrote = write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                    if wrote < 0 && errno == EINTR { continue }
                    guard wrote > 0 else { throw failure() }
                    done += wrote
                }
            }
            guard fsync(descriptor) == 0, rename(partial, path) == 0 else { throw failure() }
            isWhole = true
        }
    }

    public func restore(_ snapshot: UnsafeRawBufferPointer) throws {
        try withPrepared { prepared in
            guard prepared.directions.momentum == nil else { throw SnapshotError.noVelocities }
            let position = try Parameters.positionOfSnapshot(snapshot)
            guard prepared.parameters.assign(try Parameters(tensors: prepared.tensors, snapshot: snapshot)) else {
                throw SnapshotError.otherTensors("its numbers are scaled otherwise, as for another base model")
            }
            prepared.nextRound = position.nextRound
            prepared.probe = nil
            prepared.isStale = true
        }
    }

    /// A slice of what the training examples' prefix cache lacks.
    public func useIdleTime() throws -> Double? {
        guard let cache = prepared?.trainingCache else { return nil }
        return try cache.fillSlice() ? cache.filledPart : nil
    }

    private func refresh(_ prepared: inout Prepared) {
        guard prepared.isStale else { return }
        prepared.model.parametersChanged(threads: configuration.threads)
        prepared.isStale = false
    }

    private func withPrepared<Value>(_ body: (inout Prepared) throws -> Value) throws -> Value {
        guard var current = prepared else { throw ProcessFailure(.internalError, "work before the run was known") }
        defer { prepared = current }
        return try body(&current)
    }
}

func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
