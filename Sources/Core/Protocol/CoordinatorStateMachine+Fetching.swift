/// How peers get the ledger. A peer fetches it chunk by chunk, and gets a chunk when it has received the one before. Followers get the commits as
/// long as they keep up with them.
extension CoordinatorStateMachine {
    mutating func serve(_ fetch: LedgerFetch, to peer: CoordinatorPeer, at now: Timestamp) {
        guard fetch.offset <= durableBytes else { return }
        var flow = peer.flow
        flow.takeProof(fetch.ticket)
        setFlow(flow, of: peer.id)
        guard !peer.isReading, let granted = flow.grant(fetch, at: now, resendSeconds: 2 * spec.heartbeatSeconds) else { return }
        // Strangers share one budget, and those behind one relay a part of it. A peer that gets nothing asks again.
        guard peer.isAdmitted || strangers.allows(granted, for: peer.id) else { return }
        let left = durableBytes - fetch.offset
        if left <= UInt64(granted) { peers[peer.id]?.isFollowing = true }
        guard left > 0 else { return }
        let ticket = tickets.next()
        flow.noteChunk(bytes: granted, ticket: ticket, at: now)
        setFlow(flow, of: peer.id)
        peers[peer.id]?.isReading = true
        effects.append(.readLedger(LedgerRead(offset: fetch.offset, count: granted, ticket: ticket, peer: peer.id)))
    }

    private mutating func setFlow(_ flow: PeerFlow, of id: PeerID) {
        guard let peer = peers[id] else { return }
        if !peer.isAdmitted { strangers.add(flow.unproven - peer.flow.unproven, for: id) }
        peers[id]?.flow = flow
    }

    /// Gives back a stranger's part of the budget when it is admitted or gone.
    mutating func releaseBudget(of peer: CoordinatorPeer) {
        if !peer.isAdmitted { strangers.add(-peer.flow.unproven, for: peer.id) }
    }

    /// Returns the followers that keep up. A follower that does not is left to fetch the ledger instead: commits that queue up in front of it would
    /// hold back every other message to it as well.
    mutating func commitRecipients(index: UInt64, bytes: Int, at now: Timestamp) -> [PeerID] {
        let patience = max(4 * spec.heartbeatSeconds, spec.heartbeatTimeoutSeconds / 2)
        var recipients: [PeerID] = []
        // By position, since a thousand look-ups for each record are felt.
        var place = peers.startIndex
        while place != peers.endIndex {
            if peers[place].value.isFollowing, peers.values[place].noteCommit(index: index, bytes: bytes, at: now, patience: patience) {
                recipients.append(peers[place].key)
            }
            peers.formIndex(after: &place)
        }
        return recipients.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    /// Seconds of silence after which a peer is given up. They are more on a link whose answers take long, and if a share's bytes may be on their
    /// way.
    func patienceSeconds(with peer: CoordinatorPeer) -> Double {
        let share = peer.machine.flatMap { round?.shares[$0] }.map { Double($0.count) } ?? 0
        return max(spec.heartbeatTimeoutSeconds, 8 * peer.flow.roundTripSeconds) + share / ProtocolLimits.slowestBytesPerSecond
    }

    /// Least number of seconds between two scheduled comparisons of digests, which would take a good part of a thin link.
    var shortestCheckSeconds: Double {
        let slowest = peers.values.lazy.filter { $0.isActive }.map(\.flow.roundTripSeconds).max() ?? 0
        return slowest > Tuning.thinRoundTripSeconds ? Tuning.roundTripsPerCheck * slowest : 0
    }
}

/// Bytes of chunks on their way to peers that are not admitted, and how many there may be.
struct StrangersBudget: Sendable {
    private var bytes = 0
    private var relayed: [ArraySlice<UInt8>: Int] = [:]

    func allows(_ more: Int, for peer: PeerID) -> Bool {
        guard bytes + more <= ProtocolLimits.strangersBytes else { return false }
        guard let relay = peer.relay else { return true }
        return relayed[relay, default: 0] + more <= ProtocolLimits.relayedStrangersBytes
    }

    mutating func add(_ more: Int, for peer: PeerID) {
        bytes += more
        guard let relay = peer.relay else { return }
        let left = relayed[relay, default: 0] + more
        relayed[relay] = left == 0 ? nil : left
    }
}

/// A piece of the ledger that is to be read from the disk and sent to a peer.
public struct LedgerRead: Hashable, Sendable {
    public let offset: UInt64
    /// Largest number of bytes.
    public let count: Int
    /// The ticket of the chunk (`LedgerChunk.ticket`).
    public let ticket: UInt32
    public let peer: PeerID
    public init(offset: UInt64, count: Int, ticket: UInt32, peer: PeerID) {
        self.offset = offset
        self.count = count
        self.ticket = ticket
        self.peer = peer
    }

    /// Returns the message that the peer is sent.
    public func chunk(of bytes: [UInt8], total: UInt64) -> LedgerChunk {
        LedgerChunk(offset: offset, ticket: ticket, total: total, bytes: bytes)
    }
}
