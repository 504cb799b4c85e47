import Core
import Foundation

/// An estimate of the time that a run will still take, from the times of its rounds so far.
///
/// The mean of all rounds would be a bad estimate, for three reasons. The first rounds wait for hidden states that later rounds find in the prefix
/// cache. Trials of the rate take their rounds back. And one long standstill (a rebuild after a retraction, a lost worker) says nothing about later
/// rounds.
package struct TimeLeft: Sendable {
    /// Facts that are known before the run.
    package struct Plan: Hashable, Sendable {
        package var rounds: Int
        /// Number of rounds of each trial of the rate; nil if there are no trials.
        package var trialRounds: Int?
        package var learningRate: Double
        /// Seconds of a round that finds all hidden states, measured before the run; nil if unknown.
        package var secondsOfCachedRound: Double?

        package init(rounds: Int, trialRounds: Int? = nil, learningRate: Double = 1, secondsOfCachedRound: Double? = nil) {
            self.rounds = rounds
            self.trialRounds = trialRounds
            self.learningRate = learningRate
            self.secondsOfCachedRound = secondsOfCachedRound
        }
    }

    private let plan: Plan
    /// Seconds between commits, the newest last.
    private var paces: [Double] = []
    private var lastRoundAt: Double?
    private var roundsInForce = 0
    /// Loss of each trial, by the power of two that multiplies the plan's rate.
    private var trials: [Int: Double] = [:]
    private var isChosen: Bool
    /// The filled part of the training examples' hidden states, at the first and at the last report.
    private var cache: (first: Known, last: Known)?

    private struct Known: Hashable, Sendable {
        let time: Double
        let part: Double
    }

    /// Seconds of the fastest round while hidden states were missing; nil if none were.
    private var fastestOfFilling: Double?

    /// Number of rounds that determine the pace: enough to include a few evaluations.
    private static let window = 60
    /// Least number of rounds before an estimate is given.
    private static let fewest = 3
    /// Ratio of the longest round to the next longest beyond which it counts as a standstill that will not recur.
    private static let standstill = 4.0

    package init(_ plan: Plan) {
        self.plan = plan
        isChosen = plan.trialRounds == nil
    }

    /// Begins a new process of the coordinator. Rounds before its start say nothing about the time from here on.
    package mutating func beginProcess() {
        lastRoundAt = nil
        paces = []
        cache = nil
        fastestOfFilling = nil
    }

    /// Takes a committed round.
    ///
    /// - Parameters:
    ///   - seconds: time since its opening.
    ///   - roundsInForce: number of rounds in force, including this one.
    package mutating func takeRound(at time: Double, seconds: Double, roundsInForce: Int) {
        let pace = lastRoundAt.map { time - $0 } ?? seconds
        if pace.isFinite, pace >= 0 { paces.append(pace) }
        if paces.count > Self.window { paces.removeFirst() }
        lastRoundAt = time
        self.roundsInForce = roundsInForce
    }

    /// - Parameter part: filled part of the hidden states of all training examples on all workers, 0…1.
    package mutating func takeCache(_ part: Double, at time: Double) {
        let known = Known(time: time, part: part)
        if part >= 1, let cache, cache.last.part < 1 {
            // The rounds that waited for hidden states say nothing about later rounds.
            fastestOfFilling = paces.min()
            paces = []
        }
        // States filled before the first round did not slow any round.
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

    /// Number of rounds to come, including those that trials will take back.
    package var roundsLeft: Int {
        let proper = max(0, plan.rounds - roundsInForce)
        guard !isChosen, let trial = plan.trialRounds else { return proper }
        // Assume that the best trial so far stays the best.
        var known = trials
        var further = 0
        while let next = RateSearch.next(after: known) {
            known[next] = .infinity
            if known.count == 1 { known[next] = 0 }
            further += 1
        }
        return max(0, further * trial - min(roundsInForce, trial)) + plan.rounds
    }

    /// Seconds that the run will still take; nil while too little is known.
    package var seconds: Double? {
        let left = Double(roundsLeft)
        guard paces.count >= Self.fewest else {
            // Just after the last hidden state is computed, a round takes as long as the fastest round before, or as the rounds since.
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

    /// Mean seconds of a round, leaving out one standstill.
    private func pace(of paces: [Double]) -> Double {
        var sorted = paces.sorted()
        if sorted.count >= Self.fewest, let longest = sorted.last, longest > Self.standstill * sorted[sorted.count - 2] { sorted.removeLast() }
        return sorted.reduce(0, +) / Double(max(sorted.count, 1))
    }
}
