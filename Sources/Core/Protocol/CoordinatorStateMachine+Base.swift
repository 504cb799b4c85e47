/// How a peer proves its base model: by the hash of its manifest. It sends the manifest itself only if the run has none yet or another one.
extension CoordinatorStateMachine {
    mutating func take(_ announced: BaseDigest, from peer: CoordinatorPeer, at now: Timestamp) {
        guard !peer.hasBase else { return }
        guard announced.bytes > 0 else {
            expel(peer, Refusal(code: .invalid, reason: "an empty base manifest"), .removed, at: now)
            return
        }
        peers[peer.id]?.announcedBase = announced
        if announced.digest == baseDigest {
            peers[peer.id]?.hasBase = true
            return
        }
        isUploadWanted = true
        continueUpload(at: now)
    }

    mutating func take(_ part: BasePart, from peer: CoordinatorPeer, at now: Timestamp) {
        guard upload?.peer == peer.id, upload?.take(part, at: now) == true, let current = upload else { return }
        guard current.isComplete else {
            askForBase(at: now)
            return
        }
        upload = nil
        guard Digest.sha256(current.bytes) == current.announced.digest, let manifest = BaseManifest(payload: current.bytes) else {
            let refusal = Refusal(code: .invalid, reason: "its base manifest is not what it announced; start the worker again")
            expel(peer, refusal, .removed, at: now)
            return
        }
        prove(manifest, by: peer, at: now)
        acceptKnownBases()
        continueUpload(at: now)
    }

    mutating func prove(_ manifest: BaseManifest, by peer: CoordinatorPeer, at now: Timestamp) {
        guard !peer.hasBase else { return }
        guard let base = ledger.base else {
            guard !manifest.entries.isEmpty else {
                expel(peer, Refusal(code: .invalid, reason: "an empty base manifest"), .removed, at: now)
                return
            }
            let notice = CoordinatorNotice.baseAdopted(tensors: manifest.entries.count, from: peer.hello.name)
            guard !ledger.isEnded, append(.baseManifest(manifest), notice: notice) else { return }
            baseDigest = manifest.digest
            peers[peer.id]?.hasBase = true
            return
        }
        let differences = base.differences(from: manifest)
        guard differences.isEmpty else {
            let refusal = Refusal(
                code: .otherBase,
                reason: "\(differences.count) tensors of the worker's base model are not the run's; give it the same model file",
                details: Array(differences.prefix(ProtocolLimits.reportedDifferences)))
            expel(peer, refusal, .removed, at: now)
            return
        }
        peers[peer.id]?.hasBase = true
    }

    /// Accepts all peers that have announced the base model which has just become the run's.
    private mutating func acceptKnownBases() {
        guard let baseDigest else { return }
        for id in peers.keys where peers[id]?.announcedBase?.digest == baseDigest { peers[id]?.hasBase = true }
    }

    /// Begins an upload if one is wanted and none is under way. Every tick calls it too.
    mutating func continueUpload(at now: Timestamp) {
        if let current = upload {
            guard let peer = peers[current.peer], !peer.hasBase else {
                upload = nil
                return continueUpload(at: now)
            }
            if current.isAbandoned(at: now, timeout: spec.heartbeatTimeoutSeconds) {
                // This peer may come back; peers that have waited go first.
                peers[current.peer]?.announcedBase = nil
                upload = nil
                return continueUpload(at: now)
            }
            if current.isOverdue(at: now, heartbeatSeconds: spec.heartbeatSeconds) { askForBase(at: now) }
            return
        }
        guard isUploadWanted, phase == .running || isClosing else { return }
        guard let next = sortedPeers(where: { $0.announcedBase != nil && !$0.hasBase }).first, let announced = peers[next]?.announcedBase
        else {
            isUploadWanted = false
            return
        }
        upload = BaseUpload(of: announced, by: next, at: now)
        askForBase(at: now)
    }

    private mutating func askForBase(at now: Timestamp) {
        guard let fetch = upload?.next(at: now), let peer = upload?.peer else { return }
        send(.baseFetch(fetch), to: peer)
    }
}
