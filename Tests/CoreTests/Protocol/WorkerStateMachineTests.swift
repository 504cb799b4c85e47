import Core
import Simulator
import Testing

@Suite struct WorkerStateMachineTests {
    /// A worker whose compute thread finishes at once, except for the tasks that are held.
    struct Harness {
        var machine: WorkerStateMachine
        var now = Timestamp(nanoseconds: 1_000_000_000_000)
        var sent: [Message] = []
        var tasks: [WorkerTask] = []
        var notices: [WorkerNotice] = []
        var abandons = 0
        var timeBoxesEnded = 0
        var reconnections = 0
        var exit: WorkerExit?
        var holdsCompute = false
        var holdsApply = false
        var holdsEvaluations = false
        var largestMagnitude: UInt32 = 5
        /// The failure of taking a snapshot's parameters, if any.
        var restoreFailure: String?

        /// The base model that its host has.
        var base = Samples.base

        init(
            session: UInt8 = 1, base: BaseManifest = Samples.base, evaluates: Bool = false, snapshots: [SnapshotPosition] = [],
            snapshotSeconds: Double? = nil, basis: [UInt8]? = nil, notary: (any Notary)? = nil
        ) {
            machine = WorkerStateMachine(
                WorkerConfiguration(
                    session: Samples.session(session), name: "w", trains: !evaluates, evaluates: evaluates, software: "test",
                    patienceSeconds: 60, snapshots: snapshots, snapshotSeconds: snapshotSeconds, notary: notary, basis: basis))
            self.base = base
            tell(.started)
        }

        mutating func tell(_ event: WorkerEvent) {
            var events = [event]
            while !events.isEmpty {
                for effect in machine.handle(events.removeFirst(), at: now) {
                    switch effect {
                    case .send(let message): sent.append(message)
                    case .perform(let task):
                        tasks.append(task)
                        if let result = result(of: task) { events.append(.performed(result)) }
                    case .abandon: abandons += 1
                    case .endTimeBox: timeBoxesEnded += 1
                    case .reconnect: reconnections += 1
                    case .notice(let notice): notices.append(notice)
                    case .finish(let end): exit = end
                    }
                }
            }
        }

        private func result(of task: WorkerTask) -> WorkerResult? {
            switch task {
            case .hashBase: .baseHashed(base)
            case .prepare: .prepared
            case .apply: holdsApply ? nil : .applied
            case .reset: .reset
            case .snapshot: .snapshotTaken(failure: nil)
            case .restore: .restored(failure: restoreFailure)
            case .digest: .digested(.sha256([42]), largestMagnitude: largestMagnitude)
            case .evaluate(let round, _):
                holdsEvaluations
                    ? nil
                    : .evaluated(
                        EvaluationReport(
                            round: round, examples: 1, loss: 1, accuracy: 1, bestThresholdAccuracy: 1, auc: 1, seconds: 1))
            case .compute(let order):
                holdsCompute
                    ? nil
                    : .computed(
                        bytes: [Int8](repeating: 3, count: Int(order.count)),
                        statistics: SampleStatistics(meanLoss: 1, seconds: 0.1))
            }
        }

        /// Welcomes it to this ledger and sends it all of it.
        mutating func follow(_ ledger: [UInt8], as sent: [UInt8]? = nil) throws {
            let entries = try Samples.entries(of: ledger)
            guard case .spec(let spec)? = entries.first?.record else { return }
            tell(
                .received(
                    .welcome(
                        Welcome(
                            specDigest: .sha256(spec), session: Samples.session(1), ledgerRecords: UInt64(entries.count),
                            ledgerBytes: UInt64(ledger.count), heartbeatSeconds: 1, heartbeatTimeoutSeconds: 5))))
            tell(.received(.chunk(LedgerChunk(offset: 0, bytes: sent ?? ledger))))
        }

        mutating func commit(_ index: UInt64, _ record: LedgerRecord, opening: Opening? = nil) {
            tell(
                .received(
                    .commit(Commit(index: index, kind: record.kind.rawValue, payload: record.payload(), opening: opening))))
        }

        /// Lets it send a heartbeat.
        mutating func beat() {
            now = now.advanced(bySeconds: 2)
            tell(.tick)
        }

