import Core
import Foundation

/// How long a run will still take, from the times of its rounds so far.
///
/// Three things make the mean of all rounds a bad guess, and each is taken into account: the first rounds wait for hidden states that later
/// ones find in the prefix cache, trials of the rate take their rounds back, and one long standstill (a rebuild after a retraction, a worker
/// that was lost) says nothing of the rounds to come.
package struct TimeLeft: Hashable, Sendable {
    /// What is known of the run beforehand.
    package struct Plan: Hashable, Sendable {
        package var rounds: Int
        /// Of each trial of the rate; nil: no trials.
        package var trialRounds: Int?
        package var learningRate: Double
        /// A round that finds all hidden states, as it was measured before the run; nil: not known.
        package var secondsOfCachedRound: Double?

        package init(rounds: Int, trialRounds: Int? = nil, learningRate: Double = 1, secondsOfCachedRound: Double? = nil) {
            self.rounds = rounds
            self.trialRounds = trialRounds
            self.learningRate = learningRate
            self.secondsOfCachedRound = secondsOfCachedRound
        }
    }

    private let plan: Plan
    /// Seconds from commit to commit, the newest last.
    private var paces: [Double] = []
    private var lastRoundAt: Double?
    private var roundsInForce = 0
    /// Trials with a loss, as powers of two of the plan's rate.
    private var trials: [Int: Double] = [:]
    private var isChosen: Bool
    /// The part of the training examples' hidden states that is there, with when it was first and last heard of.
    private var cache: (first: Known, last: Known)?

    private struct Known: Hashable, Sendable {
        let time: Double
        let part: Double
    }

    /// The fastest round while hidden states were still missing; nil where none ever were.
    private var fastestOfFilling: Double?

    /// Rounds that tell the pace: enough that a few evaluations are among them.
    private static let window = 60
    /// Rounds that were seen, before anything is said.
    private static let fewest = 3
    /// A round so many times as long as the next longest one is a standstill, which will not come again.
    private static let standstill = 4.0

    package init(_ plan: Plan) {
        self.plan = plan
        isChosen = plan.trialRounds == nil
    }

    package static func == (a: Self, b: Self) -> Bool {
        (a.plan, a.paces, a.roundsInForce, a.trials, a.isChosen) == (b.plan, b.paces, b.roundsInForce, b.trials, b.isChosen)
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(paces)
        hasher.combine(roundsInForce)
    }

    /// A coordinator begins anew: what was before its start says nothing of the time from here on.
    package mutating func beginProcess() {
        lastRoundAt = nil
        paces = []
        cache = nil
        fastestOfFilling = nil
    }

    /// A round was committed.
    ///
    /// - Parameters:
    ///   - seconds: from its opening.
    ///   - roundsInForce: this one included.
    package mutating func takeRound(at time: Double, seconds: Double, roundsInForce: Int) {
        let pace = lastRoundAt.map { time - $0 } ?? seconds
        if pace.isFinite, pace >= 0 { paces.append(pace) }
        if paces.count > Self.window { paces.removeFirst() }
        lastRoundAt = time
        self.roundsInForce = roundsInForce
    }

    /// - Parameter part: of the hidden states of all training examples on all workers, 0…1.
    package mutating func takeCache(_ part: Double, at time: Double) {
        let known = Known(time: time, part: part)
        if part >= 1, let cache, cache.last.part < 1 {
            // The rounds that waited for hidden states say nothing of those to come.
            fastestOfFilling = paces.min()
            paces = []
        }
        // What was filled before the first round has no part in the rounds' pace.
        guard lastRoundAt != nil, let cache, part >= cache.last.part else {
            cache = (known, known)
            return
        }
        self.cache = (cache.first, known)
    }

    package mutating func takeTrial(learningRate: Double, loss: Double?, isChosen: Bool) {
        guard plan.trialRounds != nil, learningRate > 0, plan.learningRate > 0 else { return }
        let shift = (log2(learningRate / plan.learningRate)).rounded()
        guard shift.magnitude < 64 else { return }
        trials[Int(shift)] = loss ?? .infinity
        self.isChosen = self.isChosen || isChosen
    }

    /// Rounds to come, those among them that trials will take back.
    package var roundsLeft: Int {
        let proper = max(0, plan.rounds - roundsInForce)
        guard !isChosen, let trial = plan.trialRounds else { return proper }
        // Suppose that the best so far stays the best.
        var known = trials
        var further = 0
        while let next = RateSearch.next(after: known) {
            known[next] = .infinity
            if known.count == 1 { known[next] = 0 }
            further += 1
        }
        return max(0, further * trial - min(roundsInForce, trial)) + plan.rounds
    }

    /// Nil while too little is known.
    package var seconds: Double? {
        let left = Double(roundsLeft)
        guard paces.count >= Self.fewest else {
            // Soon after the last hidden state is there, a round takes as long as the fastest before, or as those since.
            guard let fastest = fastestOfFilling else { return nil }
            return left * (paces.min() ?? min(fastest, plan.secondsOfCachedRound ?? fastest))
        }
        guard let cache, cache.last.part < 1 else { return left * pace(of: paces) }
        let filled = cache.last.part - cache.first.part
        let time = cache.last.time - cache.first.time
        let cached = plan.secondsOfCachedRound ?? paces.sorted()[paces.count / 10]
        let now = max(pace(of: paces), cached)
        guard filled > 0, time > 0, now > 0 else { return left * now }
        let roundsOfFilling = min(left, (1 - cache.last.part) * time / filled / now)
        return roundsOfFilling * now + (left - roundsOfFilling) * cached
    }

    /// Mean seconds of a round, without one standstill.
    private func pace(of paces: [Double]) -> Double {
        var sorted = paces.sorted()
        if sorted.count >= Self.fewest, let longest = sorted.last, longest > Self.standstill * sorted[sorted.count - 2] { sorted.removeLast() }
        return sorted.reduce(0, +) / Double(max(sorted.count, 1))
    }
}
