import Core
import Testing
import Transport

/// Envelopes of relays at a coordinator's link: what they may take of a turn, and of the memory.
@Suite struct RelayedServerLinkTests {
    /// A link whose events a test makes.
    private final class ScriptedLink: ServerLink {
        private struct NoWaker: Waker { func wake() {} }
        var coming: [LinkEvent] = []
        var waits: [Double] = []
        var services = 0
        var endpoint: String { "scripted" }
        var publicKey: PublicKey? { nil }
        var traffic: Traffic { Traffic() }
        var isFlushed: Bool { true }
        var waker: any Waker { NoWaker() }
        func wait(seconds: Double) { waits.append(seconds) }
        func send(_ frame: [UInt8], to peers: [PeerID]) {}
        func forget(_ peer: PeerID) {}
        func service() -> [LinkEvent] {
            services += 1
            defer { coming = [] }
            return coming
        }
    }

    private static let framesPerTurn = 256

    private static func envelope(_ count: Int, bytes: Int = 2) -> [UInt8] {
        RelayFrame.up((0..<count).map { .init(worker: UInt32($0), frame: [UInt8](repeating: 9, count: bytes)) }).encoded()
    }

    private static func sizes(_ events: [LinkEvent]) -> [Int: Int] {
        var sizes: [Int: Int] = [:]
        for case .frame(let frame, _, _) in events { sizes[frame.count, default: 0] += 1 }
        return sizes
    }

    @Test("An envelope of thousands of frames takes its part of each turn; others come in the same turn, and the link is served in every one")
    func turns() throws {
        let scripted = ScriptedLink()
        let link = RelayedServerLink(scripted, frameLimit: ProtocolLimits.frameBytes)
        let (flooding, honest, direct) = (PeerID([1, 1]), PeerID([1, 2]), PeerID([1, 3]))
        let full = ProtocolLimits.framesPerEnvelope
        scripted.coming = [
            .frame(Self.envelope(full), from: flooding, key: nil), .frame(Self.envelope(3, bytes: 3), from: honest, key: nil),
            .frame([9, 9, 9, 9], from: direct, key: nil),
        ]
        let first = Self.sizes(try link.service())
        #expect(first[4] == 1 && first[3] == 3)
        #expect(first.values.reduce(0, +) <= Self.framesPerTurn + 1)
        // The loop does not sleep while something waits.
        try link.wait(seconds: 1)
        #expect(scripted.waits == [0])
        scripted.coming = [.frame([9, 9, 9, 9], from: direct, key: nil)]
        #expect(Self.sizes(try link.service())[4] == 1)
        var taken = first[2] ?? 0
        var turns = 1
        repeat {
            turns += 1
            taken += Self.sizes(try link.service())[2] ?? 0
            try link.wait(seconds: 1)
        } while scripted.waits.last == 0 && turns < 100
        // The second turn's frames were not counted above.
        #expect(taken >= full - Self.framesPerTurn && taken < full)
        #expect(scripted.services == turns + 1)
        #expect(turns >= full / Self.framesPerTurn)
    }

    @Test("A relay's envelopes beyond its part of the memory are dropped and counted; another relay's are kept")
    func memory() throws {
        let scripted = ScriptedLink()
        let link = RelayedServerLink(scripted, frameLimit: ProtocolLimits.frameBytes)
        let large = Self.envelope(100, bytes: 3000)
        scripted.coming = (0..<200).map { _ in .frame(large, from: PeerID([1, 1]), key: nil) }
        scripted.coming.append(.frame(Self.envelope(2), from: PeerID([1, 2]), key: nil))
        var events = Self.sizes(try link.service())
        #expect(events[2] == 2)
        #expect(link.traffic.dropped > 150 && link.traffic.dropped < 200)
        // What was kept comes whole.
        var turns = 0
        repeat {
            events.merge(Self.sizes(try link.service())) { $0 + $1 }
            try link.wait(seconds: 1)
            turns += 1
        } while scripted.waits.last == 0 && turns < 1000
        #expect(events[3000] == (200 - Int(link.traffic.dropped)) * 100)
    }

    @Test("Damage within an envelope is an error of its relay, after the frames before it")
    func damage() throws {
        let scripted = ScriptedLink()
        let link = RelayedServerLink(scripted, frameLimit: ProtocolLimits.frameBytes)
        scripted.coming = [
            .frame(Array(Self.envelope(3).dropLast()), from: PeerID([1, 1]), key: nil), .frame(Self.envelope(1), from: PeerID([1, 1]), key: nil),
        ]
        let events = try link.service()
        #expect(Self.sizes(events) == [2: 3])
        let malformed = events.compactMap { if case .malformed(_, let from) = $0 { from } else { nil } }
        #expect(malformed == [PeerID([1, 1])])
    }

    @Test("A gate holds its thread back when too much was handed over, until half of it is taken, or the gate is opened")
    func gate() throws {
        let gate = ByteGate(limit: 100)
        let mailbox = Mailbox<Int>()
        let thread = try NamedThread("gate") {
            for number in 0..<12 {
                mailbox.post(number)
                gate.pass(30)
            }
        }
        var seen: [Int] = []
        while seen.count < 4 { seen += mailbox.waitAndTakeAll() }
        // The fourth 30 bytes are too many. Nothing more comes until 50 or fewer are left.
        for _ in 0..<2 { gate.take(30) }
        #expect(seen == [0, 1, 2, 3] && mailbox.isEmpty)
        gate.take(30)
        while seen.count < 6 { seen += mailbox.waitAndTakeAll() }
        gate.open()
        while seen.count < 12 { seen += mailbox.waitAndTakeAll() }
        #expect(seen == Array(0..<12))
        thread.join()
    }
}
