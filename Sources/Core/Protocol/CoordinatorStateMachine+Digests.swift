/// How machines' parameters are compared. A digest names a ledger position, so reports may come in any order and at any time. The coordinator holds
/// no model. It can see that machines differ, but not which is right: each machine's own replay of the ledger from the base decides that.
extension CoordinatorStateMachine {
    /// Asks for a comparison after a committed round, at the set interval and after the last round.
    mutating func startScheduledCheck(at now: Timestamp) {
        let next = Int(ledger.nextRound)
        let isDue = spec.digestEvery > 0 && next % spec.digestEvery == 0
        let isSoon = lastScheduledCheck.map { now.seconds(since: $0) < shortestCheckSeconds } ?? false
        guard ledger.isTrained || (isDue && !isSoon) else { return }
        lastScheduledCheck = now
        wantsCheck = true
    }

    /// Asks every peer for the digest of the present parameters, once they are on disk and the last comparison is over.
    mutating func startCheckIfWanted(at now: Timestamp) {
        guard wantsCheck, check == nil, ledger.parameters.records <= durableRecords, mayCompare(at: now) else { return }
        if case .leaving = phase { return }
        let asked = sortedPeers { $0.isFollowing && $0.hasBase }
        // If machines that take part are only out of reach, a comparison among newcomers proves nothing.
        guard asked.contains(where: { peers[$0]?.isProven == true }) || (!asked.isEmpty && !hasProvenPeer) else { return }
        wantsCheck = false
        // An evaluator may be busy, and a newcomer may replay for a long time. Their reports are judged when they come.
        let trainers = asked.filter { peers[$0]?.isActive == true && peers[$0]?.hello.trains == true }
        // A digest can be copied from the ledger. So if somebody is new, all are asked a question that was never asked before.
        let nonce = asked.contains { peers[$0]?.isProven != true } ? nextNonce(at: now) : nil
        check = DigestCheck(
            position: ledger.parameters, round: ledger.nextRound, startedAt: now, waiting: Set(trainers.isEmpty ? asked : trainers), nonce: nonce)
        effects.append(.send(.digestRequest(position: ledger.parameters.records, nonce: nonce), to: asked))
    }

    mutating func take(_ report: DigestReport, from peer: CoordinatorPeer, at now: Timestamp) {
        guard peer.hasBase else { return }
        guard report.rebuilds >= peer.rebuilds else {
            // The report was made before the peer was told to rebuild, or the order never reached it.
            send(.rebuild(order: peer.rebuilds), to: peer.id)
            return
        }
        peers[peer.id]?.rebuilds = report.rebuilds
        if let data = report.data, peer.machine == nil { peers[peer.id]?.data = data }
        warnIfStepsVanish(report, of: peer)
        if report.position == ledger.parameters.records, report.chain != ledger.parameters.shortChain {
            let refusal = Refusal(
                code: .otherRun, reason: "the worker's ledger differs from this one; start the worker again")
            expel(peer, refusal, .diverged, at: now)
            return
        }
        if check?.position.records == report.position {
            // The report crossed the question on its way, or it answers an earlier question.
            if let nonce = check?.nonce, report.proof?.nonce != nonce { return }
            check?.reports[peer.id] = report.digest
            check?.proofs[peer.id] = report.proof?.answer
            check?.signatures[peer.id] = report.signature
            check?.waiting.remove(peer.id)
            return
        }
        if let reference = references.first(where: { $0.position == report.position }) {
            switch standing(of: peer, report, at: reference) {
            case .mayPass: judge([peer.id: report.digest], position: report.position, round: report.round, at: now)
            case .isCopy: expelCopier(peer, at: now)
            case .mustBeAsked: wantsCheck = true
            case .mustWait: break
            }
            return
        }
        guard !peer.isProven, !mustWait(peer) else { return }
        if !hasProvenPeer, check == nil, report.position == ledger.parameters.records, report.position <= durableRecords {
            // There is nobody to compare with. The run goes on with these parameters, and later peers are compared with them.
            refer(to: report.digest, position: report.position, supporters: [peer.id])
            pass(peer.id)
        } else {
            wantsCheck = true
        }
    }

    /// Warns once: vanishing steps are the same for all machines and do not go away by themselves.
    private mutating func warnIfStepsVanish(_ report: DigestReport, of peer: CoordinatorPeer) {
        guard let percent = report.unchangedPercent, percent >= Tuning.vanishingPercent, !hasReportedVanishing else { return }
        hasReportedVanishing = true
        let text =
            "the steps vanish: \(percent) % of the parameters of \(name(peer.id)) have not changed since the digest before round \(report.round); raise the learning rate"
        effects.append(.notice(.warning(text)))
    }

