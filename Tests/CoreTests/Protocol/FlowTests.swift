import Core
import Simulator
import Testing

/// How much a coordinator lets be on its way to its peers, and how a worker asks for it.
@Suite struct FlowTests {
    /// Returns a ledger of about this many bytes, whose rounds have a thousand bytes each.
    private static func records(bytes: Int) -> [LedgerRecord] {
        [.baseManifest(Samples.base), Samples.admission(9)]
            + (0..<bytes / 1000).map { Samples.round(RoundNumber($0), [(9, UInt32($0 * 1000), [Int8](repeating: 5, count: 1000))]) }
    }

    private static func coordinator(bytes: Int, rounds: Int = 5000) throws -> CoordinatorHarness {
        try CoordinatorHarness(Samples.spec(rounds: rounds, samplesPerRound: 1000), records(bytes: bytes))
    }

    private func chunks(_ harness: CoordinatorHarness, to peer: UInt8) -> [LedgerChunk] {
        harness.messages(to: peer).compactMap { if case .chunk(let chunk) = $0 { chunk } else { nil } }
    }

    @Test("A peer gets a chunk when it has received the one before, and larger ones as it keeps receiving")
    func oneChunkAtATime() throws {
        var harness = try Self.coordinator(bytes: 400_000)
        harness.tell(.received(harness.hello(1), from: PeerID([1])))
        for _ in 0..<5 { harness.tell(.received(.fetch(LedgerFetch(offset: 0)), from: PeerID([1]))) }
        #expect(chunks(harness, to: 1).map(\.bytes.count) == [ProtocolLimits.firstChunkBytes])
        var offset: UInt64 = 0
        while let last = chunks(harness, to: 1).last, offset < last.offset + UInt64(last.bytes.count),
            last.offset + UInt64(last.bytes.count) < last.total
        {
            offset = last.offset + UInt64(last.bytes.count)
            harness.tell(.received(.fetch(LedgerFetch(offset: offset, ticket: last.ticket)), from: PeerID([1])))
        }
        let sizes = chunks(harness, to: 1).map(\.bytes.count)
        #expect(sizes.prefix(7) == [2048, 4096, 8192, 16384, 32768, 65536, 131_072])
        #expect(sizes.reduce(0, +) == harness.disk.count)
        // It gets no more than it asks for.
        harness.tell(.received(.fetch(LedgerFetch(offset: 0, count: 700, ticket: chunks(harness, to: 1).last?.ticket ?? 0)), from: PeerID([1])))
        #expect(chunks(harness, to: 1).last?.bytes.count == 700)
    }

    @Test("A peer that never reads costs a few pieces, however often it asks and whatever it claims")
    func neverReads() throws {
        var harness = try Self.coordinator(bytes: 2_000_000)
        harness.tell(.received(harness.hello(1), from: PeerID([1])))
        for second in 0..<600 {
            harness.wait(1)
            harness.tell(.received(harness.hello(1), from: PeerID([1])))
            // It claims that everything has come.
            harness.tell(.received(.fetch(LedgerFetch(offset: UInt64(second) * 2048, ticket: UInt32(second))), from: PeerID([1])))
        }
        let bytes = chunks(harness, to: 1).reduce(0) { $0 + $1.bytes.count }
        #expect(bytes >= 2048 && bytes <= 96 << 10, "\(bytes) bytes stand in queues")
    }

    @Test("Peers that are not admitted share one budget, and a machine of the run is served besides")
    func budget() throws {
        var harness = try Self.coordinator(bytes: 2_000_000)
        var total = 0
        for peer: UInt8 in 10..<200 {
            harness.tell(.received(harness.hello(peer), from: PeerID([peer])))
            // Each proves that it receives until its pieces are large, and then reads no more.
            var offset: UInt64 = 0
            var ticket: UInt32 = 0
            for _ in 0..<9 {
                harness.tell(.received(.fetch(LedgerFetch(offset: offset, ticket: ticket)), from: PeerID([peer])))
                guard let last = chunks(harness, to: peer).last, last.offset == offset else { break }
                (offset, ticket) = (offset + UInt64(last.bytes.count), last.ticket)
            }
            if let last = chunks(harness, to: peer).last, last.offset + UInt64(last.bytes.count) == offset { total += last.bytes.count }
        }
        #expect(total <= ProtocolLimits.strangersBytes && total > ProtocolLimits.strangersBytes / 2)
        harness.tell(
            .received(.hello(Hello(session: Samples.session(9), name: "m9", trains: true, evaluates: false, software: "test")), from: PeerID([9])))
        harness.tell(.received(.fetch(LedgerFetch(offset: 0)), from: PeerID([9])))
        #expect(chunks(harness, to: 9).count == 1)
    }

