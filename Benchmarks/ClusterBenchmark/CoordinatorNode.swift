import ArgumentParser
import Coordinator
import Core
import Foundation
import Synchronization
import Transport

/// A run of canned workers.
struct BenchmarkRun {
    static let heartbeatTimeoutSeconds = 30.0

    static func spec(rounds: Int, workers: Int, samples: Int) -> RunSpec {
        RunSpec(
            seed: 7, train: ["all"], learningRate: 0.03, schedule: .constant, rounds: rounds, samplesPerRound: workers * samples,
            task: TaskSpec(kind: .text, maxLength: 8), minimumWorkers: workers, heartbeatTimeoutSeconds: heartbeatTimeoutSeconds)
    }
}

/// What the coordinator's process says on its standard output.
struct CoordinatorReport: Codable {
    /// What workers join with, once.
    var join: String?
    /// At the commit of a round that is to be reported.
    var round: RoundNumber?
    var time = 0.0
    var samples: UInt64 = 0
    var traffic: Traffic?
    var use: ProcessUse?
}

/// The coordinator, as a process of its own.
struct CoordinatorNode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "coordinator", shouldDisplay: false)

    @Option var directory: String
    /// Of a new run; 0: goes on with the directory's.
    @Option var rounds = 0
    @Option var workers = 1
    @Option var samples = 16
    @Flag var curve = false
    /// Rounds that are reported.
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
