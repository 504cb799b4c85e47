import ArgumentParser
import Foundation
import Transport

/// Measures rounds per second, processor time, memory and bytes by the number of workers.
struct Rounds: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Rounds a second, processor time, memory and bytes of a coordinator with so many workers.",
        discussion: """
            Of the last nine tenths of the rounds. Bytes are those of contributions (up) and commits (down) at the coordinator's socket
            with ZMTP's frame headers and CURVE's envelopes; heartbeats, statuses and digests are counted apart, by the second.
            """)

    @Option(help: "Workers; several numbers are one run each.") var workers = "1,2,4,8,16,256,1024"
    @Option(help: "Rounds of each run; 0: as many as take some seconds.") var rounds = 0
    @Option(help: "Samples of a worker in a round.") var samples = 16
    @Option(help: "Relays that the workers are behind; 0: none. They cost the coordinator's host nothing but their connections.") var relays = 0
    @Flag(help: "Encrypted.") var curve = false
    @Option(help: ArgumentHelp("Where the ledger is written.", valueName: "path")) var directory = FileManager.default.temporaryDirectory.path

    func validate() throws {
        guard !counts.isEmpty, counts.allSatisfy({ $0 > 0 && $0 <= 10_000 }), samples > 0, samples <= 4096, rounds == 0 || rounds >= 10,
            relays >= 0, relays <= counts.min() ?? 0
        else {
            throw ValidationError("workers are 1…10,000, samples 1…4,096, rounds at least 10, relays no more than workers")
        }
    }

    private var counts: [Int] { workers.split(separator: ",").compactMap { Int($0) } }

    func run() throws {
        for count in counts { try measure(count) }
    }

    private func measure(_ workers: Int) throws {
        let rounds = self.rounds > 0 ? self.rounds : max(200, 10_000 / workers)
        let scratch = try ScratchDirectory(in: directory)
        let reports = (1...10).map { rounds * $0 / 10 - 1 }
        let cluster = try BenchmarkCluster(
            directory: scratch.path, rounds: rounds, workers: workers, samples: samples, curve: curve, reports: reports, relays: relays)
        let first = try cluster.report()
        let swarmSeconds = cluster.swarmSeconds
        var last = first
        for _ in reports.dropFirst() {
            last = try cluster.report()
            say("\(workers) workers: round \((last.round ?? 0) + 1) of \(rounds)")
        }
        let swarmMilliseconds = (cluster.swarmSeconds - swarmSeconds) * 1000 / (0.9 * Double(rounds))
        try cluster.wait()
        try report(first, last, workers, swarmMilliseconds)
    }

    private func report(_ first: CoordinatorReport, _ last: CoordinatorReport, _ workers: Int, _ swarmMilliseconds: Double) throws {
        guard let before = first.traffic, let after = last.traffic, let use = last.use, let used = first.use else {
            throw ValidationError("the coordinator did not say what it used")
        }
        let key = "coordinator.\(workers)\(relays > 0 ? ".by_\(relays)_relays" : "")\(curve ? ".curve" : "")"
        let rounds = Double(last.round ?? 0) - Double(first.round ?? 0)
        let (seconds, samples) = (last.time - first.time, Double(last.samples - first.samples))
        try Figure.print("\(key).rounds_per_second", rounds / seconds, "rounds/s")
        try Figure.print("\(key).cpu_ms_per_round", (use.cpuSeconds - used.cpuSeconds) * 1000 / rounds, "ms")
        // This is not the coordinator's time, but the workers use the same processors.
        try Figure.print("\(key).swarm_cpu_ms_per_round", swarmMilliseconds, "ms")
        try Figure.print("\(key).peak_rss_mb", use.peakMegabytes, "MB")
        try Figure.print("\(key).bytes_up_per_sample", Double(after.received.rounds.bytes - before.received.rounds.bytes) / samples, "bytes")
        if workers > 1 {
            // Each worker receives the bytes of all; only those of its peers are new to it.
            let peers = Double(workers - 1)
            try Figure.print(
                "\(key).bytes_down_per_peer_sample", Double(after.sent.rounds.bytes - before.sent.rounds.bytes) / (samples * peers), "bytes")
        }
        // Everything is counted here, heartbeats too: what the coordinator's link carries.
        try Figure.print("\(key).bytes_up_per_round", Double(after.received.total.bytes - before.received.total.bytes) / rounds, "bytes")
        try Figure.print("\(key).bytes_down_per_round", Double(after.sent.total.bytes - before.sent.total.bytes) / rounds, "bytes")
        let control = after.received.control.bytes - before.received.control.bytes + after.sent.control.bytes - before.sent.control.bytes
        try Figure.print("\(key).control_bytes_per_worker_second", Double(control) / seconds / Double(workers), "bytes/s")
        if after.dropped > before.dropped { say("\(after.dropped - before.dropped) messages were dropped") }
    }
}
