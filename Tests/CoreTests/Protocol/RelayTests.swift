import Core
import Signing
import Simulator
import TestSupport
import Testing

/// Envelopes, the coordinator's edge towards relays, and a relay's decisions.
@Suite struct RelayTests {
    private static let frameBytes = ProtocolLimits.chunkBytes + ProtocolLimits.frameMarginBytes

    private static func randomFrame(_ random: inout SeededRandom) -> RelayFrame {
        func bytes() -> [UInt8] { random.bytes(Int.random(in: 1...40, using: &random)) }
        func number() -> UInt32 {
            let number = UInt32.random(in: 0...40, using: &random)
            return random.chance(0.2) ? UInt32.max - number : number
        }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: return .ping(sequence: random.next())
        case 1: return .pong(sequence: random.next(), frameBytes: Int.random(in: 0...ProtocolLimits.frameBytes, using: &random))
        case 2: return .up((0..<Int.random(in: 1...9, using: &random)).map { _ in .init(worker: number(), frame: bytes()) })
        default:
            return .down(
                (0..<Int.random(in: 1...9, using: &random)).map { _ in
                    .init(workers: RelayFrame.WorkerSet((0..<Int.random(in: 1...9, using: &random)).map { _ in number() }), frame: bytes())
                })
        }
    }

    @Test("A relay's frame decodes to what was encoded, and has no second encoding", arguments: 0..<20)
    func frames(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        for _ in 0..<500 {
            let frame = Self.randomFrame(&random)
            var bytes = frame.encoded()
            #expect(try RelayFrame(decoding: bytes) == frame)
            switch Int.random(in: 0..<3, using: &random) {
            case 0: bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
            default: bytes += random.bytes(Int.random(in: 1...4, using: &random))
            }
            if let read = try? RelayFrame(decoding: bytes) { #expect(read.encoded() == bytes) }
        }
    }

    @Test("All workers of a relay take three bytes as a set, whatever their number; a set of all numbers has a short name too")
    func sets() throws {
        func size(_ numbers: some Sequence<UInt32>) -> Int {
            // Version, kind, length and the frame's one byte.
            RelayFrame.down([.init(workers: .init(numbers), frame: [7])]).encoded().count - 4
        }
        #expect(size(0..<16) == 3)
        #expect(size(0..<100) == 3)
        #expect(size((0..<16).filter { $0 != 5 }) == 5)
        #expect(RelayFrame.WorkerSet([3, 1, 2, 2, 9]).runs == [1...3, 9...9])
        #expect(RelayFrame.WorkerSet([UInt32.max, UInt32.max - 1]).runs == [(UInt32.max - 1)...UInt32.max])
    }

    // MARK: The coordinator's edge

    private static func hello(_ name: String) -> [UInt8] {
        Message.hello(
            Hello(session: SessionToken(bytes: Array(repeating: 7, count: 16))!, name: name, trains: true, evaluates: false, software: "test")
        ).encoded()
    }

    private static let welcome = Welcome(
        specDigest: .sha256([1]), session: SessionToken(bytes: [UInt8](repeating: 1, count: 16))!, ledgerRecords: 9, ledgerBytes: 300_000,
        heartbeatSeconds: 1, heartbeatTimeoutSeconds: 10)

    /// Takes an envelope apart.
    private static func items(_ edge: inout CoordinatorRelays, _ frames: [RelayFrame.Upward], relay: PeerID) throws -> [CoordinatorRelays.Item] {
        guard case .envelope(var envelope) = try edge.take(RelayFrame.up(frames).encoded(), from: relay) else { return [] }
        var items: [CoordinatorRelays.Item] = []
        while let item = try edge.next(&envelope) { items.append(item) }
        return items
    }

    /// Lets workers of a relay say hello, and welcomes those that get through. Returns the ids under which they come.
    private static func greet(_ edge: inout CoordinatorRelays, _ workers: Range<UInt32>, relay: PeerID) throws -> [PeerID] {
        let ids = try items(&edge, workers.map { .init(worker: $0, frame: hello("w\($0)")) }, relay: relay).compactMap { item in
            if case .frame(_, let from) = item { from } else { nil }
        }
        for id in ids { _ = edge.send(Message.welcome(welcome).encoded(), to: [id]) }
        return ids
    }

    @Test("What goes to all workers of a relay is sent once; others get it directly; other frames keep their order")
    func packing() throws {
        var edge = CoordinatorRelays(secret: 5, frameBytes: Self.frameBytes)
        let (relay, other, direct) = (PeerID([1, 1]), PeerID([1, 2]), PeerID([1, 3]))
        let ids = try Self.greet(&edge, 0..<16, relay: relay)
        let others = try Self.greet(&edge, 0..<2, relay: other)
        #expect(Set(ids + others).count == 18)
        _ = edge.takeOutgoing()
        let left = edge.send([1, 2, 3], to: [direct] + ids + others)
        #expect(left == [direct])
        for (frame, id) in [([4], ids[3]), ([5], ids[4]), ([5], ids[5])] as [([UInt8], PeerID)] { _ = edge.send(frame, to: [id]) }
        let sent = edge.takeOutgoing()
        #expect(sent.map(\.relay) == [relay, other])
        #expect(
            try RelayFrame(decoding: sent[0].frame)
                == .down([
                    .init(workers: .init(0..<16), frame: [1, 2, 3]), .init(workers: .init([3]), frame: [4]),
                    .init(workers: .init([4, 5]), frame: [5]),
                ]))
        #expect(edge.isEmpty)
        // Many large frames become several envelopes.
        for _ in 0..<5 { _ = edge.send([UInt8](repeating: 1, count: 100_000), to: [ids[0]]) + edge.send([2], to: [ids[0]]) }
        let envelopes = edge.takeOutgoing()
        #expect(envelopes.count == 3)
    }

    @Test("A hostile relay takes no more than its places, speaks for nobody else, and its damage is an error of its own")
    func hostileRelay() throws {
        var edge = CoordinatorRelays(secret: 5, frameBytes: Self.frameBytes)
        let relay = PeerID([1, 1])
        let limit = UInt32(ProtocolLimits.workersPerRelay)
        // What only looks like a hello takes no place.
        for _ in 0..<2 {
            let damaged = (0..<limit).map { RelayFrame.Upward(worker: 100_000 + $0, frame: [MessageCoding.version, 1]) }
            #expect(try Self.items(&edge, damaged, relay: relay).count == Int(limit))
            _ = edge.takeOutgoing()
        }
        let first = try Self.greet(&edge, 0..<limit, relay: relay)
        #expect(first.count == Int(limit))
        _ = edge.takeOutgoing()
        let tooMany = try Self.greet(&edge, limit..<limit + 3, relay: relay)
        #expect(tooMany.isEmpty)
        let refused = try edge.takeOutgoing().map { try RelayFrame(decoding: $0.frame) }
        guard case .down(let answers)? = refused.first, case .refuse(let refusal) = try Message(decoding: answers[0].frame) else {
            throw Simulation.Failure(description: "no refusal")
        }
        #expect(refusal.code == .full)
        // Another relay's workers have other ids, though their numbers are the same.
        let others = try Self.greet(&edge, 0..<4, relay: PeerID([1, 2]))
        #expect(Set(others).isDisjoint(with: first))
        // A worker that is forgotten makes room.
        let isRelayed = edge.forget(first[7])
        #expect(isRelayed)
        let oneMore = try Self.greet(&edge, limit..<limit + 1, relay: relay)
        #expect(oneMore.count == 1)
        // A worker that is replaced under its number is forgotten and welcomed at once. It still has a place, and so there is no other.
        _ = edge.forget(first[8])
        _ = try Self.greet(&edge, 8..<9, relay: relay)
        _ = edge.takeOutgoing()
        #expect(try Self.greet(&edge, limit + 1..<limit + 9, relay: relay).isEmpty)
        // Hellos that are on their way at the same time get no more places than there are.
        _ = edge.takeOutgoing()
        _ = edge.forget(first[9])
        let racing = try Self.items(&edge, (limit + 1..<limit + 9).map { .init(worker: $0, frame: Self.hello("r")) }, relay: relay)
        #expect(racing.count { if case .frame = $0 { true } else { false } } == 1 && racing.count == 8)
        // A peer that has chosen such an id as its own knows no secret.
        var stranger = CoordinatorRelays(secret: 6, frameBytes: Self.frameBytes)
        let guessed = try Self.greet(&stranger, 0..<1, relay: relay)
        let isTaken = edge.forget(guessed[0])
        #expect(!isTaken)
        for frame in [RelayFrame.pong(sequence: 1, frameBytes: 2), .down([.init(workers: .init([1]), frame: [1])])] {
            #expect(throws: WireError.self) { try edge.take(frame.encoded(), from: relay) }
        }
        let items = try Self.items(&edge, [.init(worker: 1, frame: RelayFrame.ping(sequence: 1).encoded())], relay: relay)
        #expect(items.allSatisfy { if case .malformed = $0 { true } else { false } } && items.count == 1)
        // Relays that come and go without workers do not use up the places.
        for number in 0..<3 * ProtocolLimits.relays {
            _ = try edge.take(RelayFrame.ping(sequence: 1).encoded(), from: PeerID([2, UInt8(number % 256), UInt8(number / 256)]))
        }
        let again = try Self.greet(&edge, 0..<1, relay: relay)
        #expect(again == [first[0]])
    }

    @Test("A relay for which the coordinator has no room is told so, and ends with a status that is tried again")
    func fullTable() throws {
        var edge = CoordinatorRelays(secret: 5, frameBytes: Self.frameBytes)
        for number in 0..<ProtocolLimits.relays {
            #expect(try Self.greet(&edge, 0..<1, relay: PeerID([2, UInt8(number % 256), UInt8(number / 256)])).count == 1)
        }
        _ = edge.takeOutgoing()
        #expect(throws: WireError.self) { try edge.take(RelayFrame.ping(sequence: 1).encoded(), from: PeerID([3])) }
        let answers = edge.takeOutgoing()
        #expect(answers.map(\.relay) == [PeerID([3])])
        let now = Timestamp(nanoseconds: 1_000_000_000)
        var relay = RelayStateMachine(secret: 9, at: now)
        _ = relay.handle(.connection(isUp: true), at: now)
        var exit: RelayExit?
        for (frame, _) in answers {
            for effect in relay.handle(.coordinator(frame), at: now) { if case .finish(let found) = effect { exit = found } }
        }
        guard case .failed(let failure)? = exit else { throw Simulation.Failure(description: "\(String(describing: exit))") }
        #expect(failure.status == .temporary && failure.message.contains("1024 relays"))
    }

    // MARK: A relay

    /// A relay whose coordinator has answered.
    private struct Harness {
        var relay = RelayStateMachine(secret: 9, at: Timestamp(nanoseconds: 1_000_000_000))
        var now = Timestamp(nanoseconds: 1_000_000_000)
        var up: [RelayFrame] = []
        var down: [(frame: [UInt8], peers: [PeerID])] = []
        var notices: [RelayNotice] = []
        var forgotten: [PeerID] = []
        /// The limits with which it was told to listen.
        var limits: [Int] = []
        var exit: RelayExit?
        /// Whether the far link takes nothing at present.
        var isFarBusy = false

        init(roundTripSeconds: Double = 0.02) throws {
            try tell(.connection(isUp: true))
            pass(roundTripSeconds)
            try tell(.coordinator(RelayFrame.pong(sequence: 1, frameBytes: RelayTests.frameBytes).encoded()))
            up = []
        }

        mutating func pass(_ seconds: Double) { now = now.advanced(bySeconds: seconds) }

        /// Lets time pass with a tick every second.
        mutating func live(_ seconds: Int) throws {
            for _ in 0..<seconds {
                pass(1)
                try tell(.tick)
            }
        }

        mutating func tell(_ event: RelayEvent) throws {
            var isSending = false
            for effect in relay.handle(event, at: now) {
                switch effect {
                case .toCoordinator(let frame):
                    isSending = true
                    #expect(frame.count <= RelayTests.frameBytes)
                    if RelayFrame.isRelayFrame(frame) { up.append(try RelayFrame(decoding: frame)) }
                case .toWorkers(let frame, let peers): down.append((frame, peers))
                case .notice(let notice): notices.append(notice)
                case .finish(let exit): self.exit = exit
                case .forget(let peer): forgotten.append(peer)
                case .listen(let limit): limits.append(limit)
                }
            }
            if isSending, !isFarBusy { try tell(.sent) }
        }

        /// Lets the far link take everything.
        mutating func relieve() throws {
            isFarBusy = false
            try tell(.sent)
        }

        var warnings: [String] { notices.compactMap { if case .warning(let text) = $0 { text } else { nil } } }

        mutating func deliver(_ message: Message, to workers: some Sequence<UInt32>) throws {
            try tell(.coordinator(RelayFrame.down([.init(workers: .init(workers), frame: message.encoded())]).encoded()))
        }

        /// Takes the frames of workers that went up.
        mutating func takeUp() -> [RelayFrame.Upward] {
            let sent = up
            up = []
            return sent.flatMap { frame -> [RelayFrame.Upward] in if case .up(let frames) = frame { frames } else { [] } }
        }
    }

    private static func worker(_ number: Int) -> PeerID { PeerID([1, UInt8(number % 256)] + (number < 256 ? [] : [UInt8(number / 256)])) }

    private static func contribution(_ round: RoundNumber, machine: UInt32 = 1) -> [UInt8] {
        Message.contribution(
            WireContribution(
                round: round, scaleExponent: 0, contribution: Contribution(machine: MachineID(machine), firstSample: 0, bytes: [1, 2, 3]))
        ).encoded()
    }

    @Test("Contributions go up in one frame when as many are there as in the round before, and after half a round trip at the latest")
    func gathering() throws {
        var harness = try Harness(roundTripSeconds: 0.1)
        for round: RoundNumber in 0..<3 {
            for number in 0..<16 {
                try harness.tell(.worker(Self.contribution(round, machine: UInt32(number)), from: Self.worker(number)))
                harness.pass(0.001)
            }
            // Nobody knows in the first round how many will answer.
            if round == 0 {
                _ = harness.takeUp()
            } else {
                #expect(harness.up.count == 1)
                #expect(harness.takeUp().map(\.worker) == (0..<16).map { UInt32($0) })
            }
        }
        // One of them is late: the others do not wait for long. The next round expects 16 again, and a worker less costs one wait.
        for number in 0..<15 { try harness.tell(.worker(Self.contribution(3), from: Self.worker(number))) }
        try harness.tell(.tick)
        #expect(harness.up.isEmpty)
        let due = try #require(harness.relay.dueAt)
        #expect(abs(due.seconds(since: harness.now) - 0.05) < 1e-6)
        harness.pass(0.05)
        try harness.tell(.tick)
        #expect(harness.takeUp().count == 15)
        for number in 0..<15 { try harness.tell(.worker(Self.contribution(4), from: Self.worker(number))) }
        #expect(harness.takeUp().count == 15)
        // A worker that names any round, as often as it likes, makes nobody wait, and splits no envelope of the others.
        for round: RoundNumber in 5..<9 {
            try harness.tell(.worker(Self.contribution(.max - round), from: Self.worker(14)))
            for number in 0..<14 { try harness.tell(.worker(Self.contribution(round), from: Self.worker(number))) }
            #expect(harness.up.count == 1 && harness.takeUp().count == 15, "round \(round)")
        }
        // Workers that are gone without a word are waited for a minute.
        try harness.live(125)
        _ = harness.takeUp()
        for round: RoundNumber in 9..<13 {
            for number in 0..<4 { try harness.tell(.worker(Self.contribution(round), from: Self.worker(number))) }
            if round < 11 {
                harness.pass(0.1)
                try harness.tell(.tick)
            }
            #expect(harness.takeUp().count == 4, "round \(round)")
        }
    }

    @Test("A worker that floods its relay does not keep the others from being heard, and of signs of life only the newest wait")
    func flood() throws {
        func heartbeat(_ sequence: UInt64) -> [UInt8] {
            Message.heartbeat(Heartbeat(session: 1, records: 2, share: nil, sequence: sequence)).encoded()
        }
        var harness = try Harness()
        for number in 0..<3 { try harness.tell(.worker(Self.hello("w"), from: Self.worker(number))) }
        harness.pass(1)
        try harness.tell(.tick)
        _ = harness.takeUp()
        harness.isFarBusy = true
        // The first envelope is on its way.
        try harness.tell(.worker(Self.contribution(0), from: Self.worker(0)))
        harness.pass(1)
        try harness.tell(.tick)
        #expect(harness.takeUp().count == 1)
        for number in 0..<5000 {
            try harness.tell(.worker([UInt8](repeating: 3, count: 2000), from: Self.worker(0)))
            try harness.tell(.worker(heartbeat(UInt64(number)), from: Self.worker(2)))
            try harness.tell(.worker(heartbeat(UInt64(number)), from: Self.worker(0)))
        }
        try harness.tell(.worker(Self.contribution(1), from: Self.worker(1)))
        try harness.tell(.worker(Self.contribution(1), from: Self.worker(2)))
        try harness.live(5)
        #expect(harness.up.isEmpty, "an envelope went into a queue that is not empty")
        try harness.relieve()
        #expect(harness.up.count == 1)
        let sent = harness.takeUp()
        #expect(sent.count { $0.worker == 0 } == 33)
        #expect(sent.filter { $0.worker != 0 }.map(\.worker) == [1, 2, 2])
        // The heartbeat says that what was sent before it has come, so it goes last.
        #expect(sent.last { $0.worker == 2 }?.frame == heartbeat(4999))
        #expect(harness.warnings.count { $0.contains("more than the far link carries") } == 1)
        // Large frames of one worker fill no more than an envelope.
        harness.isFarBusy = true
        try harness.tell(.worker(heartbeat(1), from: Self.worker(1)))
        harness.pass(1)
        try harness.tell(.tick)
        _ = harness.takeUp()
        for _ in 0..<32 { try harness.tell(.worker([UInt8](repeating: 3, count: 100_000), from: Self.worker(0))) }
        try harness.tell(.worker(Self.contribution(2), from: Self.worker(1)))
        harness.pass(1)
        try harness.relieve()
        #expect(harness.takeUp().map(\.worker) == [0, 0, 1])
    }

    @Test("A relay listens once its coordinator has said how large a frame may be, and ends when that grows")
    func listens() throws {
        var harness = try Harness()
        #expect(harness.limits == [Self.frameBytes])
        try harness.tell(.coordinator(RelayFrame.pong(sequence: 2, frameBytes: Self.frameBytes).encoded()))
        #expect(harness.limits.count == 1 && harness.exit == nil)
        try harness.tell(.coordinator(RelayFrame.pong(sequence: 3, frameBytes: Self.frameBytes + 1).encoded()))
        guard case .failed(let failure)? = harness.exit else { throw Simulation.Failure(description: "\(String(describing: harness.exit))") }
        #expect(failure.status == .temporary)
    }

    @Test("A relay behind a relay learns it from the answer to its first ping, and ends")
    func relayBehindRelay() throws {
        var outer = try Harness()
        let now = outer.now
        var inner = RelayStateMachine(secret: 8, at: now)
        var exit: RelayExit?
        for effect in inner.handle(.connection(isUp: true), at: now) {
            if case .toCoordinator(let frame) = effect { try outer.tell(.worker(frame, from: Self.worker(7))) }
        }
        for (frame, peers) in outer.down where peers == [Self.worker(7)] {
            for effect in inner.handle(.coordinator(frame), at: now) { if case .finish(let found) = effect { exit = found } }
        }
        guard case .failed(let failure)? = exit else { throw Simulation.Failure(description: "\(String(describing: exit))") }
        #expect(failure.status == .configuration && failure.message.contains("own join string"))
    }

    @Test("A relay that stood still itself gives nobody up")
    func standstill() throws {
        var harness = try Harness()
        try harness.tell(.worker(Self.hello("w"), from: Self.worker(0)))
        harness.pass(5000)
        try harness.tell(.tick)
        #expect(harness.exit == nil && harness.forgotten.isEmpty && harness.relay.workerCount == 1)
    }

    @Test("If there is no room, the worker that was silent the longest makes room; of equals the one with the lowest number")
    func room() throws {
        var harness = try Harness()
        for number in 0..<ProtocolLimits.workersPerRelay { try harness.tell(.worker(Self.hello("w"), from: Self.worker(number))) }
        try harness.tell(.worker(Self.hello("w"), from: PeerID([9])))
        #expect(harness.forgotten.isEmpty && harness.warnings.count { $0.contains("which is the limit") } == 1)
        try harness.live(61)
        try harness.tell(.worker(Self.hello("w"), from: PeerID([9])))
        #expect(harness.forgotten == [Self.worker(0)])
    }

    @Test("A frame for all goes to each worker that is there; numbers are not used twice; nothing waits for a connection that is down")
    func passing() throws {
        var harness = try Harness()
        for number in 0..<3 { try harness.tell(.worker(Self.hello("w"), from: Self.worker(number))) }
        try harness.deliver(.rebuild(order: 1), to: 0..<50_000)
        #expect(harness.down.last?.peers == (0..<3).map { Self.worker($0) })
        try harness.deliver(.rebuild(order: 1), to: [2, 77])
        #expect(harness.down.last?.peers == [Self.worker(2)])
        harness.pass(1)
        try harness.tell(.tick)
        #expect(harness.takeUp().count == 3)
        try harness.tell(.connection(isUp: false))
        try harness.tell(.worker(Self.contribution(0), from: Self.worker(0)))
        try harness.tell(.connection(isUp: true))
        harness.pass(1)
        try harness.tell(.tick)
        #expect(harness.takeUp().isEmpty)
        // A worker that said goodbye is forgotten, and its number with it.
        try harness.tell(.worker(Message.goodbye(Goodbye(reason: "done")).encoded(), from: Self.worker(0)))
        try harness.live(200)
        try harness.tell(.coordinator(RelayFrame.pong(sequence: 99, frameBytes: Self.frameBytes).encoded()))
        try harness.tell(.tick)
        try harness.tell(.worker(Self.hello("new"), from: Self.worker(0)))
        harness.pass(1)
        try harness.tell(.tick)
        #expect(harness.takeUp().last?.worker == 3)
    }

    @Test("A worker's frame that the coordinator would not take does not cost the others their connection")
    func longFrame() throws {
        var harness = try Harness()
        try harness.tell(.worker([UInt8](repeating: 3, count: Self.frameBytes), from: Self.worker(0)))
        // Frames that look like those of a relay go nowhere, of whatever length they are.
        for kind: UInt8 in [33, 34, 97, 98] {
            for count in [2, Self.frameBytes - 20, Self.frameBytes, 2 * Self.frameBytes] {
                let frame = [MessageCoding.version, kind] + [UInt8](repeating: 1, count: count - 2)
                try harness.tell(.worker(frame, from: Self.worker(0)))
            }
        }
        #expect(harness.warnings.count == 2 && harness.down.isEmpty)
        try harness.tell(.worker([UInt8](repeating: 3, count: Self.frameBytes - 100), from: Self.worker(1)))
        try harness.tell(.worker([UInt8](repeating: 3, count: Self.frameBytes - 100), from: Self.worker(2)))
        harness.pass(1)
        try harness.tell(.tick)
        #expect(harness.up.count == 2)
        #expect(harness.takeUp().map(\.worker) == [0, 1])
    }

    @Test("When sixteen workers join, each byte of the ledger crosses the far link once, and a worker that does not read gets little")
    func ledger() throws {
        let ledger = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        var harness = try Harness()
        var have = [Int](repeating: 0, count: 16)
        var tickets = [UInt32](repeating: 0, count: 16)
        var size = [Int](repeating: 2048, count: 16)
        var crossed = 0
        for number in 0..<16 { try harness.tell(.worker(Self.hello("w"), from: Self.worker(number))) }
        let welcome = Self.welcome
        try harness.deliver(.welcome(welcome), to: 0..<16)
        func fetch(_ number: Int) throws {
            try harness.tell(
                .worker(
                    Message.fetch(LedgerFetch(offset: UInt64(have[number]), count: size[number], ticket: tickets[number])).encoded(),
                    from: Self.worker(number)))
        }
        _ = harness.takeUp()
        for number in 0..<16 { try fetch(number) }
        var nextTicket: UInt32 = 1
        var lastTicket: [UInt32: UInt32] = [:]
        for _ in 0..<2000 where have.contains(where: { $0 < ledger.count }) {
            harness.pass(0.1)
            try harness.tell(.tick)
            for item in harness.takeUp() {
                guard case .fetch(let fetch) = try Message(decoding: item.frame) else { continue }
                // The coordinator hears the tickets of its own chunks.
                #expect(fetch.ticket == lastTicket[item.worker] ?? 0)
                let part = Array(ledger[Int(fetch.offset)...].prefix(fetch.count))
                crossed += part.count
                lastTicket[item.worker] = nextTicket
                let chunk = LedgerChunk(offset: fetch.offset, ticket: nextTicket, total: UInt64(ledger.count), bytes: part)
                try harness.deliver(.chunk(chunk), to: [item.worker])
                nextTicket += 1
            }
            let sent = harness.down
            harness.down = []
            for (frame, peers) in sent {
                guard case .chunk(let chunk) = try Message(decoding: frame) else { continue }
                for peer in peers {
                    let number = Int(peer.bytes[1])
                    guard chunk.offset == have[number] else { continue }
                    #expect(Array(ledger[have[number]...].prefix(chunk.bytes.count)) == chunk.bytes)
                    have[number] += chunk.bytes.count
                    tickets[number] = chunk.ticket
                    size[number] = min(2 * size[number], ProtocolLimits.chunkBytes)
                    if have[number] < ledger.count { try fetch(number) }
                }
            }
        }
        #expect(have.allSatisfy { $0 == ledger.count })
        #expect(crossed == ledger.count)
        #expect(harness.relay.ledgerBytes == ledger.count)
        // A stranger that asks without pause and never names a ticket.
        harness.down = []
        for _ in 0..<1000 {
            harness.pass(0.01)
            try harness.tell(.worker(Message.fetch(LedgerFetch(offset: 0)).encoded(), from: Self.worker(99)))
        }
        #expect(harness.down.reduce(0) { $0 + $1.frame.count } < 80_000)
        // A coordinator with an older copy of the ledger.
        var older = welcome
        older.ledgerBytes = 1000
        try harness.deliver(.welcome(older), to: [0])
        #expect(harness.relay.ledgerBytes == 0)
    }

    @Test("The copy of the ledger goes with the connection, and with a refusal that says that the run is another one")
    func staleCopy() throws {
        var harness = try Harness()
        let piece = Message.chunk(LedgerChunk(offset: 0, ticket: 5, total: 300_000, bytes: [UInt8](repeating: 1, count: 1000)))
        for refusal in [nil, Refusal(code: .otherRun, reason: "another run")] {
            try harness.tell(.worker(Self.hello("w"), from: Self.worker(0)))
            try harness.deliver(.welcome(Self.welcome), to: [0])
            try harness.deliver(piece, to: [0])
            #expect(harness.relay.ledgerBytes == 1000)
            if let refusal {
                try harness.deliver(.refuse(refusal), to: [0])
            } else {
                try harness.tell(.connection(isUp: false))
                try harness.tell(.connection(isUp: true))
            }
            #expect(harness.relay.ledgerBytes == 0)
        }
    }

    @Test("A worker that never reads does not make the far link carry the ledger, however it asks")
    func notReading() throws {
        var harness = try Harness()
        try harness.tell(.worker(Self.hello("w"), from: Self.worker(0)))
        try harness.deliver(.welcome(Self.welcome), to: [0])
        _ = harness.takeUp()
        var ticket: UInt32 = 100
        var crossed = 0
        for step in 0..<2000 {
            harness.pass(0.05)
            // It asks for what the relay does not have, and claims to have received everything.
            let offset = UInt64(step % 2 == 0 ? harness.relay.ledgerBytes : 200_000)
            try harness.tell(.worker(Message.fetch(LedgerFetch(offset: offset, ticket: UInt32(step))).encoded(), from: Self.worker(0)))
            try harness.tell(.tick)
            for item in harness.takeUp() {
                guard case .fetch(let fetch) = try Message(decoding: item.frame) else { continue }
                // The coordinator hears no ticket of a chunk that the worker has not received.
                #expect(fetch.ticket == 0)
                ticket += 1
                let part = [UInt8](repeating: 1, count: min(fetch.count, 300_000 - Int(fetch.offset)))
                crossed += part.count
                try harness.deliver(.chunk(LedgerChunk(offset: fetch.offset, ticket: ticket + 10_000, total: 300_000, bytes: part)), to: [0])
            }
        }
        #expect(crossed > 0 && crossed <= 70 << 10, "\(crossed) bytes")
    }

    @Test("One that asks for a byte at a time does not set the pace of the others")
    func smallAsker() throws {
        var harness = try Harness()
        for number in 0..<3 { try harness.tell(.worker(Self.hello("w"), from: Self.worker(number))) }
        try harness.deliver(.welcome(Self.welcome), to: 0..<3)
        _ = harness.takeUp()
        func ask(_ number: Int, _ count: Int) throws -> LedgerFetch? {
            try harness.tell(.worker(Message.fetch(LedgerFetch(offset: 0, count: count)).encoded(), from: Self.worker(number)))
            harness.pass(1)
            try harness.tell(.tick)
            let sent = try harness.takeUp().map { try Message(decoding: $0.frame) }
            return sent.compactMap { if case .fetch(let fetch) = $0 { fetch } else { nil } }.last
        }
        #expect(try ask(0, 1)?.count == ProtocolLimits.firstChunkBytes)
        #expect(try ask(1, 8000) == nil)
        // It asks again, and by now it is known who else waits.
        #expect(try ask(0, 1)?.count == 8000)
    }

    @Test("A coordinator that knows no relays answers heartbeats alone, and the relay says so")
    func olderCoordinator() throws {
        var now = Timestamp(nanoseconds: 1_000_000_000)
        var relay = RelayStateMachine(secret: 9, at: now)
        _ = relay.handle(.connection(isUp: true), at: now)
        var exit: RelayExit?
        for _ in 0..<3 {
            now = now.advanced(bySeconds: 3)
            let heartbeats = relay.handle(.tick, at: now).count { effect in
                if case .toCoordinator(let frame) = effect { !RelayFrame.isRelayFrame(frame) } else { false }
            }
            #expect(heartbeats == 1)
            for effect in relay.handle(.coordinator(Message.pong(Pong(standing: .unknown, records: 4, awaited: nil)).encoded()), at: now) {
                if case .finish(let found) = effect { exit = found }
            }
        }
        guard case .failed(let failure)? = exit else { throw Simulation.Failure(description: "\(String(describing: exit))") }
        #expect(failure.message.contains("older than relays"))
    }

    @Test("A relay ends after the run's end, gives up a coordinator that is silent for too long, and stays when the run is only stopped")
    func ends() throws {
        var harness = try Harness()
        try harness.tell(.worker(Self.hello("w"), from: Self.worker(0)))
        try harness.deliver(.finished(RunFinish(outcome: .stopped, message: "later")), to: [0])
        try harness.tell(.worker(Message.goodbye(Goodbye(reason: "later")).encoded(), from: Self.worker(0)))
        harness.pass(5)
        try harness.tell(.tick)
        #expect(harness.exit == nil)
        try harness.tell(.worker(Self.hello("w"), from: Self.worker(0)))
        try harness.deliver(.finished(RunFinish(outcome: .completed, message: "done")), to: [0])
        try harness.tell(.tick)
        #expect(harness.exit == nil)
        try harness.tell(.worker(Message.goodbye(Goodbye(reason: "done")).encoded(), from: Self.worker(0)))
        try harness.tell(.tick)
        #expect(harness.exit == .completed)
        #expect(harness.takeUp().count == 4)

        var alone = try Harness()
        try alone.live(601)
        guard case .coordinatorLost? = alone.exit else { throw Simulation.Failure(description: "\(String(describing: alone.exit))") }
    }

    @Test("Whatever a worker or a coordinator sends to a relay, it goes on, and other workers are heard", arguments: 0..<10)
    func garbage(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        var harness = try Harness()
        let honest = Self.worker(200)
        for round in 0..<2000 as Range<RoundNumber> {
            harness.pass(0.01)
            var frame = random.chance(0.5) ? MessageTests.random(&random).encoded() : Self.randomFrame(&random).encoded()
            if random.chance(0.5) { frame[Int.random(in: 0..<frame.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random) }
            if random.chance(0.3) { frame = RelayFrame.down([.init(workers: .init([0, 1, 2]), frame: frame)]).encoded() }
            try harness.tell(random.chance(0.5) ? .worker(frame, from: Self.worker(Int.random(in: 0..<4, using: &random))) : .coordinator(frame))
            try harness.tell(.tick)
            // A coordinator may end it: the run is over, or it is refused. Workers may not.
            if harness.exit != nil { harness = try Harness() }
            guard round % 100 == 99 else { continue }
            _ = harness.takeUp()
            let sent = Self.contribution(round)
            try harness.tell(.worker(sent, from: honest))
            harness.pass(1)
            try harness.tell(.tick)
            let number = try #require(harness.takeUp().first { $0.frame == sent }?.worker)
            try harness.deliver(.rebuild(order: round), to: [number])
            #expect(harness.down.contains { $0.peers == [honest] && $0.frame == Message.rebuild(order: round).encoded() })
            if harness.exit != nil { harness = try Harness() }
        }
    }

    @Test("A worker whose signing key was replaced on the way finds another one in the ledger, and ends")
    func replacedKey() throws {
        let (own, other) = (SigningKey(), SigningKey())
        for key in [own, other] {
            var worker = WorkerStateMachineTests.Harness(notary: own)
            try worker.follow(try Samples.ledger(Samples.spec(), [.baseManifest(Samples.base)]))
            worker.commit(
                2,
                .admission(
                    Admission(
                        machine: MachineID(1), unixSeconds: 1, trains: true, evaluates: false, name: "w", session: Samples.session(1).fingerprint,
                        signingKey: key.publicKey)))
            if key.publicKey == own.publicKey {
                #expect(worker.exit == nil)
            } else {
                guard case .failed(let failure)? = worker.exit else { throw Simulation.Failure(description: "\(String(describing: worker.exit))") }
                #expect(failure.status == .refused && failure.message.contains("another signing key"))
            }
        }
    }

    @Test("A worker whose signing key was left out on the way is told, if the coordinator signs")
    func droppedKey() throws {
        for signer in [SigningKey().publicKey, nil] {
            var worker = WorkerStateMachineTests.Harness(notary: SigningKey())
            let ledger = try Samples.ledger(Samples.spec(), [.baseManifest(Samples.base)])
            try worker.follow(ledger)
            guard case .spec(let spec)? = try Samples.entries(of: ledger).first?.record else { return }
            let welcome = Welcome(
                specDigest: .sha256(spec), session: Samples.session(1), ledgerRecords: 2, ledgerBytes: UInt64(ledger.count), heartbeatSeconds: 1,
                heartbeatTimeoutSeconds: 5, signer: signer)
            worker.tell(.received(.welcome(welcome)))
            worker.commit(2, Samples.admission(1))
            let isWarned = worker.notices.contains { if case .warning(let text) = $0 { text.contains("no signing key") } else { false } }
            #expect(isWarned == (signer != nil) && worker.exit == nil)
        }
    }
}
