import Coordinator
import Core
import Foundation
import Glibc
import TestSupport
import Testing

/// Real processes under faults, at moments that a seed decides. `ONEBYTE_CHAOS_SEEDS=10` runs more seeds (`make chaos`).
@Suite(.serialized, .timeLimit(.minutes(5))) struct ChaosTests {
    private static let seeds = ProcessInfo.processInfo.environment["ONEBYTE_CHAOS_SEEDS"].flatMap { UInt64($0) } ?? 1
    private static let rounds = 1500
    private static let microseconds = 400

    enum Fault: CaseIterable { case killWorker, killCoordinator, stopWorker, cutLink, newcomer }

    /// A worker's place: its link, its disk, and the process that runs there at the moment.
    private final class Place {
        let name: String
        let proxy: CountingProxy
        let state: String
        var process: NodeProcess

        init(_ number: Int, _ coordinator: String, _ directory: TestDirectory) throws {
            name = "w\(number)"
            proxy = try CountingProxy(to: coordinator)
            state = "\(directory.path)/state-\(number)"
            process = try NodeProcess.worker(proxy.endpoint, name: name, microseconds: microseconds, state: state)
        }

        func restart() throws { process = try NodeProcess.worker(proxy.endpoint, name: name, microseconds: microseconds, state: state) }
    }

    @Test("Whatever is killed, stopped or cut off, the run ends, and every copy has the parameters that the ledger gives", arguments: 0..<seeds)
    func chaos(seed: UInt64) async throws {
        var random = SeededRandom(seed: seed)
        let directory = try TestDirectory()
        let address = "tcp://127.0.0.1:\(try freePort())"
        func startCoordinator() throws -> NodeProcess {
            try NodeProcess.coordinator(directory, address: address, rounds: Self.rounds, workers: 2, timeout: 3)
        }
        var coordinator = try startCoordinator()
        var places = try (0..<3).map { try Place($0, address, directory) }
        _ = try await coordinator.round(20)

        var faults: [Fault: Int] = [:]
        func pause(_ seconds: ClosedRange<Double>) async throws {
            try await Task.sleep(for: .seconds(Double.random(in: seconds, using: &random)))
        }
        for _ in 0..<12 {
            let place = places[Int.random(in: 0..<places.count, using: &random)]
            var fault = Fault.allCases[Int.random(in: 0..<Fault.allCases.count, using: &random)]
            if fault == .newcomer, places.count >= 5 { fault = .cutLink }
            faults[fault, default: 0] += 1
            switch fault {
            case .killWorker:
                place.process.signal(SIGKILL)
                #expect(await place.process.exit == -SIGKILL)
                try await pause(0...0.5)
                try place.restart()
            case .killCoordinator:
                coordinator.signal(SIGKILL)
                _ = await coordinator.exit
                try await pause(0...0.5)
                coordinator = try startCoordinator()
            case .stopWorker:
                place.process.signal(SIGSTOP)
                // Some pauses are longer than the allowed silence.
                try await pause(0.1...(random.next() % 4 == 0 ? 4 : 1))
                place.process.signal(SIGCONT)
            case .cutLink:
                place.proxy.cut()
                try await pause(0.1...(random.next() % 4 == 0 ? 4 : 1))
                place.proxy.mend()
            case .newcomer: places.append(try Place(places.count, address, directory))
            }
            try await pause(0...0.4)
        }
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        #expect(replayed.rounds.map(\.round) == (0..<RoundNumber(Self.rounds)).map { $0 })
        var equal = 0
        for place in places {
            // A worker that was away at the very end finds no coordinator any more.
            let process = place.process
            let giveUp = Task {
                try await Task.sleep(for: .seconds(20))
                process.signal(SIGKILL)
            }
            defer { giveUp.cancel() }
            guard let end = try? await process.next({ $0.hasPrefix("ended") ? $0 : nil }) else { continue }
            #expect(end.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);"), "\(place.name): \(end)")
            equal += 1
        }
        #expect(equal >= 2)
        #expect(replayed.loss < Self.converged * replayed.lossBefore)
        let told = Fault.allCases.map { "\($0) \(faults[$0] ?? 0)" }.joined(separator: ", ")
        print(
            "seed \(seed): \(faults.values.reduce(0, +)) faults (\(told)), \(Self.rounds) rounds, \(equal) of \(places.count) workers at the end, digest \(replayed.digest.short), loss \(replayed.lossBefore) -> \(replayed.loss)"
        )
    }

    /// The fraction of the first loss that is noise at the end. A run without faults ends below it too.
    private static let converged = 1e-4

    @Test("A run without faults ends below the bound that runs with faults must reach")
    func withoutFaults() async throws {
        let directory = try TestDirectory()
        let coordinator = try NodeProcess.coordinator(directory, address: "tcp://127.0.0.1:0", rounds: Self.rounds, workers: 3)
        let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
        let workers = try (0..<3).map { try NodeProcess.worker(address, name: "w\($0)", microseconds: 0) }
        #expect(await coordinator.exit == 0)
        for worker in workers { #expect(await worker.exit == 0) }
        let replayed = try directory.replay()
        print("without faults: loss \(replayed.lossBefore) -> \(replayed.loss)")
        #expect(replayed.loss < Self.converged * replayed.lossBefore)
    }
}
