/// Which peers are let in, what they must prove, and whose reports count. Everybody who has read the ledger knows old digests and the base manifest,
/// so these prove nothing about a stranger.
extension CoordinatorStateMachine {
    /// How an unasked report of a digest is treated.
    enum Standing: Hashable {
        /// The report is compared as it is.
        case mayPass
        /// The peer must answer a fresh nonce in a comparison.
        case mustBeAsked
        /// Nobody is there to compare the stranger with, but machines of the run may come back.
        case mustWait
        /// The digest is right, but the answer to the nonce is wrong.
        case isCopy
    }

    func standing(of peer: CoordinatorPeer, _ report: DigestReport, at reference: DigestReference) -> Standing {
        // A peer that took part, or has the session of a machine in the ledger, is believed: it can't be anybody else.
        guard !peer.isProven, peer.machine == nil, report.digest == reference.digest else { return .mayPass }
        if mustWait(peer) { return .mustWait }
        guard hasProvenPeer else { return .mayPass }
        guard let right = reference.proof, let proof = report.proof, proof.nonce == reference.nonce else { return .mustBeAsked }
        return proof.answer == right ? .mayPass : .isCopy
    }

    /// Whether the peer is a stranger while the run's own machines are only out of reach.
    func mustWait(_ peer: CoordinatorPeer) -> Bool {
        peer.machine == nil && !hasProvenPeer && ledger.nextRound > 0 && !ledger.machines.isEmpty
    }

    mutating func expelCopier(_ peer: CoordinatorPeer, at now: Timestamp) {
        let reason = "it names the right digest but can't prove that it holds the model and the parameters; give it the run's base model"
        expel(peer, Refusal(code: .otherBase, reason: reason), .removed, at: now)
    }

    mutating func nextNonce(at now: Timestamp) -> ProofNonce {
        lastNewcomerCheck = now
        noncesMade += 1
        return ProofNonce(secret: nonceSecret, number: noncesMade)
    }

    /// Whether a comparison may begin now. Comparisons for newcomers must not keep the others from their work.
    func mayCompare(at now: Timestamp) -> Bool {
        guard ledger.nextRound > 0, let last = lastNewcomerCheck, peers.values.contains(where: { $0.hasBase && $0.isFollowing && !$0.isProven })
        else { return true }
        return now.seconds(since: last) >= Tuning.newcomerCheckSeconds
    }

    /// Whether another admission may be written now.
    mutating func mayAdmit(at now: Timestamp) -> Bool {
        guard ledger.nextRound > 0 else { return true }
        admissionTimes.removeAll { now.seconds(since: $0) > 60 }
        guard admissionTimes.count < max(Tuning.admissionsPerMinute, 2 * spec.minimumWorkers) else { return false }
        admissionTimes.append(now)
        return true
    }

    // MARK: Votes

    /// Marks machines that contributed bytes and then had the same parameters as the others, at two comparisons. One comparison would not be enough
    /// against a replay, because two machines may be wrong together.
    mutating func establish(_ machines: [MachineID]) {
        for machine in machines where ledger.machines[machine]?.nextSample ?? 0 > 0 {
            if !agreedOnce.insert(machine).inserted { established.insert(machine) }
        }
    }

    /// Returns the reports that decide what is right: those of established machines, or, if there are none, those of the peers that take part.
    func voters(among reports: [PeerID: Digest]) -> [PeerID: Digest] {
        let proven = reports.filter { peers[$0.key]?.isProven == true }
        let known = proven.filter { isEstablished($0.key) }
        return known.isEmpty ? proven : known
    }

    /// Whether a peer's replay counts against the others.
    func mayVote(_ id: PeerID) -> Bool { isEstablished(id) || !peers.keys.contains { isEstablished($0) } }

    private func isEstablished(_ id: PeerID) -> Bool { peers[id]?.machine.map { established.contains($0) } ?? false }

    /// Returns the answer to the nonce that the peers with the right digest gave. If they gave several, it is the most frequent one.
    func rightProof(in check: DigestCheck, digest: Digest, voters: [PeerID: Digest]) -> Digest? {
        let judges = voters.isEmpty ? check.reports : voters
        var counts: [Digest: Int] = [:]
        for (id, reported) in judges where reported == digest {
            if let proof = check.proofs[id] { counts[proof, default: 0] += 1 }
        }
        return counts.max { ($0.value, $0.key.description) < ($1.value, $1.key.description) }?.key
    }

    // MARK: The first round

    /// Whether the first round waits for an evaluator that has called. Without this a short run would be over before the evaluator's held-out data
    /// are ready. The wait has a limit (`noteEvaluators`).
    var awaitsEvaluators: Bool { !givesUpEvaluators && peers.values.contains { $0.hello.evaluates && !$0.isActive && !isReadyButForNumber($0) } }

    /// Whether only the number is missing. A run's first machines get their numbers together.
    private func isReadyButForNumber(_ peer: CoordinatorPeer) -> Bool { peer.isProven && ledger.nextMachine.rawValue == 1 }

    mutating func noteEvaluators(at now: Timestamp) {
        guard ledger.nextRound == 0, !hasBegun, !givesUpEvaluators, awaitsEvaluators, provenTrainers >= spec.minimumWorkers else {
            evaluatorsAwaitedSince = nil
            return
        }
        let since = evaluatorsAwaitedSince ?? now
        evaluatorsAwaitedSince = since
        guard now.seconds(since: since) > Tuning.evaluatorSeconds else { return }
        givesUpEvaluators = true
        let text = "the run begins without waiting any longer for a machine that wants to evaluate; it is taken in when it is ready"
        effects.append(.notice(.warning(text)))
    }
}
