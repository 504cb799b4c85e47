/// Whose validations steer a run, and how several of them are combined. Every peer that joins may call itself an evaluator.
extension CoordinatorStateMachine {
    /// The evaluators' reports of the same parameters.
    struct Opinions: Sendable {
        let position: UInt64
        let round: RoundNumber
        /// The time until which other evaluators are waited for.
        let decidedAt: Timestamp
        /// The newest report of each judge. Each has a validation score.
        var reports: [MachineID: EvaluationReport] = [:]
        /// Reports of evaluators that are no judges yet. An evaluator that was started again becomes one when its earlier process is given up, and it
        /// does not report a second time.
        var others: [MachineID: EvaluationReport] = [:]
    }

    /// The machines whose validations count: evaluators that joined before the first round, or, if none of them is there any more, the evaluator that
    /// joined first. While they are there, the reports of later evaluators are shown but do not steer.
    var judges: Set<MachineID> {
        let present = Set(peers.values.compactMap { $0.hello.evaluates ? $0.machine : nil })
        let evaluators = ledger.machines.values.filter { $0.admission.evaluates && present.contains($0.admission.machine) }
        let first = evaluators.filter { $0.admittedBefore == 0 }.map(\.admission.machine)
        return first.isEmpty ? Set(evaluators.map(\.admission.machine).min().map { [$0] } ?? []) : Set(first)
    }

    /// Takes an evaluator's report of parameters that are due to be measured. Decides when all judges have reported.
    mutating func consider(_ report: EvaluationReport, of machine: MachineID, at now: Timestamp) {
        let judges = judges
        guard report.validation != nil else {
            guard judges.contains(machine) else { return }
            judgesWithoutExamples.insert(machine)
            if isTrialOver, judges.subtracting(judgesWithoutExamples).isEmpty, !hasReportedUnjudged {
                hasReportedUnjudged = true
                let text =
                    "a trial of the learning rate waits for its validation loss, but no evaluator has validation examples: start one that has some"
                effects.append(.notice(.warning(text)))
            }
            return
        }
        judgesWithoutExamples.remove(machine)
        // Reports of void parameters are useless, and so are reports of parameters that nobody was to measure.
        guard report.position >= ledger.rewoundAt, report.position > ledger.steering.position,
            ledger.measured.contains(where: { $0.position == report.position && $0.round == report.round })
        else { return }
        if let open = opinions, open.position < report.position { decide(open) }
        if opinions == nil {
            let patience = min(Tuning.opinionSeconds + 4 * (report.seconds.isFinite ? report.seconds : 0), Tuning.longestOpinionSeconds)
            opinions = Opinions(position: report.position, round: report.round, decidedAt: now.advanced(bySeconds: patience))
        }
        guard opinions?.position == report.position else { return }
        opinions?.others[machine] = report
        decideOpinions(at: now)
    }

    /// Decides if all judges have reported, or if some have and the time is up.
    mutating func decideOpinions(at now: Timestamp) {
        guard var open = opinions else { return }
        let judges = judges
        for (machine, report) in open.others where judges.contains(machine) {
            open.reports[machine] = report
            open.others[machine] = nil
        }
        opinions = open
        guard !open.reports.isEmpty else { return }
        if judges.subtracting(judgesWithoutExamples).isSubset(of: open.reports.keys) || now >= open.decidedAt { decide(open) }
    }

    /// Writes the median of the evaluators' scores. `goBackIfDue` then acts on it.
    private mutating func decide(_ open: Opinions) {
        opinions = nil
        guard open.position >= ledger.rewoundAt, open.position > ledger.steering.position, !ledger.isEnded, !ledger.isFinal, !open.reports.isEmpty
        else { return }
        let reports = open.reports.values
        let scores = reports.compactMap(\.validation)
        // A loss that is not finite is worse than any other.
        let loss = Self.median(scores.map { $0.loss.isFinite ? $0.loss : .infinity })
        let isCareful = ledger.format >= 3
        let record = Validation(
            round: open.round, position: open.position, examples: scores.map(\.examples).max() ?? 0, loss: loss,
            accuracy: Self.median(scores.map(\.accuracy)), isTrialOver: isTrialOver && open.round == ledger.nextRound,
            noise: isCareful ? Self.median(scores.map(\.noise)) : .nan, moved: isCareful ? Self.median(reports.map(\.moved)) : .nan)
        guard record.examples > 0, append(.validation(record)) else { return }
        if record.isTrialOver { reportTrial(ledger.rateShift, ledger.steering.trials, isChosen: !ledger.steering.isSearching) }
    }

    /// Returns the median. For an even number of values it is the mean of the two in the middle; NaN if one of the values is NaN, or if there are
    /// none.
    static func median(_ values: [Double]) -> Double {
        guard !values.isEmpty, !values.contains(where: \.isNaN) else { return .nan }
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}
