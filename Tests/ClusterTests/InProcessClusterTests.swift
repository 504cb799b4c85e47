import ClusterNode
import Coordinator
import Core
import Foundation
import Glibc
import Testing
import Transport
import Worker

/// Coordinators and workers together on an in-process network. The only pauses are those of the protocol.
@Suite(.timeLimit(.minutes(5))) struct InProcessClusterTests {
    @Test("Three workers learn together, and all end with the parameters that a replay of the ledger gives")
    func threeWorkers() async throws {
        let directory = try TestDirectory()
        let spec = ToyTrainer.spec(rounds: 80, minimumWorkers: 3, evaluateEvery: 40)
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: spec, over: network)
        let snapshot = directory.path + "/parameters"
        let workers = [
            RunningWorker(network, name: "a", snapshotPath: snapshot), RunningWorker(network, name: "b"), RunningWorker(network, name: "c"),
            RunningWorker(network, name: "judge", trains: false, evaluates: true),
        ]
        var losses: [RoundNumber: Double] = [:]
        for await event in coordinator.progress {
            if case .evaluation(let report) = event { losses[report.round] = report.loss }
        }
        let outcome = try await coordinator.outcome
        #expect(outcome.finish.outcome == .completed)
        #expect(outcome.rounds == 80)
        #expect(outcome.samples == 80 * 48)
        let replayed = try directory.replay()
        #expect(outcome.digest == replayed.digest)
        for worker in workers { #expect(try await worker.finalDigest == replayed.digest) }
        let (first, last) = (try #require(losses[0]), try #require(losses[80]))
        #expect(last < 0.7 * first)

        let bytes = [UInt8](try Data(contentsOf: URL(filePath: snapshot)))
        let restored = try bytes.withUnsafeBytes { try Parameters(tensors: ToyTrainer.tensors, snapshot: $0).digest() }
        #expect(restored == replayed.digest)
    }

    @Test("In time-boxed rounds a slow machine contributes less than a fast one and delays nobody")
    func timeBoxes() async throws {
        let directory = try TestDirectory()
        var spec = ToyTrainer.spec(rounds: 8, samplesPerRound: 400, minimumWorkers: 2)
        spec.roundSeconds = 0.1
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: spec, over: network)
        let workers = [
            RunningWorker(network, name: "fast", trainer: { ToyTrainer(microsecondsPerSample: 300) }),
            RunningWorker(network, name: "slow", trainer: { ToyTrainer(microsecondsPerSample: 10_000) }),
        ]
        var names: [MachineID: String] = [:]
        for await event in coordinator.progress { if case .joined(let joined) = event { names[joined.machine] = joined.name } }
        let outcome = try await coordinator.outcome
        let replayed = try directory.replay()
        #expect(outcome.finish.outcome == .completed)
        for worker in workers { #expect(try await worker.finalDigest == replayed.digest) }
        var samples: [String: Int] = [:]
        for contribution in replayed.rounds.flatMap(\.contributions) {
            samples[names[contribution.machine] ?? "?", default: 0] += contribution.bytes.count
        }
        let (fast, slow) = (try #require(samples["fast"]), try #require(samples["slow"]))
        // All of its share, 200 samples, would take the slow machine 2 s.
        #expect(slow < 8 * 60 && fast > 2 * slow, "\(samples)")
    }

    @Test("A late worker catches up while a round is open, proves itself when the round is over, and then takes part")
    func lateJoiner() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 200), over: network)
        let gate = Gate(before: 100)
        let first = RunningWorker(network, name: "first", trainer: { ToyTrainer(gate: gate) })
        try await coordinator.round(99)
        let late = RunningWorker(network, name: "late")
        _ = try await late.next { progress -> Digest? in
            if case .notice(.digest(_, let digest)) = progress { digest } else { nil }
        }
        // Its proof is compared with that of the first machine, which answers when its share of the open round is done.
        gate.open()
        let joined = try await coordinator.next { if case .joined(let joined) = $0, joined.name == "late" { joined } else { nil } }
        #expect(joined.round >= 100)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(try await first.finalDigest == replayed.digest)
        #expect(try await late.finalDigest == replayed.digest)
        for round in replayed.rounds.dropFirst(Int(joined.round) + 1) { #expect(round.contributions.contains { $0.machine == joined.machine }) }
    }

    @Test("After a stop everybody says goodbye; started again with the same run directory, the run resumes and ends the same for all")
    func stopAndResume() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let first = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 60, minimumWorkers: 2), over: network)
        let gate = Gate(before: 30)
        let before = (0..<2).map { _ in RunningWorker(network, trainer: { ToyTrainer(gate: gate) }) }
        try await first.round(29)
        first.process.requestStop()
        gate.open()
        let stopped = try await first.outcome
        #expect(stopped.finish.outcome == .stopped)
        #expect(stopped.status == .success)
        for worker in before {
            let outcome = try await worker.outcome
            #expect(outcome.exit == .stopped)
            #expect(outcome.status == .success)
        }

        let second = RunningCoordinator(directory, spec: nil, over: network)
        #expect(try await second.listening().round >= 30)
        let after = (0..<2).map { _ in RunningWorker(network) }
        #expect(try await second.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(replayed.rounds.count == 60)
        for worker in after { #expect(try await worker.finalDigest == replayed.digest) }
    }

    @Test("A worker that is stopped says goodbye, and the run goes on without it")
    func workerStops() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 60, minimumWorkers: 2), over: network)
        let gate = Gate(before: 30)
        let stays = RunningWorker(network, name: "stays", trainer: { ToyTrainer(gate: gate) })
        let goes = RunningWorker(network, name: "goes", trainer: { ToyTrainer(gate: gate) })
        try await coordinator.round(29)
        goes.process.requestStop()
        gate.open()
        let left = try await coordinator.next { if case .left(let left) = $0 { left } else { nil } }
        #expect(left.name == "goes")
        #expect(left.reason == "left")
        #expect(try await goes.outcome.exit == .stopped)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        #expect(try await stays.finalDigest == directory.replay().digest)
    }

    @Test("When all connections break, the same machines go on as soon as they are back, and nothing is applied twice")
    func connectionsBreak() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 120, minimumWorkers: 2), over: network)
        let workers = (0..<2).map { _ in RunningWorker(network) }
        for (round, isSeen) in [(20, true), (50, false), (80, true)] {
            try await coordinator.round(RoundNumber(round))
            network.dropConnections(isSeenByServer: isSeen)
        }
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(replayed.rounds.count == 120)
        for worker in workers { #expect(try await worker.finalDigest == replayed.digest) }
        #expect(replayed.records.count { if case .admission = $0 { true } else { false } } == 2)
    }

    @Test("A restarted coordinator finds its workers waiting, and the same machines resume the run")
    func coordinatorComesBack() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let worker: RunningWorker
        do {
            let gate = Gate(before: 20)
            let first = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 60), over: network)
            worker = RunningWorker(network, trainer: { ToyTrainer(gate: gate) })
            try await first.round(19)
            // Nobody hears its goodbye. After the second request it waits for no answer.
            network.cut()
            first.process.requestStop()
            first.process.requestStop()
            #expect(try await first.outcome.finish.outcome == .stopped)
            gate.open()
        }
        let second = RunningCoordinator(directory, spec: nil, over: network)
        #expect(try await second.listening().round == 20)
        network.mend()
        #expect(try await second.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(try await worker.finalDigest == replayed.digest)
        #expect(replayed.records.count { if case .admission = $0 { true } else { false } } == 1)
    }

    @Test("A worker with another base model is refused and told which tensors differ; one that expects another run is refused too")
    func refusals() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 100_000), over: network)
        let gate = Gate(before: 3)
        let right = RunningWorker(network, name: "right", trainer: { ToyTrainer(gate: gate) })
        try await coordinator.round(2)
        let other = try await RunningWorker(network, name: "other", trainer: { ToyTrainer(base: 2) }).outcome
        #expect(other.status == .configuration)
        #expect(other.message.contains("toy.bias"))
        let stranger = try await RunningWorker(network, expectedRun: .sha256([])).outcome
        #expect(stranger.status == .configuration)
        coordinator.process.requestStop()
        gate.open()
        _ = try await coordinator.outcome
        #expect(try await right.outcome.exit == .stopped)
    }

    @Test("A trainer that fails ends its worker with its own status, and the run goes on")
    func failingTrainer() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 30), over: network)
        let broken = try await RunningWorker(network, trainer: { throw ProcessFailure(.missingInput, "no such model: x.gguf") }).outcome
        #expect(broken.status == .missingInput)
        #expect(broken.message == "no such model: x.gguf")
        let worker = RunningWorker(network)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        #expect(try await worker.finalDigest == directory.replay().digest)
    }

    @Test("An order waits for at most one slice of idle work, and so does the end")
    func idleWorkGivesWay() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 20), over: network)
        let worker = RunningWorker(network, trainer: { EndlesslyIdle() })
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        #expect(try await worker.outcome.status == .success)
    }

    @Test("A run directory with another run, one in use, and one with nothing to resume are errors that say what to do")
    func runDirectories() async throws {
        let directory = try TestDirectory()
        func failure(_ spec: RunSpec?, _ path: String? = nil) async throws -> ProcessFailure? {
            let process = CoordinatorProcess(
                configuration: .init(transport: InProcessNetwork(), runDirectory: path ?? directory.path, spec: spec))
            do {
                _ = try await process.run()
                return nil
            } catch let error as ProcessFailure {
                return error
            }
        }
        #expect(try await failure(nil)?.status == .missingInput)
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 30), over: InProcessNetwork())
        _ = try await coordinator.listening()
        #expect(try await failure(ToyTrainer.spec(rounds: 30))?.status == .temporary)
        coordinator.process.requestStop()
        _ = try await coordinator.outcome
        let other = try await failure(ToyTrainer.spec(seed: 8, rounds: 30))
        #expect(other?.status == .configuration)
        #expect(other?.message.contains("another run") == true)
        #expect(try await failure(ToyTrainer.spec(), "/proc/onebyte")?.status == .cannotCreate)
    }

    @Test("metrics.jsonl has one JSON object a line for everything that happened, and it can be read back")
    func metrics() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 10, evaluateEvery: 5), over: network)
        let worker = RunningWorker(network, evaluates: true)
        _ = try await coordinator.outcome
        _ = try await worker.outcome
        let text = try String(contentsOfFile: RunDirectory(directory.path).metrics, encoding: .utf8)
        let events = try text.split(separator: "\n").map { try JSONDecoder().decode(CoordinatorProgress.self, from: Data($0.utf8)).event }
        #expect(events.count { if case .round = $0 { true } else { false } } == 10)
        let evaluations = events.compactMap { if case .evaluation(let report) = $0 { report } else { nil } }
        #expect(evaluations.count == 3)
        #expect(evaluations.allSatisfy { $0.accuracy == nil && $0.loss != nil })
        guard case .listening = events.first, case .finished(let end) = events.last else {
            Issue.record("the first line is not the listening, or the last not the end: \(text)")
            return
        }
        #expect(end.finish.outcome == .completed)
        #expect(end.samples == 480)
    }
}

/// A toy trainer whose idle work never ends.
private final class EndlesslyIdle: Trainer {
    private let toy = ToyTrainer()
    func hashBase(_ task: TaskContext) throws -> BaseManifest { try toy.hashBase(task) }
    func prepare(_ spec: RunSpec, basis: [UInt8]?, _ task: TaskContext) throws { try toy.prepare(spec, basis: basis, task) }
    func apply(_ changes: [HistoryChange]) throws { try toy.apply(changes) }
    func compute(_ order: ComputeOrder, _ task: TaskContext) throws -> (bytes: [Int8], statistics: SampleStatistics) { try toy.compute(order, task) }
    func digest() throws -> (Digest, largestMagnitude: UInt32, unchanged: Double?) { try toy.digest() }
    func evaluate(round: RoundNumber, _ task: TaskContext) throws -> EvaluationReport { try toy.evaluate(round: round, task) }
    func reset() throws { try toy.reset() }
    func writeSnapshot(to path: String, at ledger: LedgerPosition?) throws { try toy.writeSnapshot(to: path, at: ledger) }
    func restore(_ snapshot: UnsafeRawBufferPointer) throws { try toy.restore(snapshot) }
    func useIdleTime() throws -> Double? {
        sched_yield()
        return 0.5
    }
}
