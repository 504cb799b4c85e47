/// The beginning of the ledger, as a relay has seen it pass in chunks. When many workers behind it join, each byte crosses the far link once: one
/// worker's fetch is passed on, the others are held until its chunk is there.
///
/// The relay checks nothing here. Each worker checks every record's checksum and the hash chain by itself.
struct RelayLedger: Sendable {
    /// What to do with a worker's fetch.
    enum Answer: Hashable, Sendable {
        /// The relay has these bytes.
        case chunk(LedgerChunk)
        /// Nothing now: the worker has not shown that it received the chunk before, or another worker's fetch of these bytes is on its way.
        case nothing
        /// The coordinator is to be asked for so many bytes.
        case ask(count: Int)
    }

    /// Ledgers are smaller. What lies beyond is passed on for each worker.
    static let largestBytes = 64 << 20
    /// Seconds after which a chunk that no ticket has come back for is sent again.
    static let resendSeconds = 2.0

    private var bytes: [UInt8] = []
    /// Number of bytes of the whole ledger, as far as it is known.
    private var total: UInt64 = 0
    private var spec: Digest?
    private var tickets: ChunkTickets
    /// The worker whose fetch of the next unknown byte was passed on last.
    private var asking: UInt32?
    /// Fetches of that byte that wait, by worker.
    private var held: [UInt32: LedgerFetch] = [:]

    init(secret: UInt64) { tickets = ChunkTickets(secret: secret) }

    /// Number of bytes that it has.
    var count: Int { bytes.count }

    /// Takes a fetch. `flow` is the worker's own and counts all chunks that go to it, those of the coordinator too. So a worker that does not read
    /// gets no more from a relay than from a coordinator, and makes the far link carry no more.
    mutating func take(_ fetch: LedgerFetch, of worker: UInt32, flow: inout PeerFlow, at now: Timestamp) -> Answer {
        flow.takeProof(fetch.ticket)
        guard let granted = flow.grant(fetch, at: now, resendSeconds: Self.resendSeconds) else { return .nothing }
        let wasHeld = held.removeValue(forKey: worker) != nil
        let known = UInt64(bytes.count)
        if fetch.offset < known {
            let part = Array(bytes[Int(fetch.offset)...].prefix(granted))
            let ticket = tickets.next()
            flow.noteChunk(bytes: part.count, ticket: ticket, at: now)
            return .chunk(LedgerChunk(offset: fetch.offset, ticket: ticket, total: max(total, known), bytes: part))
        }
        guard fetch.offset == known else { return .ask(count: granted) }
        // At the ledger's end the coordinator must hear of each worker. A worker that asks again has waited long enough for another's chunk.
        if fetch.offset < total, let asking, asking != worker, !wasHeld {
            held[worker] = fetch
            return .nothing
        }
        asking = worker
        // The chunk is for all who wait. One that asks for a byte at a time must not set their pace.
        let largest = held.values.reduce(ProtocolLimits.firstChunkBytes) { max($0, $1.count) }
        return .ask(count: min(max(granted, largest), ProtocolLimits.chunkBytes))
    }

    /// Takes a chunk of the coordinator's. Returns the fetches that can be answered now.
    mutating func take(_ chunk: LedgerChunk) -> [(worker: UInt32, fetch: LedgerFetch)] {
        total = max(total, chunk.total)
        let known = UInt64(bytes.count)
        let (end, overflows) = chunk.offset.addingReportingOverflow(UInt64(chunk.bytes.count))
        guard !overflows, chunk.offset <= known, end > known else { return [] }
        let new = chunk.bytes[Int(known - chunk.offset)...]
        guard bytes.count + new.count <= Self.largestBytes else { return release() }
        bytes += new
        return release()
    }

    /// Returns all fetches that wait, in the order of workers.
    private mutating func release() -> [(worker: UInt32, fetch: LedgerFetch)] {
        asking = nil
        let waiting = held.sorted { $0.key < $1.key }.map { (worker: $0.key, fetch: $0.value) }
        held = [:]
        return waiting
    }

    mutating func forget(_ worker: UInt32) {
        held[worker] = nil
        if asking == worker { asking = nil }
    }

    /// Takes what a welcome says about the ledger. A coordinator that was put back to an older copy, or has another run, has other bytes.
    mutating func take(_ welcome: Welcome) {
        if let spec, spec != welcome.specDigest || welcome.ledgerBytes < UInt64(bytes.count) { clear() }
        spec = welcome.specDigest
        total = max(total, welcome.ledgerBytes)
    }

    /// Forgets everything: the coordinator may be another one, or have another copy, when it is heard again.
    mutating func clear() {
        bytes = []
        total = 0
        spec = nil
        _ = release()
    }
}
