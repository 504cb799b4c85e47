/// How peers get the ledger: chunk by chunk, each given when the one before was received; and followers the commits, as long as they
/// keep up with them.
extension CoordinatorStateMachine {
    mutating func serve(_ fetch: LedgerFetch, to peer: CoordinatorPeer, at now: Timestamp) {
        guard fetch.offset <= durableBytes else { return }
        var flow = peer.flow
        flow.takeProof(fetch.ticket)
        setFlow(flow, of: peer.id)
        guard !peer.isReading, let granted = flow.grant(fetch, at: now, resendSeconds: 2 * spec.heartbeatSeconds) else { return }
        // Strangers share one budget; who gets nothing asks again.
        guard peer.isAdmitted || strangersBytes + granted <= ProtocolLimits.strangersBytes else { return }
        let left = durableBytes - fetch.offset
        if left <= UInt64(granted) { peers[peer.id]?.isFollowing = true }
        guard left > 0 else { return }
        let ticket = nextTicket()
        flow.noteChunk(bytes: granted, ticket: ticket, at: now)
        setFlow(flow, of: peer.id)
        peers[peer.id]?.isReading = true
        effects.append(.readLedger(LedgerRead(offset: fetch.offset, count: granted, ticket: ticket, peer: peer.id)))
    }

    private mutating func setFlow(_ flow: PeerFlow, of id: PeerID) {
        guard let peer = peers[id] else { return }
        if !peer.isAdmitted { strangersBytes += flow.unproven - peer.flow.unproven }
        peers[id]?.flow = flow
    }

    /// A stranger is one no longer: it was admitted, or is gone.
    mutating func releaseBudget(of peer: CoordinatorPeer) {
        if !peer.isAdmitted { strangersBytes -= peer.flow.unproven }
    }

    /// Nobody who has not received a chunk can name its ticket.
    private mutating func nextTicket() -> UInt32 {
        tickets += 1
        var writer = ByteWriter(capacity: 16)
        writer.write(fixed: secret)
        writer.write(fixed: tickets)
        let ticket = Digest.sha256(writer.bytes).bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
        return max(ticket, 1)
    }

    /// Followers that keep up. One that does not is left to its fetches: commits that pile up in front of it would keep every other word
    /// from it, too.
    mutating func commitRecipients(index: UInt64, bytes: Int, at now: Timestamp) -> [PeerID] {
        let patience = max(4 * spec.heartbeatSeconds, spec.heartbeatTimeoutSeconds / 2)
        var recipients: [PeerID] = []
        for id in followers {
            guard var flow = peers[id]?.flow else { continue }
            if flow.isClogged(at: now, seconds: patience + 8 * flow.roundTripSeconds) {
                flow.forgetCommits()
                peers[id]?.isFollowing = false
            } else {
                flow.noteCommit(index: index, bytes: bytes, at: now)
                recipients.append(id)
            }
            peers[id]?.flow = flow
        }
        return recipients
    }

    /// Silence after which a peer is given up: longer on a link whose answers take long, and where a share's bytes may be on their way.
    func patienceSeconds(with peer: CoordinatorPeer) -> Double {
        let share = peer.machine.flatMap { round?.shares[$0] }.map { Double($0.count) } ?? 0
        return max(spec.heartbeatTimeoutSeconds, 8 * peer.flow.roundTripSeconds) + share / ProtocolLimits.slowestBytesPerSecond
    }

    /// Between two scheduled comparisons of digests, which on a thin link would take a good part of it.
    var shortestCheckSeconds: Double {
        let slowest = peers.values.lazy.filter { $0.isActive }.map(\.flow.roundTripSeconds).max() ?? 0
        return slowest > Tuning.thinRoundTripSeconds ? Tuning.roundTripsPerCheck * slowest : 0
    }
}

/// A piece of the ledger that is to be read from the disk and sent to a peer.
public struct LedgerRead: Hashable, Sendable {
    public let offset: UInt64
    /// Bytes at most.
    public let count: Int
    public let ticket: UInt32
    public let peer: PeerID
    public init(offset: UInt64, count: Int, ticket: UInt32, peer: PeerID) {
        self.offset = offset
        self.count = count
        self.ticket = ticket
        self.peer = peer
    }

    /// What the peer is sent.
    public func chunk(of bytes: [UInt8], total: UInt64) -> LedgerChunk {
        LedgerChunk(offset: offset, ticket: ticket, total: total, bytes: bytes)
    }
}
