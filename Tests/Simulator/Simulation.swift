import Core
import TestSupport

/// A whole cluster in one process: the product's own state machines over a network, a disk, clocks and crashes that a seed decides. The same seed
/// gives the same run, event by event.
package final class Simulation {
    /// The conditions that a seed chooses.
    package struct World {
        package var spec: RunSpec
        package var workers: Int
        package var evaluators: Int
        /// Probability that a frame is lost.
        package var dropProbability: Double
        package var duplicateProbability: Double
        package var delaySeconds: ClosedRange<Double>
        package var fsyncSeconds: ClosedRange<Double>
        package var computeSeconds: ClosedRange<Double>
        /// Mean number of seconds between two faults.
        package var faultEverySeconds: Double
        /// The time from which nothing more breaks. The run must then end.
        package var calmAfterSeconds: Double
        package var operators: Bool
        /// Links of some workers. The frames of all others take `delaySeconds`, however long they are.
        package var links: [Int: ThinLink] = [:]
        /// Start times of workers that do not start at the beginning.
        package var startSeconds: [Int: Double] = [:]
        package var base = Samples.base
        package var basis: [UInt8]?
        /// Number of relays. Workers are behind them in turn.
        package var relays = 0
        /// Whether some workers are behind no relay.
        package var isPartlyDirect = true

        package init(
            spec: RunSpec, workers: Int, evaluators: Int, dropProbability: Double, duplicateProbability: Double,
            delaySeconds: ClosedRange<Double>, fsyncSeconds: ClosedRange<Double>, computeSeconds: ClosedRange<Double>, faultEverySeconds: Double,
            calmAfterSeconds: Double, operators: Bool, links: [Int: ThinLink] = [:], base: BaseManifest = Samples.base, relays: Int = 0,
            isPartlyDirect: Bool = true
        ) {
            self.spec = spec
            self.workers = workers
            self.evaluators = evaluators
            self.dropProbability = dropProbability
            self.duplicateProbability = duplicateProbability
            self.delaySeconds = delaySeconds
            self.fsyncSeconds = fsyncSeconds
            self.computeSeconds = computeSeconds
            self.faultEverySeconds = faultEverySeconds
            self.calmAfterSeconds = calmAfterSeconds
            self.operators = operators
            self.links = links
            self.base = base
            self.relays = relays
            self.isPartlyDirect = isPartlyDirect
        }
    }

    /// Defects put into the harness on purpose, to check that the invariants notice them.
    package enum Bug: CaseIterable {
        /// A record is announced as durable before it is on disk.
        case skipFsync
        /// A round is applied twice.
        case applyTwice
        /// A round is not applied.
        case applyNever
        /// A contribution's byte changes on its way.
        case changeByte
        /// The ledger is replaced by an older copy when the coordinator restarts, so that machine and round numbers are given out again.
        case restoreOldLedger
        /// A restarted coordinator gives out the number of the newest machine again.
        case reuseMachineNumber
        /// A worker leaves out contributions of machines that have departed since.
        case forgetDeparted
    }

    package struct Failure: Error, CustomStringConvertible {
        package let description: String
        package init(description: String) { self.description = description }
    }

    package indirect enum Event {
        case tickCoordinator(life: Int)
        case tickWorker(Int, life: Int)
        case toCoordinator([UInt8], from: PeerID)
        case toWorker([UInt8], PeerID)
        case synced(life: Int)
        case worked(Int, life: Int, task: Int)
        case restartCoordinator
        case startWorker(Int)
        case resumeCoordinator
        case resumeWorker(Int)
        case heal(Int)
        case diskHealed
        case fault
        /// A frame that crosses a worker's link. A cut in the meantime loses it.
        case overLink(Event, worker: Int, epoch: Int)
        case cutLink(Int, seconds: Double, isNoticed: Bool)
        case mendLink(Int)
        case crashCoordinator
        case startRelay(Int)
        case tickRelay(Int, life: Int)
        /// The time until which a relay gathers frames is over.
        case relayIsDue(Int, life: Int)
        case toRelay([UInt8], relay: Int, from: PeerID)
        case fromCoordinator([UInt8], toRelay: PeerID)
    }

    package var random: SeededRandom
    package let world: World
    package let bug: Bug?
    private let toy: SimulatedWorker.Toy
    package private(set) var now: UInt64 = 1_700_000_000_000_000_000
    private let start: UInt64 = 1_700_000_000_000_000_000
    private var queue = EventQueue<Event>()
    package private(set) var trace: [String] = []
    package var keepsTrace = false

    // The coordinator and its disk
    package private(set) var coordinator: CoordinatorStateMachine?
    private var coordinatorLife = 0
    private var isCoordinatorPaused = false
    private var heldForCoordinator: [Event] = []
    package private(set) var disk: [UInt8] = []
    /// Number of the disk's bytes that survive a crash; fewer than all only with `skipFsync`.
    private var syncedBytes = 0
    private var writing: [UInt8]?
    private var diskFails = false
    package private(set) var outcome: RunFinish?

    package var workers: [SimulatedWorker] = []
    package var relays: [SimulatedRelay] = []
    /// Bytes between the coordinator and workers behind no relay, with the headers of ZMTP, CURVE, TCP and IP.
    package private(set) var directBytes = (up: 0, down: 0)
    /// The coordinator's edge towards relays.
    package var edge = CoordinatorRelays(secret: 0, frameBytes: ProtocolLimits.frameBytes)
    package var lines: [Int: LinkLine] = [:]
    package var partitioned: Set<Int> = []

    // What the invariants remember
    private var digestAt: [UInt64: Digest] = [:]
    private var produced: [SampleName: [(q: Int8, scale: Int8)]] = [:]
    private var committed: Set<SampleName> = []
    private var admitted: Set<MachineID> = []
    private var departed: Set<MachineID> = []
    private var checkedRecords: UInt64 = 0
    private var auditor = LedgerDecoder()
    private var audited = 0
    private var flips = 0
    package var statistics = Statistics()

    package struct Statistics {
        package var faults = 0
        package var rounds = 0
        package var coordinatorCrashes = 0
        package var workerCrashes = 0
        package var tornTails = 0
        package var rebuilds = 0
        package var restores = 0
        package var relayCrashes = 0
        /// Workers that noticed that their bytes were changed.
        package var changesSeen = 0
        package var late = 0
        package var events = 0
        package var seconds = 0.0
        package init() {}
    }

    package convenience init(seed: UInt64, bug: Bug? = nil) throws {
        var random = SeededRandom(seed: seed)
        var world = Self.world(&random)
        if seed % 4 == 3 {
            world.spec.train = [RunSpec.adapterPrefix + "all"]
            world.spec.momentum = 0.9
        }
        if seed % 8 == 2 || seed % 8 == 5 { world.relays = 1 + Int(seed / 8 % 2) }
        if seed % 8 == 6 { world.links = Self.thinLinks(seed: seed, workers: world.workers + world.evaluators) }
        try self.init(seed: seed, world: world, bug: bug, random: random)
    }

    package init(seed: UInt64, world: World, bug: Bug? = nil, random: SeededRandom? = nil) throws {
        self.random = random ?? SeededRandom(seed: seed)
        self.bug = bug
        self.world = world
        toy = try SimulatedWorker.Toy(adapters: seed % 2 == 1, momentum: world.spec.momentum)
        let canonical = try world.spec.canonicalBytes()
        disk = LedgerFormat.header(specDigest: .sha256(canonical))
        disk += LedgerFormat.start(header: disk).appending(.spec(canonical)).bytes
        if let basis = world.basis {
            let position = try Samples.summary(of: disk).position
            disk += position.appending(.basis(basis)).bytes
        }
        syncedBytes = disk.count
        try startCoordinator()
        for index in 0..<world.relays {
            relays.append(SimulatedRelay(index: index))
            try startRelay(index)
        }
        for index in 0..<world.workers + world.evaluators {
            workers.append(SimulatedWorker(toy: toy, index: index, trains: index < world.workers))
            let start = Double.random(in: 0...3, using: &self.random)
            schedule(.startWorker(index), after: world.startSeconds[index] ?? start)
        }
        schedule(.fault, after: Double.random(in: 0...2 * world.faultEverySeconds, using: &self.random))
    }

    private static func world(_ random: inout SeededRandom) -> World {
        let workers = Int.random(in: 1...5, using: &random)
        let isRough = random.chance(0.7)
        let slow = random.chance(0.5)
        let evaluators = random.chance(0.4) ? 1 : 0
        let rounds = Int.random(in: 5...30, using: &random)
        let evaluateEvery = Int.random(in: 0...6, using: &random)
        let isSteered = evaluators > 0 && evaluateEvery > 0 && random.chance(0.6)
        let steering = Steering(
            trialRounds: random.chance(0.3) ? Int.random(in: 1...4, using: &random) : nil,
            guardTolerance: random.chance(0.6) ? Double.random(in: 0.2...0.9, using: &random) : nil,
            patience: random.chance(0.4) ? Int.random(in: 1...4, using: &random) : nil)
        let spec = Samples.spec(
            rounds: rounds, samplesPerRound: Int.random(in: 1...12, using: &random),
            minimumWorkers: Int.random(in: 1...workers, using: &random), digestEvery: Int.random(in: 0...5, using: &random),
            evaluateEvery: evaluateEvery,
            roundDeadlineFactor: random.chance(0.4) ? Double.random(in: 1.5...4, using: &random) : 0,
            staleness: Int.random(in: 0...2, using: &random),
            roundSeconds: random.chance(0.25) ? Double.random(in: 0.05...0.6, using: &random) : nil,
            steering: isSteered ? steering : nil)
        return World(
            spec: spec, workers: workers, evaluators: evaluators,
            dropProbability: isRough ? Double.random(in: 0...0.15, using: &random) : 0,
            duplicateProbability: isRough ? Double.random(in: 0...0.1, using: &random) : 0,
            delaySeconds: 0.001...(isRough ? Double.random(in: 0.002...0.8, using: &random) : 0.002),
            fsyncSeconds: 0.0005...(random.chance(0.2) ? 2 : 0.01),
            computeSeconds: 0.01...(slow ? 1.5 : 0.1),
            faultEverySeconds: Double.random(in: 1...12, using: &random),
            calmAfterSeconds: Double.random(in: 10...60, using: &random), operators: random.chance(0.3))
    }

    // MARK: Running

    /// Runs to the end. Throws if an invariant breaks or the run does not end.
    package func run() throws {
        let limit = world.calmAfterSeconds + 1500
        while outcome == nil || workers.contains(where: { $0.machine != nil && !$0.isPaused }) {
            guard let (time, event) = queue.pop() else { throw Failure(description: "nothing left to happen") }
            now = time
            statistics.events += 1
            statistics.seconds = seconds
            guard seconds < limit else { throw Failure(description: "the run did not end in \(Int(limit)) s: \(describe())") }
            try handle(event)
        }
        try checkEnd()
    }

    package var seconds: Double { Double(now - start) / 1e9 }
    private var isCalm: Bool { seconds > world.calmAfterSeconds }
    package var timestamp: Timestamp { Timestamp(nanoseconds: now) }

    package func schedule(_ event: Event, after delay: Double) {
        queue.push(event, at: now + UInt64(max(delay, 0) * 1e9))
    }

    package func say(_ line: @autoclosure () -> String) {
        if keepsTrace { trace.append("\(String(Int(seconds * 1000))) ms  \(line())") }
    }

    /// Describes the inner state of a state machine, for the trace of a seed that does not end.
    private func inside(_ value: Any, _ names: Set<String>) -> String {
        Mirror(reflecting: value).children.filter { names.contains($0.label ?? "") }
            .map { "\($0.label ?? ""): \($0.value)" }.joined(separator: "\n    ")
    }

    private func describe() -> String {
        if let coordinator {
            say(
                "coordinator holds\n    "
                    + inside(coordinator, ["phase", "round", "check", "references", "wantsCheck", "pending", "peers", "hasBegun"]))
        }
        for worker in workers {
            guard let machine = worker.machine else { continue }
            say(
                "worker \(worker.index) holds\n    "
                    + inside(
                        machine,
                        [
                            "welcome", "target", "machine", "inHand", "steps", "opening", "answered", "mustProve", "mustReset", "fetching",
                            "lastDigest",
                        ]))
        }
        let states = workers.map {
            "worker \($0.index): \($0.machine == nil ? "gone" : $0.isPaused ? "paused" : "up") records \($0.machine?.records ?? 0)"
        }
        return "coordinator \(coordinator == nil ? "down" : "up"), next round \(coordinator?.ledger.nextRound ?? 0) of "
            + "\(world.spec.rounds), trainers \(coordinator?.activeTrainers ?? []); \(states.joined(separator: ", "))"
    }

    private func handle(_ event: Event) throws {
        switch event {
        case .tickCoordinator(let life):
            guard life == coordinatorLife, coordinator != nil else { return }
            schedule(event, after: 0.1)
            if !isCoordinatorPaused { try tellCoordinator(.tick) }
        case .tickWorker(let index, let life):
            guard workers[index].life == life, workers[index].machine != nil else { return }
            schedule(event, after: 0.1)
            if !workers[index].isPaused { try tellWorker(index, .tick) }
        case .toCoordinator(let frame, let id):
            guard coordinator != nil else { return }
            if isCoordinatorPaused {
                heldForCoordinator.append(event)
            } else {
                do {
                    for (frame, id) in try unpacked(frame, from: id) { try tellCoordinator(.received(try Message(decoding: frame), from: id)) }
                } catch let error as WireError {
                    throw Failure(description: "a frame does not decode: \(error)")
                }
                sendToRelays()
            }
        case .toWorker(let frame, let id):
            guard let index = workers.firstIndex(where: { $0.peer == id && $0.machine != nil }) else { return }
            if workers[index].isPaused {
                workers[index].held.append(frame)
            } else {
                try deliver(frame, to: index)
            }
        case .synced(let life):
            guard life == coordinatorLife, coordinator != nil, let bytes = writing else { return }
            if isCoordinatorPaused {
                heldForCoordinator.append(event)
                return
            }
            writing = nil
            if diskFails {
                try tellCoordinator(.ledgerFailed("no space left on device"))
            } else {
                disk += bytes
                if bug != .skipFsync || random.chance(0.2) { syncedBytes = disk.count }
                try finishAppend()
            }
        case .worked(let index, let life, let task):
            guard workers[index].life == life, workers[index].machine != nil, workers[index].taskNumber == task else { return }
            if workers[index].isPaused {
                workers[index].isWorkDue = true
            } else {
                try finishWork(index)
            }
        case .restartCoordinator: if coordinator == nil, outcome == nil { try startCoordinator() }
        case .startWorker(let index): if workers[index].machine == nil, outcome == nil { try startWorker(index) }
        case .resumeCoordinator:
            isCoordinatorPaused = false
            let held = heldForCoordinator
            heldForCoordinator = []
            for event in held { try handle(event) }
        case .resumeWorker(let index):
            workers[index].isPaused = false
            let held = workers[index].held
            workers[index].held = []
            for frame in held where workers[index].machine != nil { try deliver(frame, to: index) }
            if workers[index].isWorkDue, workers[index].machine != nil {
                workers[index].isWorkDue = false
                try finishWork(index)
            }
        case .heal(let index): partitioned.remove(index)
        case .diskHealed: diskFails = false
        case .fault: try fault()
        case .overLink(let event, let worker, let epoch): if lines[worker]?.epoch == epoch { try handle(event) }
        case .cutLink(let worker, let seconds, let isNoticed): try cutLink(worker, seconds: seconds, isNoticed: isNoticed)
        case .mendLink(let worker): try mendLink(worker)
        case .crashCoordinator: crashCoordinator()
        case .startRelay(let index): try startRelay(index)
        case .tickRelay(let index, let life):
            guard relays[index].life == life, relays[index].machine != nil else { return }
            schedule(event, after: 0.1)
            try tellRelay(index, .tick)
        case .relayIsDue(let index, let life): if relays[index].life == life { try tellRelay(index, .tick) }
        case .toRelay(let frame, let relay, let id): try tellRelay(relay, .worker(frame, from: id))
        case .fromCoordinator(let frame, let peer):
            if let relay = relays.firstIndex(where: { $0.peer == peer }) { try tellRelay(relay, .coordinator(frame)) }
        }
    }

    // MARK: The coordinator

    private func startCoordinator() throws {
        coordinatorLife += 1
        isCoordinatorPaused = false
        heldForCoordinator = []
        // As LedgerFile.open does: whole records are read, a torn tail is cut back, damage is refused.
        var decoder = LedgerDecoder()
        decoder.push(disk)
        var summary: LedgerSummary?
        do {
            while let entry = try decoder.next() {
                if summary == nil { summary = try LedgerSummary(first: entry) } else { try summary?.fold(entry) }
            }
        } catch {
            guard case .damagedRecord = error else { throw Failure(description: "the ledger breaks its rules: \(error)") }
        }
        guard var summary else { throw Failure(description: "the ledger has no spec") }
        if bug == .reuseMachineNumber, summary.nextMachine > MachineID(1) {
            summary.nextMachine = MachineID(summary.nextMachine.rawValue - 1)
        }
        let end = Int(summary.position.offset)
        if end < disk.count {
            if LedgerFormat.holdsRecord(disk[(end + 1)...]) { throw Failure(description: "a torn tail looks like damage") }
            statistics.tornTails += 1
            disk.removeLast(disk.count - end)
        }
        syncedBytes = disk.count
        try audit()
        coordinator = CoordinatorStateMachine(ledger: summary, at: timestamp)
        edge = CoordinatorRelays(secret: UInt64(coordinatorLife), frameBytes: ProtocolLimits.chunkBytes + ProtocolLimits.frameMarginBytes)
        say("coordinator starts with \(summary.position.records) records, round \(summary.nextRound)")
        schedule(.tickCoordinator(life: coordinatorLife), after: 0.05)
    }

    private func crashCoordinator() {
        guard coordinator != nil else { return }
        coordinator = nil
        statistics.coordinatorCrashes += 1
        say("coordinator crashes")
        if syncedBytes < disk.count { disk.removeLast(disk.count - syncedBytes) }
        if let bytes = writing {
            // Any part of an append that was not synced may have reached the disk.
            disk += bytes.prefix(Int.random(in: 0...bytes.count, using: &random))
            writing = nil
        }
        if bug == .restoreOldLedger, let entries = try? Samples.entries(of: disk), entries.count > 4 {
            disk = Array(disk.prefix(Int(entries[entries.count - 3].offset)))
        }
        schedule(.restartCoordinator, after: Double.random(in: 0.05...8, using: &random))
    }

    private func tellCoordinator(_ event: CoordinatorEvent) throws {
        guard let effects = coordinator?.handle(event, at: timestamp) else { return }
        var reads: [PeerID] = []
        for effect in effects {
            switch effect {
            case .send(let message, let peers):
                try checkHonest(message)
                let frame = message.encoded()
                send(frame, to: peers)
            case .append(let record, _):
                guard writing == nil else { throw Failure(description: "two appends at a time") }
                writing = record
                schedule(.synced(life: coordinatorLife), after: Double.random(in: world.fsyncSeconds, using: &random))
            case .readLedger(let read):
                guard Int(read.offset) <= disk.count else {
                    throw Failure(description: "the ledger is read from byte \(read.offset) on, \(disk.count) are on disk")
                }
                let bytes = disk[Int(read.offset)...].prefix(read.count)
                let frame = Message.chunk(read.chunk(of: Array(bytes), total: UInt64(disk.count))).encoded()
                send(frame, to: [read.peer])
                reads.append(read.peer)
            case .disconnect(let peer): _ = edge.forget(peer)
            case .notice(let notice):
                say("coordinator: \(notice)")
                switch notice {
                case .warning(let text) where text.contains("not written"): throw Failure(description: text)
                case .rebuilding: statistics.rebuilds += 1
                case .late: statistics.late += 1
                default: break
                }
            case .finished(let finish):
                say("coordinator finished: \(finish)")
                coordinator = nil
                switch finish.outcome {
                case .completed: outcome = finish
                case .stopped:
                    coordinatorLife += 1
                    writing = nil
                    schedule(.restartCoordinator, after: Double.random(in: 0.05...5, using: &random))
                case .failed: throw Failure(description: "the coordinator gave up: \(finish.message)")
                }
                return
            }
        }
        for peer in reads { try tellCoordinator(.ledgerRead(for: peer)) }
        sendToRelays()
    }

    private func send(_ frame: [UInt8], to peers: [PeerID]) {
        for peer in edge.send(frame, to: peers) { transmit(frame, .toWorker(frame, peer), worker: workers.firstIndex { $0.peer == peer }) }
    }

    private func finishAppend() throws {
        try checkRecords()
        let records = (coordinator?.durableRecords ?? 0) + 1
        try tellCoordinator(.ledgerDurable(records: records))
    }

    // MARK: The network

    package func transmit(_ frame: [UInt8], _ event: Event, worker: Int?) {
        guard let worker, !partitioned.contains(worker) else { return }
        if relay(of: worker) == nil {
            let bytes = ThinLink.cost(of: frame.count).bytes
            if case .toWorker = event { directBytes.down += bytes } else { directBytes.up += bytes }
        }
        if let arrival = arrival(of: frame, event, worker: worker) {
            schedule(.overLink(event, worker: worker, epoch: lines[worker]?.epoch ?? 0), after: arrival)
            return
        }
        transmit(event)
    }

    package func transmit(_ event: Event) {
        let isRough = !isCalm
        if isRough, random.chance(world.dropProbability) { return }
        schedule(event, after: Double.random(in: world.delaySeconds, using: &random))
        if isRough, random.chance(world.duplicateProbability) {
            schedule(event, after: Double.random(in: world.delaySeconds, using: &random) * 4)
        }
    }

    // MARK: Workers

    private func startWorker(_ index: Int) throws {
        workers[index].life += 1
        let life = workers[index].life
        // Sometimes the same routing id comes back with another process behind it.
        if life == 1 || random.chance(0.5) { workers[index].peer = PeerID([1, UInt8(index), UInt8(truncatingIfNeeded: life)]) }
        let configuration = WorkerConfiguration(
            session: SessionToken(bytes: random.bytes(16))!, name: "w\(index)", trains: workers[index].trains,
            evaluates: !workers[index].trains, software: "test", patienceSeconds: 300,
            snapshots: Array(workers[index].snapshots.keys), snapshotSeconds: index % 2 == 0 ? 1 : nil)
        workers[index].reset()
        workers[index].machine = WorkerStateMachine(configuration)
        say("worker \(index) starts, life \(life)")
        try tellWorker(index, .started)
        schedule(.tickWorker(index, life: life), after: Double.random(in: 0...0.1, using: &random))
    }

    private func crashWorker(_ index: Int) {
        guard workers[index].machine != nil else { return }
        say("worker \(index) crashes")
        statistics.workerCrashes += 1
        workers[index].machine = nil
        workers[index].isPaused = false
        schedule(.startWorker(index), after: Double.random(in: 0.05...15, using: &random))
    }

    private func deliver(_ frame: [UInt8], to index: Int) throws {
        do {
            try tellWorker(index, .received(try Message(decoding: frame)))
        } catch let error as WireError {
            throw Failure(description: "a frame does not decode: \(error)")
        }
    }

    package func tellWorker(_ index: Int, _ event: WorkerEvent) throws {
        guard let effects = workers[index].machine?.handle(event, at: timestamp) else { return }
        for effect in effects {
            switch effect {
            case .send(let message):
                var message = message
                if bug == .changeByte, case .contribution(let sent) = message, random.chance(0.05) {
                    var bytes = sent.contribution.bytes
                    bytes[0] = bytes[0] == 5 ? 6 : 5
                    message = .contribution(
                        WireContribution(
                            round: sent.round, scaleExponent: sent.scaleExponent,
                            contribution: Contribution(
                                machine: sent.contribution.machine, firstSample: sent.contribution.firstSample, bytes: bytes)))
                }
                let frame = message.encoded()
                let peer = workers[index].peer
                let relay = self.relay(of: index)
                let event: Event = if let relay { .toRelay(frame, relay: relay, from: peer) } else { .toCoordinator(frame, from: peer) }
                transmit(frame, event, worker: index)
            case .perform(let task):
                guard workers[index].task == nil else { throw Failure(description: "worker \(index) has two tasks in hand") }
                workers[index].task = task
                workers[index].taskNumber += 1
                workers[index].isAbandoned = false
                let seconds: Double =
                    switch task {
                    case .compute, .evaluate: Double.random(in: world.computeSeconds, using: &random)
                    case .hashBase, .prepare: Double.random(in: 0.01...3, using: &random)
                    case .apply(let changes, _): 0.001 * Double(changes.count)
                    case .digest, .reset, .snapshot, .restore: 0.005
                    }
                schedule(.worked(index, life: workers[index].life, task: workers[index].taskNumber), after: seconds)
            case .abandon, .endTimeBox: workers[index].isAbandoned = true
            case .reconnect: if !partitioned.contains(index) { try mendLink(index) }
            case .notice(let notice):
                say("worker \(index): \(notice)")
                if case .warning(let text) = notice, text.contains("other bytes") {
                    guard bug == .changeByte else { throw Failure(description: "worker \(index): \(text)") }
                    statistics.changesSeen += 1
                }
            case .finish(let exit):
                say("worker \(index) ends: \(exit)")
                workers[index].machine = nil
                workers[index].exits.append(exit)
                switch exit {
                case .completed(let digest):
                    if let digest { workers[index].finalDigest = digest }
                case .failed(let reason): throw Failure(description: "worker \(index) failed: \(reason)")
                case .refused(let refusal) where refusal.code != .diverged && bug == nil:
                    throw Failure(description: "worker \(index) was refused: \(refusal)")
                case .stopped, .refused, .coordinatorLost:
                    schedule(.startWorker(index), after: Double.random(in: 0.05...5, using: &random))
                }
                return
            }
        }
    }

    private func finishWork(_ index: Int) throws {
        guard let task = workers[index].task else { return }
        workers[index].task = nil
        let result: WorkerResult
        switch task {
        case .hashBase: result = .baseHashed(world.base)
        case .prepare:
            try workers[index].makeParameters()
            result = .prepared
        case .reset:
            try workers[index].makeParameters()
            result = .reset
        case .apply(let changes, let position):
            for change in changes {
                if bug == .applyNever, random.chance(0.02) { continue }
                workers[index].perform(bug == .forgetDeparted ? forgettingDeparted(change) : change)
                if bug == .applyTwice, random.chance(0.02) { workers[index].perform(change) }
            }
            try checkParameters(of: index, at: position, isWhole: changes.count < 256)
            result = .applied
        case .snapshot(let position, let round):
            workers[index].takeSnapshot(at: position, round: round, run: try world.spec.digest())
            result = .snapshotTaken(failure: nil)
        case .restore(let position):
            let failure = workers[index].restore(position)
            if failure == nil { statistics.restores += 1 }
            result = .restored(failure: failure)
        case .digest(_, let nonce):
            let digest = workers[index].parameters!.digest()
            result = .digested(digest, largestMagnitude: 0, proof: nonce.map { $0.proof(of: digest) { _ in } })
        case .evaluate(let round, _):
            result = .evaluated(
                EvaluationReport(
                    round: round, examples: 1, loss: 1, accuracy: 1, bestThresholdAccuracy: 1, auc: 1, seconds: 0.1,
                    // The score depends on the parameters alone, as a loss does.
                    validation: .init(
                        examples: 9, loss: 0.5 + Double(workers[index].parameters!.digest().bytes[1]) / 256, accuracy: .nan)))
        case .compute(let order):
            let count = workers[index].isAbandoned ? Int.random(in: 0...Int(order.count), using: &random) : Int(order.count)
            let salt = workers[index].parameters!.digest().bytes[0]
            let bytes = (0..<count).map { offset in
                let name = SampleName(machine: order.machine, sample: order.firstSample + UInt32(offset))
                // As with real losses, the same direction gives another byte at other parameters.
                let hash = Digest.sha256([salt, UInt8(truncatingIfNeeded: name.sample), UInt8(truncatingIfNeeded: name.machine.rawValue)])
                let q = Int8(bitPattern: hash.bytes[0])
                produced[name, default: []].append((q, order.scaleExponent))
                return q
            }
            result = .computed(bytes: bytes, statistics: SampleStatistics(meanLoss: 1, seconds: 0.1))
        }
        try tellWorker(index, .performed(result))
    }

    private func forgettingDeparted(_ change: HistoryChange) -> HistoryChange {
        guard case .apply(let round) = change else { return change }
        return .apply(departed.reduce(round) { $0.removing($1) })
    }

    // MARK: Faults

    private func fault() throws {
        guard !isCalm else {
            // Everything that is still broken is mended.
            partitioned = []
            diskFails = false
            return
        }
        schedule(.fault, after: Double.random(in: 0...2 * world.faultEverySeconds, using: &random))
        statistics.faults += 1
        if !relays.isEmpty, random.chance(0.15) { return try crashRelay(Int.random(in: 0..<relays.count, using: &random)) }
        let index = Int.random(in: 0..<workers.count, using: &random)
        let while_ = Double.random(in: 0.1...20, using: &random)
        switch Int.random(in: 0..<13, using: &random) {
        case 0, 1: crashWorker(index)
        case 2, 3: crashCoordinator()
        case 4:
            say("worker \(index) is cut off for \(while_) s")
            partitioned.insert(index)
            schedule(.heal(index), after: while_)
        case 5:
            if workers[index].machine != nil, !workers[index].isPaused {
                say("worker \(index) is stopped for \(while_) s")
                workers[index].isPaused = true
                schedule(.resumeWorker(index), after: while_)
            }
        case 6:
            if coordinator != nil, !isCoordinatorPaused {
                say("the coordinator is stopped for \(while_) s")
                isCoordinatorPaused = true
                schedule(.resumeCoordinator, after: while_)
            }
        case 7:
            say("the disk is full for \(while_) s")
            diskFails = true
            schedule(.diskHealed, after: while_)
        case 8:
            if workers.count < 8 {
                workers.append(SimulatedWorker(toy: toy, index: workers.count, trains: true))
                schedule(.startWorker(workers.count - 1), after: 0)
            }
        case 9: if workers[index].machine != nil, !workers[index].isPaused { try tellWorker(index, .stopRequested) }
        case 10:
            // A bit of memory flips, but only if another machine can notice.
            if bug == nil {
                workers[index].flipBit(&random)
                flips += 1
            }
        case 11:
            if coordinator != nil, !isCoordinatorPaused { try tellCoordinator(.stopRequested) }
        default:
            guard world.operators, let ledger = coordinator?.ledger, !isCoordinatorPaused else { return }
            if random.chance(0.5) {
                let machine = MachineID(UInt32.random(in: 1...max(1, ledger.nextMachine.rawValue), using: &random))
                try tellCoordinator(.retract(machine, rounds: 0..<UInt32.random(in: 0...ledger.nextRound, using: &random)))
            } else {
                let low = ledger.nextRound > 5 ? ledger.nextRound - 5 : 0
                try tellCoordinator(.rewind(to: UInt32.random(in: low...ledger.nextRound, using: &random), rateShift: -1))
            }
        }
    }

    // MARK: Invariants

    /// Nobody hears of a record that is not on disk.
    private func checkHonest(_ message: Message) throws {
        switch message {
        case .commit(let commit):
            guard commit.index < checkedRecords else {
                throw Failure(description: "record \(commit.index) is announced, \(checkedRecords) are on disk")
            }
        case .pong(let pong):
            guard pong.records <= checkedRecords else { throw Failure(description: "\(pong.records) records are claimed") }
        case .welcome(let welcome):
            guard welcome.ledgerRecords <= checkedRecords, welcome.ledgerBytes <= UInt64(disk.count) else {
                throw Failure(description: "a welcome claims more than is on disk")
            }
        default: break
        }
    }

    /// No two workers have different parameters at the same position of the ledger.
    private func checkParameters(of index: Int, at position: UInt64, isWhole: Bool) throws {
        // A rewind or a retraction makes many changes at one position. Others know only the state after the last.
        guard !workers[index].isCorrupt, isWhole else { return }
        guard workers[index].machine?.records ?? 0 >= position else { return }
        let digest = workers[index].parameters!.digest()
        if let known = digestAt[position], known != digest {
            throw Failure(description: "worker \(index) has other parameters after record \(position) than another had")
        }
        digestAt[position] = digest
    }

    /// Starts reading the disk again, as after a restart.
    private func audit() throws {
        auditor = LedgerDecoder()
        audited = 0
        if bug == .restoreOldLedger { checkedRecords = min(checkedRecords, UInt64(try Samples.entries(of: disk).count)) }
        try checkRecords()
    }

    /// Every sample occurs at most once, with the byte that its machine found. No machine number is given twice, and a departed machine contributes
    /// nothing.
    private func checkRecords() throws {
        guard audited < syncedBytes else { return }
        auditor.push(disk[audited..<syncedBytes])
        audited = syncedBytes
        while let entry = try auditor.next() {
            guard entry.index >= checkedRecords else { continue }
            checkedRecords = entry.index + 1
            switch entry.record {
            case .admission(let admission):
                guard admitted.insert(admission.machine).inserted else {
                    throw Failure(description: "\(admission.machine) is given out twice")
                }
            case .departure(let departure): departed.insert(departure.machine)
            case .round(let round):
                statistics.rounds += 1
                for contribution in round.contributions { try checkContribution(contribution, of: round) }
            default: break
            }
        }
    }

    private func checkContribution(_ contribution: Contribution, of round: RoundRecord) throws {
        guard admitted.contains(contribution.machine), !departed.contains(contribution.machine) else {
            throw Failure(description: "bytes of \(contribution.machine), which is not there")
        }
        for (offset, q) in contribution.bytes.enumerated() {
            let name = SampleName(machine: contribution.machine, sample: contribution.firstSample + UInt32(offset))
            guard committed.insert(name).inserted else { throw Failure(description: "\(name) is committed twice") }
            // After a coordinator's restart the same sample may be tried again, at other parameters or another scale.
            let possible = (produced[name] ?? []).map { made in
                ByteCodec.decode(made.q, scaleExponent: made.scale).map {
                    ByteCodec.encode($0, scaleExponent: round.scaleExponent)
                } ?? made.q
            }
            guard possible.contains(q) else {
                throw Failure(description: "\(name) is committed with \(q), its machine found \(produced[name] ?? [])")
            }
        }
    }

    private func checkEnd() throws {
        let summary = try Samples.summary(of: disk)
        guard summary.isEnded, summary.isTrained else {
            throw Failure(description: "the ledger ends at round \(summary.nextRound) of \(world.spec.rounds)")
        }
        var history = EffectiveHistory()
        for entry in try Samples.entries(of: disk) { _ = try history.fold(entry.record) }
        let replay = try toy.freshParameters()
        replay.apply(history.rounds, directions: toy.directions, threads: 1)
        let digest = replay.digest()
        for worker in workers where worker.finalDigest != nil && !worker.isCorrupt && worker.finalDigest != digest {
            throw Failure(description: "worker \(worker.index) ends with \(worker.finalDigest!.short), the replay with \(digest.short)")
        }
        // A single machine can't know that its memory is wrong.
        if let last = summary.lastDigest, last.position == summary.parameters.records, last.digest != digest,
            flips == 0 || last.machines.count > 1
        {
            throw Failure(description: "the ledger's last digest is not the replay's")
        }
    }
}