    var hasProvenPeer: Bool { peers.values.contains { $0.isProven } }

    mutating func concludeCheckIfComplete(at now: Timestamp) {
        if let check, check.waiting.isEmpty { concludeCheck(at: now) }
        startCheckIfWanted(at: now)
    }

    /// Ends a comparison that takes too long. A machine that has not answered after a heartbeat timeout is not waited for. There is one exception: if
    /// a newcomer has answered and there is no other answer to compare it with, the others are waited for. They may be trying samples, and answer
    /// when their round is over.
    mutating func concludeCheckIfOverdue(at now: Timestamp) {
        guard let check else { return }
        if check.position.records != ledger.parameters.records, check.supersededAt == nil { self.check?.supersededAt = now }
        let isJudged = check.nonce == nil || !hasProvenPeer || check.reports.keys.contains { peers[$0]?.isProven == true }
        guard let since = isJudged ? check.startedAt : check.supersededAt else { return }
        if now.seconds(since: since) > spec.heartbeatTimeoutSeconds { concludeCheck(at: now) }
    }

    mutating func concludeCheck(at now: Timestamp) {
        guard let check else { return }
        self.check = nil
        var reports = check.reports.filter { peers[$0.key] != nil }
        guard !reports.isEmpty else { return }
        // The peers that have taken part so far decide what is right. A newcomer decides only if there is nobody else.
        let proven = voters(among: reports)
        let known = references.first { $0.position == check.position.records }?.digest
        guard known != nil || !proven.isEmpty || !hasProvenPeer else {
            // The machines that take part are busy. The newcomers that answered wait for them.
            wantsCheck = true
            return
        }
        var groups: [Digest: [PeerID]] = [:]
        for (id, digest) in proven.isEmpty ? reports : proven { groups[digest, default: []].append(id) }
        let ranked = groups.sorted { ($0.value.count, $0.key.description) > ($1.value.count, $1.key.description) }
        let isTie = ranked.count > 1 && ranked[0].value.count == ranked[1].value.count
        guard let right = known ?? (isTie ? nil : ranked.first?.key) else {
            effects.append(.notice(.digestsDiffer(round: check.round, groups: ranked.map { machines(Set($0.value)) })))
            for id in sorted(reports.keys) { fail(id, position: check.position.records, at: now) }
            return
        }
        let proof = !proven.isEmpty || !hasProvenPeer ? rightProof(in: check, digest: right, voters: proven) : nil
        for id in sorted(reports.keys) where reports[id] == right {
            guard let peer = peers[id], !peer.isProven, peer.machine == nil, check.proofs[id] == nil || check.proofs[id] != proof else { continue }
            reports[id] = nil
            // If it has not answered the nonce, or if there is no answer to compare with, it is asked again.
            if check.proofs[id] != nil, proof != nil { expelCopier(peer, at: now) } else { wantsCheck = true }
        }
        refer(to: right, position: check.position.records, supporters: [], nonce: check.nonce, proof: proof)
        let agreed = judge(reports, position: check.position.records, round: check.round, at: now)
        guard let agreed, !ledger.isEnded else { return }
        let names = machines(agreed.supporters)
        guard !names.isEmpty else { return }
        establish(names)
        append(
            .digest(DigestRecord(round: check.round, position: check.position.records, digest: agreed.digest, machines: names)),
            notice: .digestsAgree(round: check.round, agreed.digest, machines: names))
        appendWitnesses(of: check, digest: agreed.digest, machines: names)
        signLedger()
    }

    /// Compares reports with the reference of their position, and returns the reference as it is afterwards.
    @discardableResult
    private mutating func judge(
        _ reports: [PeerID: Digest], position: UInt64, round: RoundNumber, at now: Timestamp
    ) -> DigestReference? {
        guard let index = references.firstIndex(where: { $0.position == position }) else { return nil }
        var reference = references[index]
        let order = sorted(reports.keys)
        for id in order {
            guard let digest = reports[id] else { continue }
            if peers[id]?.hasReplayed == true, mayVote(id) { reference.replays[digest, default: []].insert(id) }
            if digest == reference.digest { reference.supporters.insert(id) }
        }
        var agreeing = order.filter { reports[$0] == reference.digest }
        var differing = order.filter { reports[$0] != reference.digest }
        if !differing.isEmpty {
            let others = Dictionary(grouping: differing) { reports[$0] }.values.map { machines(Set($0)) }
                .sorted { ($0.count, $0.description) > ($1.count, $1.description) }
            effects.append(.notice(.digestsDiffer(round: round, groups: [machines(reference.supporters)] + others)))
        }
        // Two replays that agree are right against any number of machines that only followed. One replay is right if no peer that is present stands
        // for the reference. There is never a vote.
        let replayed = reference.replays[reference.digest]?.count ?? 0
        let isAbandoned = replayed == 0 && !reference.supporters.contains { peers[$0]?.isProven == true || reports[$0] != nil }
        let most = isAbandoned ? 0 : max(1, replayed)
        let rivals = reference.replays.filter { $0.key != reference.digest && $0.value.count > most }
        if let (digest, replays) = rivals.max(by: { ($0.value.count, $0.key.description) < ($1.value.count, $1.key.description) }) {
            differing = order.filter { reports[$0] != digest } + sorted(reference.supporters.subtracting(order))
            agreeing = sorted(replays)
            reference.digest = digest
            reference.supporters = replays
            wantsCheck = true
        }
        references[index] = reference
        for id in agreeing { pass(id) }
        for id in differing { fail(id, position: position, at: now) }
        return references.first { $0.position == position }
    }

