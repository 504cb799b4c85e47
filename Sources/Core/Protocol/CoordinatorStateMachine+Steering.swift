/// How the run finds its learning rate and gets out of trouble by itself: it goes back, and the ledger makes that exact.
extension CoordinatorStateMachine {
    /// Whether a trial has had its rounds. No further round opens before the trial's validation has come.
    var isTrialOver: Bool {
        guard ledger.steering.isSearching, let trial = spec.steering?.trialRounds else { return false }
        return ledger.effectiveRounds >= trial
    }

    /// Warns if the run stands still at the end of a trial and no machine is there that could judge it.
    mutating func warnIfUnjudged() {
        guard phase == .running, isTrialOver, pending.isEmpty, !hasReportedUnjudged, !peers.values.contains(where: { $0.hello.evaluates })
        else { return }
        hasReportedUnjudged = true
        let text =
            "a trial of the learning rate has had its rounds and waits for its validation loss, but no machine evaluates: start a worker that measures held-out data and has validation examples"
        effects.append(.notice(.warning(text)))
    }

    /// Takes an evaluator's report into account if validations steer the run.
    mutating func steer(by report: EvaluationReport, of machine: MachineID, at now: Timestamp) {
        // Since format 3, validations are recorded even if they do not steer: they show which round is the best.
        guard spec.steering != nil || ledger.format >= 3, !ledger.isEnded, !ledger.isFinal else { return }
        consider(report, of: machine, at: now)
    }

    /// Acts on the last validation. It also does what a former coordinator process could no longer do.
    mutating func goBackIfDue() {
        guard let steering = spec.steering, !ledger.isEnded, !ledger.isFinal else { return }
        if steering.guardTolerance != nil, !ledger.steering.isSearching, ledger.steering.isAlarmed, let point = returnPoint,
            mayGoBack
        {
            effects.append(.notice(.warning("the mean |g| is above \(SteeringHistory.alarmingMagnitude) times that near the best parameters")))
            rewind(to: point.round, rateShift: -1)
        }
        guard let latest = ledger.steering.latest else { return }
        if latest.isTrial {
            let trials = ledger.steering.trials
            guard ledger.steering.isSearching, let shift = RateSearch.next(after: trials) ?? ledger.steering.chosenRate else { return }
            rewind(to: 0, rateShift: Int8(clamping: shift - ledger.rateShift))
            if !ledger.steering.isSearching { reportTrial(shift, trials, isChosen: true) }
            return
        }
        if steering.guardTolerance != nil, ledger.steering.hasMovedTooFar, let point = ledger.steering.nearPoint, mayGoBack {
            let percent = Int(min(latest.moved, 1e6) * 100)
            effects.append(.notice(.warning("a trained tensor has moved by \(percent) % of its norm, which is too far")))
            rewind(to: point.round, rateShift: -1)
            return
        }
        guard !ledger.steering.isSearching, let best = ledger.steering.best, ledger.steering.sinceBest > 0 else { return }
        // An objective of any scale may have a loss below 0, where a larger multiple would be an improvement.
        if let tolerance = steering.guardTolerance, latest.loss > (best.loss < 0 ? 1 - tolerance : 1 + tolerance) * best.loss {
            if mayGoBack {
                rewind(to: (returnPoint ?? best).round, rateShift: -1)
            } else if !hasReportedHelpless {
                hasReportedHelpless = true
                let text =
                    "\(Tuning.rewindsInARow) smaller and smaller steps from round \(best.round) have not lowered the validation loss: check the data; the run goes on"
                effects.append(.notice(.warning(text)))
            }
        } else if let patience = steering.patience, ledger.steering.sinceBest >= patience, ledger.steering.hasLearned {
            rewind(to: best.round, rateShift: 0, isFinal: true)
        }
    }

    /// Whether the run may go back once more. Going back is bounded, whoever reports what: only so many times without a new lowest loss in between,
    /// and not below the smallest rate.
    private var mayGoBack: Bool {
        ledger.steering.rewindsSinceBest < Tuning.rewindsInARow && ledger.rateShift > Tuning.smallestRateShift
    }

    /// The point to go back to. A rate counts as young for half of the run's rounds.
    private var returnPoint: SteeringHistory.Low? { ledger.steering.returnPoint(from: ledger.nextRound, youth: spec.rounds / 2) }

    mutating func reportTrial(_ shift: Int, _ trials: [Int: Double], isChosen: Bool) {
        let rate = spec.learningRate * Double(sign: .plus, exponent: shift, significand: 1)
        effects.append(.notice(.trial(learningRate: rate, loss: trials[shift] ?? .nan, isChosen: isChosen)))
    }
}
