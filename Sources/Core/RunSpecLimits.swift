/// The values that a run's settings may have. Code that reads settings, and code that reads a spec from a ledger or from a coordinator, check against
/// the same ranges. A range may grow. It never shrinks below what an earlier version accepted, or that version's ledgers would no longer replay.
public enum RunSpecLimits {
    /// Components of each input space that `rank1` directions leave out; 0: none.
    public static let dampedComponents = 0...255
    /// ε, the length of the difference quotient's step.
    public static let epsilon = 1e-8...1.0
    public static let learningRate = 1e-12...1e3
    /// Round numbers are counted in 32 bits with a sign.
    public static let rounds = 1...Int(Int32.max)
    public static let warmupRounds = 0...Int(Int32.max)
    /// Rounds between two evaluations, or between two comparisons of the digests; 0: only the first and the last.
    public static let roundsBetween = 0...Int(Int32.max)
    public static let samplesPerRound = 1...ProtocolLimits.samplesPerRound
    /// Examples that a direction is tried on. `allExamples` stands for all examples of the worker.
    public static let batchSize = 1...1 << 20
    /// The batch size that means all examples of the worker.
    public static let allExamples = 0
    public static let samplesPerBatch = 1...1 << 16
    /// The mean |q| that the scale is steered to.
    public static let targetMagnitude = ScaleAdapter.targets
    public static let minimumWorkers = 1...ProtocolLimits.peers
    /// A round closes at this multiple of the usual answer time. 0 is allowed too and means never.
    public static let roundDeadlineFactor = 1.0...1e6
    /// Fraction of a round's samples.
    public static let quorum = 0.0...1.0
    /// Rounds that a worker may work ahead, or be late by.
    public static let staleness = 0...64
    /// Seconds of a time-boxed round: at least one tick, at most a day.
    public static let roundSeconds = ProtocolLimits.tickSeconds...86400
    /// Rounds that a trial of the learning rate takes.
    public static let trialRounds = 1...1 << 20
    /// Fraction by which the validation loss may be above the lowest.
    public static let guardTolerance = 0.0...1e6
    /// Validations without a new lowest loss before the run ends.
    public static let patience = 1...1 << 20
    /// q of the generalized cross-entropy; 0: the plain cross-entropy.
    public static let generalizedCrossEntropy = 0.0...1.0
    /// Multiple of the median that a filter lets through. 127 is the largest byte.
    public static let filterFactor = 1.0...127.0
    /// The largest root mean square of an example's projected gradients in a private run.
    public static let privacyClip = 1e-6...1e6
    /// Noise of a private run, as a multiple of the clipped length. 0.05 hides nothing, and beyond 1000 nothing is left to learn from.
    public static let noiseMultiplier = 0.05...1000.0
    /// ε of a private run's budget.
    public static let privacyEpsilon = 1e-3...1e3
    /// δ of a private run's budget.
    public static let privacyDelta = 1e-12...0.1
    /// Seconds between heartbeats. A process that wakes every `ProtocolLimits.tickSeconds` can't send them more often.
    public static let heartbeatSeconds = ProtocolLimits.tickSeconds...3600
    /// Seconds of silence after which a peer counts as gone.
    public static let heartbeatTimeoutSeconds = 0.2...86400
    /// Tokens of a sequence: one to read and one to predict, at least.
    public static let maxLength = 2...1 << 20

    /// Returns a range as messages and pages show it, such as "1…64".
    public static func text<Value: LosslessStringConvertible>(_ range: ClosedRange<Value>) -> String {
        func short(_ value: Value) -> String {
            let text = "\(value)"
            return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
        }
        return "\(short(range.lowerBound))…\(short(range.upperBound))"
    }
}
