import ClusterNode
import Coordinator
import Core
import Foundation
import Synchronization
import Testing
import Transport
import Worker

/// A coordinator in this test's own process, and everything that it reports.
final class RunningCoordinator: Sendable {
    let process: CoordinatorProcess
    let progress: AsyncStream<CoordinatorProgress.Event>
    private let times = RoundTimes()
    private let outcomeTask: Task<CoordinatorProcess.Outcome, any Error>

    init(_ directory: TestDirectory, spec: RunSpec?, over transport: any ServerTransport) {
        let (progress, continuation) = AsyncStream<CoordinatorProgress.Event>.makeStream()
        self.progress = progress
        let process = CoordinatorProcess(
            configuration: .init(
                transport: transport, runDirectory: directory.path, spec: spec,
                onProgress: { [times] progress in
                    if case .round(let round) = progress.event { times.note(round.round, progress.time) }
                    continuation.yield(progress.event)
                }))
        self.process = process
        outcomeTask = Task {
            defer { continuation.finish() }
            return try await process.run()
        }
    }

    /// Creates a coordinator over TCP.
    convenience init(_ directory: TestDirectory, spec: RunSpec?, access: AccessControl = .open) throws {
        self.init(directory, spec: spec, over: ZeroMQServer(address: try Address("tcp://127.0.0.1:0"), access: access))
    }

    var outcome: CoordinatorProcess.Outcome {
        get async throws { try await outcomeTask.value }
    }

    /// Returns the seconds between the commits of two rounds by the coordinator's own clock, however late a test on a busy host hears of them.
    func seconds(from first: RoundNumber, to last: RoundNumber) -> Double? { times.seconds(from: first, to: last) }

    /// Returns the first result that `match` gives for a coming event. Events before it are lost.
    func next<Value>(_ match: (CoordinatorProgress.Event) -> Value?) async throws -> Value {
        for await event in progress {
            if let value = match(event) { return value }
        }
        // A test whose time is up must not wait for an outcome that may never come.
        try Task.checkCancellation()
        throw Failure("the coordinator ended before what was waited for: \(try await outcome)")
    }

    func listening() async throws -> CoordinatorProgress.Listening {
        try await next { if case .listening(let listening) = $0 { listening } else { nil } }
    }

    func join() async throws -> JoinString {
        try await next { if case .listening(let listening) = $0 { listening } else { nil } }.joinString()
    }

    func round(_ number: RoundNumber) async throws {
        _ = try await next { if case .round(let round) = $0, round.round >= number { true } else { nil } }
    }
}

private final class RoundTimes: Sendable {
    private let times = Mutex<[RoundNumber: Double]>([:])

    func note(_ round: RoundNumber, _ time: Double) { times.withLock { $0[round] = time } }

    func seconds(from first: RoundNumber, to last: RoundNumber) -> Double? {
        times.withLock { times in times[first].flatMap { begin in times[last].map { $0 - begin } } }
    }
}

/// A worker in this test's own process, and everything that it reports.
final class RunningWorker: Sendable {
    let process: WorkerProcess
    let notices: AsyncStream<WorkerProgress>
    private let outcomeTask: Task<WorkerProcess.Outcome, any Error>

    init(
        _ transport: any ClientTransport, expectedRun: Digest? = nil, name: String = "toy", trains: Bool = true, evaluates: Bool = false,
        patienceSeconds: Double = 30, snapshotPath: String? = nil, bootstrap: String? = nil,
        trainer: @escaping @Sendable () throws -> any Trainer = { ToyTrainer() }
    ) {
        let (notices, continuation) = AsyncStream<WorkerProgress>.makeStream()
        self.notices = notices
        let process = WorkerProcess(
            configuration: .init(
                transport: transport, expectedRun: expectedRun, name: name, trains: trains, evaluates: evaluates,
                patienceSeconds: patienceSeconds, snapshotPath: snapshotPath, bootstrap: bootstrap, onProgress: { continuation.yield($0) },
                makeTrainer: trainer))
        self.process = process
        outcomeTask = Task {
            defer { continuation.finish() }
            return try await process.run()
        }
    }

    /// Creates a worker over TCP.
    convenience init(
        _ join: JoinString, name: String = "toy", keys: KeyPair? = nil, patienceSeconds: Double = 30, bootstrap: String? = nil
    ) {
        self.init(
            ZeroMQClient(join, keys: keys), expectedRun: join.run.flatMap(Digest.init(hex:)), name: name, patienceSeconds: patienceSeconds,
            bootstrap: bootstrap)
    }

    var outcome: WorkerProcess.Outcome {
        get async throws { try await outcomeTask.value }
    }

    func next<Value>(_ match: (WorkerProgress) -> Value?) async throws -> Value {
        for await event in notices {
            if let value = match(event) { return value }
        }
        // A test whose time is up must not wait for an outcome that may never come.
        try Task.checkCancellation()
        throw Failure("the worker ended before what was waited for: \(try await outcome)")
    }

    /// The digest of the completed run.
    var finalDigest: Digest? {
        get async throws {
            let outcome = try await outcome
            guard case .completed(let digest) = outcome.exit else { throw Failure("\(outcome)") }
            return digest
        }
    }
}

struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A directory for one test. It is removed with this object.
final class TestDirectory: Sendable {
    let path: String
    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "onebyte-cluster-\(UUID())").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    var ledger: String { RunDirectory(path).ledger }

    struct Replay {
        let digest: Digest
        let loss: Double
        /// Loss of the base model.
        let lossBefore: Double
        let rounds: [RoundRecord]
        let records: [LedgerRecord]
    }

    /// Returns the result of a replay of the ledger alone, and the rounds in it.
    func replay(base: UInt64 = 1) throws -> Replay {
        var reader = try LedgerReader(path: ledger)
        var history = EffectiveHistory()
        var records: [LedgerRecord] = []
        var spec: RunSpec?
        while let entry = try reader.next() {
            records.append(entry.record)
            if case .spec(let bytes) = entry.record { spec = try RunSpec(canonicalBytes: bytes) }
            _ = try history.fold(entry.record)
        }
        let trainer = ToyTrainer(base: base)
        try trainer.prepare(try #require(spec), basis: nil, TaskContext())
        let lossBefore = try trainer.loss()
        try trainer.apply(history.rounds.map { .apply($0) })
        return Replay(digest: try trainer.digest().0, loss: try trainer.loss(), lossBefore: lossBefore, rounds: history.rounds, records: records)
    }
}
