extension CoordinatorStateMachine {
    /// Folds a record into the summary and queues it for the disk. `durable` announces it.
    @discardableResult
    mutating func append(_ record: LedgerRecord, notice: CoordinatorNotice? = nil) -> Bool {
        let index = ledger.position.records
        do {
            let bytes = try ledger.append(record)
            pending.append(PendingRecord(index: index, record: record, bytes: bytes, position: ledger.position, notice: notice))
            return true
        } catch {
            // The summary judges every record before it is written, also those of this state machine itself: no record is better than one that no
            // worker can fold.
            effects.append(.notice(.warning("a record was not written: \(error.reason)")))
            return false
        }
    }

    /// Appends one record at a time, so that after a crash only the last one can be torn.
    mutating func appendNext() {
        guard !isAppending, retryAppendAt == nil, let first = pending.first else { return }
        isAppending = true
        effects.append(.append(record: first.bytes, index: first.index))
    }

    mutating func appendFailed(_ reason: String, at now: Timestamp) {
        guard isAppending else { return }
        isAppending = false
        retryAppendAt = now.advanced(bySeconds: Tuning.retryAppendSeconds)
        if !isStalled { effects.append(.notice(.ledgerStalled(reason))) }
        isStalled = true
    }

    mutating func durable(_ records: UInt64, at now: Timestamp) {
        guard isAppending, let record = pending.first, records == record.index + 1 else { return }
        isAppending = false
        pending.removeFirst()
        durableRecords = records
        durableBytes += UInt64(record.bytes.count)
        durablePosition = record.position
        if isStalled {
            isStalled = false
            effects.append(.notice(.ledgerRecovered))
        }
        switch record.record {
        case .round(let round) where round.round > lastUndoing?.round ?? .max: lastUndoing = nil
        case .retraction: lastUndoing = (.retraction, ledger.nextRound)
        case .restoration: lastUndoing = (.restoration, ledger.nextRound)
        case .rewind: lastUndoing = (.rewind, ledger.nextRound)
        default: break
        }
        if let notice = record.notice { effects.append(.notice(notice)) }
        if case .admission(let admission) = record.record {
            for peer in peers.values.filter({ $0.machine == admission.machine }) {
                releaseBudget(of: peer)
                peers[peer.id]?.isAdmitted = true
            }
        }
        let opening = if case .round = record.record { openRound(at: now) } else { Opening?.none }
        // A peer with the same base model has the manifest too and puts it into its place by itself. Any other peer fetches it.
        let isManifest = record.record.kind == .baseManifest
        let recipients = isManifest ? [] : commitRecipients(index: record.index, bytes: record.bytes.count, at: now)
        if !recipients.isEmpty {
            let commit = Commit(
                index: record.index, kind: record.record.kind.rawValue, payload: LedgerFormat.payload(of: record.bytes), opening: opening)
            effects.append(.send(.commit(commit), to: recipients))
        }
        if case .round = record.record { startScheduledCheck(at: now) }
    }
}
