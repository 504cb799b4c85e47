import Core
import Simulator
import Testing

/// Tests of what a coordinator says that a run waits for.
@Suite struct HoldTests {
    private func holds(_ harness: CoordinatorHarness) -> [Hold?] {
        harness.notices.compactMap { notice -> Hold?? in if case .hold(let hold) = notice { .some(hold) } else { nil } }
    }

    @Test("Before the first round it waits for workers, then for the evaluator; the first round ends the wait")
    func beginning() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.wait(0.2)
        harness.join(1)
        harness.tell(.received(harness.hello(3, trains: false, evaluates: true), from: PeerID([3])))
        harness.wait(0.2)
        harness.join(2)
        harness.wait(0.2)
        #expect(
            holds(harness) == [.workers(there: 0, needed: 2), .workers(there: 1, needed: 2), .evaluators(.init(["w3"]))], "\(holds(harness))")
        harness.join(3, trains: false, evaluates: true)
        harness.wait(0.2)
        #expect(harness.lastOpening != nil)
        #expect(holds(harness).last == .some(nil), "\(holds(harness))")
    }

    @Test("A share that takes far longer than usual is reported once, with the worker's name")
    func unansweredShare() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        harness.join(2)
        harness.wait(0.2)
        try harness.answer(1, machine: 1)
        harness.wait(1, alive: [1, 2])
        #expect(holds(harness).last == .some(nil) || !holds(harness).contains { if case .shares = $0 { true } else { false } })
        harness.wait(5, alive: [1, 2])
        let shares = holds(harness).filter { if case .shares = $0 { true } else { false } }
        #expect(shares == [.shares(round: 0, .init(["w2"]), undoing: nil)])
        try harness.answer(2, machine: 2)
        harness.wait(0.2)
        #expect(holds(harness).last == .some(nil))
    }

    @Test("After a retraction, machines that are late are reported as rebuilding")
    func retraction() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        harness.join(2)
        for peer: UInt8 in 1...2 { try harness.answer(peer, machine: UInt32(peer)) }
        harness.tell(.retract(MachineID(2), rounds: 0..<1))
        harness.wait(4, alive: [1, 2])
        #expect(holds(harness).last == .some(.shares(round: 1, .init(["w1", "w2"]), undoing: .retraction)), "\(holds(harness))")
        // The bytes of the open round may already have been on their way. The next round waits for the rebuilding.
        for _ in 0..<2 {
            for peer: UInt8 in 1...2 { try harness.answer(peer, machine: UInt32(peer)) }
        }
        harness.wait(0.2)
        #expect(holds(harness).last == .some(nil))
        harness.wait(60, alive: [1, 2])
        let undoings = holds(harness).compactMap { if case .shares(_, _, let undoing)? = $0 { undoing } else { nil } }
        #expect(undoings == [.retraction], "the next rounds undo nothing")
    }

    @Test("After a restoration, machines that are late are reported as rebuilding too")
    func restoration() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        harness.join(2)
        for peer: UInt8 in 1...2 { try harness.answer(peer, machine: UInt32(peer)) }
        harness.tell(.retract(MachineID(2), rounds: 0..<1))
        harness.tell(.restore(MachineID(2), rounds: 0..<1))
        harness.wait(4, alive: [1, 2])
        #expect(holds(harness).last == .some(.shares(round: 1, .init(["w1", "w2"]), undoing: .restoration)), "\(holds(harness))")
    }

    @Test("Of many workers, a hold names a few and counts all")
    func many() throws {
        var harness = try CoordinatorHarness(Samples.spec(samplesPerRound: 24, minimumWorkers: 12))
        for peer: UInt8 in 1...12 { harness.join(peer) }
        harness.wait(5, alive: Array(1...12))
        let names = (1...12).map { "w\($0)" }.sorted()
        guard case .shares(_, let workers, _)?? = holds(harness).last else {
            Issue.record("\(holds(harness))")
            return
        }
        #expect(workers.names == Array(names.prefix(8)) && workers.count == 12)
    }

    @Test("A run waits for a full disk, for a restarted coordinator's machines, and for the last reports")
    func others() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        harness.join(2)
        for peer: UInt8 in 1...2 { try harness.answer(peer, machine: UInt32(peer)) }
        var again = harness
        again.machine = CoordinatorStateMachine(ledger: try Samples.summary(of: harness.disk), at: harness.now)
        again.notices = []
        again.join(1)
        again.wait(0.2)
        #expect(holds(again).last == .some(.returning(.init(["w2"]))), "\(holds(again))")
        harness.holdsAppends = true
        for peer: UInt8 in 1...2 { try harness.answer(peer, machine: UInt32(peer)) }
        harness.tell(.ledgerFailed("no space"))
        harness.wait(0.2)
        #expect(holds(harness).last == .some(.ledger))
        var last = try CoordinatorHarness(Samples.spec(rounds: 1))
        last.join(1)
        try last.answer(1, machine: 1)
        last.wait(4, alive: [1])
        #expect(holds(last).last == .some(.closing(.init(["w1"]))), "\(holds(last))")
    }

    @Test("A worker's status messages are taken, a few at once and then five per second")
    func words() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        harness.join(1)
        let status = Message.status(WorkerStatus(phase: .training, progress: 1, trainingLoss: 0.5, samplesPerSecond: 10, applied: 1))
        func heard() -> [WorkerReport] { harness.notices.compactMap { if case .status(let report) = $0 { report } else { nil } } }
        for _ in 0..<100 { harness.tell(.received(status, from: PeerID([1]))) }
        #expect(heard().count == 8)
        harness.now = harness.now.advanced(bySeconds: 1)
        for _ in 0..<100 { harness.tell(.received(status, from: PeerID([1]))) }
        #expect(heard().count == 13)
        try harness.answer(1, machine: 1)
        harness.now = harness.now.advanced(bySeconds: 1)
        harness.tell(.received(status, from: PeerID([1])))
        let report = try #require(heard().last)
        #expect(report.machine == MachineID(1) && report.name == "w1" && report.trains && !report.disagrees && report.bytes > 0)
    }
}
