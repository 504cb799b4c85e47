import Coordinator
import Core
import Glibc
import Relay
import TestSupport
import Transport
import Worker

/// A coordinator, a worker or a relay for tests. `ClusterNode coordinator ADDRESS DIRECTORY ROUNDS WORKERS SAMPLES TIMEOUT`, `ClusterNode worker ADDRESS NAME
/// MICROSECONDS [STATE]`, `ClusterNode relay COORDINATOR ADDRESS` or `ClusterNode swarm ADDRESS COUNT`. It prints one line of JSON or text for each thing that happens. SIGTERM ends it
/// cleanly.
@main enum ClusterNode {
    static func main() {
        // If nobody reads the output any more, the process must go on.
        signal(SIGPIPE, SIG_IGN)
        // A file that may not grow must be an error like any other and not end the process.
        signal(SIGXFSZ, SIG_IGN)
        // The signals are blocked here, before there is another thread, so that only this thread takes them.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        sigaddset(&signals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        do {
            let stop = try start(CommandLine.arguments)
            var signal: Int32 = 0
            while sigwait(&signals, &signal) == 0 { stop() }
        } catch {
            fail(error)
        }
    }

    /// Starts the node. It ends the process when it is done; the returned function asks it to stop.
    private static func start(_ arguments: [String]) throws -> @Sendable () -> Void {
        switch arguments.dropFirst().first {
        case "coordinator" where arguments.count == 8:
            let spec = ToyTrainer.spec(
                rounds: Int(arguments[4]) ?? 60, samplesPerRound: Int(arguments[6]) ?? 48, minimumWorkers: Int(arguments[5]) ?? 1,
                heartbeatTimeoutSeconds: Double(arguments[7]) ?? 3)
            let process = CoordinatorProcess(
                configuration: .init(
                    transport: ZeroMQServer(address: try Address(arguments[2])), runDirectory: arguments[3], spec: spec,
                    onProgress: { progress in
                        if let line = progress.jsonLine { _ = write(1, line, line.count) }
                    }))
            finish { try await process.run().status }
            return { process.requestStop() }
        case "worker" where arguments.count == 5 || arguments.count == 6:
            let microseconds = UInt32(arguments[4]) ?? 0
            // Worker `w2` has the data of number 2, whatever its machine number is.
            let part = arguments[3].last?.wholeNumberValue
            let join = try JoinString(arguments[2])
            let process = WorkerProcess(
                configuration: .init(
                    transport: ZeroMQClient(join), expectedRun: join.run.flatMap(Digest.init(hex:)), name: arguments[3],
                    stateDirectory: arguments.count == 6 ? arguments[5] : nil, snapshotSeconds: 0, onProgress: { say("\($0)") },
                    makeTrainer: { ToyTrainer(microsecondsPerSample: microseconds, part: part) }))
            finish {
                let outcome = try await process.run()
                say("ended \(outcome.message)")
                return outcome.status
            }
            return { process.requestStop() }
        case "relay" where arguments.count == 4:
            let process = RelayProcess(
                configuration: .init(
                    near: ZeroMQServer(address: try Address(arguments[3])), far: ZeroMQClient(try JoinString(arguments[2])), patienceSeconds: 60,
                    onProgress: { say("\($0)") }))
            finish {
                let outcome = try await process.run()
                say("ended \(outcome.message); \(outcome.ledgerBytes) bytes of the ledger; far: \(outcome.far); near: \(outcome.near)")
                return outcome.status
            }
            return { process.requestStop() }
        case "swarm" where arguments.count == 4:
            let address = try Address(arguments[2])
            let count = Int(arguments[3]) ?? 1
            finish {
                try await onThread(named: "swarm") { try Swarm.run(.init(address: address, count: count)) }
                return .success
            }
            return { exit(ExitStatus.success.rawValue) }
        default:
            throw ProcessFailure(
                .configuration,
                "usage: coordinator ADDRESS DIRECTORY ROUNDS WORKERS SAMPLES TIMEOUT | worker ADDRESS NAME MICROSECONDS [STATE] | relay COORDINATOR ADDRESS | swarm ADDRESS COUNT"
            )
        }
    }

    private static func finish(_ run: @escaping @Sendable () async throws -> ExitStatus) {
        Task {
            do {
                exit(try await run().rawValue)
            } catch {
                fail(error)
            }
        }
    }

    private static func fail(_ error: any Error) -> Never {
        say("failed \(error)")
        exit((error as? ProcessFailure)?.status.rawValue ?? ExitStatus.failure.rawValue)
    }

    private static func say(_ text: String) {
        let line = Array((text + "\n").utf8)
        _ = write(1, line, line.count)
    }
}
