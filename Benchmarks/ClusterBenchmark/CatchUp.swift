import ArgumentParser
import Core
import Foundation
import TestSupport
import Transport

/// Measures the time from a worker's late join to its first contribution.
struct CatchUp: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "catch-up",
        abstract: "A worker joins a run of many rounds, which go on meanwhile: seconds from its hello to its first contribution.",
        discussion: """
            The protocol's part: fetching, checking and folding the ledger, the digest, the admission. The worker has no model; replaying a
            run's updates comes on top (KernelBenchmark).
            """)

    @Option(help: "Rounds that the run has; several numbers are one run each.") var rounds = "1000,10000,100000"
    @Option(help: "Machines in each round.") var machines = 3
    @Option(help: "Samples of a machine in a round.") var samples = 16
    @Option(help: "Seconds of a round while the worker joins.") var roundSeconds = 0.05
    @Option(help: ArgumentHelp("Where the ledger is written.", valueName: "path")) var directory = FileManager.default.temporaryDirectory.path

    func validate() throws {
        guard !counts.isEmpty, counts.allSatisfy({ $0 > 0 && $0 <= 10_000_000 }), machines > 0, machines <= 1024, samples > 0, samples <= 128 else {
            throw ValidationError("rounds are 1…10,000,000, machines 1…1,024, samples 1…128")
        }
    }

    private var counts: [Int] { rounds.split(separator: ",").compactMap { Int($0) } }

    func run() throws {
        for count in counts { try measure(count) }
    }

    private func measure(_ rounds: Int) throws {
        let scratch = try ScratchDirectory(in: directory)
        _ = try SyntheticLedger.write(to: scratch.path + "/ledger", rounds: rounds, machines: machines, samples: samples)
        let cluster = try BenchmarkCluster(
            directory: scratch.path, rounds: 0, workers: machines, samples: samples, reports: [rounds + 4], shareSeconds: roundSeconds)
        defer { cluster.stop() }
        let round = try cluster.report().round ?? 0
        say("the run goes on at round \(round); a worker joins")
        let start = Date.now
        var joined: Double?
        try CannedWorker.run(try JoinString(cluster.join), name: "joiner") { notice in
            switch notice {
            case .joined: joined = Date.now.timeIntervalSince(start)
            case .contributed: return true
            default: break
            }
            return false
        }
        let seconds = Date.now.timeIntervalSince(start)
        try Figure.print("catch_up.\(rounds).admitted_seconds", joined ?? seconds, "s")
        try Figure.print("catch_up.\(rounds).seconds", seconds, "s")
    }
}