        var heartbeats: UInt64 { sent.compactMap { if case .heartbeat(let beat) = $0 { beat.sequence } else { nil } }.max() ?? 0 }
        var fetches: [LedgerFetch] { sent.compactMap { if case .fetch(let fetch) = $0 { fetch } else { nil } } }
        var contributions: [WireContribution] { sent.compactMap { if case .contribution(let sent) = $0 { sent } else { nil } } }
        var reports: [DigestReport] { sent.compactMap { if case .digestReport(let report) = $0 { report } else { nil } } }
        var evaluations: [EvaluationReport] { sent.compactMap { if case .evaluation(let report) = $0 { report } else { nil } } }
    }

    private func ledger(_ records: [LedgerRecord] = []) throws -> [UInt8] {
        try Samples.ledger(Samples.spec(), [.baseManifest(Samples.base)] + records)
    }

    private func opening(_ round: RoundNumber, first: UInt32, count: UInt32 = 4) -> Opening {
        Opening(round: round, scaleExponent: 0, shares: [.init(machine: MachineID(1), firstSample: first, count: count)])
    }

    @Test("A worker hashes, says hello, proves base and digest, and works from its first opening on")
    func join() throws {
        var worker = Harness()
        #expect(worker.tasks == [.hashBase])
        try worker.follow(try ledger())
        #expect(worker.sent.contains(.baseDigest(BaseDigest(digest: Samples.base.digest, bytes: Samples.base.payload.count))))
        #expect(worker.fetches.first?.offset == 0)
        #expect(worker.reports.map(\.position) == [1])
        worker.commit(2, Samples.admission(1))
        worker.tell(.received(.open(opening(0, first: 0))))
        #expect(worker.contributions.map(\.contribution.bytes.count) == [4])
        worker.commit(3, Samples.round(0, [(1, 0, [3, 3, 3, 3])]), opening: opening(1, first: 4))
        #expect(worker.contributions.map(\.round) == [0, 1])
        #expect(worker.contributions.last?.contribution.firstSample == 4)
        // The same opening again is no new work.
        let tasks = worker.tasks.count
        worker.tell(.received(.open(opening(1, first: 4))))
        worker.commit(3, Samples.round(0, [(1, 0, [3, 3, 3, 3])]), opening: opening(1, first: 4))
        #expect(worker.tasks.count == tasks && worker.contributions.count == 2)
        // But the coordinator can have the answer again once it can't be on its way any more, that is, when a later heartbeat was answered.
        worker.tell(.received(.pong(Pong(standing: .active, records: 4, awaited: 1))))
        #expect(worker.contributions.count == 2)
        worker.beat()
        worker.tell(.received(.pong(Pong(standing: .active, records: 4, awaited: 1, echo: worker.heartbeats - 1))))
        #expect(worker.contributions.count == 2)
        worker.tell(.received(.pong(Pong(standing: .active, records: 4, awaited: 1, echo: worker.heartbeats))))
        #expect(worker.contributions.count == 3)
    }

    private func aheadLedger(staleness: Int = 1, roundSeconds: Double? = nil) throws -> [UInt8] {
        try Samples.ledger(Samples.spec(staleness: staleness, roundSeconds: roundSeconds), [.baseManifest(Samples.base)])
    }

    @Test("Within the staleness a worker begins the next round's samples before the commit, and no more than that")
    func worksAhead() throws {
        var worker = Harness()
        try worker.follow(try aheadLedger())
        worker.commit(2, Samples.admission(1))
        worker.tell(.received(.open(opening(0, first: 0))))
        #expect(worker.contributions.map(\.round) == [0, 1])
        #expect(worker.contributions.map(\.contribution.firstSample) == [0, 4])
        // The opening gives the same share, so only the round after it is new.
        worker.commit(3, Samples.round(0, [(1, 0, [3, 3, 3, 3])]), opening: opening(1, first: 4))
        #expect(worker.contributions.map(\.round) == [0, 1, 2])
        // The opening gives another share. The worker tries that one and continues from it.
        worker.commit(4, Samples.round(1, [(1, 4, [3, 3, 3, 3])]), opening: opening(2, first: 100))
        #expect(worker.contributions.map(\.contribution.firstSample) == [0, 4, 8, 100, 104])
        #expect(worker.contributions.map(\.round) == [0, 1, 2, 2, 3])
        // The answer to repeat is the one to the share that was given out.
        worker.beat()
        worker.tell(.received(.pong(Pong(standing: .active, records: 5, awaited: 2, echo: worker.heartbeats))))
        #expect(worker.contributions.last?.round == 2 && worker.contributions.last?.contribution.firstSample == 100)
    }

