/// How a run looks after its own step (docs/steering.md). All of it is judged on validation examples, which at least one evaluator must
/// have; they are never the held-out ones that judge the result.
public struct Steering: Codable, Hashable, Sendable {
    /// Rounds of each of the trials at the start that choose the learning rate, every one taken back exactly; nil: no trials.
    public var trialRounds: Int?
    /// Where the validation loss is above (1 + this) times the lowest, the run goes back to the round of the lowest and on with half
    /// the learning rate; nil: never.
    public var guardTolerance: Double?
    /// So many validations in a row without a new lowest loss end the run at the round of the lowest; nil: it goes on to its last round.
    public var patience: Int?

    public init(trialRounds: Int? = nil, guardTolerance: Double? = nil, patience: Int? = nil) {
        self.trialRounds = trialRounds
        self.guardTolerance = guardTolerance
        self.patience = patience
    }
}

/// What a ledger's validations say, folded with its records: a coordinator that is started again steers on as the one before would have.
public struct SteeringHistory: Sendable {
    public struct Low: Hashable, Sendable {
        /// The parameters before this round.
        public let round: RoundNumber
        public let loss: Double
        /// Mean |g| of the bytes found near its parameters; nil until there are enough.
        var magnitude: Double?
    }

    /// Mean |g| of recent bytes above so many times that near the best parameters is an alarm: directions that were shallow have become
    /// steep, which a step too large does within a few rounds, long before the next validation.
    public static let alarmingMagnitude = 1.5
    /// Bytes that tell a mean |g| well enough: for an alarm, and for what it is held against.
    private static let alarmBytes = 1024
    private static let referenceBytes = 256
    /// A round's mean |q| within which its bytes tell the mean |g|: at a scale that is too coarse they are nearly all 0 (as in a first
    /// round of small gradients), at one too fine they are saturated.
    private static let tellingMagnitudes = 2.0...110
    /// Of rounds since the last rewind, the newest last: the sum of |g| and the number of bytes.
    private var recent: [(sum: Double, count: Int)] = []

    private var recentBytes: Int { recent.reduce(0) { $0 + $1.count } }
    private var recentMagnitude: Double { recent.reduce(0) { $0 + $1.sum } / Double(max(recentBytes, 1)) }

    /// Whether the bytes' mean magnitude has left the good range.
    public var isAlarmed: Bool {
        guard recentBytes >= Self.alarmBytes, let usual = best?.magnitude else { return false }
        return recentMagnitude > Self.alarmingMagnitude * usual
    }

    mutating func fold(_ round: RoundRecord) {
        var (sum, count) = (0, 0)
        for q in round.contributions.lazy.flatMap(\.bytes) where q != Contribution.noValue {
            sum += abs(Int(q))
            count += 1
        }
        guard count > 0, Self.tellingMagnitudes.contains(Double(sum) / Double(count)) else { return }
        recent.append((Double(sum) * Double(sign: .plus, exponent: Int(round.scaleExponent), significand: 1), count))
        while let first = recent.first, recentBytes - first.count >= Self.alarmBytes { recent.removeFirst() }
        if !lows.isEmpty, lows[lows.count - 1].magnitude == nil, recentBytes >= Self.referenceBytes {
            lows[lows.count - 1].magnitude = recentMagnitude
        }
    }

    /// Each lower than the one before; those of void rounds are gone.
    private var lows: [Low] = []
    /// Validations since the lowest.
    public private(set) var sinceBest = 0
    /// Times that the run went back since the lowest.
    public private(set) var rewindsSinceBest = 0
    /// Of the last validation, in ledger records: a later one knows more.
    public private(set) var position: UInt64 = 0
    /// Trial rates, as powers of two of the run's own, and the validation loss that each came to.
    public private(set) var trials: [Int: Double] = [:]
    /// Trials are under way: the rate is not chosen yet.
    public private(set) var isSearching: Bool

    /// The last validation, if the run has not gone back since; whether it judged a trial.
    public private(set) var latest: (loss: Double, isTrial: Bool)?

    /// The one of the lowest validation loss.
    public var best: Low? { lows.last }

    init(_ steering: Steering?) { isSearching = steering?.trialRounds != nil }

    /// - Parameter rateShift: at which the rounds before it were made.
    mutating func fold(_ validation: Validation, rateShift: Int) {
        position = validation.position
        // A loss that is not finite is worse than any other.
        let loss = validation.loss.isFinite ? validation.loss : .infinity
        let isTrial = isSearching && validation.isTrialOver
        latest = (loss, isTrial)
        if isTrial {
            trials[rateShift] = loss
            // The last trial was the best: its rounds stand.
            if RateSearch.next(after: trials) == nil, RateSearch.best(of: trials) == rateShift { isSearching = false }
        }
        if loss < (best?.loss ?? .infinity) {
            lows.append(Low(round: validation.round, loss: loss, magnitude: recentBytes >= Self.referenceBytes ? recentMagnitude : nil))
            (sinceBest, rewindsSinceBest) = (0, 0)
        } else {
            sinceBest += 1
        }
    }

    mutating func fold(_ rewind: Rewind) {
        lows.removeAll { $0.round > rewind.round }
        latest = nil
        recent = []
        sinceBest = 0
        rewindsSinceBest += 1
        if isSearching, !trials.isEmpty {
            rewindsSinceBest = 0
            isSearching = RateSearch.next(after: trials) != nil
        }
    }
}

/// Which learning rates to try: powers of two of the given one, first far apart, then near the best.
public enum RateSearch {
    /// Trials in all, however far the best wanders.
    public static let most = 9
    private static let farthest = 12

    /// The next to try, given the losses so far; nil where enough is known.
    public static func next(after losses: [Int: Double]) -> Int? {
        guard let best = best(of: losses) else { return 0 }
        guard losses.count < most else { return nil }
        for stride in [2, 1] {
            for neighbour in [best - stride, best + stride] where losses[neighbour] == nil && abs(neighbour) <= farthest {
                return neighbour
            }
        }
        return nil
    }

    /// The one of the lowest loss, the smaller of equals.
    public static func best(of losses: [Int: Double]) -> Int? {
        losses.min { ($0.value, $0.key) < ($1.value, $1.key) }?.key
    }
}
