extension CoordinatorStateMachine {
    mutating func received(_ message: Message, from id: PeerID, at now: Timestamp) {
        if case .hello(let hello) = message {
            greet(hello, from: id, at: now)
            return
        }
        let peer = peers[id].flatMap { peer in
            if case .heartbeat(let heartbeat) = message, heartbeat.session != peer.tag { return CoordinatorPeer?.none }
            return peer
        }
        guard let peer else {
            // The coordinator was restarted, or it had given the worker up. The worker says hello again, and all else follows from that.
            if case .goodbye = message { return }
            let echo = if case .heartbeat(let heartbeat) = message { heartbeat.sequence } else { UInt64(0) }
            send(.pong(Pong(standing: .unknown, records: durableRecords, awaited: nil, echo: echo)), to: id)
            return
        }
        peers[id]?.lastHeard = now
        switch message {
        case .base(let manifest): prove(manifest, by: peer, at: now)
        case .fetch(let fetch): serve(fetch, to: peer, at: now)
        case .baseDigest(let announced): take(announced, from: peer, at: now)
        case .basePart(let part): take(part, from: peer, at: now)
        case .heartbeat(let heartbeat): answer(heartbeat, of: peer, at: now)
        case .contribution(let contribution): take(contribution, from: peer, at: now)
        case .digestReport(let report): take(report, from: peer, at: now)
        case .evaluation(let report): take(report, from: peer, at: now)
        case .status(let status):
            // A worker sends one every second, and some more in its first rounds. More often is of no use.
            guard peers[id]?.statuses.admit(at: now) == true else { return }
            effects.append(.notice(.status(self.report(of: peer, status))))
        case .goodbye(let goodbye):
            switch goodbye.cause {
            case .diverged: takeDivergence(goodbye, of: peer, at: now)
            case nil: drop(id, .left, at: now)
            }
        case .hello, .welcome, .refuse, .commit, .open, .chunk, .pong, .digestRequest, .rebuild, .finished, .baseFetch:
            effects.append(.notice(.warning("\(name(id)) sent a \(message.kind), which only a coordinator sends")))
        }
    }

    private func report(of peer: CoordinatorPeer, _ status: WorkerStatus) -> WorkerReport {
        WorkerReport(
            machine: peer.machine, name: peer.hello.name, session: peer.tag, trains: peer.hello.trains, evaluates: peer.hello.evaluates,
            bytes: peer.machine.flatMap { ledger.machines[$0]?.committedSamples } ?? 0,
            disagrees: peer.machine.map { disagreeing.contains($0) } ?? false, status: status)
    }

    private mutating func greet(_ hello: Hello, from id: PeerID, at now: Timestamp) {
        if case .leaving(let finish, _) = phase {
            send(.finished(finish), to: id)
            return
        }
        if let refusal = refusal(of: hello, from: id) {
            refuse(hello.name, id, refusal)
            return
        }
        if let old = peers[id], old.session != hello.session { drop(id, .replaced, at: now) }
        // The same session behind a new connection keeps everything that it had.
        if let old = sessions[hello.session].flatMap({ peers[$0] }) {
            if old.id != id {
                releaseBudget(of: old)
                peers[old.id] = nil
                check?.waiting.remove(old.id)
                var moved = CoordinatorPeer(id: id, hello: hello, lastHeard: now)
                (moved.machine, moved.isAdmitted, moved.hasBase) = (old.machine, old.isAdmitted, old.hasBase)
                moved.announcedBase = old.announcedBase
                (moved.isProven, moved.strikes, moved.rebuilds) = (old.isProven, old.strikes, old.rebuilds)
                moved.hasReplayed = old.hasReplayed
                moved.lastEvaluation = old.lastEvaluation
                peers[id] = moved
                sessions[hello.session] = id
                effects.append(.disconnect(old.id))
            } else {
                peers[id]?.lastHeard = now
            }
        } else {
            var peer = CoordinatorPeer(id: id, hello: hello, lastHeard: now)
            let fingerprint = hello.session.fingerprint
            // The machine was admitted before the coordinator restarted. It keeps its number and its base, and proves its parameters again.
            if let machine = ledger.machines.values.first(where: { $0.admission.session == fingerprint }),
                self.peer(of: machine.admission.machine) == nil
            {
                peer.machine = machine.admission.machine
                peer.isAdmitted = !pending.contains { $0.record == .admission(machine.admission) }
                peer.hasBase = true
            }
            peers[id] = peer
            sessions[hello.session] = id
            effects.append(
                .notice(.greeted(name: hello.name, session: hello.session.fingerprint.tag, trains: hello.trains, evaluates: hello.evaluates)))
        }
        send(
            .welcome(
                Welcome(
                    specDigest: ledger.specDigest, session: hello.session, ledgerRecords: durableRecords,
                    ledgerBytes: durableBytes, heartbeatSeconds: spec.heartbeatSeconds,
                    heartbeatTimeoutSeconds: spec.heartbeatTimeoutSeconds, signer: notary?.publicKey, baseDigest: baseDigest,
                    unixSeconds: now.unixSeconds)), to: id)
    }

