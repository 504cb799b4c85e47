import ClusterNode
import Coordinator
import Core
import Foundation
import TestSupport
import Testing
import Transport
import Worker

@Suite(.timeLimit(.minutes(1))) struct LocalClusterTests {
    @Test("Three workers learn together, and all end with the parameters that a replay of the ledger gives")
    func threeWorkers() async throws {
        let directory = try TestDirectory()
        let spec = ToyTrainer.spec(rounds: 80, minimumWorkers: 3, evaluateEvery: 40)
        let coordinator = try RunningCoordinator(directory, spec: spec)
        let join = try await coordinator.join()
        let snapshot = directory.path + "/parameters"
        let workers = [
            try RunningWorker(join, name: "a", snapshotPath: snapshot), try RunningWorker(join, name: "b"), try RunningWorker(join, name: "c"),
            try RunningWorker(join, name: "judge", trains: false, evaluates: true),
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

    @Test("Workers that are ahead of a slow link end with what the ledger gives, and take fewer seconds than those that wait")
    func ahead() async throws {
        var seconds: [Double] = []
        for staleness in [0, 2] {
            let directory = try TestDirectory()
            var spec = ToyTrainer.spec(rounds: 40, samplesPerRound: 16, minimumWorkers: 2, heartbeatTimeoutSeconds: 10)
            spec.staleness = staleness
            let coordinator = try RunningCoordinator(directory, spec: spec)
            let proxy = try CountingProxy(to: try await coordinator.join().address.endpoint, delaySeconds: 0.1)
            defer { proxy.close() }
            let join = try JoinString(proxy.endpoint)
            let workers = [try RunningWorker(join, name: "a"), try RunningWorker(join, name: "b")]
            let outcome = try await coordinator.outcome
            seconds.append(try #require(coordinator.seconds(from: 0, to: 39)))
            let replayed = try directory.replay()
            #expect(outcome.rounds == 40 && replayed.loss < replayed.lossBefore)
            for worker in workers { #expect(try await worker.finalDigest == replayed.digest) }
        }
        // 40 rounds wait 0.2 s each for the link, or a third of them.
        #expect(seconds[0] >= 7.5)
        #expect(seconds[1] < 0.7 * seconds[0])
    }

    @Test("In time-boxed rounds a slow machine gives less than a fast one, and holds nobody up")
    func timeBoxes() async throws {
        let directory = try TestDirectory()
        var spec = ToyTrainer.spec(rounds: 15, samplesPerRound: 400, minimumWorkers: 2)
        spec.roundSeconds = 0.1
        let coordinator = try RunningCoordinator(directory, spec: spec)
        let join = try await coordinator.join()
        let workers = [
            try RunningWorker(join, name: "fast", trainer: { ToyTrainer(microsecondsPerSample: 300) }),
            try RunningWorker(join, name: "slow", trainer: { ToyTrainer(microsecondsPerSample: 10_000) }),
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
        // All of its share, 200 samples, would take the slow one 2 s.
        #expect(slow < 15 * 60 && fast > 2 * slow, "\(samples)")
    }

    @Test("Every byte at the coordinator's socket is a byte at a worker's")
    func traffic() async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 30, samplesPerRound: 16, minimumWorkers: 2))
        let join = try await coordinator.join()
        let workers = [try RunningWorker(join), try RunningWorker(join)]
        let outcome = try await coordinator.outcome
        var sent = Traffic.Direction()
        for worker in workers {
            let traffic = try await worker.outcome.traffic
            sent.rounds = sent.rounds + traffic.sent.rounds
            #expect(traffic.dropped == 0)
        }
        #expect(outcome.traffic.received.rounds == sent.rounds)
        // One for each round and worker, and what a heartbeat that crossed an answer made a worker repeat.
        #expect((60...70).contains(outcome.traffic.received.rounds.messages))
        // Two workers with 8 samples each: 8 bytes of payload proper, the rest is overhead.
        let perSample = Double(outcome.traffic.received.rounds.bytes) / Double(outcome.samples)
        #expect(perSample < 5)
    }

    @Test("A worker that comes late catches up and takes part, and the others do not wait")
    func lateJoiner() async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 400))
        let join = try await coordinator.join()
        let first = try RunningWorker(join, name: "first", trainer: { ToyTrainer(microsecondsPerSample: 50) })
        try await coordinator.round(100)
        let late = try RunningWorker(join, name: "late")
        let joined = try await coordinator.next { if case .joined(let joined) = $0, joined.name == "late" { joined } else { nil } }
        #expect(joined.round > 100)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(try await first.finalDigest == replayed.digest)
        #expect(try await late.finalDigest == replayed.digest)
        let after = replayed.rounds.dropFirst(Int(joined.round) + 5)
        #expect(after.contains { $0.contributions.contains { $0.machine == joined.machine } })
    }

    @Test("Stopped, everybody says goodbye; started again with the same run directory, it goes on and ends the same for all")
    func stopAndResume() async throws {
        let directory = try TestDirectory()
        let spec = ToyTrainer.spec(rounds: 200, minimumWorkers: 2)
        let first = try RunningCoordinator(directory, spec: spec)
        let join = try await first.join()
        let slow = { @Sendable in ToyTrainer(microsecondsPerSample: 50) }
        let before = [try RunningWorker(join, trainer: slow), try RunningWorker(join, trainer: slow)]
        try await first.round(20)
        first.process.requestStop()
        let stopped = try await first.outcome
        #expect(stopped.finish.outcome == .stopped)
        #expect(stopped.status == .success)
        for worker in before {
            let outcome = try await worker.outcome
            #expect(outcome.exit == .stopped)
            #expect(outcome.status == .success)
        }

        let second = try RunningCoordinator(directory, spec: nil)
        let listening = try await second.next { if case .listening(let listening) = $0 { listening } else { nil } }
        #expect(listening.round >= 20)
        let again = try listening.joinString()
        let after = [try RunningWorker(again), try RunningWorker(again)]
        #expect(try await second.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(replayed.rounds.count == 200)
        for worker in after { #expect(try await worker.finalDigest == replayed.digest) }
    }

    @Test("A worker that is stopped says goodbye, and the run goes on without it")
    func workerStops() async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 150, minimumWorkers: 2))
        let join = try await coordinator.join()
        let stays = try RunningWorker(join, name: "stays", trainer: { ToyTrainer(microsecondsPerSample: 50) })
        let goes = try RunningWorker(join, name: "goes", trainer: { ToyTrainer(microsecondsPerSample: 50) })
        try await coordinator.round(20)
        goes.process.requestStop()
        let left = try await coordinator.next { if case .left(let left) = $0 { left } else { nil } }
        #expect(left.name == "goes")
        #expect(left.reason == "left")
        #expect(try await goes.outcome.exit == .stopped)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        #expect(try await stays.finalDigest == directory.replay().digest)
    }

    @Test("A worker with another base model is refused and told which tensors differ; one of another run is refused too")
    func refusals() async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 100_000, minimumWorkers: 1))
        let join = try await coordinator.join()
        let right = try RunningWorker(join, name: "right")
        try await coordinator.round(3)
        let other = try await RunningWorker(join, name: "other", trainer: { ToyTrainer(base: 2) }).outcome
        #expect(other.status == .configuration)
        #expect(other.message.contains("toy.bias"))
        var elsewhere = join
        elsewhere.run = String(repeating: "0", count: 64)
        let stranger = try await RunningWorker(elsewhere).outcome
        #expect(stranger.status == .configuration)
        coordinator.process.requestStop()
        _ = try await coordinator.outcome
        #expect(try await right.outcome.exit == .stopped)
    }

    @Test("With keys everything is encrypted and admissions carry the proven key; who is not listed ends with status 77")
    func keys() async throws {
        let directory = try TestDirectory()
        let (server, member, stranger) = (try KeyPair.generate(), try KeyPair.generate(), try KeyPair.generate())
        let coordinator = try RunningCoordinator(
            directory, spec: ToyTrainer.spec(rounds: 30), access: .listed(server, [member.publicKey]))
        let join = try await coordinator.join()
        #expect(join.serverKey == server.publicKey)
        let turnedAway = try await RunningWorker(join, keys: stranger).outcome
        #expect(turnedAway.status == .refused)
        #expect(turnedAway.message.contains("allow list"))
        var misled = join
        misled.serverKey = stranger.publicKey
        let lost = try await RunningWorker(misled, keys: member, patienceSeconds: 3).outcome
        #expect(lost.status == .refused && lost.message.contains("key"), "\(lost.message)")
        let worker = try RunningWorker(join, keys: member)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(try await worker.finalDigest == replayed.digest)
        let keys = replayed.records.compactMap { if case .admission(let admission) = $0 { admission.publicKey } else { nil } }
        #expect(keys == [Array(member.publicKey.description.utf8)])
    }

    @Test("A trainer that fails ends its worker with its own status, and the run goes on")
    func failingTrainer() async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 30))
        let join = try await coordinator.join()
        let broken = try await RunningWorker(join, trainer: { throw ProcessFailure(.missingInput, "no such model: x.gguf") }).outcome
        #expect(broken.status == .missingInput)
        #expect(broken.message == "no such model: x.gguf")
        let worker = try RunningWorker(join)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        #expect(try await worker.finalDigest == directory.replay().digest)
    }

    @Test("Where nobody answers, a worker gives up with status 69 and says where it called")
    func nobodyThere() async throws {
        let outcome = try await RunningWorker(try JoinString("tcp://127.0.0.1:1"), patienceSeconds: 0.3).outcome
        #expect(outcome.status == .unavailable)
        #expect(outcome.message.contains("tcp://127.0.0.1:1"))
    }

    @Test("A run directory with another run, one in use, and none to go on with, are errors that say what to do")
    func runDirectories() async throws {
        let directory = try TestDirectory()
        func failure(_ spec: RunSpec?, _ path: String? = nil) async throws -> ProcessFailure? {
            let process = try CoordinatorProcess(
                configuration: .init(address: try Address("127.0.0.1:0"), runDirectory: path ?? directory.path, spec: spec))
            do {
                _ = try await process.run()
                return nil
            } catch let error as ProcessFailure {
                return error
            }
        }
        #expect(try await failure(nil)?.status == .missingInput)
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 30))
        _ = try await coordinator.join()
        #expect(try await failure(ToyTrainer.spec(rounds: 30))?.status == .temporary)
        coordinator.process.requestStop()
        _ = try await coordinator.outcome
        let other = try await failure(ToyTrainer.spec(seed: 8, rounds: 30))
        #expect(other?.status == .configuration)
        #expect(other?.message.contains("another run") == true)
        #expect(try await failure(ToyTrainer.spec(), "/proc/onebyte")?.status == .cannotCreate)
    }

    @Test("Sixty-four workers at one coordinator, with and without keys: each round has the bytes of all", arguments: [false, true])
    func manyWorkers(isEncrypted: Bool) async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(
            directory, spec: ToyTrainer.spec(rounds: 20, samplesPerRound: 256, minimumWorkers: 64, heartbeatTimeoutSeconds: 30),
            access: isEncrypted ? .encrypted(try KeyPair.generate()) : .open)
        let join = try await coordinator.join()
        try await onThread(named: "swarm") { try Swarm.run(.init(join: join, count: 64)) }
        let outcome = try await coordinator.outcome
        #expect(outcome.finish.outcome == .completed && outcome.traffic.dropped == 0 && outcome.traffic.connections == 64)
        var reader = try LedgerReader(path: directory.ledger)
        var rounds: [RoundRecord] = []
        while let entry = try reader.next() { if case .round(let round) = entry.record { rounds.append(round) } }
        #expect(rounds.count == 20)
        for round in rounds {
            #expect(Set(round.contributions.map(\.machine)).count == 64)
            #expect(round.contributions.reduce(0) { $0 + $1.bytes.count } == 256)
        }
    }

    @Test("A worker that joins a swarm's run late takes part while the rounds go on")
    func lateAmongMany() async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 100_000, minimumWorkers: 4))
        let join = try await coordinator.join()
        let swarm = Task { try await onThread(named: "swarm") { try Swarm.run(.init(join: join, count: 4, shareSeconds: 0.005)) } }
        try await coordinator.round(20)
        try await onThread(named: "late") {
            try CannedWorker.run(join, name: "late") { if case .contributed = $0 { true } else { false } }
        }
        coordinator.process.requestStop()
        try await swarm.value
        #expect(try await coordinator.outcome.finish.outcome == .stopped)
    }

    @Test("What happened is in metrics.jsonl, one object a line, and reads back")
    func metrics() async throws {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 10, evaluateEvery: 5))
        let worker = try RunningWorker(try await coordinator.join(), evaluates: true)
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
