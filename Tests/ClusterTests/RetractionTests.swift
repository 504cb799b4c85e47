import ClusterNode
import Coordinator
import Core
import Glibc
import Testing
import Transport
import Worker

@Suite(.timeLimit(.minutes(2))) struct RetractionTests {
    @Test("A request in the run directory takes a machine out of a running run, and all copies end as the ledger says")
    func running() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 80, minimumWorkers: 3), over: network)
        let gate = Gate(before: 40)
        let workers = (0..<3).map { RunningWorker(network, name: "w\($0)", trainer: { ToyTrainer(gate: gate) }) }
        try await coordinator.round(39)
        try RunDirectory(directory.path).leave([.evict(MachineID(2)), .retract(MachineID(2), rounds: 0..<RoundNumber.max)])
        _ = try await coordinator.next { if case .warning(let text) = $0, text.contains("are taken out") { text } else { nil } }
        gate.open()
        #expect(try await coordinator.outcome.finish.outcome == .completed)

        let replayed = try directory.replay()
        let (digest, rounds) = (replayed.digest, replayed.rounds)
        #expect(rounds.count == 80)
        #expect(!rounds.flatMap(\.contributions).contains { $0.machine == MachineID(2) })
        // The result is exactly that of a history without these bytes.
        var without = EffectiveHistory()
        for case .round(let round) in replayed.records { _ = try without.fold(.round(round.removing(MachineID(2)))) }
        #expect(without.rounds == rounds)
        var digests: [Digest?] = []
        for worker in workers {
            let outcome = try await worker.outcome
            if case .completed(let final) = outcome.exit { digests.append(final) } else { #expect(outcome.status == .refused) }
        }
        #expect(digests == [digest, digest])
    }

    @Test("A pipe in place of the request file stops nobody")
    func pipe() async throws {
        let directory = try TestDirectory()
        #expect(mkdir(directory.path, 0o700) == 0 || errno == EEXIST)
        #expect(mkfifo(RunDirectory(directory.path).requests, 0o600) == 0)
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 10), over: network)
        let worker = RunningWorker(network, name: "w", trainer: { ToyTrainer() })
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        _ = try await worker.outcome
    }

    @Test("Lines that are not requests are reported and skipped")
    func garbage() {
        #expect(OperatorRequest(line: "retract 3 0 10") == .retract(MachineID(3), rounds: 0..<10))
        for line in ["", "retract 3", "retract 3 5 4", "retract x 0 1", "evict", "drop table"] {
            #expect(OperatorRequest(line: line) == nil, "\(line)")
        }
    }
}