    /// Handles a machine whose parameters have left their range. All machines have the same parameters, so the others soon follow it. While other
    /// machines that train are left, they are believed and not this one. When none is left, the run can't go on as it is.
    private mutating func takeDivergence(_ goodbye: Goodbye, of peer: CoordinatorPeer, at now: Timestamp) {
        effects.append(.notice(.warning("\(name(peer.id)): \(goodbye.reason.prefix(Tuning.quoted))")))
        let tookPart = peer.isProven
        if tookPart, peer.machine.map({ established.contains($0) }) ?? false { divergedMachines += 1 }
        drop(peer.id, .diverged, at: now)
        // A single machine may be defective or malicious. The run has diverged when more machines have left in this way than remain.
        let remaining = activeTrainers
        let hasDiverged = remaining.isEmpty || divergedMachines > remaining.count
        guard tookPart, phase == .running || isClosing, hasDiverged else { return }
        let message =
            "the run has diverged: the parameters have left their range; begin again with a smaller learning rate, or with validation examples, so that the guard can go back by itself"
        stop(RunFinish(outcome: .failed, message: message), at: now)
    }

    private func refusal(of hello: Hello, from id: PeerID) -> Refusal? {
        if let expected = hello.expectedSpec, expected != ledger.specDigest {
            let digests = expected.contrasted(with: ledger.specDigest)
            return Refusal(
                code: .otherRun,
                reason: "the worker expects the run \(digests.own), this is \(digests.other); "
                    + "start it with this run's settings or without any")
        }
        if hello.records > durableRecords {
            return Refusal(
                code: .otherRun,
                reason: "the worker holds \(hello.records) ledger records and the coordinator \(durableRecords): its ledger was "
                    + "put back to an older copy, or is another run's; start the worker again")
        }
        if peers.count >= ProtocolLimits.peers, peers[id] == nil {
            return Refusal(code: .full, reason: "there are \(peers.count) peers, which is the limit")
        }
        return nil
    }

    private mutating func refuse(_ name: String, _ id: PeerID, _ refusal: Refusal) {
        send(.refuse(refusal), to: id)
        effects.append(.disconnect(id))
        effects.append(.notice(.refused(name: name, refusal)))
    }

    /// Refuses a peer that was welcome before.
    mutating func expel(_ peer: CoordinatorPeer, _ refusal: Refusal, _ reason: Departure.Reason, at now: Timestamp) {
        refuse(peer.hello.name, peer.id, refusal)
        drop(peer.id, reason, at: now)
    }

    /// Upper bound for the round trip that a peer claims: it is believed no further.
    private static let longestRoundTripMilliseconds: UInt32 = 4_000

    private mutating func answer(_ heartbeat: Heartbeat, of peer: CoordinatorPeer, at now: Timestamp) {
        peers[peer.id]?.flow.roundTripSeconds = Double(min(heartbeat.roundTripMilliseconds, Self.longestRoundTripMilliseconds)) / 1000
        peers[peer.id]?.flow.noteRecords(heartbeat.records)
        let graceSeconds = max(spec.heartbeatSeconds, 3 * peer.flow.roundTripSeconds)
        let isCurrent = heartbeat.records == durableRecords
        if isCurrent { peers[peer.id]?.isFollowing = true }
        var awaited: RoundNumber?
        if let round, let machine = peer.machine, let share = round.shares[machine] {
            awaited = round.opening.round
            let held = Heartbeat.Share(round: round.opening.round, firstSample: share.firstSample)
            // One heartbeat's grace: a message that was sent a moment ago is probably still on its way.
            if heartbeat.share != held, isCurrent, now.seconds(since: round.openedAt) > graceSeconds {
                send(.open(round.opening), to: peer.id)
            }
        }
        if let check, check.waiting.contains(peer.id), isCurrent, check.position == ledger.parameters,
            now.seconds(since: check.startedAt) > graceSeconds
        {
            send(.digestRequest(position: check.position.records, nonce: check.nonce), to: peer.id)
        }
        if isClosing, check == nil, isCurrent, let final = references.last, final.position == ledger.parameters.records,
            !final.supporters.contains(peer.id)
        {
            send(.digestRequest(position: final.position), to: peer.id)
        }
        send(.pong(Pong(standing: peer.standing, records: durableRecords, awaited: awaited, echo: heartbeat.sequence)), to: peer.id)
        if case .leaving(let finish, _) = phase { send(.finished(finish), to: peer.id) }
    }

    private mutating func take(_ report: EvaluationReport, from peer: CoordinatorPeer, at now: Timestamp) {
        guard let machine = peer.machine, peer.hello.evaluates else { return }
        // A worker repeats its last report until the run ends.
        guard report.position > peer.lastEvaluation, report.position <= ledger.position.records else { return }
        peers[peer.id]?.lastEvaluation = report.position
        effects.append(.notice(.evaluated(machine, name: peer.hello.name, report)))
        if report.moved > SteeringHistory.largestMovement, !hasReportedMoved, report.moved.isFinite {
            hasReportedMoved = true
            let text =
                "at round \(report.round) a trained tensor has moved by \(Int(min(report.moved, 1e6) * 100)) % of its norm, so the model's other abilities suffer; take a smaller learning rate or a larger batch"
            effects.append(.notice(.warning(text)))
        }
        steer(by: report, of: machine, at: now)
    }

