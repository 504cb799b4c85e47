import Core
import Simulator
import TestSupport
import Testing

/// Strangers that have read the ledger, or that have the model and bad intentions.
@Suite struct NewcomerTests {
    private static func begun(_ spec: RunSpec = Samples.spec(rounds: 400, samplesPerRound: 6, minimumWorkers: 2, digestEvery: 2)) throws
        -> CoordinatorHarness
    {
        var harness = try CoordinatorHarness(spec)
        for peer: UInt8 in 1...2 { harness.join(peer) }
        return harness
    }

    private static func round(_ harness: inout CoordinatorHarness, _ peers: ClosedRange<UInt8> = 1...2) throws {
        for peer in peers { try harness.answer(peer, machine: UInt32(peer)) }
    }

    /// Returns a report of the present parameters with a given answer to the nonce, or none.
    private static func report(_ harness: CoordinatorHarness, _ digest: Digest, proof: DigestReport.Proof?) -> CoordinatorEvent {
        let position = harness.machine.ledger.parameters
        return .received(
            .digestReport(
                DigestReport(
                    position: position.records, round: harness.machine.ledger.nextRound, digest: digest, chain: position.shortChain, proof: proof)),
            from: PeerID([9]))
    }

    private static func refusals(_ harness: CoordinatorHarness, of peer: UInt8) -> [Refusal] {
        harness.messages(to: peer).compactMap { if case .refuse(let refusal) = $0 { refusal } else { nil } }
    }

    @Test("A copied digest and base manifest admit nobody: the question is new, and the answer must be the others'")
    func copy() throws {
        var harness = try Self.begun()
        try Self.round(&harness)
        try Self.round(&harness)
        for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        harness.pause()
        // The ledger now holds the digest of this position.
        #expect(harness.machine.ledger.lastDigest?.position == harness.machine.ledger.parameters.records)
        let id = PeerID([9])
        harness.tell(.received(harness.hello(9), from: id))
        harness.tell(.received(.base(Samples.base), from: id))
        harness.tell(.received(.fetch(LedgerFetch(offset: 0)), from: id))
        harness.tell(Self.report(harness, CoordinatorHarness.digest, proof: nil))
        #expect(harness.machine.ledger.machines.count == 2, "the digest alone proves nothing")
        let nonce = try #require(harness.nonce)
        for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        // The stranger can't know the answer.
        harness.tell(Self.report(harness, CoordinatorHarness.digest, proof: .init(nonce: nonce, answer: .sha256([1]))))
        harness.wait(12, alive: [1, 2, 9])
        #expect(harness.machine.ledger.machines.count == 2)
        #expect(Self.refusals(harness, of: 9).map(\.code) == [.otherBase])
        // A peer that holds the parameters gets in.
        harness.join(8)
        #expect(harness.machine.ledger.machines.count == 3)
    }

    @Test("While the run's machines are out of reach after a restart, a stranger waits for them")
    func strangerAfterRestart() throws {
        var first = try Self.begun()
        try Self.round(&first)
        try Self.round(&first)
        for peer: UInt8 in 1...2 { first.tell(.received(first.report(), from: PeerID([peer]))) }
        var second = try CoordinatorHarness(first.machine.ledger.spec, Array(first.records.dropFirst()))
        second.join(9)
        #expect(second.machine.activeTrainers.isEmpty)
        second.join(1)
        #expect(second.machine.activeTrainers == [MachineID(1)])
        second.tell(.received(second.report(), from: PeerID([9])))
        for peer: UInt8 in [1, 9] { second.tell(.received(second.report(), from: PeerID([peer]))) }
        #expect(second.machine.activeTrainers == [MachineID(1), MachineID(3)])
    }

    @Test("A machine that is alive but never answers delays one round, and then gets ever fewer shares")
    func staller() throws {
        var harness = try Self.begun()
        for _ in 0..<5 { try Self.round(&harness) }
        for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        let round = harness.machine.ledger.nextRound
        try harness.answer(1, machine: 1)
        harness.wait(20, alive: [1, 2])
        #expect(harness.machine.ledger.nextRound == round, "a slow machine is waited for")
        harness.wait(20, alive: [1, 2])
        #expect(harness.machine.ledger.nextRound == round + 1)
        #expect(harness.machine.ledger.machines.count == 2, "it is not removed")
        let opening = try #require(harness.lastOpening)
        #expect(opening.shares.map(\.machine) == [MachineID(1)] && opening.shares[0].count == 6, "its samples go to the other one")
        try harness.answer(1, machine: 1)
        try harness.answer(1, machine: 1)
        #expect(harness.lastOpening?.shares.count == 2, "it gets another chance")
        // It misses that share too and is left out for twice as long.
        try harness.answer(1, machine: 1)
        harness.wait(40, alive: [1, 2])
        for _ in 0..<4 {
            #expect(harness.lastOpening?.shares.count == 1)
            try harness.answer(1, machine: 1)
        }
        #expect(harness.lastOpening?.shares.count == 2)
        // Once it answers, it is treated like the others again.
        try Self.round(&harness)
        #expect(harness.lastOpening?.shares.count == 2)
    }

    @Test("Strangers that agree among themselves can't outvote machines whose parameters agreed after their rounds")
    func votes() throws {
        var harness = try Self.begun()
        // Two machines work and are compared…
        for _ in 0..<2 {
            for _ in 0..<2 { try Self.round(&harness) }
            for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        }
        // …then two others come and lie about the next digest, even after they were told to rebuild.
        for peer: UInt8 in 3...4 { harness.join(peer) }
        #expect(harness.machine.activeTrainers.count == 4)
        try Self.round(&harness)
        try Self.round(&harness, 1...4)
        let lie = Digest.sha256([66])
        func orders(_ peer: UInt8) -> UInt32 { UInt32(harness.messages(to: peer).count { if case .rebuild = $0 { true } else { false } }) }
        for _ in 0..<5 {
            for peer: UInt8 in [3, 4, 1, 2] {
                harness.tell(.received(harness.report(peer > 2 ? lie : CoordinatorHarness.digest, rebuilds: orders(peer)), from: PeerID([peer])))
            }
        }
        #expect(harness.finished == nil)
        for peer: UInt8 in 3...4 { #expect(Self.refusals(harness, of: peer).map(\.code) == [.diverged], "\(peer)") }
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(2)])
    }

    @Test("A peer that only calls itself an evaluator does not delay the start for ever")
    func pretendedEvaluator() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 9, minimumWorkers: 1))
        harness.tell(.received(harness.hello(7, trains: false, evaluates: true), from: PeerID([7])))
        harness.join(1)
        harness.wait(200, alive: [1, 7])
        #expect(harness.lastOpening == nil)
        harness.wait(110, alive: [1, 7])
        #expect(harness.lastOpening != nil)
    }

    @Test("Admissions are limited while rounds are under way, and resume later")
    func admissions() throws {
        var harness = try Self.begun()
        try Self.round(&harness)
        for peer: UInt8 in 10...90 { harness.join(peer, answersProof: false) }
        harness.pause()
        let alive = Array(10...90) as [UInt8] + [1, 2]
        for peer in alive { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        let admitted = try harness.records.filter { $0.kind == .admission }.count
        #expect(admitted == 2 + 64)
        harness.wait(62, alive: alive)
        #expect(try harness.records.filter { $0.kind == .admission }.count == 2 + 81)
    }
}
