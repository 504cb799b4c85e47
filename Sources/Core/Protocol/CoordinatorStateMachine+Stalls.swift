/// How a machine that is alive, as its heartbeats show, but does not answer is kept from holding up all others.
extension CoordinatorStateMachine {
    /// Returns the machines that get a share of the next round: all that take part, except those that are left out because they missed shares. If all
    /// are left out, all get a share.
    func trainersForRound() -> [MachineID] {
        let all = activeTrainers
        let ready = all.filter { missedShares[$0].map { $0.until <= ledger.nextRound } ?? true }
        return ready.isEmpty ? all : ready
    }

    /// Closes a round whose last shares take far longer than the others did.
    mutating func closeRoundWithoutStallers(at now: Timestamp) {
        guard let open = round, !open.answers.isEmpty, !open.shares.isEmpty, pending.isEmpty else { return }
        let usual = answerSeconds.isEmpty ? 0 : answerSeconds.sorted()[answerSeconds.count / 2]
        let slowest = open.lastAnsweredAt.seconds(since: open.openedAt)
        var limit = max(Tuning.stallTimeouts * spec.heartbeatTimeoutSeconds, Tuning.stallFactor * max(usual, slowest, spec.roundSeconds ?? 0))
        if answerSeconds.count < Tuning.answersNeeded { limit = max(limit, Tuning.firstStallSeconds) }
        let waited = now.seconds(since: open.openedAt)
        guard waited > limit else { return }
        for machine in open.shares.keys.sorted() {
            let count = min((missedShares[machine]?.count ?? 0) + 1, Tuning.exclusionExponentMax)
            missedShares[machine] = (count, open.opening.round &+ 1 &+ (1 << RoundNumber(count)))
            let name = ledger.machines[machine]?.admission.name ?? ""
            let text =
                "\(name) (\(machine)) has not answered its share of round \(open.opening.round) in \(Int(min(waited, 1e9))) s: the round goes on without it, and the next \(1 << count) too"
            effects.append(.notice(.warning(text)))
        }
        close(open, at: now)
    }
}
