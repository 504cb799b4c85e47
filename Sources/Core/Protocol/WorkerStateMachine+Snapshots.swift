/// Progress of a catch-up.
struct CatchUp: Sendable {
    let began: Timestamp
    /// Number of ledger records in the parameters, and in the ledger, when the catch-up began.
    let applied: UInt64
    let records: UInt64
    var saidAt: Timestamp?
    var isCalledHopeless = false
}

extension WorkerStateMachine {
    // MARK: Going on from a snapshot

    /// Confirms snapshots. It is called for every record: if the ledger's chain equals a snapshot's at its place, the snapshot belongs to this very
    /// history, retractions and rewinds included.
    mutating func confirmSnapshots(at position: LedgerPosition) {
        for snapshot in snapshots where snapshot.records == position.records && snapshot.chain == position.chain {
            confirmedSnapshots.insert(snapshot)
        }
    }

    /// Returns the newest snapshot that may be usable. Snapshots that are known to belong to another history are skipped with a warning.
    mutating func candidateSnapshot() -> SnapshotPosition? {
        if spec?.momentum != nil, !snapshots.isEmpty {
            snapshots = []
            effects.append(
                .notice(
                    .warning(
                        "snapshots hold no velocities, so a run with momentum does not go on from one; the parameters are rebuilt from the "
                            + "ledger, which takes moments where only adapters are trained")))
        }
        while let first = snapshots.first {
            // It is not known yet whether the snapshot belongs to this history.
            if records < first.records, records < target { return first }
            if confirmedSnapshots.contains(first) { return first }
            snapshots.removeFirst()
            effects.append(
                .notice(.warning("the snapshot before round \(first.nextRound) is of another run or another history; it is not used")))
        }
        return nil
    }

    mutating func restored(_ snapshot: SnapshotPosition, failure: String?) {
        snapshots.removeAll { $0 == snapshot }
        if let failure {
            effects.append(.notice(.warning("the snapshot before round \(snapshot.nextRound) can't be used: \(failure)")))
            return
        }
        snapshots = []
        guard !mustReset else { return }
        steps.removeAll { step in
            switch step {
            case .change(_, let position): position <= snapshot.records
            case .digest(let position, _, _): position.records < snapshot.records
            case .evaluate(let round, _): round < snapshot.nextRound
            }
        }
        applied = snapshot.records
        effects.append(.notice(.restored(round: snapshot.nextRound)))
    }

    // MARK: Taking one

    /// Schedules a snapshot right after a digest, when the parameters belong to a position that is known whole. A run with momentum takes none,
    /// because it can't resume from one.
    mutating func scheduleSnapshot(_ position: LedgerPosition, round: RoundNumber, at now: Timestamp) {
        guard let interval = configuration.snapshotSeconds, round > 0, spec?.momentum == nil else { return }
        if let last = lastSnapshot, now.seconds(since: last) < interval { return }
        lastSnapshot = now
        dueSnapshot = (position, round)
    }

    /// The position of the parameters, while no change is under way.
    public var wholePosition: LedgerPosition? {
        if mustReset { return nil }
        switch inHand {
        case .apply, .reset, .restore, .prepare: return nil
        default: break
        }
        let isBehind = steps.contains { if case .change = $0 { true } else { false } }
        return isBehind ? nil : parameters
    }

    // MARK: Catching up

    /// Reports from time to time how far the catch-up is, and once if it will never end.
    mutating func reportCatchUp(at now: Timestamp) {
        guard var current = catchUp, applied > current.applied else {
            catchUp = CatchUp(began: now, applied: applied, records: records)
            return
        }
        defer { catchUp = current }
        if let said = current.saidAt, now.seconds(since: said) < Tuning.catchUpSeconds { return }
        let seconds = now.seconds(since: current.began)
        guard seconds > 0 else { return }
        current.saidAt = now
        let replayed = Double(applied - current.applied) / seconds
        let arriving = Double(records - current.records) / seconds
        let isGaining = replayed > arriving
        let behind = steps.count { if case .change = $0 { true } else { false } }
        effects.append(
            .notice(.catchingUp(roundsBehind: behind, secondsLeft: isGaining ? Double(behind) / (replayed - arriving) : nil)))
        if !isGaining, seconds > Tuning.slowCatchUpSeconds, !current.isCalledHopeless {
            current.isCalledHopeless = true
            effects.append(
                .notice(
                    .warning(
                        "rounds come faster than this worker replays them: give it more threads, or a snapshot to begin with "
                            + "(state-dir, bootstrap), or make rounds fewer and larger")))
        }
    }
}
