import Core
import LanguageModel

/// A worker's state of a run once its spec is known: the parameters, the model, and what computes with them.
struct PreparedRun {
    let specDigest: Digest
    let directions: Directions
    let tensors: [TrainedTensor]
    let parameters: Parameters
    let model: TrainableModel
    let estimator: (any GradientEstimator)?
    /// Hidden states that the estimator reads; nil if it does not read given tokens.
    let trainingCache: PrefixCache?
    let evaluator: (any HeldOutEvaluator)?
    let validator: (any HeldOutEvaluator)?
    /// The program that scores texts; nil if the run has none.
    let program: ScoringProgram?
    let isTimeBoxed: Bool
    /// Whether the run's ledger is independent of the machines' speed.
    let isIndependentOfTime: Bool
    let threads: Int
    /// Makes the bytes of a private run; nil in other runs and for a worker that only evaluates.
    let privateBytes: PrivateBytes?
    private var hasComputed = false
    /// Probe of the parameters at the last digest; nil if they have changed since then by anything other than rounds.
    private var probe: ParameterProbe?
    /// Whether a round with a step was applied since the last digest.
    private var hasStepped = false
    private(set) var nextRound: RoundNumber = 0
    /// Whether the model's F32 copies are older than the parameters.
    private var isStale = false
    /// Movement from the base; nil if this machine evaluates nothing.
    private let movement: Movement?
    /// The base's losses on the validation examples, and its merits on the examples that judge the run; nil until they are measured.
    private var baseLosses: [Double]?
    private var baseMerits: [Double]?

    init(
        spec: RunSpec, directions: Directions, tensors: [TrainedTensor], parameters: Parameters, model: TrainableModel,
        estimator: (any GradientEstimator)?, trainingCache: PrefixCache?, evaluator: (any HeldOutEvaluator)?,
        validator: (any HeldOutEvaluator)?, program: ScoringProgram?, threads: Int,
        privateBytes: PrivateBytes? = nil
    ) throws {
        // Whatever is wrong elsewhere, bytes without noise never leave a private run.
        guard spec.privacy == nil || estimator == nil || privateBytes != nil else {
            throw ProcessFailure(.internalError, "a private run was prepared without its noise and its account")
        }
        self.privateBytes = privateBytes
        specDigest = try spec.digest()
        self.directions = directions
        self.tensors = tensors
        self.parameters = parameters
        self.model = model
        self.estimator = estimator
        self.trainingCache = trainingCache
        self.evaluator = evaluator
        self.validator = validator
        self.program = program
        self.threads = threads
        isTimeBoxed = spec.roundSeconds != nil
        isIndependentOfTime = spec.roundSeconds == nil && spec.staleness == 0 && spec.roundDeadlineFactor == 0
        probe = ParameterProbe(parameters)
        movement = try evaluator == nil ? nil : Movement(from: parameters, model: model, threads: threads)
    }

    // MARK: The parameters

    mutating func apply(_ changes: [HistoryChange]) {
        var rounds: [RoundRecord] = []
        func applyRounds() {
            guard !rounds.isEmpty else { return }
            parameters.apply(rounds, directions: directions, threads: threads)
            rounds.removeAll()
        }
        for change in changes {
            switch change {
            case .apply(let round):
                rounds.append(round)
                if round.step != .zero, round.contributions.contains(where: { $0.validCount > 0 }) { hasStepped = true }
                nextRound = round.round + 1
            case .revert(let round):
                applyRounds()
                probe = nil
                parameters.revert(round, directions: directions, threads: threads)
            case .replace(let old, let new):
                applyRounds()
                probe = nil
                parameters.replace(old, with: new, directions: directions, threads: threads)
            }
        }
        applyRounds()
        isStale = true
    }

    /// Takes other values in place, since the model, its prefix caches and the estimator hold references to these parameters.
    ///
    /// - Returns: false if the values are of other tensors; nothing has changed then.
    mutating func assign(_ other: Parameters, nextRound: RoundNumber) -> Bool {
        guard parameters.assign(other) else { return false }
        self.nextRound = nextRound
        probe = nil
        isStale = true
        return true
    }

    mutating func digest() -> (Digest, largestMagnitude: UInt32, unchanged: Double?) {
        let unchanged = hasStepped ? probe?.unchangedPart(in: parameters) : nil
        (probe, hasStepped) = (ParameterProbe(parameters), false)
        return (parameters.digest(threads: threads), parameters.largestMagnitude(threads: threads), unchanged)
    }

    /// Updates the model's F32 copies from the parameters.
    private mutating func refresh() {
        guard isStale else { return }
        model.parametersChanged(threads: threads)
        isStale = false
    }

    // MARK: Work

