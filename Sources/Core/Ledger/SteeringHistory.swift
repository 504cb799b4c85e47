/// How a run controls its own step (docs/reference/steering.md). All decisions are made on validation examples, which at least one evaluator must
/// have. They are never the held-out examples that judge the result.
public struct Steering: Codable, Hashable, Sendable {
    /// Number of rounds in each of the trials at the start that choose the learning rate. Each trial is taken back exactly. Nil: no trials.
    public var trialRounds: Int?
    /// Tolerance of the guard. If the validation loss is above (1 + this) times the lowest, the run goes back to the round of the lowest, or to where
    /// a young rate began (`SteeringHistory.returnPoint`), and continues with half the learning rate. Nil: never.
    public var guardTolerance: Double?
    /// Number of validations in a row without a new lowest loss after which the run ends, at the round of the lowest loss; nil: it goes on to its
    /// last round.
    public var patience: Int?

    public init(trialRounds: Int? = nil, guardTolerance: Double? = nil, patience: Int? = nil) {
        self.trialRounds = trialRounds
        self.guardTolerance = guardTolerance
        self.patience = patience
    }
}

/// The state of a run's steering, folded from its ledger's records, so that a restarted coordinator steers as the one before would have.
public struct SteeringHistory: Sendable {
    /// A validation loss that was lower than all before it.
    public struct Low: Hashable, Sendable {
        /// The loss is of the parameters before this round.
        public let round: RoundNumber
        public let loss: Double
        /// The movement from the base, and the noise of the loss's change; NaN if no evaluator reported it.
        var moved = Double.nan
        var noise = Double.nan
        /// Magnitude of the bytes that were found near these parameters.
        var near = MeanMagnitude()
    }

    /// Mean |g| of some bytes. All bytes of one batch ("draw") read the same examples, and gradients differ far more between examples than between
    /// directions. So the number of batches tells how well the mean is known.
    struct MeanMagnitude: Hashable, Sendable {
        var sum = 0.0
        var bytes = 0
        var draws = 0

        var mean: Double { sum / Double(max(bytes, 1)) }

        func covers(_ size: (bytes: Int, draws: Int)) -> Bool { bytes >= size.bytes && draws >= size.draws }

        static func += (a: inout Self, b: Self) {
            a.sum += b.sum
            a.bytes += b.bytes
            a.draws += b.draws
        }
    }

    /// There is an alarm if the mean |g| of recent bytes is above this multiple of the mean near the best parameters. Directions that were flat have
    /// then become steep. A step that is too large does that within a few rounds, long before the next validation.
    public static let alarmingMagnitude = 1.5
    /// Numbers of bytes and batches from which a mean |g| is known well enough. An alarm needs 512 batches, whose mean is known to about 5 %. The
    /// reference needs fewer: it must be taken before a step that is too large has changed it.
    private static let alarmSize = (bytes: 1024, draws: 512)
    private static let referenceSize = (bytes: 256, draws: 64)
    /// A round's mean |q| must lie in this range for its bytes to tell the mean |g|. If the scale is too coarse, they are nearly all 0 (as in a first
    /// round with small gradients); if it is too fine, they are saturated.
    private static let usableMagnitudes = 2.0...110
    private let samplesPerBatch: Int
    /// Magnitudes of the rounds since the last rewind, the newest last: as many as an alarm needs.
    private var rounds: [MeanMagnitude] = []

    private var recent: MeanMagnitude { rounds.reduce(into: MeanMagnitude()) { $0 += $1 } }

    /// Whether the bytes' mean magnitude is above the alarm's limit.
    public var isAlarmed: Bool {
        guard let near = best?.near, near.covers(Self.referenceSize) else { return false }
        let recent = recent
        return recent.covers(Self.alarmSize) && recent.mean > Self.alarmingMagnitude * near.mean
    }

    mutating func fold(_ round: RoundRecord) {
        roundsAtThisRate += 1
        let (sum, count) = round.magnitude
        let draws = round.contributions.reduce(0) { $0 + ($1.validCount + samplesPerBatch - 1) / samplesPerBatch }
        guard count > 0, Self.usableMagnitudes.contains(sum / Double(count)) else { return }
        let found = MeanMagnitude(
            sum: sum * Double(sign: .plus, exponent: Int(round.scaleExponent), significand: 1), bytes: count, draws: draws)
        // The first bytes after the best parameters were measured, or after the run went back to them, were found near them. Each time that the run
        // goes back there, the mean is known better. So a mean that happened to be low does not cause alarms for ever.
        if !lows.isEmpty, !recent.covers(Self.referenceSize) { lows[lows.count - 1].near += found }
        rounds.append(found)
        while rounds.dropFirst().reduce(into: MeanMagnitude(), { $0 += $1 }).covers(Self.alarmSize) { rounds.removeFirst() }
    }

    /// Each is lower than the one before. Those of void rounds are removed.
    private var lows: [Low] = []
    /// The round at which the present learning rate began: the run's first round, or the round that the run last went back to for another rate.
    private var rateStart: RoundNumber = 0
    /// Number of rounds since then.
    private var roundsAtThisRate = 0

    /// Returns the point from which the run continues with a smaller step. Parameters that were reached with too large a rate carry its noise, even
    /// if they were the best so far. So if the rate was young there, the run goes back to where the rate began, and nothing of it stays; otherwise to
    /// the best.
    ///
    /// - Parameters:
    ///   - nextRound: the ledger's next round.
    ///   - youth: number of rounds for which a rate counts as young. This bounds what is lost besides the rounds since the best.
    public func returnPoint(from nextRound: RoundNumber, youth: Int) -> Low? {
        guard let best else { return nil }
        let roundsToBest = roundsAtThisRate - (Int(nextRound) - Int(best.round))
        return roundsToBest <= youth ? lows.last { $0.round <= rateStart } ?? best : best
    }

