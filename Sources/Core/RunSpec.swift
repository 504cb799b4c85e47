/// What all machines of a run must agree on. The coordinator writes its canonical form into the ledger, whose header holds
/// the SHA-256 of it; a worker that joins checks that hash. Paths, ports and thread counts are a host's own affair and
/// are not here.
public struct RunSpec: Codable, Hashable, Sendable {
    /// Of this structure; a worker refuses one that it does not know.
    public static let currentVersion = 1
    public var version = RunSpec.currentVersion
    public var seed: UInt64
    /// Tensor name patterns: `layers.29`, `layers.20-29`, `all`, or a Hugging Face name with `*`.
    public var train: [String]
    public var perturbation: PerturbationFamily
    /// How the directions of a machine's samples relate; nil: random.
    public var sampling: DirectionSampling?
    /// The largest fraction μ, above 0 to 1, of its velocity that a coordinate keeps from a round to the next (`Momentum`); nil: no momentum.
    /// Needs that only adapters are trained: a velocity is a number more a coordinate, and a retraction is then a replay.
    public var momentum: Double?
    /// K damped components of each input space of each trained layer; 0: none. Needs `rank1`.
    public var dampedComponents: Int
    /// SHA-256 of the basis record where `dampedComponents` > 0.
    public var basisDigest: Digest?
    /// ε of the two-sided difference.
    public var epsilon: Double
    /// Of the mean over a round's samples.
    public var learningRate: Double
    public var schedule: LearningRateSchedule
    public var warmupRounds: Int
    public var rounds: Int
    /// Shared out among the machines that take part in a round.
    public var samplesPerRound: Int
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
    /// A round is closed at this multiple of the recent rounds' median answer time, given a quorum; 0: it waits for all.
    /// With 0 the ledger does not depend on who is slow: given the order in which the machines were admitted, the same run twice is the
    /// same ledger.
    public var roundDeadlineFactor: Double
    /// The part of a round's samples that must be there before a deadline closes it.
    public var quorum: Double
    /// Workers begin the samples of so many rounds ahead while a commit is on its way, and a contribution that missed its round is
    /// still taken within so many rounds; 0: neither.
    public var staleness: Int
    /// Time-boxed rounds: after so many seconds a machine gives what it has of its share, of which `samplesPerRound` is then the most;
    /// nil: all of it.
    public var roundSeconds: Double?
    /// Neighbouring samples that read the same examples, each along its own direction, which saves what they share; nil: 1.
    public var samplesPerBatch: Int?
    /// A setting that earlier versions had: each example was chosen from so many. Such a ledger still replays, for the bytes mean the same;
    /// no worker trains with it any more.
    public package(set) var retiredCandidatesPerExample: Int?
    /// Which losses a projected gradient is the difference of; nil: two-sided.
    public var estimator: EstimatorKind?
    /// Trials, guard and early end; nil: none.
    public var steering: Steering?
    /// What is done to a round's bytes before they are committed; nil: nothing.
    public var filter: RoundFilter?
    /// A machine that sends mostly 'no value' or saturated bytes for long is removed; nil: it is only shown.
    public var evictsFaultyMachines: Bool?
    /// Between two heartbeats, in both directions.
    public var heartbeatSeconds: Double
    /// A peer that was silent for so long has left.
    public var heartbeatTimeoutSeconds: Double

    /// The names in the canonical form, which is hashed: they never change, whatever the properties are called.
    private enum CodingKeys: String, CodingKey {
        case version, seed, train, perturbation, sampling, momentum
        case dampedComponents = "shapeComponents"
        case basisDigest, epsilon, learningRate, schedule, warmupRounds, rounds, samplesPerRound
        case batchSize = "examplesPerSample"
        case targetMagnitude, task, digestEvery, evaluateEvery, minimumWorkers, roundDeadlineFactor, quorum, staleness, roundSeconds
        case samplesPerBatch = "samplesPerDraw"
        case retiredCandidatesPerExample = "candidatesPerExample"
        case estimator, steering, filter
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
        self.evictsFaultyMachines = evictsFaultyMachines
        self.heartbeatSeconds = heartbeatSeconds
        self.heartbeatTimeoutSeconds = heartbeatTimeoutSeconds
    }
}

extension RunSpec {
    /// Begins a pattern of `train` that names places of adapters, such as `adapter:final`.
    public static let adapterPrefix = "adapter:"

