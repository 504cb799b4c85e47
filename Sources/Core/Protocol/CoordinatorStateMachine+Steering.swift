/// How the run finds its learning rate and gets out of trouble by itself: by going back, which the ledger makes exact.
extension CoordinatorStateMachine {
    /// A trial has had its rounds, and no further one opens before its validation is there.
    var isTrialOver: Bool {
        guard ledger.steering.isSearching, let trial = spec.steering?.trialRounds else { return false }
        return ledger.effectiveRounds >= trial
    }

    /// The run stands still at a trial's end, and no machine is there that could judge it.
    mutating func warnIfUnjudged() {
        guard phase == .running, isTrialOver, pending.isEmpty, !hasSaidUnjudged, !peers.values.contains(where: { $0.hello.evaluates })
        else { return }
        hasSaidUnjudged = true
        let text =
            "a trial of the learning rate has had its rounds and waits for its validation loss, but no machine evaluates: start a worker that measures held-out data and has validation examples"
        effects.append(.notice(.warning(text)))
    }

    /// Takes an evaluator's word into account where validations steer the run.
    mutating func steer(by report: EvaluationReport, of machine: MachineID, at now: Timestamp) {
        // Since format 3 validations stand in the ledger whether they steer or not: they say which round is the best.
        guard spec.steering != nil || ledger.format >= 3, !ledger.isEnded, !ledger.isFinal else { return }
        consider(report, of: machine, at: now)
    }

    /// Does what the last validation calls for, also where the coordinator before this one could not do it any more.
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
            if !ledger.steering.isSearching { sayTrial(shift, trials, isChosen: true) }
            return
        }
        if steering.guardTolerance != nil, ledger.steering.hasMovedTooFar, let point = ledger.steering.nearPoint, mayGoBack {
            effects.append(.notice(.warning("a trained tensor has moved by \(Int(latest.moved * 100)) % of its norm, which is too far")))
            rewind(to: point.round, rateShift: -1)
            return
        }
        guard !ledger.steering.isSearching, let best = ledger.steering.best, ledger.steering.sinceBest > 0 else { return }
        // The loss of an objective of any scale may be below 0, where a multiple would be an improvement.
        if let tolerance = steering.guardTolerance, latest.loss > (best.loss < 0 ? 1 - tolerance : 1 + tolerance) * best.loss {
            if mayGoBack {
                rewind(to: (returnPoint ?? best).round, rateShift: -1)
            } else if !hasSaidHelpless {
                hasSaidHelpless = true
                let text =
                    "the validation loss is no lower after \(Tuning.rewindsInARow) ever smaller steps from round \(best.round): look at the data; the run goes on"
                effects.append(.notice(.warning(text)))
            }
        } else if let patience = steering.patience, ledger.steering.sinceBest >= patience, ledger.steering.hasLearned {
            rewind(to: best.round, rateShift: 0, isFinal: true)
        }
    }

    /// Going back has bounds, whoever reports what: so many times without a new lowest loss in between, and not to a rate of nothing.
    private var mayGoBack: Bool {
        ledger.steering.rewindsSinceBest < Tuning.rewindsInARow && ledger.rateShift > Tuning.smallestRateShift
    }

    /// A rate is young for half of the run's rounds.
    private var returnPoint: SteeringHistory.Low? { ledger.steering.returnPoint(from: ledger.nextRound, youth: spec.rounds / 2) }

    mutating func sayTrial(_ shift: Int, _ trials: [Int: Double], isChosen: Bool) {
        let rate = spec.learningRate * Double(sign: .plus, exponent: shift, significand: 1)
        effects.append(.notice(.trial(learningRate: rate, loss: trials[shift] ?? .nan, isChosen: isChosen)))
    }
}
