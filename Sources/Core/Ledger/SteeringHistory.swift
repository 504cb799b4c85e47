/// How a run looks after its own step (docs/reference/steering.md). All of it is judged on validation examples, which at least one evaluator must
/// have; they are never the held-out ones that judge the result.
public struct Steering: Codable, Hashable, Sendable {
    /// Rounds of each of the trials at the start that choose the learning rate, every one taken back exactly; nil: no trials.
    public var trialRounds: Int?
    /// Where the validation loss is above (1 + this) times the lowest, the run goes back to the round of the lowest, or to where a young
    /// rate began (`SteeringHistory.returnPoint`), and on with half the learning rate; nil: never.
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
        /// How far the parameters had moved from the base, and how well the loss's change is known; NaN where nobody said.
        var moved = Double.nan
        var noise = Double.nan
        /// The bytes found near its parameters.
        var near = MeanMagnitude()
    }

    /// Mean |g| of some bytes. Those of one draw read the same examples, whose gradients differ far more than directions do: it is the
    /// number of draws that says how well the mean is known.
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

    /// Mean |g| of recent bytes above so many times that near the best parameters is an alarm: directions that were shallow have become
    /// steep, which a step too large does within a few rounds, long before the next validation.
    public static let alarmingMagnitude = 1.5
    /// What tells a mean |g| well enough: for an alarm, where the mean of 512 draws is known to 5 % or so, and for what it is held
    /// against, which a step too large must not have changed yet.
    private static let alarmSize = (bytes: 1024, draws: 512)
    private static let referenceSize = (bytes: 256, draws: 64)
    /// A round's mean |q| within which its bytes tell the mean |g|: at a scale that is too coarse they are nearly all 0 (as in a first
    /// round of small gradients), at one too fine they are saturated.
    private static let tellingMagnitudes = 2.0...110
    private let samplesPerBatch: Int
    /// Of rounds since the last rewind, the newest last: as many as an alarm needs.
    private var rounds: [MeanMagnitude] = []

    private var recent: MeanMagnitude { rounds.reduce(into: MeanMagnitude()) { $0 += $1 } }

    /// Whether the bytes' mean magnitude has left the good range.
    public var isAlarmed: Bool {
        guard let near = best?.near, near.covers(Self.referenceSize) else { return false }
        let recent = recent
        return recent.covers(Self.alarmSize) && recent.mean > Self.alarmingMagnitude * near.mean
    }

    mutating func fold(_ round: RoundRecord) {
        roundsAtThisRate += 1
        let (sum, count) = round.magnitude
        let draws = round.contributions.reduce(0) { $0 + ($1.validCount + samplesPerBatch - 1) / samplesPerBatch }
        guard count > 0, Self.tellingMagnitudes.contains(sum / Double(count)) else { return }
        let found = MeanMagnitude(
            sum: sum * Double(sign: .plus, exponent: Int(round.scaleExponent), significand: 1), bytes: count, draws: draws)
        // The first bytes after the best parameters were measured, or gone back to, were found near them. Each time that the run goes back
        // there they are known better: a mean that happened to be low does not sound the alarm for ever.
        if !lows.isEmpty, !recent.covers(Self.referenceSize) { lows[lows.count - 1].near += found }
        rounds.append(found)
        while rounds.dropFirst().reduce(into: MeanMagnitude(), { $0 += $1 }).covers(Self.alarmSize) { rounds.removeFirst() }
    }

    /// Each lower than the one before; those of void rounds are gone.
    private var lows: [Low] = []
    /// Where the present learning rate began: the run last went back to before this round for another rate, or began.
    private var rateStart: RoundNumber = 0
    /// Rounds since then.
    private var roundsAtThisRate = 0

    /// Where the run is to go back to for a smaller step. What a rate too large reached carries its noise, also where it was the best so
    /// far: if the rate was young there, the run goes back to where it began, so that nothing of it stays; else to the best.
    ///
    /// - Parameters:
    ///   - nextRound: the ledger's.
    ///   - youth: rounds up to which a rate is young: what is lost besides those since the best.
    public func returnPoint(from nextRound: RoundNumber, youth: Int) -> Low? {
        guard let best else { return nil }
        let roundsToBest = roundsAtThisRate - (Int(nextRound) - Int(best.round))
        return roundsToBest <= youth ? lows.last { $0.round <= rateStart } ?? best : best
    }

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

    /// The last validation, if the run has not gone back since; whether it judged a trial; how far the parameters had moved.
    public private(set) var latest: (loss: Double, isTrial: Bool, moved: Double)?

    /// Ledgers since format 3 are steered by rules that know noise and movement; earlier ones as they began.
    private let isCareful: Bool
    private let trialRounds: Int?
    private let roundsOfRun: Int
    private let isConstant: Bool
    /// Of each trial's loss.
    private var trialNoise: [Int: Double] = [:]

    /// A tensor that has moved by more than this part of its norm is another one: what else the model could do is gone.
    public static let largestMovement = 0.5

    /// The trial that is best, the smaller rate within its noise; nil before the first.
    public var chosenRate: Int? {
        guard let lowest = RateSearch.best(of: trials) else { return nil }
        let noise = trialNoise[lowest] ?? .nan
        return RateSearch.best(of: trials, within: isCareful && noise.isFinite ? noise : 0)
    }

    /// Whether the lowest loss is below the base's by more than its noise explains: what `patience` may end for.
    public var hasLearned: Bool {
        guard isCareful, let base = lows.first, base.round == 0, let best else { return true }
        return best.round > 0 && base.loss - best.loss > 2 * (best.noise.isFinite ? best.noise : 0)
    }

    /// The parameters at the last validation have moved too far.
    public var hasMovedTooFar: Bool { isCareful && (latest?.moved ?? 0) > Self.largestMovement }

    /// Where a run that has moved too far goes back to: the newest low that is not half as far, for half the step from there on.
    public var nearPoint: Low? { lows.last { !($0.moved > Self.largestMovement / 2) } ?? lows.first }

    /// How far a trial's parameters would have moved after a run of its rate, whose steps go in all directions: their sum grows as the root of
    /// their number, and where the rate falls to 0 to the root of a third of it.
    private func projected(_ moved: Double) -> Double {
        guard let trialRounds, trialRounds > 0 else { return moved }
        return moved * max(1, (Double(roundsOfRun) / Double(trialRounds) / (isConstant ? 1 : 3)).squareRoot())
    }

    /// The one of the lowest validation loss.
    public var best: Low? { lows.last }

    init(_ spec: RunSpec, format: UInt32) {
        isCareful = format >= 3
        trialRounds = spec.steering?.trialRounds
        roundsOfRun = spec.rounds
        isConstant = spec.schedule == .constant
        isSearching = spec.steering?.trialRounds != nil
        samplesPerBatch = spec.samplesPerBatch ?? 1
    }

    /// - Parameter rateShift: at which the rounds before it were made.
    mutating func fold(_ validation: Validation, rateShift: Int) {
        position = validation.position
        // A loss that is not finite is worse than any other.
        let loss = validation.loss.isFinite ? validation.loss : .infinity
        let isTrial = isSearching && validation.isTrialOver
        latest = (loss, isTrial, validation.moved)
        if isTrial {
            trials[rateShift] = isCareful && projected(validation.moved) > Self.largestMovement ? .infinity : loss
            trialNoise[rateShift] = validation.noise
            // The last trial was the best: its rounds stand.
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
            // The same rate, at an earlier round: no younger for that.
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

    /// The one of the lowest loss, the smaller of equals; with `noise` the smallest whose loss is no more than that above the lowest.
    public static func best(of losses: [Int: Double], within noise: Double = 0) -> Int? {
        guard let lowest = losses.min(by: { ($0.value, $0.key) < ($1.value, $1.key) }) else { return nil }
        guard noise > 0, lowest.value.isFinite else { return lowest.key }
        return losses.filter { $0.value <= lowest.value + noise }.keys.min()
    }
}