    @Test("A worker does not work ahead of the run's last round")
    func worksNoFurtherThanTheRun() throws {
        var worker = Harness()
        let rounds = (0..<9).map { Samples.round(UInt32($0), [(1, UInt32($0), [1])]) }
        try worker.follow(
            try Samples.ledger(Samples.spec(rounds: 10, staleness: 2), [.baseManifest(Samples.base), Samples.admission(1)] + rounds))
        worker.tell(.received(.open(opening(9, first: 50))))
        #expect(worker.contributions.map(\.round) == [9])
    }

    @Test("Samples that were begun before a rewind are given up")
    func rewindAhead() throws {
        var worker = Harness()
        try worker.follow(try aheadLedger())
        worker.commit(2, Samples.admission(1))
        worker.holdsCompute = true
        worker.tell(.received(.open(opening(0, first: 0))))
        worker.commit(3, .rewind(Rewind(round: 0, rateShift: -1)))
        #expect(worker.abandons == 1)
    }

    @Test("A worker leaves when its parameters are out of range, unless a guard takes the run back", arguments: [nil, 0.1])
    func beyondTheRange(tolerance: Double?) throws {
        var worker = Harness()
        worker.largestMagnitude = Parameters.divergedMagnitude + 1
        let spec = Samples.spec(steering: tolerance.map { Steering(guardTolerance: $0) })
        try worker.follow(try Samples.ledger(spec, [.baseManifest(Samples.base)]))
        if tolerance == nil {
            guard case .failed? = worker.exit else {
                Issue.record("it goes on: \(String(describing: worker.exit))")
                return
            }
        } else {
            #expect(worker.exit == nil)
            #expect(worker.notices.contains { if case .warning(let text) = $0 { text.contains("guard") } else { false } })
        }
    }

    @Test("A time box ends a share once, and the finished samples are sent")
    func timeBox() throws {
        var worker = Harness()
        try worker.follow(try aheadLedger(staleness: 0, roundSeconds: 0.3))
        worker.commit(2, Samples.admission(1))
        worker.holdsCompute = true
        worker.tell(.received(.open(opening(0, first: 0))))
        worker.now = worker.now.advanced(bySeconds: 0.2)
        worker.tell(.tick)
        #expect(worker.timeBoxesEnded == 0)
        for _ in 0..<2 {
            worker.now = worker.now.advanced(bySeconds: 0.15)
            worker.tell(.tick)
        }
        #expect(worker.timeBoxesEnded == 1 && worker.abandons == 0)
        worker.tell(.performed(.computed(bytes: [3], statistics: SampleStatistics(meanLoss: 1, seconds: 0.3))))
        #expect(worker.contributions.map(\.contribution.bytes) == [[3]])
    }

    @Test("A worker that is asked to stop in the middle of a share sends what it has, then says goodbye")
    func stopsGracefully() throws {
        var worker = Harness()
        try worker.follow(try ledger())
        worker.commit(2, Samples.admission(1))
        worker.holdsCompute = true
        worker.tell(.received(.open(opening(0, first: 0))))
        worker.tell(.stopRequested)
        #expect(worker.abandons == 1 && worker.exit == nil)
        worker.tell(.performed(.computed(bytes: [3, 3], statistics: SampleStatistics(meanLoss: 1, seconds: 0.1))))
        #expect(worker.contributions.map(\.contribution.bytes) == [[3, 3]])
        guard case .goodbye? = worker.sent.last else {
            Issue.record("no goodbye after the bytes")
            return
        }
        #expect(worker.exit == .stopped)
    }

    @Test("A sample that does not end does not keep a worker from stopping")
    func stopsAnyway() throws {
        var worker = Harness()
        try worker.follow(try ledger())
        worker.commit(2, Samples.admission(1))
        worker.holdsCompute = true
        worker.tell(.received(.open(opening(0, first: 0))))
        worker.tell(.stopRequested)
        worker.now = worker.now.advanced(bySeconds: 6)
        worker.tell(.tick)
        #expect(worker.exit == .stopped && worker.contributions.isEmpty)
    }

