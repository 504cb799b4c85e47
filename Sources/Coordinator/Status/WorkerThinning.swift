import Core

/// Chooses which status messages of workers go into `metrics.jsonl`: every change of a worker's phase, and its loss, less and less often. So the
/// file stays small in long runs and with many workers, and still holds the curve of each worker's loss.
struct WorkerThinning: Sendable {
    /// Number of a worker's first losses that all become lines, because a short run has no others.
    private static let firstLines = 16
    /// Least number of seconds between two later lines of a worker.
    private static let shortestSeconds = 5.0
    /// Least time between two later lines, as a part of the time since the first line.
    private static let partOfAge = 1.0 / 200
    /// Least number of seconds between two later lines, per worker of the run.
    private static let secondsPerWorker = 0.05
    /// Largest number of workers that are told apart, because peers choose their names.
    private static let workersMax = 4096

    private var began: Double?
    private var workers: [String: Kept] = [:]

    private struct Kept: Sendable {
        var writtenAt: Double
        var phase: String
        var lines = 0
        /// Its newest status.
        var last: CoordinatorProgress.Worker?
        /// Sum and number of the losses since the last line.
        var sum = 0.0
        var count = 0
    }

    /// Returns the line to write, with the mean of the losses since the worker's last line; nil if there is none to write now.
    mutating func admit(_ worker: CoordinatorProgress.Worker, at time: Double) -> CoordinatorProgress.Worker? {
        let start = began ?? time
        began = start
        let key = worker.session.map { "\($0)" } ?? worker.name
        var kept = workers[key] ?? Kept(writtenAt: -.infinity, phase: "")
        if let loss = worker.trainingLoss {
            kept.sum += loss
            kept.count += 1
        }
        kept.last = worker
        let seconds = max(Self.shortestSeconds, (time - start) * Self.partOfAge, Double(workers.count) * Self.secondsPerWorker)
        // A worker waits between two orders. That phase changes every second and says nothing.
        let phase = worker.phase == "waiting" ? "training" : worker.phase
        let isFirst = worker.trainingLoss != nil && kept.lines < Self.firstLines
        let isDue = isFirst || time - kept.writtenAt >= seconds || phase != kept.phase
        guard isDue, workers[key] != nil || workers.count < Self.workersMax else {
            if workers[key] != nil { workers[key] = kept }
            return nil
        }
        var line = worker
        if kept.count > 0 { line.trainingLoss = kept.sum / Double(kept.count) }
        workers[key] = Kept(writtenAt: time, phase: phase, lines: kept.lines + (worker.trainingLoss == nil ? 0 : 1), last: worker)
        return line
    }

    /// Returns the losses of each worker that were held back, at the end of a run.
    mutating func flush() -> [CoordinatorProgress.Worker] {
        let held = workers.values.filter { $0.count > 0 }.compactMap { kept in
            kept.last.map { last in
                var line = last
                line.trainingLoss = kept.sum / Double(kept.count)
                return line
            }
        }
        workers = [:]
        return held.sorted { ($0.machine?.rawValue ?? .max, $0.name) < ($1.machine?.rawValue ?? .max, $1.name) }
    }
}