    /// Number of validations since the lowest loss.
    public private(set) var sinceBest = 0
    /// Number of times that the run went back since the lowest loss.
    public private(set) var rewindsSinceBest = 0
    /// Position of the last validation, in ledger records. An earlier measurement would tell nothing new.
    public private(set) var position: UInt64 = 0
    /// Rates that were tried, as powers of two relative to the run's own, and the validation loss of each.
    public private(set) var trials: [Int: Double] = [:]
    /// Whether trials are under way, so that the rate is not chosen yet.
    public private(set) var isSearching: Bool

    /// The last validation, whether it judged a trial, and the movement at it; nil if the run has gone back since.
    public private(set) var latest: (loss: Double, isTrial: Bool, moved: Double)?

    /// Whether steering takes noise and movement into account, as it does since format 3. Ledgers of earlier formats are steered as they began.
    private let isCareful: Bool
    /// Noise of each trial's loss, by rate shift.
    private var trialNoise: [Int: Double] = [:]

    /// Largest movement that steering accepts, as a part of a tensor's norm. Beyond it, the model loses its other abilities.
    public static let largestMovement = 0.5

    /// The rate shift that the trials choose; nil before the first trial. A trial is short, and a small rate learns slowly. So if no trial is better
    /// than the base by more than noise, the given rate is chosen. And noise lowers the rate by at most one octave.
    public var chosenRate: Int? {
        guard let lowest = RateSearch.best(of: trials) else { return nil }
        guard isCareful, let noise = trialNoise[lowest], noise.isFinite, let loss = trials[lowest], loss.isFinite else { return lowest }
        if let base = lows.first, base.round == 0, let given = trials[0], given.isFinite, base.loss - loss <= 2 * noise { return 0 }
        return RateSearch.best(of: trials.filter { $0.key >= lowest - 1 }, within: noise)
    }

    /// Whether the lowest loss is below the base's by more than noise. Only then may `patience` end the run.
    public var hasLearned: Bool {
        guard isCareful, let base = lows.first, base.round == 0, let best else { return true }
        return best.round > 0 && base.loss - best.loss > 2 * (best.noise.isFinite ? best.noise : 0)
    }

    /// Whether the parameters had moved too far at the last validation.
    public var hasMovedTooFar: Bool { isCareful && (latest?.moved ?? 0) > Self.largestMovement }

    /// The point to which a run that has moved too far goes back: the newest low with at most half of the largest movement. From there on the step
    /// is halved.
    public var nearPoint: Low? { lows.last { !($0.moved > Self.largestMovement / 2) } ?? lows.first }

    /// The point of the lowest validation loss.
    public var best: Low? { lows.last }

    init(_ spec: RunSpec, format: UInt32) {
        isCareful = format >= 3
        isSearching = spec.steering?.trialRounds != nil
        samplesPerBatch = spec.samplesPerBatch ?? 1
    }

    /// - Parameter rateShift: the shift with which the rounds before it were made.
    mutating func fold(_ validation: Validation, rateShift: Int) {
        position = validation.position
        // A loss that is not finite is worse than any other.
        let loss = validation.loss.isFinite ? validation.loss : .infinity
        let isTrial = isSearching && validation.isTrialOver
        latest = (loss, isTrial, validation.moved)
        if isTrial {
            trials[rateShift] = isCareful && validation.moved > Self.largestMovement ? .infinity : loss
            trialNoise[rateShift] = validation.noise
            // The last trial was the best, so its rounds stand.
            if RateSearch.next(after: trials) == nil, chosenRate == rateShift { isSearching = false }
        }
        if loss < (best?.loss ?? .infinity) {
            lows.append(Low(round: validation.round, loss: loss, moved: validation.moved, noise: validation.noise, near: recent))
            (sinceBest, rewindsSinceBest) = (0, 0)
        } else {
            sinceBest += 1
        }
    }

    mutating func fold(_ rewind: Rewind) {
        lows.removeAll { $0.round > rewind.round }
        latest = nil
        rounds = []
        if rewind.rateShift != 0 {
            (rateStart, roundsAtThisRate) = (rewind.round, 0)
        } else {
            // This is the same rate at an earlier round, which makes it no younger.
            rateStart = min(rateStart, rewind.round)
        }
        sinceBest = 0
        rewindsSinceBest += 1
        if isSearching, !trials.isEmpty {
            rewindsSinceBest = 0
            isSearching = RateSearch.next(after: trials) != nil
        }
    }
}

/// Chooses the learning rates to try: powers of two of the given one, first far apart, then near the best.
public enum RateSearch {
    /// Largest number of trials, however far the best rate is.
    public static let most = 9
    private static let farthest = 12

    /// Returns the next rate to try, given the losses so far; nil if enough is known.
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

    /// Returns the rate with the lowest loss; of equals, the smaller. With `noise`, returns the smallest rate whose loss is at most `noise` above
    /// the lowest.
    public static func best(of losses: [Int: Double], within noise: Double = 0) -> Int? {
        guard let lowest = losses.min(by: { ($0.value, $0.key) < ($1.value, $1.key) }) else { return nil }
        guard noise > 0, lowest.value.isFinite else { return lowest.key }
        return losses.filter { $0.value <= lowest.value + noise }.keys.min()
    }
}
