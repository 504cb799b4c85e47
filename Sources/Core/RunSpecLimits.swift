/// The values that a run's settings may have. Whoever reads settings and whoever reads a spec from a ledger or a coordinator checks the
/// same numbers. A range may grow; it never shrinks below what an earlier version let through, or that version's ledgers stop replaying.
public enum RunSpecLimits {
    /// Components of each input space that rank1 directions avoid; 0: none.
    public static let dampedComponents = 0...255
    /// ε of the difference.
    public static let epsilon = 1e-8...1.0
    public static let learningRate = 1e-12...1e3
    /// Round numbers are counted in 32 bits with a sign.
    public static let rounds = 1...Int(Int32.max)
    public static let warmupRounds = 0...Int(Int32.max)
    /// Rounds between two evaluations, or between two comparisons of the digests; 0: none between the first and the last.
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
    /// Multiple of the usual answer time that closes a round; beside it 0: never.
    public static let roundDeadlineFactor = 1.0...1e6
    /// Part of a round's samples.
    public static let quorum = 0.0...1.0
    /// Rounds that a worker may be ahead or late.
    public static let staleness = 0...64
    /// Seconds of a time-boxed round: at least one tick, at most a day.
    public static let roundSeconds = ProtocolLimits.tickSeconds...86400
    /// Rounds of a trial of the learning rate.
    public static let trialRounds = 1...1 << 20
    /// Part by which the validation loss may be above the lowest.
    public static let guardTolerance = 0.0...1e6
    /// Validations without a new lowest loss.
    public static let patience = 1...1 << 20
    /// q of the generalized cross-entropy; 0: the plain one.
    public static let generalizedCrossEntropy = 0.0...1.0
    /// Multiple of the median that a filter lets through; 127 is the largest byte.
    public static let filterFactor = 1.0...127.0
    /// Seconds between heartbeats. A machine that wakes every `ProtocolLimits.tickSeconds` can't send them more often.
    public static let heartbeatSeconds = ProtocolLimits.tickSeconds...3600
    /// Seconds of silence after which a peer has left.
    public static let heartbeatTimeoutSeconds = 0.2...86400
    /// Tokens of a sequence: one to read and one to predict, at least.
    public static let maxLength = 2...1 << 20

    /// "1…64", as messages and pages show a range.
    public static func text<Value: LosslessStringConvertible>(_ range: ClosedRange<Value>) -> String {
        func short(_ value: Value) -> String {
            let text = "\(value)"
            return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
        }
        return "\(short(range.lowerBound))…\(short(range.upperBound))"
    }
}
