import Core
import Simulator
import Testing

@Suite struct CoordinatorStateMachineTests {
    @Test("The first worker's base becomes the run's, and another base is refused with the tensor's name")
    func bases() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        #expect(harness.machine.ledger.base == Samples.base)
        // The machine is proven, but the first machines are numbered together.
        #expect(harness.machine.activeTrainers.isEmpty)
        #expect(harness.notices.contains { if case .waiting(machines: 1, of: 2) = $0 { true } else { false } })
        #expect(harness.lastOpening == nil)
        harness.tell(.received(harness.hello(2), from: PeerID([2])))
        var entries = Samples.base.entries
        entries[1] = .init(name: "b.weight", shape: .vector(4), digest: .sha256([9]))
        harness.tell(.received(.base(BaseManifest(entries: entries)!), from: PeerID([2])))
        let refusals = harness.messages(to: 2).compactMap { if case .refuse(let refusal) = $0 { refusal } else { nil } }
        #expect(refusals.map(\.code) == [.otherBase])
        #expect(refusals.first?.details.first?.hasPrefix("b.weight has other values") == true)
        // It may come again with the right base.
        harness.join(2)
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(2)])
        #expect(harness.lastOpening?.shares.map(\.count) == [3, 3])
    }

    @Test("The first machines are numbered in the order of their names, whoever is ready first; later ones as they come")
    func numbersByName() throws {
        func names(_ order: [UInt8]) throws -> [String] {
            var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 3))
            for peer in order { harness.join(peer) }
            for peer in order { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
            return harness.machine.ledger.machines.sorted { $0.key < $1.key }.map(\.value.admission.name)
        }
        let sorted = try names([1, 2, 3])
        #expect(sorted == sorted.sorted() && Set(sorted).count == 3)
        #expect(try names([3, 1, 2]) == sorted)
        #expect(try names([2, 3, 1, 0]) == sorted + ["w0"])
    }

    @Test("Names that are equal as text but not as bytes are two names and cause no crash")
    func canonicallyEqualNames() throws {
        let names = ["e\u{301}", "\u{e9}"]
        let twins = try #require(BaseManifest(entries: names.map { .init(name: $0, shape: .vector(1), digest: .sha256([1])) }))
        #expect(twins.entries.count == 2)
        #expect(twins.differences(from: twins).isEmpty)
        #expect(Samples.base.differences(from: twins).count == Samples.base.entries.count + 2)
        let one = try #require(BaseManifest(entries: [twins.entries[1]]))
        #expect(twins.differences(from: one).count == 1 && one.differences(from: twins).count == 1)
    }

    @Test("A newcomer that answers while the others are busy does not decide what is right")
    func newcomerWhileOthersAreBusy() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        harness.join(2)
        harness.tell(.received(harness.report(), from: PeerID([1])))
        harness.tell(.received(harness.report(), from: PeerID([2])))
        for peer: UInt8 in 1...2 { try harness.answer(peer, machine: UInt32(peer)) }
        let wrong = Digest.sha256([13])
        harness.join(3, digest: wrong, answersProof: false)
        harness.tell(.received(harness.report(wrong), from: PeerID([3])))
        harness.wait(12, alive: [1, 2, 3])
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(2)])
        harness.tell(.received(harness.report(wrong), from: PeerID([3])))
        for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        harness.tell(.received(harness.report(wrong), from: PeerID([3])))
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(2)])
        #expect(harness.messages(to: 3).contains(.rebuild(order: 1)))
    }

    @Test("Machines whose parameters have left their range depart as diverged, and the run fails with the last of them")
    func divergedRun() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        harness.join(2)
        for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        #expect(harness.machine.activeTrainers.count == 2)
        let goodbye = Message.goodbye(Goodbye(reason: "use a smaller learning rate", cause: .diverged))
        #expect(try Message(decoding: goodbye.encoded()) == goodbye)
        harness.tell(.received(goodbye, from: PeerID([1])))
        harness.wait(0.2)
        #expect(harness.finished == nil)
        #expect(harness.notices.contains { if case .warning(let text) = $0 { text.contains("smaller learning rate") } else { false } })
        harness.tell(.received(goodbye, from: PeerID([2])))
        harness.wait(0.2)
        #expect(harness.finished?.outcome == .failed)
        let reasons = try harness.records.compactMap { if case .departure(let gone) = $0 { gone.reason } else { nil } }
        #expect(reasons == [.diverged, .diverged])
    }

    @Test("Steps that are rounded to nothing are reported once, with the remedy")
    func vanishingSteps() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        harness.join(1)
        func report(_ percent: UInt8?) -> Message {
            let position = harness.machine.ledger.parameters
            return .digestReport(
                DigestReport(
                    position: position.records, round: harness.machine.ledger.nextRound, digest: CoordinatorHarness.digest,
                    chain: position.shortChain, unchangedPercent: percent))
        }
        func warnings() -> Int {
            harness.notices.count { if case .warning(let text) = $0 { text.contains("steps vanish") && text.contains("raise") } else { false } }
        }
        harness.tell(.received(report(98), from: PeerID([1])))
        harness.tell(.received(report(nil), from: PeerID([1])))
        #expect(warnings() == 0)
        for _ in 0..<2 { harness.tell(.received(report(99), from: PeerID([1]))) }
        #expect(warnings() == 1)
    }

    @Test("The ledger has the precision that a worker's hello says, if its format has room for it", arguments: [3, 4] as [UInt32])
    func precision(format: UInt32) throws {
        var harness = try CoordinatorHarness(Samples.spec(), format: format)
        let precision = ComputePrecision(samples: .float, hiddenStates: .int8)
        harness.join(1, precision: precision)
        guard case .admission(let admission)? = harness.lastRecord(.admission) else {
            Issue.record("nobody is admitted")
            return
        }
        #expect(admission.precision == (format >= 4 ? precision : nil))
    }

    @Test("A worker that expects another run is refused")
    func otherRun() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        let hello = Hello(
            session: Samples.session(1), name: "w", trains: true, evaluates: false, software: "test", expectedSpec: .sha256([1]))
        harness.tell(.received(.hello(hello), from: PeerID([1])))
        guard case .refuse(let refusal) = harness.messages(to: 1).first else {
            Issue.record("no refusal")
            return
        }
        #expect(refusal.code == .otherRun)
    }

    @Test("Nobody hears of a round before it is on disk")
    func durability() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        harness.join(1)
        harness.holdsAppends = true
        let before = harness.sent.count
        try harness.answer(1, machine: 1)
        #expect(harness.sent.count == before)
        harness.tell(.received(harness.heartbeat(1), from: PeerID([1])))
        guard case .pong(let pong) = harness.messages(to: 1, after: before).first else {
            Issue.record("no pong")
            return
        }
        #expect(pong.records == harness.machine.durableRecords)
        harness.sync()
        guard case .commit(let commit) = harness.messages(to: 1, after: before).dropFirst().first else {
            Issue.record("no commit")
            return
        }
        #expect(commit.opening?.round == 1 && commit.opening?.shares.first?.firstSample == 6)
    }

    private func sent(_ round: RoundNumber, first: UInt32, count: Int) -> Message {
        .contribution(
            WireContribution(
                round: round, scaleExponent: 0,
                contribution: Contribution(
                    machine: MachineID(1), firstSample: first, bytes: [Int8](repeating: 2, count: count))))
    }

    @Test("Bytes of a machine that is ahead wait for their round, and count if they answer the share that it then gets")
    func early() throws {
        var harness = try CoordinatorHarness(Samples.spec(staleness: 2))
        harness.join(1)
        let peer = PeerID([1])
        // The first share is samples 0…5 of round 0. Round 3 is too far ahead, and in round 2 nobody gets sample 13.
        harness.tell(.received(sent(1, first: 6, count: 6), from: peer))
        harness.tell(.received(sent(2, first: 13, count: 6), from: peer))
        harness.tell(.received(sent(3, first: 18, count: 6), from: peer))
        #expect(harness.machine.ledger.nextRound == 0)
        try harness.answer(1, machine: 1)
        #expect(harness.machine.ledger.nextRound == 2)
        #expect(harness.lastOpening?.round == 2 && harness.lastOpening?.shares.first?.firstSample == 12)
        try harness.answer(1, machine: 1)
        #expect(harness.machine.ledger.nextRound == 3)
        let rounds = try harness.records.compactMap { if case .round(let round) = $0 { round } else { nil } }
        #expect(rounds.map { $0.contributions[0].firstSample } == [0, 6, 12])
        #expect(rounds[1].contributions[0].bytes == [2, 2, 2, 2, 2, 2])
    }

    @Test("Without staleness no bytes are accepted before their round is open; after a rewind no earlier bytes are accepted")
    func notEarly() throws {
        var strict = try CoordinatorHarness(Samples.spec())
        strict.join(1)
        strict.tell(.received(sent(1, first: 6, count: 6), from: PeerID([1])))
        try strict.answer(1, machine: 1)
        #expect(strict.machine.ledger.nextRound == 1)

        var rewound = try CoordinatorHarness(Samples.spec(staleness: 1))
        rewound.join(1)
        rewound.tell(.received(sent(1, first: 6, count: 6), from: PeerID([1])))
        rewound.tell(.rewind(to: 0, rateShift: -1))
        try rewound.answer(1, machine: 1)
        #expect(rewound.machine.ledger.nextRound == 1)
    }

    @Test("A full disk is reported once, and the same bytes are tried again")
    func fullDisk() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        harness.join(1)
        harness.holdsAppends = true
        try harness.answer(1, machine: 1)
        harness.tell(.ledgerFailed("no space"))
        harness.wait(3)
        harness.tell(.ledgerFailed("no space"))
        #expect(harness.notices.count { if case .ledgerStalled = $0 { true } else { false } } == 1)
        harness.wait(3)
        harness.sync()
        #expect(harness.notices.contains(.ledgerRecovered))
        #expect(try Samples.summary(of: harness.disk).nextRound == 1)
    }

    @Test("A silent machine departs, its share is not waited for, and its number is not used again")
    func silence() throws {
        var harness = try CoordinatorHarness(Samples.spec(minimumWorkers: 2))
        harness.join(1)
        harness.join(2)
        try harness.answer(1, machine: 1)
        harness.wait(12, alive: [1])
        #expect(harness.machine.ledger.nextRound == 1)
        #expect(harness.machine.activeTrainers == [MachineID(1)])
        #expect(harness.lastOpening?.shares.map(\.count) == [6])
        harness.tell(.received(harness.heartbeat(2), from: PeerID([2])))
        guard case .pong(let pong)? = harness.messages(to: 2).last else {
            Issue.record("no pong")
            return
        }
        #expect(pong.standing == .unknown)
        // It comes again. There is a machine to compare it with, so a comparison proves it.
        harness.join(2)
        harness.tell(.received(harness.report(), from: PeerID([1])))
        harness.tell(.received(harness.report(), from: PeerID([2])))
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(3)])
    }

    @Test("A coordinator that stood still does not take its own silence for the workers'")
    func ownPause() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        harness.join(1)
        harness.now = harness.now.advanced(bySeconds: 100)
        harness.tell(.tick)
        #expect(harness.machine.activeTrainers == [MachineID(1)])
    }

    @Test("After a restart the same session keeps its number, and the round goes on with the same samples")
    func restart() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        harness.join(1)
        try harness.answer(1, machine: 1)
        let opening = harness.lastOpening
        var second = harness
        second.machine = CoordinatorStateMachine(ledger: try Samples.summary(of: harness.disk), at: harness.now)
        second.sent = []
        second.join(1)
        #expect(second.machine.activeTrainers == [MachineID(1)])
        #expect(second.lastOpening == opening)
        // Another process is another machine, and the first one departs when its heartbeats do not come.
        var third = harness
        third.machine = CoordinatorStateMachine(ledger: try Samples.summary(of: harness.disk), at: harness.now)
        third.join(2)
        third.wait(12, alive: [2])
        third.tell(.received(third.report(), from: PeerID([2])))
        #expect(third.machine.activeTrainers == [MachineID(2)])
        #expect(try third.records.contains { if case .departure(let gone) = $0 { gone.machine == MachineID(1) } else { false } })
    }

    @Test("A machine that differs is told to rebuild, and is refused when its replays still differ from those of two others")
    func divergence() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 50, minimumWorkers: 3, digestEvery: 1))
        for peer: UInt8 in 1...3 { harness.join(peer) }
        let wrong = Digest.sha256([13])
        for (peer, machine) in [(UInt8(1), UInt32(1)), (2, 2), (3, 3)] { try harness.answer(peer, machine: machine) }
        for peer: UInt8 in 1...3 { harness.tell(.received(harness.report(peer == 3 ? wrong : CoordinatorHarness.digest), from: PeerID([peer]))) }
        #expect(harness.messages(to: 3).contains(.rebuild(order: 1)))
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(2)])
        // A report from before the order is not counted against it.
        harness.tell(.received(harness.report(wrong), from: PeerID([3])))
        #expect(!harness.messages(to: 3).contains(.rebuild(order: 2)))
        harness.tell(.received(harness.report(rebuilds: 1), from: PeerID([3])))
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(2), MachineID(3)])
        // From now on it differs after every rebuild. One of the others replays as a referee and confirms its digest.
        for peer: UInt8 in 1...3 { try harness.answer(peer, machine: UInt32(peer)) }
        for (peer, digest) in [(UInt8(1), CoordinatorHarness.digest), (2, CoordinatorHarness.digest), (3, wrong)] {
            harness.tell(.received(harness.report(digest, rebuilds: peer == 3 ? 1 : 0), from: PeerID([peer])))
        }
        harness.tell(.received(harness.report(wrong, rebuilds: 2), from: PeerID([3])))
        #expect(harness.messages(to: 1).contains(.rebuild(order: 1)))
        harness.tell(.received(harness.report(rebuilds: 1), from: PeerID([1])))
        harness.tell(.received(harness.report(wrong, rebuilds: 3), from: PeerID([3])))
        guard case .refuse(let refusal)? = harness.messages(to: 3).last else {
            Issue.record("not refused")
            return
        }
        #expect(refusal.code == .diverged)
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(2)])
    }

    @Test("Two replays that agree are right against a majority that only followed")
    func replayIsTheJudge() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 50, minimumWorkers: 3, digestEvery: 1))
        for peer: UInt8 in 1...3 { harness.join(peer) }
        for peer: UInt8 in 1...3 { try harness.answer(peer, machine: UInt32(peer)) }
        let wrong = Digest.sha256([13])
        for peer: UInt8 in 1...3 {
            harness.tell(.received(harness.report(peer == 3 ? CoordinatorHarness.digest : wrong), from: PeerID([peer])))
        }
        harness.tell(.received(harness.report(rebuilds: 1), from: PeerID([3])))
        // Machine 1 is the referee, and its replay agrees with machine 3's.
        harness.tell(.received(harness.report(rebuilds: 2), from: PeerID([3])))
        harness.tell(.received(harness.report(rebuilds: 1), from: PeerID([1])))
        #expect(harness.messages(to: 2).contains(.rebuild(order: 1)))
        #expect(harness.machine.activeTrainers.contains(MachineID(1)))
    }

    /// Returns two machines whose answers have shown how long a round takes. One of them is enough for a quorum.
    private func twoWithADeadline() throws -> CoordinatorHarness {
        var spec = Samples.spec(rounds: 60, samplesPerRound: 6, minimumWorkers: 2, digestEvery: 0, roundDeadlineFactor: 3, staleness: 1)
        spec.quorum = 0.5
        var harness = try CoordinatorHarness(spec)
        harness.join(1)
        harness.join(2)
        for _ in 0..<5 {
            harness.wait(0.2)
            try harness.answer(1, machine: 1)
            try harness.answer(2, machine: 2)
        }
        return harness
    }

    @Test("A deadline closes a round with a quorum, and late bytes are taken once, at the next round's scale")
    func staleness() throws {
        var harness = try twoWithADeadline()
        let missed = try #require(harness.lastOpening)
        try harness.answer(1, machine: 1)
        harness.wait(1)
        #expect(harness.machine.ledger.nextRound == missed.round + 1)
        let share = try #require(missed.shares.first { $0.machine == MachineID(2) })
        let late = Message.contribution(
            WireContribution(
                round: missed.round, scaleExponent: missed.scaleExponent,
                contribution: Contribution(machine: MachineID(2), firstSample: share.firstSample, bytes: [1, 2, 3])))
        harness.tell(.received(late, from: PeerID([2])))
        harness.tell(.received(late, from: PeerID([2])))
        #expect(harness.notices.contains(.late(MachineID(2), round: missed.round, samples: 3)))
        try harness.answer(1, machine: 1)
        try harness.answer(2, machine: 2)
        let rounds = try harness.records.compactMap { if case .round(let round) = $0 { round } else { nil } }
        let last = try #require(rounds.last { $0.contributions.count == 3 })
        #expect(last.contributions.map(\.machine.rawValue) == [1, 2, 2])
        #expect(last.contributions[1].firstSample == share.firstSample)
    }

    @Test("The end waits for the evaluator and for everybody's last digest")
    func end() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 1))
        harness.join(1)
        harness.join(2, trains: false, evaluates: true)
        harness.tell(.received(harness.report(), from: PeerID([1])))
        try harness.answer(1, machine: 1)
        for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        #expect(!harness.machine.ledger.isEnded)
        harness.tell(
            .received(
                .evaluation(
                    EvaluationReport(
                        round: 1, examples: 10, loss: 0.5, accuracy: 0.7, bestThresholdAccuracy: 0.8, auc: 0.9, seconds: 1,
                        position: harness.machine.ledger.parameters.records)),
                from: PeerID([2])))
        #expect(harness.machine.ledger.isEnded)
        #expect(harness.messages(to: 2).contains { if case .finished(let end) = $0 { end.outcome == .completed } else { false } })
        for peer: UInt8 in 1...2 { harness.tell(.received(.goodbye(Goodbye(reason: "done")), from: PeerID([peer]))) }
        harness.wait(0.2)
        #expect(harness.finished?.outcome == .completed)
        let digests = try harness.records.compactMap { if case .digest(let digest) = $0 { digest } else { nil } }
        #expect(digests.last?.machines == [MachineID(1)])
    }

    @Test("A stopped coordinator leaves a ledger that can be resumed")
    func stop() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        harness.join(1)
        try harness.answer(1, machine: 1)
        harness.tell(.stopRequested)
        harness.tell(.received(.goodbye(Goodbye(reason: "bye")), from: PeerID([1])))
        harness.wait(0.2)
        #expect(harness.finished?.outcome == .stopped)
        var again = try CoordinatorHarness(Samples.spec())
        again.disk = harness.disk
        again.machine = CoordinatorStateMachine(ledger: try Samples.summary(of: harness.disk), at: again.now)
        again.join(2)
        #expect(again.lastOpening?.round == 1)
        #expect(again.machine.activeTrainers == [MachineID(2)])
    }

    @Test("Parameters are compared even if machines work ahead and everything waits for the disk")
    func comparisonsBehindASlowDisk() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 60, digestEvery: 1, staleness: 1))
        harness.join(1)
        harness.holdsAppends = true
        let first = try #require(harness.lastOpening)
        try harness.answer(1, machine: 1)
        for ahead: UInt32 in 1...6 {
            // The next round's bytes are there before this round is on disk.
            let share = try #require(first.shares.first)
            let contribution = Contribution(
                machine: share.machine, firstSample: share.firstSample + ahead * share.count, bytes: [Int8](repeating: 1, count: Int(share.count)))
            harness.tell(
                .received(
                    .contribution(WireContribution(round: first.round + ahead, scaleExponent: first.scaleExponent, contribution: contribution)),
                    from: PeerID([1])))
            harness.sync()
        }
        #expect(harness.machine.ledger.nextRound >= 6)
        #expect(harness.messages(to: 1).contains { if case .digestRequest = $0 { true } else { false } })
    }

    @Test("No round opens between a round and the rewind that makes it void")
    func noRoundBeforeARewind() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 60, digestEvery: 0))
        harness.join(1)
        harness.holdsAppends = true
        try harness.answer(1, machine: 1)
        harness.tell(.rewind(to: 0, rateShift: -1))
        let count = harness.sent.count
        harness.sync()
        let commit = try #require(harness.messages(to: 1, after: count).compactMap { if case .commit(let commit) = $0 { commit } else { nil } }.first)
        #expect(commit.opening == nil)
        harness.sync()
        #expect(harness.lastOpening?.round == 1)
    }

    @Test("Bytes that a machine sent ahead of a rewind answer no share after it")
    func aheadOfARewind() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 60, digestEvery: 0, staleness: 1))
        harness.join(1)
        harness.holdsAppends = true
        let share = try #require(harness.lastOpening?.shares.first)
        try harness.answer(1, machine: 1)
        harness.tell(.rewind(to: 0, rateShift: 0))
        let ahead = Contribution(machine: share.machine, firstSample: share.firstSample + share.count, bytes: [1, 1, 1, 1, 1, 1])
        harness.tell(.received(.contribution(WireContribution(round: 1, scaleExponent: 0, contribution: ahead)), from: PeerID([1])))
        harness.sync()
        harness.sync()
        harness.sync()
        #expect(harness.lastOpening?.round == 1)
        #expect(harness.machine.ledger.nextRound == 1)
    }

    @Test("A share that is answered in part costs only the samples that were tried")
    func partOfAShare() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 60, samplesPerRound: 1 << 20, digestEvery: 0, roundSeconds: 1))
        harness.join(1)
        for _ in 0..<3 { try harness.answer(1, machine: 1, bytes: [1, 2, 3]) }
        #expect(harness.lastOpening?.shares.first?.firstSample == 9)
    }

    @Test("A machine that does not train by the ledger gets no share, whatever its peer says later")
    func pretendsToTrain() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 60, minimumWorkers: 1, digestEvery: 0))
        harness.join(1)
        harness.join(2, trains: false)
        harness.tell(.received(harness.report(), from: PeerID([2])))
        // The same session comes from another connection, as a trainer.
        harness.tell(.received(harness.hello(2, trains: true), from: PeerID([22])))
        for _ in 0..<3 { try harness.answer(1, machine: 1) }
        #expect(harness.machine.ledger.nextRound == 3)
        #expect(harness.machine.activeTrainers == [MachineID(1)])
    }

    @Test("A worker that says goodbye and comes back before its bytes are written takes part under a new number")
    func goodbyeAndBack() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 60, minimumWorkers: 2, digestEvery: 0))
        harness.join(1)
        harness.join(2)
        harness.tell(.received(harness.report(), from: PeerID([1])))
        harness.tell(.received(harness.report(), from: PeerID([2])))
        try harness.answer(2, machine: 2)
        harness.tell(.received(.goodbye(Goodbye(reason: "stopped")), from: PeerID([2])))
        harness.join(2)
        try harness.answer(1, machine: 1)
        harness.tell(.received(harness.report(), from: PeerID([2])))
        for _ in 0..<2 {
            let opening = try #require(harness.lastOpening)
            for share in opening.shares { try harness.answer(share.machine.rawValue == 1 ? 1 : 2, machine: share.machine.rawValue) }
        }
        #expect(harness.machine.ledger.nextRound == 3)
        #expect(harness.machine.activeTrainers == [MachineID(1), MachineID(3)])
    }

    @Test("Late bytes are accepted while the next round waits for the disk")
    func lateDuringASync() throws {
        var harness = try twoWithADeadline()
        let missed = try #require(harness.lastOpening)
        harness.holdsAppends = true
        try harness.answer(1, machine: 1)
        harness.wait(1)
        let share = try #require(missed.shares.first { $0.machine == MachineID(2) })
        let late = Contribution(machine: MachineID(2), firstSample: share.firstSample, bytes: [1, 2, 3])
        harness.tell(
            .received(
                .contribution(WireContribution(round: missed.round, scaleExponent: missed.scaleExponent, contribution: late)), from: PeerID([2])))
        harness.holdsAppends = false
        harness.sync()
        try harness.answer(1, machine: 1)
        try harness.answer(2, machine: 2)
        let rounds = try harness.records.compactMap { if case .round(let round) = $0 { round } else { nil } }
        #expect(rounds.contains { $0.contributions.map(\.machine.rawValue) == [1, 2, 2] })
    }

    @Test("Only a part of what a peer writes is repeated")
    func longWords() throws {
        var harness = try CoordinatorHarness(Samples.spec())
        let text = String(repeating: "x", count: 1_000_000)
        harness.join(1)
        harness.tell(.malformed(.invalid(field: "hello", reason: text), from: PeerID([7])))
        harness.tell(.received(.goodbye(Goodbye(reason: text, cause: .diverged)), from: PeerID([1])))
        let longest = harness.notices.map { if case .warning(let text) = $0 { text.count } else { 0 } }.max()
        #expect(try #require(longest) < 1000 && #require(longest) > 100)
    }

    @Test("A trial that nobody can judge is reported once")
    func unjudged() throws {
        var harness = try CoordinatorHarness(Samples.spec(rounds: 60, digestEvery: 0, steering: Steering(trialRounds: 2)))
        harness.join(1)
        for _ in 0..<2 { try harness.answer(1, machine: 1) }
        harness.wait(3, alive: [1])
        #expect(harness.notices.count { if case .warning(let text) = $0 { text.contains("no machine evaluates") } else { false } } == 1)
    }

    // MARK: Spent budgets

    @Test("A private run ends when no worker gives a value any more, and a spent worker is not taken for a faulty one")
    func spentBudgets() throws {
        var spec = Samples.spec(rounds: 400, samplesPerRound: 1200, minimumWorkers: 2)
        spec.evictsFaultyMachines = true
        let none = [Int8](repeating: Contribution.noValue, count: 600)
        for isPrivate in [true, false] {
            if isPrivate { spec.privacy = Privacy(clip: 1, noiseMultiplier: 4, epsilon: 8, delta: 1e-5) } else { spec.privacy = nil }
            var harness = try CoordinatorHarness(spec)
            for peer: UInt8 in 1...2 { harness.join(peer) }
            for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
            try harness.answer(1, machine: 1, bytes: none)
            try harness.answer(2, machine: 2)
            #expect(harness.machine.activeTrainers == (isPrivate ? [MachineID(1), MachineID(2)] : [MachineID(2)]))
            let warnings = harness.notices.compactMap { if case .warning(let text) = $0 { text } else { nil } }
            #expect(warnings.contains { $0.contains("its privacy budget may be spent") } == isPrivate)
            #expect(warnings.contains { $0.contains("it is evicted") } != isPrivate)
            guard isPrivate else { continue }
            // One spent worker does not end the run, and one with saturated bytes is faulty here too.
            #expect(harness.lastOpening?.round == 1)
            try harness.answer(1, machine: 1, bytes: none)
            try harness.answer(2, machine: 2)
            for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
            #expect(harness.lastOpening?.round == 2)
            try harness.answer(1, machine: 1, bytes: none)
            try harness.answer(2, machine: 2, bytes: none)
            #expect(try harness.records.contains(.rewind(Rewind(round: 3, rateShift: 0, isFinal: true))))
            for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
            harness.wait(1)
            let finish = harness.messages(to: 1).compactMap { if case .finished(let finish) = $0 { finish } else { nil } }.first
            #expect(finish?.outcome == .completed && finish?.message.contains("privacy budgets are spent after 3 rounds") == true, "\(finish as Any)")
        }
    }
}