    /// Gives numbers to the proven peers that have none. The first ones wait for each other and are numbered in the order of their names. So it does
    /// not matter who happened to be ready first, and the same run with the same workers gives the same ledger.
    mutating func admitProven(at now: Timestamp) {
        guard mayHaveNewcomers, phase == .running || isClosing, !ledger.isEnded else { return }
        let newcomers = peers.values.filter { $0.isProven && $0.machine == nil }
        mayHaveNewcomers = !newcomers.isEmpty
        guard mayHaveNewcomers, !isGathering else { return }
        for peer in newcomers.sorted(by: { ($0.hello.name, $0.id.bytes.hex) < ($1.hello.name, $1.id.bytes.hex) }) where mayAdmit(at: now) {
            admit(peer, at: now)
        }
    }

    /// Whether the run's first machines are not all there yet.
    var isGathering: Bool {
        ledger.nextMachine.rawValue == 1 && ledger.nextRound == 0
            && (provenTrainers < spec.minimumWorkers || awaitsEvaluators)
    }

    var provenTrainers: Int { peers.values.count { $0.isProven && $0.hello.trains } }

    private mutating func admit(_ peer: CoordinatorPeer, at now: Timestamp) {
        let machine = ledger.nextMachine
        let admission = Admission(
            machine: machine, unixSeconds: now.unixSeconds, trains: peer.hello.trains, evaluates: peer.hello.evaluates,
            name: peer.hello.name, session: peer.session.fingerprint, publicKey: Array((peer.hello.publicKey ?? "").utf8),
            signingKey: notary == nil ? nil : peer.hello.signingKey, data: peer.data,
            precision: ledger.format >= 4 ? peer.hello.precision : nil)
        let notice = CoordinatorNotice.joined(
            machine, name: peer.hello.name, session: peer.tag, trains: peer.hello.trains, evaluates: peer.hello.evaluates,
            round: ledger.nextRound)
        if append(.admission(admission), notice: notice) { peers[peer.id]?.machine = machine }
    }

    /// Forgets a peer. Its machine departs for good.
    mutating func drop(_ id: PeerID, _ reason: Departure.Reason, at now: Timestamp) {
        guard let peer = peers.removeValue(forKey: id) else { return }
        releaseBudget(of: peer)
        if sessions[peer.session] == id { sessions[peer.session] = nil }
        check?.waiting.remove(id)
        effects.append(.disconnect(id))
        guard let machine = peer.machine else { return }
        if reason == .left, round?.answers[machine] != nil {
            round?.shares[machine] = nil
            leavers.insert(machine)
        } else {
            depart(machine, reason, at: now)
        }
    }

    /// Lets machines depart after their goodbye. A machine whose bytes are in the open round departs after that round is written: after its
    /// departure, its bytes would be those of a stranger.
    mutating func departLeavers(at now: Timestamp) {
        for machine in leavers.sorted() where round?.answers[machine] == nil {
            leavers.remove(machine)
            depart(machine, .left, at: now)
        }
    }

    mutating func depart(_ machine: MachineID, _ reason: Departure.Reason, at now: Timestamp) {
        guard let name = ledger.machines[machine]?.admission.name, !ledger.isEnded else { return }
        round?.shares[machine] = nil
        late.removeAll { $0.contribution.machine == machine }
        cursors[machine] = nil
        missedShares[machine] = nil
        established.remove(machine)
        agreedOnce.remove(machine)
        disagreeing.remove(machine)
        agreement?.forget(machine)
        lastAnswer[machine] = nil
        byteHealth[machine] = nil
        spent.remove(machine)
        for round in missed.keys { missed[round]?[machine] = nil }
        for round in early.keys { early[round]?[machine] = nil }
        // A machine that departs in this way did not say goodbye. If it had, its bytes would count: see `departLeavers`.
        leavers.remove(machine)
        round?.answers[machine] = nil
        // A peer that came back before its goodbye was written takes part under a new number.
        for id in peers.keys where peers[id]?.machine == machine {
            peers[id]?.machine = nil
            if let peer = peers[id], peer.isAdmitted { strangers.add(peer.flow.unproven, for: id) }
            peers[id]?.isAdmitted = false
            mayHaveNewcomers = true
        }
        append(
            .departure(Departure(machine: machine, unixSeconds: now.unixSeconds, reason: reason)),
            notice: .left(machine, name: name, reason, round: ledger.nextRound))
    }

    mutating func remove(_ machine: MachineID, at now: Timestamp) {
        guard let peer = peer(of: machine) else {
            depart(machine, .removed, at: now)
            return
        }
        expel(peer, Refusal(code: .removed, reason: "an operator set \(machine) aside"), .removed, at: now)
    }
}
