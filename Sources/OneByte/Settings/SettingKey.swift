import Core
import LanguageModel
import Training

/// Every setting of a run file, by its place in the file. The last part of the place is the flag that overrides it:
/// `training.learning-rate` is `--learning-rate`.
package enum SettingKey: String, CaseIterable, Sendable {
    case model
    case kind = "task.kind"
    case template = "task.template"
    case labels = "task.labels"
    case maxLength = "task.max-length"
    case objective = "task.objective"
    case generalizedCrossEntropy = "task.generalized-cross-entropy"
    case objectiveCommand = "task.objective-command"
    case objectiveMaxTokens = "task.objective-max-tokens"
    case objectiveStop = "task.objective-stop"
    case objectiveTimeout = "task.objective-timeout"
    case trainFile = "data.train-file"
    case evalFile = "data.eval-file"
    case validationFile = "data.validation-file"
    case basisText = "data.basis-text"
    case generalFile = "data.general-file"
    case train = "training.train"
    case perturbation = "training.perturbation"
    case dampedComponents = "training.damped-components"
    case epsilon = "training.epsilon"
    case learningRate = "training.learning-rate"
    case schedule = "training.schedule"
    case warmupRounds = "training.warmup-rounds"
    case rounds = "training.rounds"
    case samplesPerRound = "training.samples-per-round"
    case batchSize = "training.batch-size"
    case samplesPerBatch = "training.samples-per-batch"
    case estimator = "training.estimator"
    case targetMagnitude = "training.target-magnitude"
    case seed = "training.seed"
    case evaluateEvery = "training.evaluate-every"
    case digestEvery = "training.digest-every"
    case rateTrials = "training.rate-trials"
    case guardTolerance = "training.guard"
    case patience = "training.patience"
    case minimumWorkers = "cluster.minimum-workers"
    case roundDeadlineFactor = "cluster.round-deadline-factor"
    case quorum = "cluster.quorum"
    case staleness = "cluster.staleness"
    case roundSeconds = "cluster.round-seconds"
    case filter = "cluster.filter"
    case filterFactor = "cluster.filter-factor"
    case onFaulty = "cluster.on-faulty"
    case heartbeat = "cluster.heartbeat"
    case heartbeatTimeout = "cluster.heartbeat-timeout"
    case workers = "cluster.workers"
    case directory = "cluster.directory"
    case listen = "cluster.listen"
    case cacheMemory = "cluster.cache-memory"
    case cacheDirectory = "cluster.cache-directory"
    case threads = "cluster.threads"
    case precision = "cluster.precision"

    /// `[training]`; empty for what stands before the first section.
    var section: String { rawValue.split(separator: ".").count > 1 ? String(rawValue.split(separator: ".")[0]) : "" }
    /// The key within its section.
    var name: String { String(rawValue.split(separator: ".").last ?? "") }
    /// What it is called on the command line.
    package var flag: String { self == .labels ? "--label" : "--\(name)" }

    /// The settings of `objective = { command = "…", max-tokens = 16 }`, by their names there.
    static let partsOfObjective: [String: SettingKey] = [
        "command": .objectiveCommand, "max-tokens": .objectiveMaxTokens, "stop": .objectiveStop, "timeout": .objectiveTimeout,
    ]

    /// What a value of this setting must be.
    enum ValueType: Sendable {
        case text
        case oneOf([String])
        case integer(ClosedRange<Int>)
        case number(ClosedRange<Double>)
        /// One text or a list of them.
        case texts
        /// A table from text to text.
        case table
        /// A number of bytes such as "2GB".
        case size
    }

    var valueType: ValueType {
        switch self {
        case .model, .template, .trainFile, .evalFile, .validationFile, .basisText, .generalFile, .directory, .listen, .cacheDirectory, .objectiveCommand: .text
        case .kind: .oneOf(TaskSpec.Kind.allCases.map(\.rawValue))
        case .objective: .oneOf(["loss"] + Objective.allCases.map(\.rawValue))
        case .objectiveMaxTokens: .integer(Writing.maxTokensRange)
        case .objectiveStop: .oneOf(["end", "newline"])
        case .objectiveTimeout: .number(0.1...86400)
        case .labels: .table
        case .cacheMemory: .size
        case .train: .texts
        case .perturbation: .oneOf(PerturbationFamily.allCases.map(\.rawValue))
        case .estimator: .oneOf(EstimatorKind.allCases.map(\.rawValue))
        case .schedule: .oneOf(LearningRateSchedule.allCases.map(\.rawValue))
        case .dampedComponents: .integer(0...64)
        case .epsilon: .number(1e-8...1)
        case .learningRate: .number(1e-12...1e3)
        case .maxLength: .integer(TaskEncoder.minimumLength...1 << 17)
        case .warmupRounds: .integer(0...Int(Int32.max))
        case .rounds: .integer(1...Int(Int32.max))
        case .samplesPerRound: .integer(1...1 << 20)
        case .batchSize, .samplesPerBatch: .integer(1...1 << 16)
        case .generalizedCrossEntropy, .quorum: .number(0...1)
        case .rateTrials, .patience: .integer(0...1 << 20)
        case .guardTolerance: .number(0...1e6)
        case .targetMagnitude: .integer(ScaleAdapter.targets)
        case .seed: .integer(0...Int.max)
        case .evaluateEvery, .digestEvery: .integer(0...Int(Int32.max))
        case .workers: .integer(1...256)
        case .threads: .integer(1...1024)
        case .minimumWorkers: .integer(1...1 << 14)
        case .roundDeadlineFactor: .number(0...1e6)
        case .staleness: .integer(0...64)
        case .roundSeconds: .number(0...86400)
        case .filter: .oneOf(["none"] + RoundFilter.Kind.allCases.map(\.rawValue))
        case .filterFactor: .number(1...127)
        case .precision: .oneOf(Precision.allCases.map(\.rawValue))
        case .onFaulty: .oneOf(["show", "evict"])
        case .heartbeat: .number(0.05...600)
        case .heartbeatTimeout: .number(0.2...3600)
        }
    }
}
