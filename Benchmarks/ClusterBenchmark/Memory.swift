import ArgumentParser
import Foundation

/// Measures whether a coordinator's memory grows with its rounds.
struct Memory: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "A coordinator's memory over very many rounds.",
        discussion: "Each round is synced to the directory's disk; on a RAM disk that takes no time.")

    @Option(help: "Rounds.") var rounds = 1_000_000
    @Option(help: "Workers.") var workers = 2
    @Option(help: "Samples of a worker in a round.") var samples = 4
    @Option(help: ArgumentHelp("Where the ledger is written.", valueName: "path")) var directory = FileManager.default.temporaryDirectory.path

    func validate() throws {
        guard rounds >= 100, rounds < Int(Int32.max), workers > 0, workers <= 1024, samples > 0, samples <= 4096 else {
            throw ValidationError("rounds are 100…2³¹, workers 1…1,024, samples 1…4,096")
        }
    }

    func run() throws {
        let scratch = try ScratchDirectory(in: directory)
        let reports = (1...20).map { rounds * $0 / 20 - 1 }
        let cluster = try BenchmarkCluster(directory: scratch.path, rounds: rounds, workers: workers, samples: samples, reports: reports)
        var resident: [Double] = []
        var times: [Double] = []
        for _ in reports {
            let report = try cluster.report()
            resident.append(report.use?.residentMegabytes ?? 0)
            times.append(report.time)
            say("round \((report.round ?? 0) + 1): \(resident[resident.count - 1]) MB")
        }
        try cluster.wait()
        let (early, late) = (resident[1], resident[resident.count - 1])
        try Figure.print("coordinator.memory.rounds", Double(rounds), "rounds")
        try Figure.print("coordinator.memory.rss_mb_at_10_percent", early, "MB")
        try Figure.print("coordinator.memory.rss_mb_at_100_percent", late, "MB")
        try Figure.print("coordinator.memory.growth_bytes_per_round", (late - early) * 1e6 / (0.9 * Double(rounds)), "bytes")
        try Figure.print("coordinator.memory.rounds_per_second", 0.95 * Double(rounds) / (times[times.count - 1] - times[0]), "rounds/s")
    }
}