    @Test("A joiner applies all rounds that it has missed together, and then those that came in the meantime")
    func catchUp() throws {
        var worker = Harness()
        let rounds = (0..<300).map { Samples.round(UInt32($0), [(9, UInt32($0), [1])]) }
        try worker.follow(try ledger([Samples.admission(9)] + rounds))
        let applied = worker.tasks.compactMap { if case .apply(let changes, _) = $0 { changes.count } else { nil } }
        #expect(applied == [256, 44])
        #expect(worker.reports.map(\.round) == [300])
    }

    /// Returns a history of 300 rounds, and the snapshot that a worker takes of it after 200.
    private func snapshotAndLedger() throws -> (SnapshotPosition, [UInt8]) {
        let rounds = (0..<300).map { Samples.round(UInt32($0), [(9, UInt32($0), [1])]) }
        let ledger = try ledger([Samples.admission(9)] + rounds)
        let position = try #require(try Samples.entries(of: ledger).first { $0.record == rounds[199] }).position
        return (SnapshotPosition(run: try Samples.spec().digest(), nextRound: 200, ledger: position), ledger)
    }

    @Test("With a snapshot only later rounds are replayed")
    func goesOnFromSnapshot() throws {
        let (snapshot, ledger) = try snapshotAndLedger()
        var worker = Harness(snapshots: [snapshot])
        try worker.follow(ledger)
        #expect(worker.tasks.contains(.restore(snapshot)))
        let applied = worker.tasks.compactMap { if case .apply(let changes, _) = $0 { changes.count } else { nil } }
        #expect(applied == [100])
        #expect(worker.reports.map(\.round) == [300])
        #expect(worker.notices.contains(.restored(round: 200)))
    }

    @Test("With momentum no snapshot is used or taken, because none holds velocities")
    func momentumNeedsTheLedger() throws {
        var spec = Samples.spec()
        spec.train = ["adapter:final"]
        spec.momentum = 0.9
        let rounds = (0..<300).map { Samples.round(UInt32($0), [(9, UInt32($0), [1])]) }
        let ledger = try Samples.ledger(spec, [.baseManifest(Samples.base), Samples.admission(9)] + rounds)
        let position = try #require(try Samples.entries(of: ledger).first { $0.record == rounds[199] }).position
        let snapshot = SnapshotPosition(run: try spec.digest(), nextRound: 200, ledger: position)
        var worker = Harness(snapshots: [snapshot], snapshotSeconds: 1)
        try worker.follow(ledger)
        #expect(!worker.tasks.contains(.restore(snapshot)))
        let applied = worker.tasks.compactMap { if case .apply(let changes, _) = $0 { changes.count } else { nil } }
        #expect(applied == [256, 44])
        #expect(worker.reports.map(\.round) == [300])
        #expect(!worker.tasks.contains { if case .snapshot = $0 { true } else { false } })
        #expect(worker.notices.count { if case .warning = $0 { true } else { false } } == 1)
    }

    @Test("A snapshot of another history, or a damaged one, is skipped with a warning", arguments: [true, false])
    func badSnapshot(isDamaged: Bool) throws {
        let (snapshot, ledger) = try snapshotAndLedger()
        let other = SnapshotPosition(
            run: snapshot.run, nextRound: 200, ledger: LedgerPosition(records: snapshot.records, offset: 0, chain: .sha256([1])))
        let tooNew = SnapshotPosition(
            run: snapshot.run, nextRound: 500, ledger: LedgerPosition(records: 900, offset: 0, chain: snapshot.chain))
        var worker = Harness(snapshots: isDamaged ? [snapshot] : [other, tooNew])
        worker.restoreFailure = "its checksum is wrong"
        try worker.follow(ledger)
        #expect(worker.tasks.contains(.restore(snapshot)) == isDamaged)
        let applied = worker.tasks.compactMap { if case .apply(let changes, _) = $0 { changes.count } else { nil } }
        #expect(applied == [256, 44])
        #expect(worker.notices.count { if case .warning = $0 { true } else { false } } == (isDamaged ? 1 : 2))
    }

