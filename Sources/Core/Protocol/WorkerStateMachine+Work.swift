extension WorkerStateMachine {
    /// Does everything that has become possible.
    mutating func advance(at now: Timestamp) {
        guard !isDone else { return }
        fetchIfBehind(at: now)
        guard inHand == nil, let task = nextTask() else { return }
        inHand = task
        progress = 0
        samplesSince = if case .compute = task { now } else { nil }
        effects.append(.perform(task))
    }

    /// Returns the most useful task at this moment.
    private mutating func nextTask() -> WorkerTask? {
        guard base != nil else { return .hashBase }
        guard isPrepared else {
            guard let spec, spec.basisDigest == nil || basis != nil else { return nil }
            return .prepare(spec, basis: basis)
        }
        if mustReset { return .reset }
        if let due = dueSnapshot { return .snapshot(due.position, round: due.round) }
        if applied == 0, let candidate = candidateSnapshot() {
            // The ledger must have come as far as the snapshot before it is known whether the snapshot belongs to it.
            return records >= candidate.records ? .restore(candidate) : nil
        }
        switch steps.first {
        case .change: return applyTask()
        case .digest(let position, _, let nonce): return .digest(position: position.records, nonce: nonce)
        case .evaluate(let round, let position): return .evaluate(round: round, position: position)
        case nil: break
        }
        guard records > 0, records >= target, let parameters else { return nil }
        if mustProve {
            mustProve = false
            steps = [.digest(parameters, round: history.nextRound)]
            return .digest(position: parameters.records)
        }
        return order.map { .compute($0) }
    }

    private func applyTask() -> WorkerTask? {
        var changes: [HistoryChange] = []
        var last: UInt64 = applied
        for step in steps.prefix(Tuning.changesPerApply) {
            guard case .change(let change, let position) = step else { break }
            changes.append(change)
            last = position
        }
        return .apply(changes, position: last)
    }

    /// This machine's share of the open round, if it knows of one.
    var openShare: Opening.Share? {
        guard let opening, let machine, opening.round == history.nextRound else { return nil }
        return opening.shares.first { $0.machine == machine }
    }

    /// The samples to try now, if any: the share of the open round, or, within the run's staleness, that of a round which is not open yet, so that
    /// commits and openings travel while the worker computes. The worker assumes that its shares follow one another. If the opening then says
    /// otherwise, its share is tried again.
    private var order: ComputeOrder? {
        guard let opening, let spec, let share = openShare else { return nil }
        for ahead in 0...UInt64(spec.staleness) {
            let round = UInt64(opening.round) + ahead
            let first = UInt64(share.firstSample) + ahead * UInt64(share.count)
            guard UInt64(history.effectiveRounds) + ahead < UInt64(spec.rounds), first + UInt64(share.count) <= UInt64(UInt32.max) else { return nil }
            let order = ComputeOrder(
                round: RoundNumber(round), machine: share.machine, firstSample: SampleNumber(first), count: share.count,
                scaleExponent: opening.scaleExponent)
            if !answers.contains(where: { $0.sent.answers(order) }) { return order }
        }
        return nil
    }

    /// The open share that it knows of, as a heartbeat reports it.
    var share: Heartbeat.Share? { openShare.map { .init(round: history.nextRound, firstSample: $0.firstSample) } }

    /// Ends a time box. In time-boxed rounds a share is what was finished in time.
    mutating func endTimeBox(at now: Timestamp) {
        guard let since = samplesSince, let box = spec?.roundSeconds, now.seconds(since: since) >= box else { return }
        samplesSince = nil
        effects.append(.endTimeBox)
    }

    mutating func take(_ new: Opening) {
        guard new.round >= history.nextRound, new.round >= (opening?.round ?? 0) else { return }
        opening = new
        dropStaleOrders()
    }

    /// Tells the compute thread to stop if nobody waits for its bytes any more.
    mutating func dropStaleOrders() {
        if let opening, opening.round < history.nextRound { self.opening = nil }
        guard case .compute(let order) = inHand else { return }
        let isReplaced = opening.map { opening in
            opening.round == order.round && !opening.shares.contains { $0.machine == order.machine && $0.firstSample == order.firstSample }
        }
        let staleness = UInt64(spec?.staleness ?? 0)
        if isReplaced == true || UInt64(order.round) + staleness < UInt64(history.nextRound) || machine != order.machine {
            effects.append(.abandon)
        }
    }

    mutating func performed(_ result: WorkerResult, at now: Timestamp) {
        let task = inHand
        inHand = nil
        switch (task, result) {
        case (.hashBase, .baseHashed(let manifest)):
            if let expected = configuration.expectedBase, expected != manifest.digest {
                let digests = manifest.digest.contrasted(with: expected)
                let text = "the base model here is \(digests.own), the join string names \(digests.other); give the model that the run is made on"
                leave(.failed(ProcessFailure(.configuration, text)), saying: "another base model")
                return
            }
            base = manifest
            self.manifest = manifest.payload
            manifestDigest = .sha256(self.manifest)
            if welcome != nil { announceBase() }
            checkBase()
            takeOwnRecords()
        case (.prepare, .prepared): isPrepared = true
        case (.prepare, .preparedWith(let commitment)):
            isPrepared = true
            data = commitment
        case (.reset, .reset):
            mustReset = false
            applied = 0
        case (.apply(let changes, let position), .applied):
            // A rebuild that was ordered in the meantime has replaced the steps. It starts from the base.
            guard !mustReset else { return }
            steps.removeFirst(changes.count)
            applied = max(applied, position)
            reportApplied(at: now)
        case (.digest(let position, let nonce), .digested(let digest, let largest, let unchanged, let proof)):
            guard !mustReset, case .digest(let at, let round, let asked)? = steps.first, at.records == position, asked == nonce else { return }
            steps.removeFirst()
            lastNonce = nonce
            let report = DigestReport(
                position: position, round: round, digest: digest, chain: at.shortChain, rebuilds: rebuilds,
                unchangedPercent: unchanged.map { UInt8(min(max($0, 0), 1) * 100) }, signature: countersignature(of: digest, at: at),
                proof: nonce.flatMap { nonce in proof.map { DigestReport.Proof(nonce: nonce, answer: $0) } },
                // Only a newcomer's commitment is recorded.
                data: machine == nil && welcome?.signer != nil ? data : nil)
            finishDigest(report, largest: largest)
            scheduleSnapshot(at, round: round, at: now)
        case (.snapshot, .snapshotTaken(let failure)):
            dueSnapshot = nil
            if let failure { effects.append(.notice(.warning("no snapshot: \(failure)"))) }
        case (.restore(let snapshot), .restored(let failure)): restored(snapshot, failure: failure)
        case (.evaluate(let round, let position), .evaluated(var report)):
            // The digest is of parameters that are to be rebuilt. The rebuild has kept the step.
            guard !mustReset else { return }
            if let index = steps.firstIndex(of: .evaluate(round: round, position: position)) { steps.remove(at: index) }
            report.position = position
            lastEvaluation = report
            // Without a machine number the report would be ignored. The first report, the run's 'before', is always done by then.
            if machine == nil { heldEvaluations.append(report) } else { send(.evaluation(report)) }
            effects.append(.notice(.evaluated(report)))
        case (.compute(let order), .computed(let bytes, let statistics)):
            finish(order, bytes, statistics, at: now)
            if stoppingSince != nil { leave(.stopped, saying: "stopped") }
        default:
            let text = "the compute thread answered \(result) to \(task.map { "\($0)" } ?? "nothing")"
            leave(.failed(ProcessFailure(.internalError, text)), saying: "internal error")
        }
    }

    /// Countersigns a digest, but only for a coordinator that says that it accepts countersignatures.
    private func countersignature(of digest: Digest, at position: LedgerPosition) -> Signature? {
        guard welcome?.signer != nil else { return nil }
        return configuration.notary?.sign(SignedStatement.parameters(digest, at: position))
    }

    private mutating func reportApplied(at now: Timestamp) {
        if applied + 1 < parameters?.records ?? 0 {
            reportCatchUp(at: now)
        } else if history.nextRound > 0 {
            effects.append(.notice(.applied(round: history.nextRound - 1)))
        }
    }

    private mutating func finishDigest(_ report: DigestReport, largest: UInt32) {
        lastDigest = report
        send(.digestReport(report))
        effects.append(.notice(.digest(round: report.round, report.digest)))
        guard largest > Parameters.divergedMagnitude else { return }
        let steering = spec?.steering
        if steering?.guardTolerance != nil || steering?.trialRounds != nil {
            // Sums wrap and so lose nothing. Going back is exact from here, too.
            effects.append(.notice(.warning("the parameters have left their range at round \(report.round); the run's guard should go back")))
        } else {
            let reason =
                "the parameters have grown beyond their range at round \(report.round): the run has diverged; "
                + "begin again with a smaller learning rate, or with validation examples, so that the guard can go back by itself"
            leave(.failed(ProcessFailure(.failure, reason)), saying: reason, .diverged)
        }
    }

    private mutating func report(_ privacy: PrivacyStatus, at now: Timestamp) {
        let isDue = privacy.isSpent ? !saidSpent : saidPrivacy.map { now.seconds(since: $0) >= Tuning.privacySeconds } ?? true
        guard isDue else { return }
        saidPrivacy = now
        saidSpent = privacy.isSpent
        effects.append(.notice(.privacy(privacy)))
    }

    private mutating func finish(_ order: ComputeOrder, _ bytes: [Int8], _ statistics: SampleStatistics, at now: Timestamp) {
        let used = bytes.prefix(Int(order.count))
        if statistics.meanLoss.isFinite {
            lossSum += statistics.meanLoss * Double(used.count)
            lossSamples += used.count
        }
        samplesDone += used.count
        sampleSeconds += statistics.seconds
        if let privacy = statistics.privacy { report(privacy, at: now) }
        let isWanted =
            machine == order.machine && !used.isEmpty && !mustReset
            && UInt64(order.round) + UInt64(spec?.staleness ?? 0) >= UInt64(history.nextRound)
        guard isWanted else { return }
        // If an order was abandoned because the share was given out again, its bytes do not answer the new share.
        let contribution = WireContribution(
            round: order.round, scaleExponent: order.scaleExponent,
            contribution: Contribution(machine: order.machine, firstSample: order.firstSample, bytes: Array(used)))
        if let opening, opening.round == order.round,
            !opening.shares.contains(where: { $0.isAnswered(by: contribution.contribution) })
        {
            return
        }
        answers.removeAll { UInt64($0.sent.round) + UInt64(spec?.staleness ?? 0) + 1 < UInt64(history.nextRound) }
        answers.append(Answer(sent: contribution, heartbeat: heartbeats + 1))
        send(.contribution(contribution))
        roundsAnswered += 1
        // Rounds may take only hundredths of a second. Even so, a worker with wrong data must show in its first rounds.
        if Tuning.statusRounds.contains(roundsAnswered) { sendStatus() }
        effects.append(
            .notice(.contributed(round: order.round, samples: used.count, meanLoss: statistics.meanLoss)))
    }
}

extension WireContribution {
    /// Whether this answer is the result of the order.
    fileprivate func answers(_ order: ComputeOrder) -> Bool {
        round == order.round && contribution.machine == order.machine && contribution.firstSample == order.firstSample
    }
}
