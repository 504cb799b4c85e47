/// Limits how much a coordinator lets be on its way to one peer. What a peer has not proved to have received is in some queue, and the queues of
/// peers that never read fill memory. On a thin link, data that is sent again while it is still on its way crowds out everything else.
struct PeerFlow: Sendable {
    enum Tuning {
        /// Largest number of bytes in chunks of which no ticket has come back, once there is more than one chunk.
        static let unprovenBytes = 64 << 10
        /// Beyond that limit a peer gets one more chunk after this time, because connections break and take chunks with them.
        static let secondsPerChunk = 60.0
        /// Limits of commits that are not acknowledged: above the first the oldest must not be old, and above the second there are no more.
        static let youngCommitBytes = 4 << 10
        static let commitBytes = 4 << 20
    }

    private struct Chunk: Sendable {
        let ticket: UInt32
        let sentAt: Timestamp
    }

    /// The last chunk, as long as nobody knows whether it has come.
    private var chunk: Chunk?
    /// Largest size of the next chunk. A peer that proves that it receives gets more.
    private var allowance = ProtocolLimits.firstChunkBytes
    /// Bytes of chunks since the last one that is known to have come.
    private(set) var unproven = 0
    /// The oldest commit that is not known to have come. `commitBytes` counts its bytes and those of all later ones.
    private var oldestCommit: (index: UInt64, sentAt: Timestamp)?
    private var commitBytes = 0
    /// The round trip that the peer measured between a heartbeat and its pong.
    var roundTripSeconds = 0.0

    /// Whether nobody knows yet if the last chunk has come.
    var awaitsProof: Bool { chunk != nil }

    /// Takes the proof of receipt that a fetch carries.
    mutating func takeProof(_ ticket: UInt32) {
        guard let chunk, ticket == chunk.ticket else { return }
        self.chunk = nil
        unproven = 0
        allowance = min(2 * allowance, ProtocolLimits.chunkBytes)
    }

    /// Returns the number of bytes to answer a fetch with now; nil: none, because the last chunk may still be on its way.
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

    /// Notes how many records the peer says that it holds.
    mutating func noteRecords(_ records: UInt64) {
        guard let oldest = oldestCommit, records > oldest.index else { return }
        oldestCommit = nil
        commitBytes = 0
    }

    /// Whether further commits would only wait in a queue, because the peer takes them more slowly than they are made.
    func isClogged(at now: Timestamp, seconds: Double) -> Bool {
        guard let oldest = oldestCommit else { return false }
        if commitBytes > Tuning.commitBytes { return true }
        return commitBytes > Tuning.youngCommitBytes && now.seconds(since: oldest.sentAt) > seconds
    }

    /// Stops counting commits: the peer is given the rest of the ledger by chunks again.
    mutating func forgetCommits() {
        oldestCommit = nil
        commitBytes = 0
    }
}

/// Makes tickets of chunks that nobody can guess: only a peer that has received a chunk can name its ticket.
struct ChunkTickets: Sendable {
    private let secret: UInt64
    private var made: UInt64 = 0

    init(secret: UInt64) { self.secret = secret }

    mutating func next() -> UInt32 {
        made += 1
        var writer = ByteWriter(capacity: 16)
        writer.write(fixed: secret)
        writer.write(fixed: made)
        let ticket = Digest.sha256(writer.bytes).bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
        return max(ticket, 1)
    }
}
