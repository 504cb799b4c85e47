/// Whose validations steer a run, and what is made of several. Whoever joins may call itself an evaluator.
extension CoordinatorStateMachine {
    /// What evaluators said of the same parameters.
    struct Opinions: Sendable {
        let position: UInt64
        let round: RoundNumber
        /// Until then the others are waited for.
        let decidedAt: Timestamp
        var scores: [MachineID: EvaluationReport.ValidationScore]
        var moved: [Double] = []
    }

    /// Machines whose validations count: evaluators that were there before the first round, or where none of them is there any more the one
    /// that came first. A stranger who joins later is shown, and steers nothing while they are there.
    var judges: Set<MachineID> {
        let present = Set(peers.values.compactMap { $0.hello.evaluates ? $0.machine : nil })
        let evaluators = ledger.machines.values.filter { $0.admission.evaluates && present.contains($0.admission.machine) }
        let first = evaluators.filter { $0.admittedBefore == 0 }.map(\.admission.machine)
        return first.isEmpty ? Set(evaluators.map(\.admission.machine).min().map { [$0] } ?? []) : Set(first)
    }

    /// Takes an evaluator's word about parameters that are due to be measured, and decides once those who judge have all spoken.
    mutating func consider(_ report: EvaluationReport, of machine: MachineID, at now: Timestamp) {
        let judges = judges
        guard judges.contains(machine) else { return }
        guard let score = report.validation else {
            judgesWithoutExamples.insert(machine)
            if isTrialOver, judges.subtracting(judgesWithoutExamples).isEmpty, !hasSaidUnjudged {
                hasSaidUnjudged = true
                let text =
                    "a trial of the learning rate waits for its validation loss, but no evaluator has validation examples: start one that has some"
                effects.append(.notice(.warning(text)))
            }
            return
        }
        judgesWithoutExamples.remove(machine)
        // Parameters that are void by now tell nothing, nor do such as nobody was to measure.
        guard report.position >= ledger.rewoundAt, report.position > ledger.steering.position,
            ledger.measured.contains(where: { $0.position == report.position && $0.round == report.round })
        else { return }
        if let open = opinions, open.position < report.position { decide(open) }
        if opinions == nil {
            let patience = min(Tuning.opinionSeconds + 4 * (report.seconds.isFinite ? report.seconds : 0), Tuning.longestOpinionSeconds)
            opinions = Opinions(position: report.position, round: report.round, decidedAt: now.advanced(bySeconds: patience), scores: [:])
        }
        guard opinions?.position == report.position else { return }
        opinions?.scores[machine] = score
        opinions?.moved.append(report.moved)
        if let open = opinions, judges.subtracting(judgesWithoutExamples).isSubset(of: open.scores.keys) { decide(open) }
    }

    mutating func decideOverdueOpinions(at now: Timestamp) {
        if let open = opinions, now >= open.decidedAt { decide(open) }
    }

    /// Writes the median of what the evaluators said; `goBackIfDue` does what it calls for.
    private mutating func decide(_ open: Opinions) {
        opinions = nil
        guard open.position >= ledger.rewoundAt, open.position > ledger.steering.position, !ledger.isEnded, !ledger.isFinal, !open.scores.isEmpty
        else { return }
        let order = open.scores.sorted { $0.key < $1.key }.map(\.value)
        // A loss that is not finite is worse than any other.
        let loss = Self.median(order.map { $0.loss.isFinite ? $0.loss : .infinity })
        let isCareful = ledger.format >= 3
        let record = Validation(
            round: open.round, position: open.position, examples: order.map(\.examples).max() ?? 0, loss: loss,
            accuracy: Self.median(order.map(\.accuracy)), isTrialOver: isTrialOver && open.round == ledger.nextRound,
            noise: isCareful ? Self.median(order.map(\.noise)) : .nan, moved: isCareful ? Self.median(open.moved) : .nan)
        guard record.examples > 0, append(.validation(record)) else { return }
        if record.isTrialOver { sayTrial(ledger.rateShift, ledger.steering.trials, isChosen: !ledger.steering.isSearching) }
    }

    /// Of an even number the mean of the two in the middle; NaN where one of the values is.
    static func median(_ values: [Double]) -> Double {
        guard !values.isEmpty, !values.contains(where: \.isNaN) else { return .nan }
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}
