import Core
import Glibc

/// The ledger that a swarm's workers hold. All are sent the same, so one copy is enough for all of them. It keeps only what an answer needs, so its
/// memory does not grow with the run.
struct SwarmLedger {
    /// Number of positions that a digest may be asked of, the newest last.
    private static let positionsKept = 8
    /// Number of commits by which a worker may be behind the first of the swarm that was sent one.
    private static let framesKept = 4
    private static let endsKept = 4096

    private var decoder = LedgerDecoder()
    private var machines: [SessionFingerprint: MachineID] = [:]
    private var positions: [(at: LedgerPosition, round: RoundNumber)] = []
    private var nextRound: RoundNumber = 0
    /// The shares of the open round.
    private var shares: [MachineID: Opening.Share] = [:]
    private(set) var opening: Opening?
    /// The newest commits, the last one first. Each of them must come to all workers.
    private var frames: [(index: UInt64, bytes: [UInt8])] = []
    /// Offsets at which the newest records end in the file. The last is the end of the record before record `records`.
    private var ends: [UInt64] = []

    var records: UInt64 { decoder.position?.records ?? 0 }
    /// Number of bytes of the file, up to the last whole record.
    var bytes: UInt64 { decoder.position?.offset ?? 0 }

    func machine(of session: SessionFingerprint) -> MachineID? { machines[session] }
    func share(of machine: MachineID) -> Opening.Share? { shares[machine] }

    /// Returns a report of the newest parameters, or of those at `position`; nil if they are not known any more.
    func report(position: UInt64? = nil, nonce: ProofNonce? = nil) -> DigestReport? {
        guard let place = position == nil ? positions.last : positions.last(where: { $0.at.records == position }) else { return nil }
        return DigestReport(
            position: place.at.records, round: place.round, digest: CannedAnswers.digest, chain: place.at.shortChain,
            proof: nonce.map { .init(nonce: $0, answer: $0.proof(of: CannedAnswers.digest) { _ in }) })
    }

    /// Takes in the new part of the chunk.
    mutating func take(_ chunk: LedgerChunk) throws {
        let end = chunk.offset + UInt64(chunk.bytes.count)
        guard chunk.offset <= decoder.received, end > decoder.received else { return }
        decoder.push(chunk.bytes.dropFirst(Int(decoder.received - chunk.offset)))
        while let entry = try decoder.next() { fold(entry) }
    }

    /// Takes in a commit's frame, whichever worker of the swarm it came to.
    ///
    /// - Returns: the commit's index.
    /// - Throws: an error if two workers are told different things.
    mutating func takeCommit(_ frame: UnsafeRawBufferPointer) throws -> UInt64? {
        for known in frames where known.bytes.count == frame.count {
            let isSame = known.bytes.withUnsafeBytes { known in
                guard let mine = known.baseAddress, let other = frame.baseAddress else { return known.count == frame.count }
                return memcmp(mine, other, frame.count) == 0
            }
            if isSame { return known.index }
        }
        guard case .commit(let commit) = try Message(decoding: Array(frame)) else { return nil }
        guard !frames.contains(where: { $0.index == commit.index }) else {
            throw ProcessFailure(.badData, "two workers were sent different commits of record \(commit.index)")
        }
        guard commit.index == records else { return commit.index }
        if let entry = try decoder.append(kind: commit.kind, payload: commit.payload) { fold(entry) }
        if let opening = commit.opening { take(opening) }
        if frames.count == Self.framesKept { frames.removeLast() }
        frames.insert((commit.index, Array(frame)), at: 0)
        return commit.index
    }

    /// Returns the offset at which record `index` ends in the file; nil if it is not there yet or is long past.
    func end(of index: UInt64) -> UInt64? {
        guard index < records, records - index <= ends.count else { return nil }
        return ends[ends.count - Int(records - index)]
    }

    mutating func take(_ new: Opening) {
        guard new.round >= nextRound, new != opening else { return }
        opening = new
        shares = Dictionary(new.shares.map { ($0.machine, $0) }) { $1 }
    }

    private mutating func fold(_ entry: LedgerEntry) {
        if ends.count == Self.endsKept { ends.removeFirst(Self.endsKept / 2) }
        ends.append(entry.position.offset)
        switch entry.record {
        case .admission(let admission): machines[admission.session] = admission.machine
        case .departure(let departure): machines = machines.filter { $0.value != departure.machine }
        case .round(let round):
            nextRound = round.round + 1
            if let opening, opening.round < nextRound { (self.opening, shares) = (nil, [:]) }
        default: break
        }
        if entry.record.changesParameters || positions.isEmpty {
            positions.append((entry.position, nextRound))
            if positions.count > Self.positionsKept { positions.removeFirst() }
        }
    }
}