    @Test("Snapshots are taken after digests, at positions that are known whole")
    func takesSnapshots() throws {
        var worker = Harness(snapshotSeconds: 10)
        try worker.follow(try ledger([Samples.admission(9), Samples.round(0, [(9, 0, [1])])]))
        guard case .snapshot(let position, let round)? = worker.tasks.last(where: { if case .snapshot = $0 { true } else { false } }) else {
            Issue.record("no snapshot")
            return
        }
        #expect(round == 1 && position == worker.machine.wholePosition)
    }

    @Test("A catch-up reports how long it will take, and if it will never end, what to do")
    func catchUpProgress() throws {
        var worker = Harness()
        let rounds = (0..<2000).map { Samples.round(UInt32($0), [(9, UInt32($0), [1])]) }
        worker.holdsApply = true
        try worker.follow(try ledger([Samples.admission(9)] + rounds))
        for _ in 0..<4 {
            worker.now = worker.now.advanced(bySeconds: 3)
            worker.tell(.performed(.applied))
        }
        let seconds = worker.notices.compactMap { if case .catchingUp(_, let seconds) = $0 { seconds } else { nil } }
        #expect(seconds.count >= 2)
        #expect(zip(seconds, seconds.dropFirst()).allSatisfy { $0 > $1 })
        // Now more rounds come than it applies.
        for i in 0..<30 {
            for j in 0..<300 {
                let number = UInt32(2000 + i * 300 + j)
                worker.commit(UInt64(2003 + i * 300 + j), Samples.round(number, [(9, number, [1])]))
            }
            worker.now = worker.now.advanced(bySeconds: 3)
            worker.tell(.performed(.applied))
        }
        let warnings = worker.notices.compactMap { if case .warning(let text) = $0, text.contains("bootstrap") { text } else { nil } }
        #expect(warnings.count == 1)
    }

    @Test("A gap in the records is fetched")
    func gap() throws {
        var worker = Harness()
        let short = try ledger([Samples.admission(1)])
        let long = try ledger([Samples.admission(1), Samples.round(0, [(1, 0, [1])]), Samples.round(1, [(1, 1, [1])])])
        try worker.follow(short)
        worker.commit(4, Samples.round(1, [(1, 1, [1])]), opening: opening(2, first: 2))
        #expect(worker.fetches.last?.offset == UInt64(short.count))
        worker.tell(.received(.chunk(LedgerChunk(offset: UInt64(short.count), bytes: Array(long[short.count...])))))
        #expect(worker.contributions.map(\.round) == [2])
    }

    @Test("Work that nobody waits for is abandoned, and its bytes are not sent")
    func abandon() throws {
        var worker = Harness()
        try worker.follow(try ledger([Samples.admission(1), Samples.admission(2)]))
        worker.holdsCompute = true
        worker.tell(.received(.open(opening(0, first: 0))))
        worker.commit(4, Samples.round(0, [(2, 0, [1])]), opening: opening(1, first: 4))
        #expect(worker.abandons > 0)
        worker.holdsCompute = false
        worker.tell(.performed(.computed(bytes: [1], statistics: SampleStatistics(meanLoss: 1, seconds: 1))))
        #expect(worker.contributions.map(\.round) == [1])
    }

    @Test("A worker that is told to rebuild starts from the base, replays, and proves itself again, once for each order")
    func rebuild() throws {
        var worker = Harness()
        try worker.follow(try ledger([Samples.admission(1), Samples.round(0, [(1, 0, [1])])]))
        worker.tasks = []
        worker.tell(.received(.rebuild(order: 1)))
        worker.tell(.received(.rebuild(order: 1)))
        #expect(worker.tasks.count == 3 && worker.tasks.first == .reset && worker.tasks.last == .digest(position: 4))
        #expect(worker.reports.last?.rebuilds == 1)
    }

    @Test("A base that is not the run's ends the worker, with the tensor's name")
    func otherBase() throws {
        var worker = Harness()
        let other = BaseManifest(entries: [.init(name: "c", shape: .vector(1), digest: .sha256([3]))])!
        try worker.follow(try Samples.ledger(Samples.spec(), [.baseManifest(other)]))
        guard case .refused(let refusal)? = worker.exit else {
            Issue.record("it went on")
            return
        }
        #expect(refusal.code == .otherBase && refusal.details.contains("c is missing"))
    }