    func sorted(_ ids: some Sequence<PeerID>) -> [PeerID] {
        ids.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    private mutating func refer(
        to digest: Digest, position: UInt64, supporters: Set<PeerID>, nonce: ProofNonce? = nil, proof: Digest? = nil
    ) {
        if let at = references.firstIndex(where: { $0.position == position }) {
            references[at].supporters.formUnion(supporters)
            if references[at].digest == digest, let nonce { (references[at].nonce, references[at].proof) = (nonce, proof) }
            return
        }
        references.append(DigestReference(position: position, digest: digest, supporters: supporters, nonce: nonce, proof: proof))
        if references.count > Tuning.referencesKept { references.removeFirst() }
    }

    private func machines(_ ids: Set<PeerID>) -> [MachineID] { ids.compactMap { peers[$0]?.machine }.sorted() }

    private mutating func pass(_ id: PeerID) {
        guard peers[id] != nil else { return }
        peers[id]?.isProven = true
        mayHaveNewcomers = true
        peers[id]?.hasReplayed = false
        peers[id]?.strikes = 0
    }

    /// Handles a peer whose parameters differ. It builds them again from base and ledger, and that replay decides who is right.
    private mutating func fail(_ id: PeerID, position: UInt64, at now: Timestamp) {
        guard let peer = peers[id] else { return }
        let strikes = peer.strikes + 1
        peers[id]?.strikes = strikes
        let reference = references.first { $0.position == position }
        let others = sorted((reference?.supporters ?? []).filter { $0 != id && peers[$0]?.isProven == true })
        if strikes >= Tuning.strikes {
            let replays = reference.flatMap { $0.replays[$0.digest] } ?? []
            if replays.contains(id) || others.count > 1 || strikes >= 2 * Tuning.strikes {
                let refusal = Refusal(
                    code: .diverged,
                    reason: "its parameters differ from the others' although it built them again \(strikes - 1) times; "
                        + "check the machine's memory and its copy of the model")
                expel(peer, refusal, .diverged, at: now)
                return
            }
            if !replays.isEmpty {
                let message =
                    "two machines replay the same ledger from the same base to different parameters: one of them has a fault. "
                    + "A third machine's replay of the ledger shows which; start again without it"
                stop(RunFinish(outcome: .failed, message: message), at: now)
                return
            }
        }
        rebuild(id)
        // Its replay still differs. So one of the others replays too; if that replay agrees with it, the others are wrong.
        if strikes == Tuning.strikes - 1, let referee = others.first { rebuild(referee) }
    }

    private mutating func rebuild(_ id: PeerID) {
        guard let peer = peers[id] else { return }
        peers[id]?.isProven = false
        // Reports from before this order are ignored, so the next one is that of a replay.
        peers[id]?.hasReplayed = true
        peers[id]?.rebuilds += 1
        check?.reports[id] = nil
        for index in references.indices { references[index].supporters.remove(id) }
        if let machine = peer.machine { round?.shares[machine] = nil }
        effects.append(.notice(.rebuilding(peer.machine, name: peer.hello.name)))
        send(.rebuild(order: peer.rebuilds + 1), to: id)
    }
}

/// Parameters that are taken to be right, and the peers that had them.
struct DigestReference: Sendable {
    let position: UInt64
    var digest: Digest
    var supporters: Set<PeerID>
    /// The nonce that was asked with them, and the answer of the peers that were right.
    var nonce: ProofNonce?
    var proof: Digest?
    /// For each digest the peers that reported it after they had built their parameters from the base.
    var replays: [Digest: Set<PeerID>] = [:]
}
