/// The worker's end of its link. One chunk of the ledger is on its way at a time, as large as the link carries in a few seconds. Heartbeats and
/// statuses go as often as the link allows. Nothing is sent again that may still be on its way.
extension WorkerStateMachine {
    /// Notes a connection that was made or lost. What was on its way is lost with its connection. What is sent while there is none would only be
    /// stale when it arrives.
    mutating func noteConnection(isUp: Bool, at now: Timestamp) {
        let wasConnected = isConnected
        isConnected = isUp
        guard isUp else { return }
        if !wasConnected {
            fetching = nil
            probe = nil
            pace.noteConnection()
            nextHeartbeat = now
        }
        let isOld = saidHello.map { now.seconds(since: $0) > Tuning.oldHelloSeconds } ?? true
        if welcome == nil, isOld { sayHello(at: now) }
    }

    /// Makes a new connection if this one is silent. A relay or an address translator may still acknowledge what is sent over a dead connection, and
    /// nothing else notices that. A round's bytes may be on their way for a long time.
    mutating func reconnectIfSilent(at now: Timestamp, silence: Double, timeout: Double) {
        guard isConnected, welcome != nil else { return }
        let longest = 2 * timeout + Double(spec?.samplesPerRound ?? 0) / ProtocolLimits.slowestBytesPerSecond
        let since = reconnectedAt.map { now.seconds(since: $0) } ?? .infinity
        guard silence > longest, since > longest else { return }
        reconnectedAt = now
        effects.append(.reconnect)
    }

    mutating func sendHeartbeat(at now: Timestamp) {
        heartbeats += 1
        let isAnswered = probe == nil
        let isLate = probe.map { now.seconds(since: $0.sentAt) > welcome?.heartbeatTimeoutSeconds ?? Tuning.heartbeatTimeoutSeconds }
        if isAnswered || isLate == true { probe = (heartbeats, now) }
        send(
            .heartbeat(
                Heartbeat(
                    session: configuration.session.fingerprint.tag, records: records, share: share, sequence: heartbeats,
                    roundTripMilliseconds: pace.roundTripMilliseconds)))
    }

    mutating func noteRoundTrip(_ pong: Pong, at now: Timestamp) {
        guard let probe, pong.echo >= probe.sequence else { return }
        if pong.echo == probe.sequence { pace.noteRoundTrip(seconds: now.seconds(since: probe.sentAt)) }
        self.probe = nil
    }

    // MARK: The ledger

    /// Whether more of the ledger is known of than has come.
    var isDownloading: Bool { records < target || decoder.received < ledgerBytes }

    /// Asks for what is missing, unless it is already on its way.
    mutating func fetchIfBehind(at now: Timestamp) {
        guard welcome != nil, isConnected, fetching == nil, records < target, !isWaitingForManifest else { return }
        fetching = (decoder.received, pace.chunkBytes, now)
        send(.fetch(LedgerFetch(offset: decoder.received, count: pace.chunkBytes, ticket: ticket)))
    }

    mutating func take(_ chunk: LedgerChunk, at now: Timestamp) {
        // Even a useless chunk proves that chunks arrive.
        ticket = chunk.ticket
        guard let fetch = fetching, chunk.offset == decoder.received else { return }
        fetching = nil
        ledgerBytes = max(ledgerBytes, chunk.total)
        pace.noteChunk(bytes: chunk.bytes.count, seconds: now.seconds(since: fetch.since))
        decoder.push(chunk.bytes)
        do {
            while let entry = try decoder.next() { try fold(entry) }
            damagedChunks = 0
            takeOwnRecords()
            // A chunk ends at its size, which may be inside a record. The rest of that record is still to come, even if no new record is known of.
            if decoder.unread > 0 { target = max(target, records + 1) }
        } catch let error as LedgerError {
            damagedChunks += 1
            effects.append(.notice(.warning("a piece of the ledger is damaged: \(error)")))
            decoder.dropUnread()
            if case .invalidRecord = error { damagedChunks = Tuning.damagedChunks }
            if damagedChunks >= Tuning.damagedChunks {
                leave(.failed(ProcessFailure(.badData, "the coordinator's ledger can't be read: \(error)")), saying: "unreadable ledger")
            }
        } catch {
            leave(.failed(ProcessFailure(.badData, "the ledger can't be followed: \(error)")), saying: "unusable ledger")
        }
        reportDownload(at: now)
    }