    @Test("Damaged chunks are fetched again, and given up after a few")
    func damagedChunks() throws {
        var worker = Harness()
        let bytes = try ledger()
        var damaged = bytes
        damaged[100] ^= 1
        try worker.follow(bytes, as: damaged)
        #expect(worker.exit == nil)
        worker.tell(.received(.chunk(LedgerChunk(offset: UInt64(LedgerFormat.headerBytes), bytes: Array(bytes[LedgerFormat.headerBytes...])))))
        #expect(worker.reports.count == 1)
    }

    @Test("A worker says hello with growing pauses and gives up after its patience")
    func silence() {
        var worker = Harness()
        for _ in 0..<700 {
            worker.now = worker.now.advanced(bySeconds: 0.1)
            worker.tell(.tick)
        }
        #expect(worker.sent.count { if case .hello = $0 { true } else { false } } == 7)
        guard case .coordinatorLost? = worker.exit else {
            Issue.record("\(String(describing: worker.exit))")
            return
        }
    }

    @Test("An evaluator measures the base, then the newest round that is due")
    func evaluations() throws {
        var worker = Harness(evaluates: true)
        let rounds = (0..<10).map { Samples.round(UInt32($0), [(9, UInt32($0), [1])]) }
        try worker.follow(try ledger([Samples.admission(9), Samples.admission(1, trains: false)] + rounds))
        let measured = worker.tasks.compactMap { if case .evaluate(let round, _) = $0 { round } else { nil } }
        #expect(measured == [0, 10])
    }

    @Test("An evaluator that is told to rebuild reports nothing about wrong parameters and measures the rebuilt ones")
    func rebuildDuringEvaluation() throws {
        var worker = Harness(evaluates: true)
        let rounds = (0..<4).map { Samples.round(UInt32($0), [(9, UInt32($0), [1])]) }
        try worker.follow(try ledger([Samples.admission(9), Samples.admission(1, trains: false)] + rounds.dropLast()))
        worker.holdsEvaluations = true
        worker.commit(UInt64(7), rounds[3])
        #expect(worker.tasks.last == .evaluate(round: 4, position: 8))
        let before = worker.evaluations.count
        worker.tell(.received(.rebuild(order: 1)))
        // Only samples can be abandoned.
        #expect(worker.abandons == 0)
        worker.holdsEvaluations = false
        worker.tell(
            .performed(.evaluated(EvaluationReport(round: 4, examples: 1, loss: 7, accuracy: 1, bestThresholdAccuracy: 1, auc: 1, seconds: 1))))
        #expect(worker.tasks.contains(.reset))
        let after = worker.evaluations.dropFirst(before)
        #expect(after.map(\.position) == [8] && after.allSatisfy { $0.loss == 1 })
    }

    @Test("A worker that was stopped for longer than its patience goes on, because the silence was its own")
    func ownPause() {
        var worker = Harness()
        worker.tell(.tick)
        worker.now = worker.now.advanced(bySeconds: 1000)
        worker.tell(.tick)
        #expect(worker.exit == nil)
    }

    // MARK: What leaves the host

    private static let privateSpec: RunSpec = {
        var spec = Samples.spec()
        spec.privacy = Privacy(clip: 1, noiseMultiplier: 4, epsilon: 8, delta: 1e-5)
        return spec
    }()

    @Test("What a worker failed at stays on its host, for it may quote private data")
    func failureText() throws {
        var harness = Harness()
        try harness.follow(Samples.ledger(Samples.spec(), []))
        let failure = ProcessFailure(.badData, "mine.jsonl:7: the label \"secret\" has no word")
        harness.tell(.failed(failure))
        let goodbyes = harness.sent.compactMap { if case .goodbye(let goodbye) = $0 { goodbye } else { nil } }
        #expect(goodbyes == [Goodbye(reason: "this worker can't take part; its own log says why")])
        #expect(harness.exit == .failed(failure))
    }

    @Test("A private worker tells the progress of its cache in whole hundredths, another one exactly")
    func coarseProgress() throws {
        for (spec, told) in [(Self.privateSpec, [0.99, 1]), (Samples.spec(), [0.9951, 1])] {
            var harness = Harness()
            try harness.follow(Samples.ledger(spec, []))
            var found: [Double] = []
            for part in [0.9951, 1] {
                harness.tell(.progressed(part))
                harness.beat()
                found += harness.sent.reversed().lazy.compactMap { if case .status(let status) = $0 { status.progress } else { nil } }.prefix(1)
            }
            #expect(found == told)
        }
    }
}
