extension WorkerStateMachine {
    mutating func received(_ message: Message, at now: Timestamp) {
        lastHeard = now
        saidSilent = false
        switch message {
        case .welcome(let welcome): accept(welcome, at: now)
        case .refuse(let refusal): finish(.refused(refusal))
        case .finished(let end): finished(end)
        case .chunk(let chunk): take(chunk, at: now)
        case .commit(let commit):
            take(commit, at: now)
            if let opening = commit.opening { take(opening) }
        case .open(let opening): take(opening)
        case .pong(let pong): take(pong, at: now)
        case .digestRequest(let position, let nonce): proveIfThere(position, nonce)
        case .rebuild(let order): rebuild(order)
        case .baseFetch(let fetch): sendBase(fetch)
        case .hello, .base, .fetch, .contribution, .heartbeat, .digestReport, .evaluation, .status, .goodbye, .baseDigest, .basePart:
            effects.append(.notice(.warning("the coordinator sent a \(message.kind), which only a worker sends")))
        }
    }

    private mutating func accept(_ welcome: Welcome, at now: Timestamp) {
        guard welcome.session == configuration.session else { return }
        if let known = decoder.specDigest ?? self.welcome?.specDigest, known != welcome.specDigest {
            let digests = welcome.specDigest.contrasted(with: known)
            let text = "the coordinator has another run now (\(digests.own), not \(digests.other)); start the worker again"
            leave(.failed(ProcessFailure(.configuration, text)), saying: "another run")
            return
        }
        if self.welcome == nil {
            effects.append(.notice(.welcomed(specDigest: welcome.specDigest, records: welcome.ledgerRecords, signer: welcome.signer)))
        }
        self.welcome = welcome
        nextHello = nil
        helloAttempts = 0
        fetching = nil
        target = max(target, welcome.ledgerRecords)
        ledgerBytes = max(ledgerBytes, welcome.ledgerBytes)
        // A coordinator that was restarted knows the machine from its ledger, but it does not know the machine's parameters.
        mustProve = true
        lastDigest = nil
        announceBase()
    }

    /// The digest of the run's last parameters, if this worker has come so far.
    var finalDigest: Digest? {
        isRunEnded && lastDigest?.position == parameters?.records ? lastDigest?.digest : nil
    }

    private mutating func finished(_ end: RunFinish) {
        switch end.outcome {
        case .completed: leave(.completed(finalDigest), saying: end.message)
        case .stopped: leave(.stopped, saying: end.message)
        case .failed: leave(.failed(ProcessFailure(.failure, "the run has failed: \(end.message)")), saying: end.message)
        }
    }

    private mutating func take(_ pong: Pong, at now: Timestamp) {
        noteRoundTrip(pong, at: now)
        if base != nil, pong.standing == .digestMissing || pong.standing == .active, !isBaseTaken {
            isBaseTaken = true
            takeOwnRecords()
        }
        switch pong.standing {
        case .unknown:
            // Only one hello for each answer: `tick` times the next attempt.
            if nextHello == nil { sayHello(at: now) }
            return
        case .baseMissing: if pong.echo >= announcedBefore { announceBase() }
        case .basePending: break
        case .digestMissing:
            if let lastDigest, lastDigest.position == parameters?.records {
                send(.digestReport(lastDigest))
            } else {
                mustProve = true
            }
        case .active: break
        }
        target = max(target, pong.records)
        // If a round was opened again, the worker may have answered several of its shares. The coordinator waits for the newest opening's.
        if let openShare, pong.awaited == history.nextRound,
            let place = answers.lastIndex(where: { $0.sent.round == history.nextRound && openShare.isAnswered(by: $0.sent.contribution) }),
            pong.echo >= answers[place].heartbeat
        {
            answers[place].heartbeat = heartbeats + 1
            send(.contribution(answers[place].sent))
        }
        // If the run stands still, it may be waiting for this evaluation. It is sent again in case it was lost.
        if pong.records == records, let lastEvaluation, lastEvaluation.position == parameters?.records {
            send(.evaluation(lastEvaluation))
        }
    }

    // MARK: Records

    private mutating func take(_ commit: Commit, at now: Timestamp) {
        target = max(target, commit.index + 1)
        guard commit.index == records, decoder.position != nil else { return }
        fetching = nil
        do {
            if let entry = try decoder.append(kind: commit.kind, payload: commit.payload) { try fold(entry) }
        } catch {
            leave(.failed(ProcessFailure(.badData, "a committed record can't be followed: \(error)")), saying: "unusable record")
        }
    }