    @Test("Strangers behind one relay get a quarter of the strangers' budget, and leave the rest to others")
    func relayedStrangers() throws {
        var harness = try Self.coordinator(bytes: 2_000_000)
        var edge = CoordinatorRelays(secret: 3, frameBytes: ProtocolLimits.frameBytes)
        /// Lets a stranger prove that it receives until its pieces are large, and then read no more. Returns the bytes that it has not received.
        func visit(_ id: PeerID, _ session: [UInt8]) throws -> Int {
            let token = try #require(SessionToken(bytes: session))
            harness.tell(.received(.hello(Hello(session: token, name: "s", trains: true, evaluates: false, software: "test")), from: id))
            var last: LedgerChunk?
            for _ in 0..<9 {
                let offset = last.map { $0.offset + UInt64($0.bytes.count) } ?? 0
                let before = harness.sent.count
                harness.tell(.received(.fetch(LedgerFetch(offset: offset, ticket: last?.ticket ?? 0)), from: id))
                guard case .chunk(let chunk)? = harness.sent[before...].last?.message else { return last?.bytes.count ?? 0 }
                last = chunk
            }
            return last?.bytes.count ?? 0
        }
        func relayed(_ relay: UInt8, _ workers: Range<UInt32>) throws -> Int {
            let hello = Message.hello(
                Hello(session: Samples.session(1), name: "s", trains: true, evaluates: false, software: "test")
            ).encoded()
            let frame = RelayFrame.up(workers.map { .init(worker: $0, frame: hello) }).encoded()
            guard case .envelope(var envelope) = try edge.take(frame, from: PeerID([relay])) else { return 0 }
            var total = 0
            while case .frame(_, let id)? = try edge.next(&envelope) { total += try visit(id, Array(id.bytes.suffix(16))) }
            return total
        }
        let first = try relayed(1, 0..<100)
        #expect(first <= ProtocolLimits.relayedStrangersBytes && first > ProtocolLimits.relayedStrangersBytes / 2, "\(first)")
        let second = try relayed(2, 0..<100)
        #expect(second <= ProtocolLimits.relayedStrangersBytes && second > ProtocolLimits.relayedStrangersBytes / 2, "\(second)")
        #expect(try visit(PeerID([77]), [UInt8](repeating: 9, count: 16)) == ProtocolLimits.chunkBytes)
    }

