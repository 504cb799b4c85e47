import ArgumentParser
import Coordinator
import Core
import Foundation
import Synchronization
import Transport

/// A run of workers with prepared answers.
struct BenchmarkRun {
    static let heartbeatTimeoutSeconds = 30.0

    static func spec(rounds: Int, workers: Int, samples: Int) -> RunSpec {
        RunSpec(
            seed: 7, train: ["all"], learningRate: 0.03, schedule: .constant, rounds: rounds, samplesPerRound: workers * samples,
            task: TaskSpec(kind: .text, maxLength: 8), minimumWorkers: workers, heartbeatTimeoutSeconds: heartbeatTimeoutSeconds)
    }
}

/// Reports of the coordinator's process on its standard output.
struct CoordinatorReport: Codable {
    /// The join string for workers, reported once.
    var join: String?
    /// Round at whose commit the report was made.
    var round: RoundNumber?
    var time = 0.0
    var samples: UInt64 = 0
    var traffic: Traffic?
    var use: ProcessUse?
}

/// The coordinator as a separate process.
struct CoordinatorNode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "coordinator", shouldDisplay: false)

    @Option var directory: String
    /// Number of rounds of a new run; 0 resumes the directory's.
    @Option var rounds = 0
    @Option var workers = 1
    @Option var samples = 16
    @Flag var curve = false
    /// Rounds to report.
    @Option(parsing: .upToNextOption) var reports: [UInt32] = []

    func run() async throws {
        let reported = Set(reports)
        let access = curve ? AccessControl.encrypted(try KeyPair.generate()) : .open
        let process = CoordinatorProcess(
            configuration: .init(
                transport: ZeroMQServer(address: try Address("127.0.0.1:0"), access: access), runDirectory: directory,
                spec: rounds > 0 ? BenchmarkRun.spec(rounds: rounds, workers: workers, samples: samples) : nil,
                onProgress: { progress in
                    switch progress.event {
                    case .listening(let listening):
                        if let join = try? listening.joinString() { try? writeLine(CoordinatorReport(join: join.description)) }
                    case .round(let round) where reported.contains(round.round):
                        try? writeLine(
                            CoordinatorReport(
                                round: round.round, time: progress.time, samples: round.samplesSoFar, traffic: round.traffic,
                                use: ProcessUse.now))
                    case .warning(let text): say("coordinator: \(text)")
                    default: break
                    }
                }))
        stopWithParent { process.requestStop() }
        let outcome = try await process.run()
        if outcome.finish.outcome == .failed { throw ValidationError(outcome.finish.message) }
    }
}