    mutating func fold(_ entry: LedgerEntry) throws {
        for change in try history.fold(entry.record) { steps.append(.change(change, position: entry.position.records)) }
        switch entry.record {
        case .spec(let bytes):
            let spec = try RunSpec(canonicalBytes: bytes)
            self.spec = spec
            if configuration.evaluates { steps.append(.evaluate(round: 0, position: entry.position.records)) }
        case .baseManifest(let manifest):
            runBase = manifest
            checkBase()
        case .basis(let bytes):
            guard Digest.sha256(bytes) == spec?.basisDigest else { throw RunSpecError.field("basisDigest", rule: "that of the basis") }
            basis = bytes
        case .admission(let admission):
            if admission.session == configuration.session.fingerprint {
                guard checkOwnKey(admission) else { return }
                machine = admission.machine
                effects.append(.notice(.joined(admission.machine)))
                for report in heldEvaluations { send(.evaluation(report)) }
                heldEvaluations = []
            }
        case .departure(let departure):
            if departure.machine == machine {
                // The coordinator has given this machine up, because its heartbeats were lost, for instance. Its next pong says `unknown`, and the
                // same process joins again with a new number.
                machine = nil
                opening = nil
                answers = []
                effects.append(.notice(.warning("the coordinator gave \(departure.machine) up (\(departure.reason)); joining again")))
            }
        case .round: scheduleEvaluation(at: entry.position)
        case .end: isRunEnded = true
        case .rewind:
            isRunEnded = false
            scheduleFinalEvaluation(at: entry.position)
            // Samples that were begun or sent ahead belong to parameters that are void now.
            answers = []
            if case .compute = inHand { effects.append(.abandon) }
        case .retraction, .restoration: scheduleFinalEvaluation(at: entry.position)
        case .digest, .validation, .signature, .witnesses: break
        }
        confirmSnapshots(at: entry.position)
        // Before the first round the spec's position stands for the base's parameters.
        if entry.record.changesParameters || parameters == nil { parameters = entry.position }
        dropStaleOrders()
    }

    /// Drops evaluations that were not begun and are overtaken by a newer one. The first one stays: it is the run's 'before'.
    private mutating func scheduleEvaluation(at position: LedgerPosition) {
        guard configuration.evaluates, let spec else { return }
        let done = history.effectiveRounds
        let isDue = isTrained || (spec.evaluateEvery > 0 && done % spec.evaluateEvery == 0) || done == spec.steering?.trialRounds
        if isDue { appendEvaluation(at: position) }
    }

    /// If the run stands still, after all its rounds or at a trial's end, every change of its parameters is measured again.
    private mutating func scheduleFinalEvaluation(at position: LedgerPosition) {
        let isHeld = history.effectiveRounds == spec?.steering?.trialRounds
        if configuration.evaluates, isTrained || isHeld { appendEvaluation(at: position) }
    }

    private var isTrained: Bool { history.isFinal || history.effectiveRounds >= spec?.rounds ?? .max }

    private mutating func appendEvaluation(at position: LedgerPosition) {
        steps.removeAll { if case .evaluate(let round, _) = $0 { round > 0 } else { false } }
        steps.append(.evaluate(round: history.nextRound, position: position.records))
    }

    /// Checks that the base is the run's. The coordinator checks too, but a worker need not wait for that.
    mutating func checkBase() {
        guard let base, let runBase else { return }
        let differences = runBase.differences(from: base)
        guard !differences.isEmpty else { return }
        leave(
            .refused(
                Refusal(
                    code: .otherBase,
                    reason: "\(differences.count) tensors of this worker's base model are not the run's; give it the same model file",
                    details: Array(differences.prefix(ProtocolLimits.reportedDifferences)))),
            saying: "another base model: \(differences[0])")
    }

    // MARK: Proof

    /// Reports the digest of the present parameters if `position` is the end of the known history.
    private mutating func proveIfThere(_ position: UInt64, _ nonce: ProofNonce?) {
        guard let parameters, parameters.records == position else { return }
        let step = Step.digest(parameters, round: history.nextRound, nonce: nonce)
        if let lastDigest, lastDigest.position == position, nonce == nil || nonce == lastNonce {
            send(.digestReport(lastDigest))
        } else if !steps.contains(step) {
            // The step keeps its place between the changes: the next commit may come before this step is done.
            steps.append(step)
        }
    }

    private mutating func rebuild(_ order: UInt32) {
        guard order > rebuilds, isPrepared else { return }
        rebuilds = order
        effects.append(.notice(.rebuilding))
        let position = parameters?.records ?? 0
        let evaluations = steps.compactMap { if case .evaluate(let round, let position) = $0 { (round, position) } else { nil } }
        steps = history.rounds.map { .change(.apply($0), position: position) }
        // A measurement is labelled with the parameters at which it is made: the base's, or the newest.
        if let before = evaluations.first(where: { $0.0 == 0 }) { steps.insert(.evaluate(round: 0, position: before.1), at: 0) }
        if evaluations.contains(where: { $0.0 > 0 }) { steps.append(.evaluate(round: history.nextRound, position: position)) }
        mustReset = true
        mustProve = true
        lastDigest = nil
        opening = nil
        answers = []
        // Only samples can be abandoned.
        if case .compute = inHand { effects.append(.abandon) }
    }
}
