import ArgumentParser
import Core
import Foundation

/// A coordinator and a swarm of workers, each in a process of its own.
final class BenchmarkCluster {
    let join: String
    private let coordinator: Child
    private let swarm: Child

    /// - Parameters:
    ///   - rounds: number of rounds of a new run; 0 resumes the directory's ledger.
    ///   - reports: rounds at whose commits the coordinator reports what it has used.
    ///   - shareSeconds: time that each worker takes for its share.
    ///   - relays: number of relays that the workers are behind.
    init(
        directory: String, rounds: Int, workers: Int, samples: Int, curve: Bool = false, reports: [Int], shareSeconds: Double = 0, relays: Int = 0
    ) throws {
        coordinator = try Child(
            ["coordinator", "--directory", directory, "--rounds", "\(rounds)", "--workers", "\(workers)", "--samples", "\(samples)"]
                + (curve ? ["--curve"] : []) + ["--reports"] + reports.map { "\($0)" })
        guard let join = try coordinator.next(CoordinatorReport.self)?.join else { throw ValidationError("the coordinator did not start") }
        self.join = join
        swarm = try Child(["swarm", "--join", join, "--workers", "\(workers)", "--share-seconds", "\(shareSeconds)", "--relays", "\(relays)"])
    }

    func report() throws -> CoordinatorReport {
        guard let report = try coordinator.next(CoordinatorReport.self) else { throw ValidationError("the coordinator ended early") }
        return report
    }

    /// Processor time of the workers' process.
    var swarmSeconds: Double { swarm.cpuSeconds }

    /// Waits for the end of the run.
    func wait() throws {
        try coordinator.wait()
        try swarm.wait()
    }

    func stop() {
        coordinator.stop()
        swarm.stop()
    }
}
