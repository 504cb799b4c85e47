extension CoordinatorStateMachine {
    var isClosing: Bool { if case .closing = phase { true } else { false } }

    /// Ends the run after its last round: the last comparison, the evaluators' last report, the end record, goodbye.
    mutating func endIfPossible(at now: Timestamp) {
        switch phase {
        case .running:
            if ledger.isEnded {
                leave(at: now)
            } else if ledger.isTrained, pending.isEmpty {
                phase = .closing(since: now)
            }
        case .closing(let since):
            guard pending.isEmpty else { return }
            // Nobody answered the comparison in time, so it is asked for again.
            if check == nil, references.last?.position != ledger.parameters.records { wantsCheck = true }
            if ledger.isEnded {
                leave(at: now)
            } else if isSettled || now.seconds(since: since) > Tuning.closingSeconds {
                append(.end(RunEnd(unixSeconds: now.unixSeconds)))
                signLedger()
            }
        case .leaving, .done: break
        }
    }

    /// Whether nothing more needs to be waited for at the end: every machine that is there has proved the final parameters, and every evaluator has
    /// measured them.
    private var isSettled: Bool {
        let attached = peers.values.filter { $0.machine != nil }
        let isMissingSome = ledger.machines.count > attached.count
        if isMissingSome || check != nil { return false }
        guard !attached.isEmpty else { return peers.isEmpty }
        guard let final = references.last, final.position == ledger.parameters.records else { return false }
        return attached.allSatisfy { peer in
            peer.isActive && final.supporters.contains(peer.id) && (!peer.hello.evaluates || peer.lastEvaluation >= final.position)
        }
    }

    private mutating func leave(at now: Timestamp) {
        let digest = references.last.map { ", digest \($0.digest.short)" } ?? ""
        // Only patience and spent budgets end a run before its last round.
        let reason =
            !ledger.isFinal
            ? "all \(spec.rounds) rounds are done"
            : areBudgetsSpent || spec.steering?.patience == nil
                ? "the workers' privacy budgets are spent after \(ledger.effectiveRounds) rounds" : "the best round is reached"
        leave(RunFinish(outcome: .completed, message: "\(reason)\(digest)"), at: now)
    }

    private mutating func leave(_ finish: RunFinish, at now: Timestamp) {
        phase = .leaving(finish, since: now)
        round = nil
        check = nil
        let all = sortedPeers { _ in true }
        if !all.isEmpty { effects.append(.send(.finished(finish), to: all)) }
    }

    /// Ends the process without the end record, so that the run can be resumed later. A second request does not wait for goodbyes.
    mutating func stop(_ finish: RunFinish, at now: Timestamp) {
        if case .leaving(let first, _) = phase {
            phase = .leaving(first, since: Timestamp(nanoseconds: 0))
            return
        }
        leave(finish, at: now)
    }
}