    @Test("Commits do not pile up for a peer that does not take them; it gets the rest by chunks")
    func cloggedFollower() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 5000, samplesPerRound: 1000, digestEvery: 0))
        harness.join(1)
        harness.join(2, trains: false, evaluates: true)
        harness.wait(0.2)
        func commits() -> Int { harness.messages(to: 2).count { if case .commit = $0 { true } else { false } } }
        let before = commits()
        for _ in 0..<40 {
            try harness.answer(1, machine: 1)
            // The evaluator is alive, and says that it has come no further.
            harness.tell(
                .received(
                    .heartbeat(Heartbeat(session: Samples.session(2).fingerprint.tag, records: 3, share: nil)), from: PeerID([2])))
            harness.wait(1, alive: [1])
        }
        #expect(harness.machine.ledger.nextRound == 40)
        #expect(commits() - before < 12, "\(commits() - before) commits")
    }

    // MARK: Bases

    private func parts(_ harness: CoordinatorHarness, of peer: UInt8) -> [BaseFetch] {
        harness.messages(to: peer).compactMap { if case .baseFetch(let fetch) = $0 { fetch } else { nil } }
    }

    private func announcement(_ manifest: BaseManifest) -> Message { .baseDigest(BaseDigest(digest: manifest.digest, bytes: manifest.payload.count)) }

    private static let large = BaseManifest(
        entries: (0..<200).map { .init(name: "layers.\($0).weight", shape: .matrix(rows: 4, columns: 4), digest: .sha256([UInt8($0)])) })!

    @Test("The first base comes in pieces, one at a time; peers with the same base send only its hash")
    func baseByHash() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        for peer: UInt8 in 1...2 {
            harness.tell(.received(harness.hello(peer), from: PeerID([peer])))
            harness.tell(.received(announcement(Self.large), from: PeerID([peer])))
        }
        #expect(parts(harness, of: 1).count == 1 && parts(harness, of: 2).isEmpty)
        let payload = Self.large.payload
        while let fetch = parts(harness, of: 1).last, harness.machine.ledger.base == nil {
            let bytes = Array(payload[fetch.offset...].prefix(fetch.count))
            harness.tell(.received(.basePart(BasePart(offset: fetch.offset, bytes: bytes)), from: PeerID([1])))
        }
        #expect(harness.machine.ledger.base == Self.large)
        #expect(parts(harness, of: 1).count > 1 && parts(harness, of: 2).isEmpty)
        for peer: UInt8 in 1...3 {
            if peer == 3 {
                harness.tell(.received(harness.hello(3), from: PeerID([3])))
                harness.tell(.received(announcement(Self.large), from: PeerID([3])))
            }
            harness.tell(.received(harness.heartbeat(peer), from: PeerID([peer])))
            guard case .pong(let pong)? = harness.messages(to: peer).last else {
                Issue.record("no pong")
                continue
            }
            #expect(pong.standing == .digestMissing)
        }
        #expect(parts(harness, of: 3).isEmpty)
    }

    @Test("The manifest of a base that is not the run's is fetched, so that the refusal can name tensors")
    func otherBase() throws {
        var harness = try CoordinatorHarness(Samples.spec(), [.baseManifest(Samples.base)])
        harness.tell(.received(harness.hello(1), from: PeerID([1])))
        harness.tell(.received(announcement(Self.large), from: PeerID([1])))
        var asked = 0
        while parts(harness, of: 1).count > asked, let fetch = parts(harness, of: 1).last {
            asked = parts(harness, of: 1).count
            let bytes = Array(Self.large.payload[fetch.offset...].prefix(fetch.count))
            harness.tell(.received(.basePart(BasePart(offset: fetch.offset, bytes: bytes)), from: PeerID([1])))
        }
        guard case .refuse(let refusal)? = harness.messages(to: 1).last else {
            Issue.record("not refused")
            return
        }
        #expect(refusal.code == .otherBase && refusal.details.contains("a.weight is missing"))
    }

    @Test("A manifest that is not the announced one is refused, and one that does not come gives way to the next")
    func badUploads() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        for peer: UInt8 in 1...2 {
            harness.tell(.received(harness.hello(peer), from: PeerID([peer])))
            harness.tell(.received(announcement(Samples.base), from: PeerID([peer])))
        }
        let fetch = try #require(parts(harness, of: 1).last)
        let wrong = [UInt8](repeating: 7, count: fetch.count)
        harness.tell(.received(.basePart(BasePart(offset: 0, bytes: wrong)), from: PeerID([1])))
        #expect(harness.messages(to: 1).contains { if case .refuse(let refusal) = $0 { refusal.code == .invalid } else { false } })
        harness.wait(0.2)
        #expect(parts(harness, of: 2).count == 1)
        // The second peer does not send its manifest, but it is alive; a third one has the manifest too.
        harness.tell(.received(harness.hello(3), from: PeerID([3])))
        harness.tell(.received(announcement(Samples.base), from: PeerID([3])))
        harness.wait(15, alive: [2, 3])
        #expect(!parts(harness, of: 3).isEmpty)
        harness.tell(.received(.basePart(BasePart(offset: 0, bytes: Samples.base.payload)), from: PeerID([3])))
        #expect(harness.machine.ledger.base == Samples.base)
    }

    // MARK: The worker

    private func welcome(_ spec: RunSpec, ledger: [UInt8], base: Digest?) throws -> Message {
        .welcome(
            Welcome(
                specDigest: try spec.digest(), session: Samples.session(1), ledgerRecords: UInt64(try Samples.entries(of: ledger).count),
                ledgerBytes: UInt64(ledger.count), heartbeatSeconds: 1, heartbeatTimeoutSeconds: 10, baseDigest: base))
    }

    /// Answers a worker's fetches from `ledger` over a link of this many bytes a second.
    private func serve(_ worker: inout WorkerStateMachineTests.Harness, _ ledger: [UInt8], bytesPerSecond: Double, chunks: Int = .max)
        -> [LedgerFetch]
    {
        var served: [LedgerFetch] = []
        while served.count < chunks, let fetch = worker.fetches.last, fetch != served.last {
            served.append(fetch)
            let bytes = Array(ledger[Int(fetch.offset)...].prefix(fetch.count))
            let end = worker.now.advanced(bySeconds: Double(bytes.count) / bytesPerSecond)
            while worker.now < end {
                worker.now = worker.now.advanced(bySeconds: min(0.1, end.seconds(since: worker.now) + 1e-6))
                worker.tell(.tick)
            }
            worker.tell(.received(.chunk(LedgerChunk(offset: fetch.offset, ticket: UInt32(served.count), total: UInt64(ledger.count), bytes: bytes))))
        }
        return served
    }

    @Test(
        "A worker asks for as much as its link carries in a few seconds, once, and does not fetch a manifest that it has", arguments: [1200.0, 1e8])
    func fetches(bytesPerSecond: Double) throws {
        let spec = Samples.spec(rounds: 5000, samplesPerRound: 1000)
        let rounds = Self.records(bytes: 300_000).dropFirst()
        let ledger = try Samples.ledger(spec, [.baseManifest(Samples.base)] + rounds)
        var worker = WorkerStateMachineTests.Harness()
        worker.tell(.received(try welcome(spec, ledger: ledger, base: Samples.base.digest)))
        let served = serve(&worker, ledger, bytesPerSecond: bytesPerSecond)
        #expect(worker.machine.records == UInt64(try Samples.entries(of: ledger).count))
        #expect(served.map(\.ticket) == (0..<served.count).map { UInt32($0) })
        let longest = served.map(\.count).max() ?? 0
        #expect(bytesPerSecond < 1e6 ? longest <= 8192 : longest == ProtocolLimits.chunkBytes, "\(longest)")
        let said = worker.notices.count { if case .downloading = $0 { true } else { false } }
        #expect(bytesPerSecond < 1e6 ? said > 10 : said == 0)
        // Nothing was asked for twice.
        #expect(Set(served.map(\.offset)).count == served.count)
    }

    @Test("A manifest that the worker has itself does not come over the link")
    func ownManifest() throws {
        let spec = Samples.spec(rounds: 5000, samplesPerRound: 1000)
        var worker = WorkerStateMachineTests.Harness(base: Self.large)
        let ledger = try Samples.ledger(spec, [.baseManifest(Self.large)] + Self.records(bytes: 20_000).dropFirst())
        worker.tell(.received(try welcome(spec, ledger: ledger, base: Self.large.digest)))
        let served = serve(&worker, ledger, bytesPerSecond: 1200)
        #expect(worker.machine.records == UInt64(try Samples.entries(of: ledger).count))
        let bytes = served.reduce(0) { $0 + min($1.count, ledger.count - Int($1.offset)) }
        #expect(bytes < ledger.count - Self.large.payload.count + 2 * 4096, "\(bytes) of \(ledger.count)")
    }

    @Test("A basis that the worker has itself does not come over the link, and the basis of another run is ignored", arguments: [true, false])
    func ownBasis(_ isTheRuns: Bool) throws {
        let basis = (0..<60_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var spec = Samples.spec()
        spec.basisDigest = .sha256(basis)
        let ledger = try Samples.ledger(spec, [.basis(basis), .baseManifest(Samples.base)])
        var worker = WorkerStateMachineTests.Harness(basis: isTheRuns ? basis : [1, 2, 3])
        worker.tell(.received(try welcome(spec, ledger: ledger, base: Samples.base.digest)))
        let served = serve(&worker, ledger, bytesPerSecond: 1200)
        #expect(worker.machine.records == 3 && worker.tasks.contains(.prepare(spec, basis: basis)))
        let bytes = served.reduce(0) { $0 + min($1.count, ledger.count - Int($1.offset)) }
        #expect(isTheRuns ? bytes < 8192 : bytes >= ledger.count - Samples.base.payload.count - 100, "\(bytes) of \(ledger.count)")
    }

    @Test("A download resumes after a cut where it was, and nothing is sent while there is no connection")
    func continues() throws {
        let spec = Samples.spec(rounds: 5000, samplesPerRound: 1000)
        let ledger = try Samples.ledger(spec, Self.records(bytes: 100_000))
        var worker = WorkerStateMachineTests.Harness()
        worker.tell(.received(try welcome(spec, ledger: ledger, base: nil)))
        _ = serve(&worker, ledger, bytesPerSecond: 1200, chunks: 6)
        let reached = try #require(worker.fetches.last?.offset)
        #expect(reached > 4000)
        worker.tell(.connection(isUp: false))
        let sent = worker.sent.count
        for _ in 0..<300 {
            worker.now = worker.now.advanced(bySeconds: 0.1)
            worker.tell(.tick)
        }
        #expect(worker.sent.count == sent)
        worker.tell(.connection(isUp: true))
        worker.tell(.tick)
        #expect(worker.fetches.last?.offset == reached && worker.fetches.last?.count ?? .max <= ProtocolLimits.firstChunkBytes)
        #expect(worker.heartbeats > 0)
    }

    @Test("A connection that is silent for twice the timeout is replaced, but not again at once")
    func reconnects() throws {
        let ledger = try Samples.ledger(Samples.spec(), [.baseManifest(Samples.base)])
        var worker = WorkerStateMachineTests.Harness()
        worker.tell(.received(try welcome(Samples.spec(), ledger: ledger, base: nil)))
        for second in 1...45 {
            worker.now = worker.now.advanced(bySeconds: 0.5)
            worker.tell(.tick)
            worker.now = worker.now.advanced(bySeconds: 0.5)
            worker.tell(.tick)
            #expect(worker.reconnections == (second <= 20 ? 0 : second <= 40 ? 1 : 2), "after \(second) s")
        }
    }

    @Test("On a slow link heartbeats and statuses are rare, but frequent enough for the timeout")
    func pace() throws {
        let spec = Samples.spec()
        let ledger = try Samples.ledger(spec, [.baseManifest(Samples.base)])
        func counts(roundTrip: Double) throws -> (heartbeats: Int, statuses: Int) {
            var worker = WorkerStateMachineTests.Harness()
            worker.tell(.received(try welcome(spec, ledger: ledger, base: nil)))
            worker.tell(.received(.chunk(LedgerChunk(offset: 0, total: UInt64(ledger.count), bytes: ledger))))
            var answers: [(at: Timestamp, sequence: UInt64)] = []
            var answered: UInt64 = 0
            let end = worker.now.advanced(bySeconds: 120)
            while worker.now < end {
                worker.now = worker.now.advanced(bySeconds: 0.05)
                worker.tell(.tick)
                if worker.heartbeats > (answers.last?.sequence ?? answered) {
                    answers.append((worker.now.advanced(bySeconds: roundTrip), worker.heartbeats))
                }
                while let next = answers.first, next.at <= worker.now {
                    answered = next.sequence
                    answers.removeFirst()
                    worker.tell(.received(.pong(Pong(standing: .active, records: 2, awaited: nil, echo: answered))))
                }
            }
            return (Int(worker.heartbeats), worker.sent.count { if case .status = $0 { true } else { false } })
        }
        let (fast, slow) = (try counts(roundTrip: 0.01), try counts(roundTrip: 2))
        #expect((110...121).contains(fast.heartbeats) && fast.statuses > 50, "\(fast)")
        #expect((40...60).contains(slow.heartbeats) && slow.statuses < 12, "\(slow)")
    }
}
