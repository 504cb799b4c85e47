extension CoordinatorStateMachine {
    private var mayOpen: Bool {
        phase == .running && round == nil && !ledger.isTrained && !isTrialOver && !ledger.isEnded
            // No round opens before a pending record that changes the parameters: the round's bytes would be for void parameters.
            && !pending.contains { $0.record.changesParameters }
    }

    /// Whether enough machines are there. At the start enough must have joined; after a restart the former ones must be back, or given up.
    private mutating func mayBegin(with trainers: Int) -> Bool {
        if hasBegun { return trainers > 0 }
        var needed = 1
        if ledger.nextRound == 0 {
            // An evaluator that has called is waited for; without this a short run would be over before its held-out data are ready.
            guard !awaitsEvaluators else { return false }
            needed = spec.minimumWorkers
        } else {
            let back = Set(peers.values.compactMap { $0.isActive ? $0.machine : nil })
            needed = max(1, trainers + ledger.machines.values.count { $0.admission.trains && !back.contains($0.admission.machine) })
        }
        let ready = isGathering ? provenTrainers : trainers
        if ready < needed, lastWaiting != ready {
            lastWaiting = ready
            effects.append(.notice(.waiting(machines: ready, of: needed)))
        }
        hasBegun = trainers >= needed
        return hasBegun
    }

    /// Shares the next round out among the machines, if possible.
    mutating func openRound(at now: Timestamp) -> Opening? {
        guard mayOpen else { return nil }
        guard mayBegin(with: activeTrainers.count) else { return nil }
        let trainers = trainersForRound()
        let number = ledger.nextRound
        let total = spec.samplesPerRound
        var shares: [Opening.Share] = []
        // Samples that do not divide evenly go to other machines in each round. So with fewer samples than machines all get their turn. But if
        // machines work ahead, the shares must not move, because each machine must know what comes next.
        let turn = spec.staleness > 0 && total >= trainers.count ? 0 : Int(number) % trainers.count
        for (place, machine) in trainers.enumerated() {
            let rotated = (place + trainers.count - turn) % trainers.count
            let count = total / trainers.count + (rotated < total % trainers.count ? 1 : 0)
            let first = nextSample(of: machine)
            guard count > 0 else { continue }
            guard first + UInt64(count) <= UInt64(UInt32.max) else {
                reportExhausted(machine)
                continue
            }
            cursors[machine] = first + UInt64(count)
            shares.append(Opening.Share(machine: machine, firstSample: SampleNumber(first), count: UInt32(count)))
        }
        guard !shares.isEmpty else { return nil }
        let opening = Opening(round: number, scaleExponent: ledger.scale.exponent, shares: shares)
        round = OpenRound(opening: opening, at: now)
        for (_, early) in (early[number] ?? [:]).sorted(by: { $0.key < $1.key }) { answer(early.sent, seconds: early.seconds, at: now) }
        early = early.filter { $0.key > number }
        return opening
    }

    /// Returns the number of the first sample that no share has had.
    private func nextSample(of machine: MachineID) -> UInt64 { max(cursors[machine] ?? 0, ledger.machines[machine]?.nextSample ?? 0) }

    /// Warns once for each machine, not at every event.
    private mutating func reportExhausted(_ machine: MachineID) {
        guard exhausted.insert(machine).inserted, let peer = peer(of: machine) else { return }
        effects.append(.notice(.warning("\(name(peer.id)) has no sample numbers left; start its worker again; it gets a new machine number")))
    }

    /// Opens a round that follows no commit: the first one, or one after all machines had gone.
    mutating func openRoundAlone(at now: Timestamp) {
        guard pending.isEmpty, let opening = openRound(at: now) else { return }
        effects.append(.send(.open(opening), to: followers))
    }

    mutating func take(_ sent: WireContribution, from peer: CoordinatorPeer, at now: Timestamp) {
        guard let machine = peer.machine, machine == sent.contribution.machine, peer.isActive else { return }
        // Nothing here keeps a reference to the round while it changes. A second reference would copy the round's tables for each answer.
        if let openedAt = round?.openedAt, sent.round == round?.opening.round {
            if answer(sent, seconds: now.seconds(since: openedAt), at: now) { lastAnswer[machine] = now }
            return
        }
        if sent.round >= ledger.nextRound {
            guard spec.staleness > 0, UInt64(sent.round) <= UInt64(ledger.nextRound) + UInt64(spec.staleness),
                sent.contribution.bytes.count <= spec.samplesPerRound
            else { return }
            let seconds = now.seconds(since: lastAnswer[machine] ?? round?.openedAt ?? now)
            early[sent.round, default: [:]][machine] = EarlyContribution(sent: sent, seconds: seconds)
            lastAnswer[machine] = now
            return
        }
        guard let share = missed[sent.round]?[machine], share.isAnswered(by: sent.contribution) else { return }
        // A stale byte is valid, since its direction is known by its name. It is committed with the open round or the next one.
        missed[sent.round]?[machine] = nil
        late.append(
            WireContribution(round: sent.round, scaleExponent: sent.scaleExponent, contribution: share.part(of: sent.contribution)))
        effects.append(.notice(.late(machine, round: sent.round, samples: sent.contribution.bytes.count)))
    }

    /// Takes an answer to a share of the open round.
    @discardableResult private mutating func answer(_ sent: WireContribution, seconds: Double, at now: Timestamp) -> Bool {
        let machine = sent.contribution.machine
        guard let scale = round?.opening.scaleExponent, let share = round?.shares[machine], share.isAnswered(by: sent.contribution)
        else { return false }
        round?.shares[machine] = nil
        round?.lastAnsweredAt = now
        missedShares[machine] = nil
        round?.answers[machine] = share.part(of: sent.contribution).requantised(from: sent.scaleExponent, to: scale)
        answerSeconds.append(seconds)
        if answerSeconds.count > Tuning.answersKept { answerSeconds.removeFirst() }
        return true
    }

    mutating func closeRoundIfComplete(at now: Timestamp) {
        guard round?.shares.isEmpty == true, let open = round else { return }
        if open.answers.isEmpty {
            // All machines of the round have gone. Its number is opened again for the machines that are there.
            round = nil
        } else {
            close(open, at: now)
        }
    }

    mutating func closeRoundAtDeadline(at now: Timestamp) {
        guard let open = round, spec.roundDeadlineFactor > 0, !open.answers.isEmpty,
            answerSeconds.count >= Tuning.answersNeeded,
            Double(open.answeredSamples) >= spec.quorum * Double(open.sharedSamples)
        else { return }
        let median = answerSeconds.sorted()[answerSeconds.count / 2]
        let limit = max(Tuning.shortestDeadlineSeconds, spec.roundDeadlineFactor * median)
        if now.seconds(since: open.openedAt) > limit { close(open, at: now) }
    }

    mutating func close(_ open: OpenRound, at now: Timestamp) {
        round = nil
        let scale = open.opening.scaleExponent
        var contributions = Array(open.answers.values)
        var samples = open.answeredSamples
        // Late bytes are an extra. If the round has no room for them, they are dropped.
        for late in late {
            guard contributions.count < ProtocolLimits.contributionsPerRound,
                samples + late.contribution.bytes.count <= ProtocolLimits.samplesPerRound
            else { break }
            samples += late.contribution.bytes.count
            contributions.append(late.contribution.requantised(from: late.scaleExponent, to: scale))
        }
        late = []
        contributions.sort(by: Contribution.precedes)
        let sent = contributions
        if let filter = spec.filter {
            contributions = filter.filtered(contributions)
            if filter.kind == .robust { contributions = withoutDisagreement(contributions, sent: sent, scaleExponent: scale) }
        }
        let valid = contributions.reduce(0) { $0 + $1.validCount }
        let learningRate = spec.learningRate(round: RoundNumber(ledger.effectiveRounds), rateShift: ledger.rateShift)
        let step = spec.step(
            roundsInForce: ledger.effectiveRounds, rateShift: ledger.rateShift, scaleExponent: scale, validBytes: valid)
        let record = RoundRecord(round: open.opening.round, scaleExponent: scale, step: step, contributions: contributions)
        if spec.staleness == 0 {
            // Nobody can answer the rest of a share any more. In time-boxed rounds the rest is most of it.
            for answer in open.answers.values where ledger.machines[answer.machine] != nil {
                cursors[answer.machine] = answer.samples.upperBound
            }
        }
        missed[open.opening.round] = open.shares
        for old in missed.keys where UInt64(old) + UInt64(spec.staleness) < UInt64(open.opening.round) + 1 { missed[old] = nil }
        append(
            .round(record),
            notice: .roundCommitted(
                RoundSummary(
                    record, sent: sent, learningRate: learningRate, seconds: now.seconds(since: open.openedAt),
                    effectiveRounds: ledger.effectiveRounds + 1)))
        judge(sent, at: now)
        if spec.privacy != nil { endIfBudgetsAreSpent(sent) }
    }

    /// Ends a private run once none of its machines gives a value any more. A private byte always has one until its worker's budget is spent, so
    /// further rounds would change nothing.
    private mutating func endIfBudgetsAreSpent(_ contributions: [Contribution]) {
        for contribution in contributions {
            if contribution.validCount == 0 { spent.insert(contribution.machine) } else { spent.remove(contribution.machine) }
        }
        let trainers = activeTrainers
        guard !contributions.isEmpty, contributions.allSatisfy({ $0.validCount == 0 }), !trainers.isEmpty,
            trainers.allSatisfy({ spent.contains($0) }), !ledger.isTrained
        else { return }
        areBudgetsSpent = true
        effects.append(.notice(.warning("no worker gives a value any more: their privacy budgets are spent, and the run ends here")))
        rewind(to: ledger.nextRound, rateShift: 0, isFinal: true)
    }

    /// Reports machines whose bytes have been useless for a long time, and evicts them if the run spec says so.
    private mutating func judge(_ contributions: [Contribution], at now: Timestamp) {
        for contribution in contributions {
            let machine = contribution.machine
            guard let change = byteHealth[machine, default: ByteHealth()].take(contribution.bytes), let peer = peer(of: machine)
            else { continue }
            switch change {
            case .recovered: effects.append(.notice(.warning("\(name(peer.id)) sends useful bytes again")))
            case .worsened:
                // A worker whose budget is spent is not faulty.
                let mayBeSpent = spec.privacy != nil && contribution.validCount == 0
                let isRemoved = spec.evictsFaultyMachines == true && !mayBeSpent
                let remedy =
                    mayBeSpent
                    ? "its privacy budget may be spent; its log says so"
                    : isRemoved ? "it is evicted" : "look at its data and its log; its bytes can be retracted"
                effects.append(
                    .notice(.warning("at least half of the recent bytes of \(name(peer.id)) are 'no value' or saturated: \(remedy)")))
                if isRemoved { remove(machine, at: now) }
            }
        }
    }

    // MARK: Operators

    mutating func retract(_ machine: MachineID, rounds: Range<RoundNumber>) {
        let present = rounds.clamped(to: 0..<ledger.nextRound)
        guard ledger.holdsBytes(of: machine, in: present), !ledger.isEnded else {
            effects.append(.notice(.warning("nothing to retract: \(machine), rounds \(rounds)")))
            return
        }
        append(.retraction(Retraction(machine: machine, rounds: present)), notice: .retracted(machine, rounds: present))
        if isClosing { wantsCheck = true }
    }

    mutating func restore(_ machine: MachineID, rounds: Range<RoundNumber>) {
        let present = rounds.clamped(to: 0..<ledger.nextRound)
        guard ledger.holdsRetracted(of: machine, in: present), ledger.format >= 3, !ledger.isEnded else {
            effects.append(.notice(.warning("nothing to restore: \(machine), rounds \(rounds)")))
            return
        }
        append(.restoration(Restoration(machine: machine, rounds: present)), notice: .restored(machine, rounds: present))
        if isClosing { wantsCheck = true }
    }

    mutating func rewind(to target: RoundNumber, rateShift: Int8, isFinal: Bool = false) {
        guard target <= ledger.nextRound, !ledger.isEnded else {
            effects.append(
                .notice(.warning("can't rewind to round \(target): the next is \(ledger.nextRound)\(ledger.isEnded ? " and the run has ended" : "")"))
            )
            return
        }
        // Bytes on their way belong to parameters that are void now. The new shares have new samples, so these bytes fit none of them. Late bytes do
        // not belong into later rounds either.
        if round == nil, spec.staleness > 0 {
            // Bytes that a machine has sent ahead would begin where its next share begins, so one sample is skipped.
            for machine in activeTrainers { cursors[machine] = nextSample(of: machine) + 1 }
        }
        round = nil
        missed = [:]
        late = []
        early = [:]
        append(
            .rewind(Rewind(round: target, rateShift: rateShift, isFinal: isFinal)),
            notice: .rewound(
                to: target, learningRate: spec.learningRate * Double(sign: .plus, exponent: ledger.rateShift + Int(rateShift), significand: 1),
                isFinal: isFinal))
        guard isClosing else { return }
        wantsCheck = true
        if !ledger.isTrained { phase = .running }
    }
}

extension Opening.Share {
    /// Whether `contribution` answers this share: it begins with the share's first sample. It may have fewer bytes, if the worker stopped in the
    /// middle, or more, if the worker was asked for more before the coordinator restarted.
    func isAnswered(by contribution: Contribution) -> Bool {
        contribution.machine == machine && contribution.firstSample == firstSample && !contribution.bytes.isEmpty
    }

    /// Returns the part of the contribution that belongs to this share.
    func part(of contribution: Contribution) -> Contribution {
        Contribution(machine: machine, firstSample: firstSample, bytes: Array(contribution.bytes.prefix(Int(count))))
    }
}
