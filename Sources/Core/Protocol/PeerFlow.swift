/// How much a coordinator lets be under way to one peer. What a peer has not proved to have received stands in some queue, and queues of
/// peers that never read are memory; and on a thin link what is sent again while it is on its way crowds out all else.
struct PeerFlow: Sendable {
    enum Tuning {
        /// Bytes of chunks of which no ticket has come back, once there is more than one.
        static let unprovenBytes = 64 << 10
        /// Beyond that a peer gets one more in so many seconds: connections break, and chunks with them.
        static let secondsPerChunk = 60.0
        /// Commits that are not acknowledged: beyond the first they must not be old, beyond the second they must not be at all.
        static let youngCommitBytes = 4 << 10
        static let commitBytes = 4 << 20
    }

    private struct Chunk: Sendable {
        let ticket: UInt32
        let sentAt: Timestamp
    }

    /// The last chunk, while nobody knows that it has come.
    private var chunk: Chunk?
    /// Bytes that the next chunk may have: a peer that proves to receive gets more.
    private var allowance = ProtocolLimits.firstChunkBytes
    /// Bytes of chunks since the last that is known to have come.
    private(set) var unproven = 0
    /// The oldest commit that is not known to have come, and the bytes from it on.
    private var oldestCommit: (index: UInt64, sentAt: Timestamp)?
    private var commitBytes = 0
    /// What the peer says of its heartbeats and their pongs.
    var roundTripSeconds = 0.0

    /// Takes the proof that a fetch carries.
    mutating func takeProof(_ ticket: UInt32) {
        guard let chunk, ticket == chunk.ticket else { return }
        self.chunk = nil
        unproven = 0
        allowance = min(2 * allowance, ProtocolLimits.chunkBytes)
    }

    /// Bytes that a fetch is answered with now; nil: none, for the last chunk may still be on its way.
    func grant(_ fetch: LedgerFetch, at now: Timestamp, resendSeconds: Double) -> Int? {
        let wanted = min(fetch.count, chunk == nil ? allowance : ProtocolLimits.firstChunkBytes)
        guard wanted > 0 else { return nil }
        guard let chunk else { return wanted }
        let age = now.seconds(since: chunk.sentAt)
        guard age > resendSeconds else { return nil }
        return unproven + wanted <= Tuning.unprovenBytes || age > Tuning.secondsPerChunk ? wanted : nil
    }

    mutating func noteChunk(bytes: Int, ticket: UInt32, at now: Timestamp) {
        if chunk != nil { allowance = ProtocolLimits.firstChunkBytes }
        chunk = Chunk(ticket: ticket, sentAt: now)
        unproven += bytes
    }

    // MARK: Commits

    /// Counts a commit that is sent.
    mutating func noteCommit(index: UInt64, bytes: Int, at now: Timestamp) {
        if oldestCommit == nil { oldestCommit = (index, now) }
        commitBytes += bytes
    }

    /// The peer says how many records it holds.
    mutating func noteRecords(_ records: UInt64) {
        guard let oldest = oldestCommit, records > oldest.index else { return }
        oldestCommit = nil
        commitBytes = 0
    }

    /// Whether further commits would only wait in a queue: the peer takes them more slowly than they are made.
    func isClogged(at now: Timestamp, seconds: Double) -> Bool {
        guard let oldest = oldestCommit else { return false }
        if commitBytes > Tuning.commitBytes { return true }
        return commitBytes > Tuning.youngCommitBytes && now.seconds(since: oldest.sentAt) > seconds
    }

    /// It is given the rest of the ledger by chunks again.
    mutating func forgetCommits() {
        oldestCommit = nil
        commitBytes = 0
    }
}