    mutating func compute(_ order: ComputeOrder, _ task: TaskContext) throws -> (bytes: [Int8], statistics: SampleStatistics) {
        guard let estimator else { throw ProcessFailure(.internalError, "a worker without training data was asked for samples") }
        refresh()
        if let privateBytes { return try compute(order, task, estimator, privateBytes) }
        if !hasComputed {
            // The first machines of a run compute what their samples read, so that the same run gives the same ledger again. A machine that
            // comes later arrives at an arbitrary time anyway, and the others should not wait for its cache.
            trainingCache?.replacesMissing = order.round > 0 || !isIndependentOfTime
            hasComputed = true
        }
        let start = monotonicSeconds()
        var bytes: [Int8] = []
        bytes.reserveCapacity(Int(order.count))
        var lossSum = 0.0
        var lossCount = 0
        defer { trainingCache?.onProgress = nil }
        while bytes.count < Int(order.count) {
            let hasSome = !bytes.isEmpty
            let isOver: @Sendable () -> Bool = { task.isAbandoned() || (hasSome && task.isTimeUp()) }
            if isOver() { break }
            program?.isCancelled = isOver
            trainingCache?.onProgress = { part in
                task.progress(part)
                return !isOver()
            }
            let first = order.firstSample + SampleNumber(bytes.count)
            let count = min(samplesPerCheck, Int(order.count) - bytes.count)
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

    /// Computes a private run's bytes: those of a batch all at once, because its examples are clipped as vectors over all of its samples. The
    /// statistics have no loss, and no example is replaced by one whose hidden states are ready.
    private func compute(
        _ order: ComputeOrder, _ task: TaskContext, _ estimator: any GradientEstimator, _ privateBytes: PrivateBytes
    ) throws -> (bytes: [Int8], statistics: SampleStatistics) {
        let start = monotonicSeconds()
        program?.isCancelled = task.isAbandoned
        trainingCache?.onProgress = { part in
            task.progress(part)
            return !task.isAbandoned()
        }
        defer { trainingCache?.onProgress = nil }
        var hasSome = false
        var found: [Double]? = []
        do {
            found = try privateBytes.projectedGradients(
                order.machine, order.firstSample..<order.firstSample + order.count, estimator,
                isOver: {
                    defer { hasSome = true }
                    return task.isAbandoned() || (hasSome && task.isTimeUp())
                })
        } catch let error as TrainingError where error.code == .cancelled {
        } catch let error as ScoringError where error.code == .cancelled {
        }
        let bytes =
            found?.map { ByteCodec.encode($0, scaleExponent: order.scaleExponent) }
            ?? Array(repeating: Contribution.noValue, count: Int(order.count))
        return (bytes, SampleStatistics(meanLoss: .nan, seconds: monotonicSeconds() - start, privacy: privateBytes.status))
    }

    /// Computes the projected gradients of single examples at the present parameters.
    mutating func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
    ) throws {
        guard let estimator else { throw ProcessFailure(.internalError, "a worker without training data was asked for its examples") }
        refresh()
        try estimator.visitExamples(examples, machine: machine, samples: samples, visit)
    }

    /// Number of samples after which a worker checks whether they are still wanted: fewer if a sample costs a pass through many layers. It
    /// depends on the run's settings and never on the clock, so that the same run gives the same bytes again.
    private var samplesPerCheck: Int {
        // Each sample writes many texts.
        if program != nil { return isTimeBoxed ? 8 : 64 }
        guard !isTimeBoxed, case .layer(let first) = model.entry else { return 32 }
        let layers = max(model.configuration.layerCount - first, 1)
        return (1024 / layers + 31) / 32 * 32
    }

    mutating func evaluate(round: RoundNumber, _ task: TaskContext) throws -> EvaluationReport {
        guard let evaluator else { throw ProcessFailure(.internalError, "a worker without held-out data was asked to evaluate") }
        refresh()
        let start = monotonicSeconds()
        program?.isCancelled = task.isAbandoned
        let found: Evaluation
        let validation: Evaluation?
        do {
            found = try evaluator.evaluate()
            validation = try validator?.evaluate()
        } catch let error as ScoringError where error.code == .cancelled {
            throw Abandoned()
        }
        if round == 0 { (baseLosses, baseMerits) = (validation?.items.map(\.loss), found.merits) }
        let gain = PairedChange(found.merits, since: round == 0 ? nil : baseMerits)
        return EvaluationReport(
            round: round, examples: UInt32(found.items.count), loss: found.meanLoss, accuracy: found.accuracy ?? .nan,
            bestThresholdAccuracy: found.accuracyAtBestThreshold ?? .nan, auc: found.areaUnderCurve ?? .nan,
            seconds: monotonicSeconds() - start,
            validation: validation.map {
                .init(
                    examples: UInt32($0.items.count), loss: $0.meanLoss, accuracy: $0.accuracy ?? .nan,
                    noise: PairedChange($0.items.map(\.loss), since: round == 0 ? nil : baseLosses).error)
            }, moved: movement?.largest(in: parameters)?.part ?? .nan, gain: gain.mean, gainError: gain.error)
    }
}
