import Core
import Testing

/// A coordinator with a disk that never fails and a perfect network to scripted peers. Tests see what the state machine does effect by effect.
package struct CoordinatorHarness {
    package var machine: CoordinatorStateMachine
    package var now = Timestamp(nanoseconds: 1_000_000_000_000)
    package var disk: [UInt8]
    package var sent: [(message: Message, to: [PeerID])] = []
    package var notices: [CoordinatorNotice] = []
    package var finished: RunFinish?
    /// Whether appends wait for `sync()`.
    package var holdsAppends = false
    /// The digest of each peer that has joined.
    private var digests: [UInt8: Digest] = [:]
    private var held: (bytes: [UInt8], index: UInt64)?

    package init(
        _ spec: RunSpec, _ records: [LedgerRecord] = [], notary: (any Notary)? = nil, format: UInt32 = LedgerFormat.version
    ) throws {
        disk = try Samples.ledger(spec, records, format: format)
        machine = CoordinatorStateMachine(ledger: try Samples.summary(of: disk), notary: notary, at: now)
    }

    package mutating func tell(_ event: CoordinatorEvent) {
        var events = [event]
        while !events.isEmpty {
            for effect in machine.handle(events.removeFirst(), at: now) {
                switch effect {
                case .send(let message, let peers): sent.append((message, peers))
                case .append(let bytes, let index):
                    if holdsAppends {
                        held = (bytes, index)
                    } else {
                        disk += bytes
                        events.append(.ledgerDurable(records: index + 1))
                    }
                case .readLedger(let read):
                    let bytes = disk[Int(read.offset)...].prefix(read.count)
                    sent.append((.chunk(read.chunk(of: Array(bytes), total: UInt64(disk.count))), [read.peer]))
                    events.append(.ledgerRead(for: read.peer))
                case .disconnect: break
                case .notice(let notice): notices.append(notice)
                case .finished(let finish): finished = finish
                }
            }
        }
    }

    package mutating func sync() {
        guard let append = held else { return }
        held = nil
        disk += append.bytes
        tell(.ledgerDurable(records: append.index + 1))
    }

    package mutating func wait(_ seconds: Double) {
        let end = now.advanced(bySeconds: seconds)
        while now < end {
            now = now.advanced(bySeconds: 0.1)
            tell(.tick)
        }
    }

    /// Lets time pass while these peers' heartbeats continue.
    package mutating func wait(_ seconds: Double, alive peers: [UInt8]) {
        for _ in 0..<Int(seconds) {
            wait(1)
            for peer in peers { tell(.received(heartbeat(peer), from: PeerID([peer]))) }
        }
    }

    package func heartbeat(_ peer: UInt8) -> Message {
        .heartbeat(Heartbeat(session: Samples.session(peer).fingerprint.tag, records: machine.durableRecords, share: nil))
    }

    package static let digest = Digest.sha256([42])

    /// Takes a peer through hello, base, ledger and proof.
    package mutating func join(
        _ peer: UInt8, trains: Bool = true, evaluates: Bool = false, digest: Digest = digest, key: (any Notary)? = nil,
        precision: ComputePrecision? = nil, answersProof: Bool = true
    ) {
        let id = PeerID([peer])
        digests[peer] = digest
        // Newcomers are compared once a second. Here a standstill of the coordinator itself takes that time, so that nobody is lost by it.
        if answersProof, machine.ledger.nextRound > 0 { pause() }
        let before = sent.count
        tell(.received(hello(peer, trains: trains, evaluates: evaluates, key: key, precision: precision), from: id))
        tell(.received(.base(Samples.base), from: id))
        tell(.received(.fetch(LedgerFetch(offset: 0)), from: id))
        tell(.received(report(digest), from: id))
        guard answersProof else { return }
        // All peers that are asked for a proof give it.
        var asked: Set<PeerID> = []
        for (message, peers) in sent[before...] {
            if case .digestRequest(_, .some) = message { asked.formUnion(peers) }
        }
        for id in asked.sorted(by: { $0.bytes[0] < $1.bytes[0] }) {
            tell(.received(report(digests[id.bytes[0]] ?? digest), from: id))
        }
    }

    /// Makes the coordinator stand still for a while.
    package mutating func pause() {
        now = now.advanced(bySeconds: 2.5)
        tell(.tick)
    }

    /// The newest question about these parameters.
    package var nonce: ProofNonce? {
        for (message, _) in sent.reversed() {
            if case .digestRequest(let position, let nonce) = message, position == machine.ledger.parameters.records { return nonce }
        }
        return nil
    }

    package func hello(
        _ peer: UInt8, trains: Bool = true, evaluates: Bool = false, key: (any Notary)? = nil, precision: ComputePrecision? = nil
    ) -> Message {
        .hello(
            Hello(
                session: Samples.session(peer), name: "w\(peer)", trains: trains, evaluates: evaluates, software: "test",
                signingKey: key?.publicKey, precision: precision))
    }

    /// Returns a report of the present parameters.
    package func report(_ digest: Digest = digest, rebuilds: UInt32 = 0) -> Message {
        let position = machine.ledger.parameters
        return .digestReport(
            DigestReport(
                position: position.records, round: machine.ledger.nextRound, digest: digest, chain: position.shortChain,
                rebuilds: rebuilds, proof: nonce.map { .init(nonce: $0, answer: $0.proof(of: digest) { _ in }) }))
    }

    package var lastOpening: Opening? {
        for (message, _) in sent.reversed() {
            if case .open(let opening) = message { return opening }
            if case .commit(let commit) = message, let opening = commit.opening { return opening }
        }
        return nil
    }

    /// Returns the newest record of this kind that was announced to anybody.
    package func lastRecord(_ kind: LedgerRecord.Kind) -> LedgerRecord? {
        for (message, _) in sent.reversed() {
            if case .commit(let commit) = message, commit.kind == kind.rawValue {
                return try? LedgerRecord(kind: commit.kind, payload: commit.payload)
            }
        }
        return nil
    }

    /// Answers a machine's share of the newest opening with these bytes (or zeros).
    package mutating func answer(_ peer: UInt8, machine: UInt32, bytes: [Int8]? = nil) throws {
        let opening = try #require(lastOpening)
        let share = try #require(opening.shares.first { $0.machine == MachineID(machine) })
        tell(
            .received(
                .contribution(
                    WireContribution(
                        round: opening.round, scaleExponent: opening.scaleExponent,
                        contribution: Contribution(
                            machine: share.machine, firstSample: share.firstSample,
                            bytes: bytes ?? [Int8](repeating: 1, count: Int(share.count))))),
                from: PeerID([peer])))
    }

    package func messages(to peer: UInt8, after count: Int = 0) -> [Message] {
        sent.dropFirst(count).filter { $0.to.contains(PeerID([peer])) }.map(\.message)
    }

    package var records: [LedgerRecord] { get throws { try Samples.entries(of: disk).map(\.record) } }
}
