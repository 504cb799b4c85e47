import Coordinator
import Core
import Foundation
import TestSupport
import Testing
import Transport

/// Real processes whose links break in every way that links break. All of them come back by themselves and end with the ledger's parameters.
@Suite(.serialized, .timeLimit(.minutes(3))) struct OutageTests {
    enum Outage: CaseIterable { case seconds, halfOpen, joinerCut, coordinatorRestart }

    private static let rounds = 600

    @Test("After an outage all machines go on by themselves and end with equal digests", arguments: Outage.allCases)
    func outage(_ outage: Outage) async throws {
        let directory = try TestDirectory()
        let address = "tcp://127.0.0.1:\(try freePort())"
        func start() throws -> NodeProcess {
            try NodeProcess.coordinator(directory, address: address, rounds: Self.rounds, workers: 2, timeout: 2)
        }
        var coordinator = try start()
        // The second worker's line carries 20,000 bytes a second.
        let proxies = [try CountingProxy(to: address), try CountingProxy(to: address, bytesPerSecond: 20_000)]
        var workers = try proxies.enumerated().map { try NodeProcess.worker($1.endpoint, name: "w\($0)", microseconds: 400) }
        _ = try await coordinator.round(30)
        switch outage {
        case .seconds:
            proxies[1].cut()
            try await Task.sleep(for: .seconds(3))
            proxies[1].mend()
        case .halfOpen:
            // The freeze lasts longer than twice the timeout, so the worker makes a new connection without being told to.
            proxies[1].freeze()
            try await Task.sleep(for: .seconds(1))
            proxies[1].thaw()
        case .joinerCut:
            let line = try CountingProxy(to: address, bytesPerSecond: 8_000)
            workers.append(try NodeProcess.worker(line.endpoint, name: "w2", microseconds: 400))
            for _ in 0..<4 {
                try await Task.sleep(for: .milliseconds(400))
                line.cutClients(isSeenByServer: true)
            }
            _ = try await coordinator.event { if case .joined(let joined) = $0, joined.name == "w2" { true } else { nil } }
            let ledger = try directory.ledgerBytes
            print("a joiner that was cut four times: \(line.bytesDown) bytes down, ledger of \(ledger) by now")
        case .coordinatorRestart:
            coordinator.signal(SIGKILL)
            _ = await coordinator.exit
            try await Task.sleep(for: .seconds(1))
            coordinator = try start()
        }
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        for worker in workers {
            let end = try await worker.next { $0.hasPrefix("ended") ? $0 : nil }
            #expect(end.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);"), "\(end)")
        }
    }
}

extension TestDirectory {
    fileprivate var ledgerBytes: Int { get throws { try FileManager.default.attributesOfItem(atPath: "\(path)/ledger")[.size] as? Int ?? 0 } }
}