    /// Whether any trained tensor is an adapter, and whether all are.
    public var trainsAdapters: Bool { train.contains { $0.hasPrefix(Self.adapterPrefix) } }
    public var trainsOnlyAdapters: Bool { train.allSatisfy { $0.hasPrefix(Self.adapterPrefix) } }
    /// Whether the run's directions or adapters are made from a basis record, which is then part of the run.
    public var needsBasis: Bool { dampedComponents > 0 || trainsAdapters }
}

public enum LearningRateSchedule: String, Codable, Hashable, Sendable, CaseIterable {
    case constant, linear, cosine
}

/// How a worker finds a sample's projected gradient. Its bytes mean the same to everybody else.
public enum EstimatorKind: String, Codable, Hashable, Sendable, CaseIterable {
    /// (L(θ+εz) − L(θ−εz)) / 2ε: exact to second order in ε.
    case twoSided = "two-sided"
    /// (L(θ+εz) − L(θ)) / ε: half the work, since all directions on an example share L(θ); off by ε·zᵀHz/2, H being the Hessian.
    case oneSided = "one-sided"
}

/// How an example becomes tokens and a loss.
public struct TaskSpec: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
        /// `text` + `label`: the template with its label word; the loss is over the label words.
        case classification
        /// `prompt` + `completion`: mean token loss on the completion.
        case completion
        /// `messages`: the model's chat template; mean token loss on the assistant's turns.
        case chat
        /// `text`: mean token loss on all of it.
        case text
    }

    public var kind: Kind
    /// For `classification`: the prompt with `{text}` (or any other field of the example in braces) where it goes.
    public var template: String?
    /// For `classification`: label → word, in the order of the classes.
    public var labels: [LabelWord]?
    /// Longest sequence in tokens; a longer text is cut so that the template and the label word stay whole.
    public var maxLength: Int
    /// What is minimised in place of the kind's own loss; nil: that loss.
    public var objective: Objective?
    /// How the texts come about that the objective `command` scores; nil for all others.
    public var writing: Writing?
    /// q, above 0 to 1, of the generalized cross-entropy (1 − p^q)/q that is minimised in place of −log p, p being the right class's
    /// probability (Zhang & Sabuncu 2018); nil: −log p. Held-out losses stay −log p, the validation loss, which steers, does not.
    public var generalizedCrossEntropy: Double?

    private enum CodingKeys: String, CodingKey {
        case kind, template, labels, maxLength, objective, writing, generalizedCrossEntropy
    }

    public init(
        kind: Kind, template: String? = nil, labels: [LabelWord]? = nil, maxLength: Int, objective: Objective? = nil, writing: Writing? = nil,
        generalizedCrossEntropy: Double? = nil
    ) {
        self.writing = writing
        self.generalizedCrossEntropy = generalizedCrossEntropy
        self.kind = kind
        self.template = template
        self.labels = labels
        self.maxLength = maxLength
        self.objective = objective
    }
}

/// A score that has no derivative, over all examples of a sample at once. The run's losses are then 1 − score (−score for `command`,
/// whose scale nobody here knows): those of samples, of validations and of held-out data.
public enum Objective: String, Codable, Hashable, Sendable, CaseIterable {
    /// The part that is classified right.
    case accuracy
    /// The mean of the classes' F1 scores (macro F1), over the classes that occur or are predicted.
    case f1
    /// The part of the completions that greedy decoding gives token for token.
    case exactMatch = "exact-match"
    /// The mean of the scores that a program outside gives to what the model writes after each prompt. Which program that is, is every
    /// host's own affair and not in the spec: a coordinator must not be able to make a worker run anything.
    case command
}

/// How a model writes the texts that a program outside scores: always the likeliest token.
public struct Writing: Codable, Hashable, Sendable {
    public static let maxTokensRange = 1...4096
    public static let defaultMaxTokens = 16

    /// New tokens at most.
    public var maxTokens: Int
    /// A line break ends the text too, beside the model's own end of text; nil: only that.
    public var stopsAtNewline: Bool?

    private enum CodingKeys: String, CodingKey { case maxTokens, stopsAtNewline }

    public init(maxTokens: Int = Writing.defaultMaxTokens, stopsAtNewline: Bool? = nil) {
        self.maxTokens = maxTokens
        self.stopsAtNewline = stopsAtNewline
    }
}

/// A verbaliser: what the model is to say for a label, such as label `1`, word ` great`.
public struct LabelWord: Codable, Hashable, Sendable {
    public var label: String
    public var word: String

    private enum CodingKeys: String, CodingKey { case label, word }

    public init(label: String, word: String) {
        self.label = label
        self.word = word
    }
}
