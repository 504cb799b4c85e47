/// The settings that all machines of a run must agree on. The coordinator writes their canonical form into the ledger, whose header holds its
/// SHA-256. A worker that joins checks that hash. Paths, ports and thread counts are each host's own business and are not here.
public struct RunSpec: Codable, Hashable, Sendable {
    /// Version of this structure. A worker refuses a version that it does not know.
    public static let currentVersion = 1
    public var version = RunSpec.currentVersion
    /// The key of every direction (`RunSeed`).
    public var seed: UInt64
    /// Tensor name patterns: `layers.29`, `layers.20-29`, `all`, or a Hugging Face name with `*`.
    public var train: [String]
    /// How the directions of tensors that are not adapters are made.
    public var perturbation: PerturbationFamily
    /// How the directions of a machine's samples relate to each other; nil: random.
    public var sampling: DirectionSampling?
    /// μ, above 0 to 1: the largest fraction of its velocity that a coordinate keeps from one round to the next (`Momentum`); nil: no momentum.
    /// Momentum requires that only adapters are trained: each coordinate then has a second number, its velocity, and a retraction is a replay.
    public var momentum: Double?
    /// K, the number of damped components of each input space of each trained layer; 0: none. Needs `rank1`.
    public var dampedComponents: Int
    /// SHA-256 of the basis record. Nil where the run needs no basis (`needsBasis`).
    public var basisDigest: Digest?
    /// ε of the difference quotient.
    public var epsilon: Double
    /// Learning rate: the factor of the mean over a round's samples.
    public var learningRate: Double
    /// How the learning rate changes after the warm-up.
    public var schedule: LearningRateSchedule
    /// Rounds in which the learning rate rises to its full value.
    public var warmupRounds: Int
    /// Number of rounds in force after which the run is complete.
    public var rounds: Int
    /// Samples of one round. They are shared out among the machines that take part.
    public var samplesPerRound: Int
    /// Examples that a direction is tried on; `RunSpecLimits.allExamples`: all that the worker has.
    public var batchSize: Int
    /// The mean |q| that the round's scale is steered to, 1…58 (`ScaleAdapter.targets`).
    public var targetMagnitude: Int
    public var task: TaskSpec
    /// Rounds between two comparisons of the parameter digests; 0: only at the end.
    public var digestEvery: Int
    /// Rounds between two evaluations of the held-out data; 0: only before the first and after the last.
    public var evaluateEvery: Int
    /// Rounds begin when this many machines that train have joined.
    public var minimumWorkers: Int
    /// A round closes at this multiple of the recent rounds' median answer time, once the quorum is there; 0: it waits for all. With 0 the ledger
    /// does not depend on which machine is slow: if the machines are admitted in the same order, a repeated run gives the same ledger.
    public var roundDeadlineFactor: Double
    /// Fraction of a round's samples that must be there before a deadline closes it.
    public var quorum: Double
    /// Number of rounds that workers may begin in advance while a commit is on its way. A contribution that missed its round is still accepted within
    /// the same number of rounds. 0: neither.
    public var staleness: Int
    /// Length of a time-boxed round in seconds. When it has passed, a machine sends as much of its share as it has finished; `samplesPerRound` is
    /// then the upper bound. Nil: a machine sends its whole share.
    public var roundSeconds: Double?
    /// Number of neighbouring samples that read the same examples, each along its own direction. They share the work that does not depend on the
    /// direction. Nil: 1.
    public var samplesPerBatch: Int?
    /// A setting of earlier versions: each example was chosen from this many. A ledger that has it still replays, because its bytes mean the same. No
    /// worker trains with it any more.
    public package(set) var retiredCandidatesPerExample: Int?
    /// The losses whose difference gives a projected gradient; nil: two-sided.
    public var estimator: EstimatorKind?
    /// Trials of the learning rate, guard and early end; nil: none.
    public var steering: Steering?
    /// How a round's bytes are filtered before they are committed; nil: not at all.
    public var filter: RoundFilter?
    /// Clipping, noise and budget of the bytes; nil: bytes are as they are computed.
    public var privacy: Privacy?
    /// True: a machine that sends mostly 'no value' or saturated bytes for a long time is removed. Otherwise it is only shown.
    public var evictsFaultyMachines: Bool?
    /// Seconds between two heartbeats, in both directions.
    public var heartbeatSeconds: Double
    /// Seconds of silence after which a peer counts as gone.
    public var heartbeatTimeoutSeconds: Double

