import ClusterNode
import Coordinator
import Core
import TestSupport
import Testing
import Transport
import Worker

/// Coordinators and workers of this process over real sockets. Here sockets, keys or a slow line are the subject.
@Suite(.timeLimit(.minutes(5))) struct SocketClusterTests {
    @Test("On a slow link workers that work ahead end with the ledger's parameters, and in less time than workers that wait")
    func ahead() async throws {
        // 20 rounds wait for the link for 0.2 s each, or for a third of that.
        let waiting = try await secondsOverSlowLink(staleness: 0)
        let ahead = try await secondsOverSlowLink(staleness: 2)
        #expect(waiting >= 3.7)
        #expect(ahead < 0.7 * waiting)
    }

    /// Returns the seconds from the first round's commit to the last one's. Every byte takes 0.1 s on the link.
    private func secondsOverSlowLink(staleness: Int) async throws -> Double {
        let directory = try TestDirectory()
        let coordinator = try RunningCoordinator(directory, spec: Self.spec(staleness: staleness))
        let endpoint = try await coordinator.listening().endpoint
        let proxy = try CountingProxy(to: endpoint, delaySeconds: 0.1)
        let join = try JoinString(proxy.endpoint)
        let workers = ["a", "b"].map { RunningWorker(join, name: $0) }
        let outcome = try await coordinator.outcome
        let replayed = try directory.replay()
        #expect(outcome.rounds == 20 && replayed.loss < replayed.lossBefore)
        for worker in workers { #expect(try await worker.finalDigest == replayed.digest) }
        proxy.close()
        return try #require(coordinator.seconds(from: 0, to: 19))
    }

    private static func spec(staleness: Int) -> RunSpec {
        var spec = ToyTrainer.spec(rounds: 20, samplesPerRound: 48, minimumWorkers: 2, heartbeatTimeoutSeconds: 10)
        spec.staleness = staleness
        return spec
    }

    @Test("With keys everything is encrypted and admissions carry the proven key; a worker that is not listed ends with status 77")
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
        let worker = RunningWorker(join, keys: member)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(try await worker.finalDigest == replayed.digest)
        let keys = replayed.records.compactMap { if case .admission(let admission) = $0 { admission.publicKey } else { nil } }
        #expect(keys == [Array(member.publicKey.description.utf8)])
    }

    @Test("If nobody answers, a worker gives up with status 69 and names the address that it called")
    func nobodyThere() async throws {
        let outcome = try await RunningWorker(try JoinString("tcp://127.0.0.1:1"), patienceSeconds: 0.3).outcome
        #expect(outcome.status == .unavailable)
        #expect(outcome.message.contains("tcp://127.0.0.1:1"))
    }

    @Test("With sixty-four workers at one coordinator, with and without keys, each round has the bytes of all", arguments: [false, true])
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

    @Test("A worker that joins a run of a swarm late takes part while the rounds go on")
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

    @Test("The coordinator's and the workers' counts of bytes agree, over sockets and in-process", arguments: [false, true])
    func traffic(isInProcess: Bool) async throws {
        let directory = try TestDirectory()
        let spec = ToyTrainer.spec(rounds: 30, samplesPerRound: 16, minimumWorkers: 2)
        let coordinator: RunningCoordinator
        let transport: any ClientTransport
        if isInProcess {
            let network = InProcessNetwork()
            coordinator = RunningCoordinator(directory, spec: spec, over: network)
            transport = network
        } else {
            coordinator = try RunningCoordinator(directory, spec: spec)
            transport = ZeroMQClient(try await coordinator.join())
        }
        let workers = [RunningWorker(transport), RunningWorker(transport)]
        let outcome = try await coordinator.outcome
        var sent = Traffic.Direction()
        for worker in workers {
            let traffic = try await worker.outcome.traffic
            sent.rounds = sent.rounds + traffic.sent.rounds
            #expect(traffic.dropped == 0)
        }
        #expect(outcome.traffic.received.rounds == sent.rounds)
        // One message for each round and worker, and repetitions when a heartbeat crossed an answer.
        #expect((60...70).contains(outcome.traffic.received.rounds.messages))
        // Two workers have 8 samples each. The payload itself has 8 bytes; the rest is overhead.
        let perSample = Double(outcome.traffic.received.rounds.bytes) / Double(outcome.samples)
        #expect(perSample < 5)
    }
}