    private mutating func reportDownload(at now: Timestamp) {
        guard records < target, ledgerBytes > decoder.received else { return }
        // Not at once: most downloads are over before anybody could read about them.
        guard let said = saidDownload, let began = downloadBegan else {
            saidDownload = now
            downloadBegan = (now, ledgerBytes)
            return
        }
        guard now.seconds(since: said) >= Tuning.downloadSeconds, let rate = pace.bytesPerSecond else { return }
        saidDownload = now
        let seconds = now.seconds(since: began.at)
        let growth = Double(ledgerBytes - min(began.bytes, ledgerBytes)) / max(seconds, 1)
        let left = Double(ledgerBytes - decoder.received)
        effects.append(.notice(.downloading(bytes: decoder.received, of: ledgerBytes, secondsLeft: rate > growth ? left / (rate - growth) : nil)))
        guard rate <= growth, seconds > Tuning.slowCatchUpSeconds, !isDownloadCalledHopeless else { return }
        isDownloadCalledHopeless = true
        effects.append(
            .notice(
                .warning(
                    "the run's ledger grows by \(Int(growth)) bytes a second and this link brings \(Int(rate)): this machine can't catch up while "
                        + "the others are so fast; join before they begin, or let rounds wait (time-boxed rounds, more work a sample)")))
    }

    // MARK: The base

    mutating func announceBase() {
        guard let manifestDigest else { return }
        announcedBefore = heartbeats + 1
        send(.baseDigest(BaseDigest(digest: manifestDigest, bytes: manifest.count)))
    }

    mutating func sendBase(_ fetch: BaseFetch) {
        guard fetch.offset < manifest.count, fetch.count > 0 else { return }
        send(.basePart(BasePart(offset: fetch.offset, bytes: Array(manifest[fetch.offset...].prefix(fetch.count)))))
    }

    /// Puts the run's manifest and basis in their places in the ledger if this host has them itself. They need not come over the link then. Their
    /// hashes are known, and the hash chain of the following records confirms them.
    mutating func takeOwnRecords() {
        do {
            while let next = decoder.nextRecord, let own = ownPayload(kind: next.kind), own.count == next.payloadBytes,
                let entry = try decoder.append(kind: next.kind, payload: own)
            {
                fetching = nil
                try fold(entry)
            }
        } catch {
            leave(.failed(ProcessFailure(.badData, "a record that this host has itself can't be taken: \(error)")), saying: "unusable record")
        }
    }

    private func ownPayload(kind: UInt8) -> [UInt8]? {
        switch LedgerRecord.Kind(rawValue: kind) {
        case .baseManifest where runBase == nil && manifestDigest != nil && (isBaseTaken || manifestDigest == welcome?.baseDigest): manifest
        case .basis where basis == nil && ownBasisDigest != nil && ownBasisDigest == spec?.basisDigest: configuration.basis
        default: nil
        }
    }

    /// Whether the next record is a manifest that would take long to come, and it is not known yet whether this host has the same.
    private var isWaitingForManifest: Bool {
        guard welcome?.baseDigest != nil, base == nil, runBase == nil, let next = decoder.nextRecord,
            next.kind == LedgerRecord.Kind.baseManifest.rawValue, let rate = pace.bytesPerSecond
        else { return false }
        return Double(next.payloadBytes) / rate > Tuning.longManifestSeconds
    }
}