    /// The names in the canonical form. The form is hashed, so they never change, whatever the properties are called.
    private enum CodingKeys: String, CodingKey {
        case version, seed, train, perturbation, sampling, momentum
        case dampedComponents = "shapeComponents"
        case basisDigest, epsilon, learningRate, schedule, warmupRounds, rounds, samplesPerRound
        case batchSize = "examplesPerSample"
        case targetMagnitude, task, digestEvery, evaluateEvery, minimumWorkers, roundDeadlineFactor, quorum, staleness, roundSeconds
        case samplesPerBatch = "samplesPerDraw"
        case retiredCandidatesPerExample = "candidatesPerExample"
        case estimator, steering, filter, privacy
        case evictsFaultyMachines = "setsAsideBadMachines"
        case heartbeatSeconds, heartbeatTimeoutSeconds
    }

    public init(
        seed: UInt64,
        train: [String],
        perturbation: PerturbationFamily = .rank1,
        sampling: DirectionSampling? = nil,
        momentum: Double? = nil,
        dampedComponents: Int = 0,
        basisDigest: Digest? = nil,
        epsilon: Double = 1e-3,
        learningRate: Double,
        schedule: LearningRateSchedule = .linear,
        warmupRounds: Int = 0,
        rounds: Int,
        samplesPerRound: Int,
        batchSize: Int = 1,
        targetMagnitude: Int = 32,
        task: TaskSpec,
        digestEvery: Int = 50,
        evaluateEvery: Int = 0,
        minimumWorkers: Int = 1,
        roundDeadlineFactor: Double = 0,
        quorum: Double = 0.5,
        staleness: Int = 0,
        roundSeconds: Double? = nil,
        samplesPerBatch: Int? = nil,
        estimator: EstimatorKind? = nil,
        steering: Steering? = nil,
        filter: RoundFilter? = nil,
        privacy: Privacy? = nil,
        evictsFaultyMachines: Bool? = nil,
        heartbeatSeconds: Double = 1,
        heartbeatTimeoutSeconds: Double = 10
    ) {
        self.seed = seed
        self.train = train
        self.perturbation = perturbation
        self.sampling = sampling
        self.momentum = momentum
        self.dampedComponents = dampedComponents
        self.basisDigest = basisDigest
        self.epsilon = epsilon
        self.learningRate = learningRate
        self.schedule = schedule
        self.warmupRounds = warmupRounds
        self.rounds = rounds
        self.samplesPerRound = samplesPerRound
        self.batchSize = batchSize
        self.targetMagnitude = targetMagnitude
        self.task = task
        self.digestEvery = digestEvery
        self.evaluateEvery = evaluateEvery
        self.minimumWorkers = minimumWorkers
        self.roundDeadlineFactor = roundDeadlineFactor
        self.quorum = quorum
        self.staleness = staleness
        self.roundSeconds = roundSeconds
        self.samplesPerBatch = samplesPerBatch
        self.estimator = estimator
        self.steering = steering
        self.filter = filter
        self.privacy = privacy
        self.evictsFaultyMachines = evictsFaultyMachines
        self.heartbeatSeconds = heartbeatSeconds
        self.heartbeatTimeoutSeconds = heartbeatTimeoutSeconds
    }
}

extension RunSpec {
    /// Prefix of a pattern of `train` that names places of adapters, such as `adapter:final`.
    public static let adapterPrefix = "adapter:"

    /// Whether at least one pattern of `train` names adapters.
    public var trainsAdapters: Bool { train.contains { $0.hasPrefix(Self.adapterPrefix) } }
    /// Whether all patterns of `train` name adapters.
    public var trainsOnlyAdapters: Bool { train.allSatisfy { $0.hasPrefix(Self.adapterPrefix) } }
    /// Whether the run's directions or adapters are made from a basis record. The record is then part of the run.
    public var needsBasis: Bool { dampedComponents > 0 || trainsAdapters }
}

/// How the learning rate changes from the warm-up to the last round: not at all, or to 0 along a line or half a cosine
/// (`RunSpec.learningRate(round:rateShift:)`).
public enum LearningRateSchedule: String, Codable, Hashable, Sendable, CaseIterable {
    case constant, linear, cosine
}

/// How a worker estimates a sample's projected gradient. The bytes mean the same to all other machines whichever way it is.
public enum EstimatorKind: String, Codable, Hashable, Sendable, CaseIterable {
    /// (L(θ+εz) − L(θ−εz)) / 2ε: exact to second order in ε.
    case twoSided = "two-sided"
    /// (L(θ+εz) − L(θ)) / ε: half the work, since all directions on an example share L(θ). The error is ε·zᵀHz/2, with H the Hessian.
    case oneSided = "one-sided"
}
