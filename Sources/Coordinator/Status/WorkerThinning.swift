import Core

/// What of the workers' words goes into `metrics.jsonl`: every change of what a worker does, and its loss now and then, ever less often. So
/// the file stays small in long runs and with many workers, and still has the curve of each worker's loss.
struct WorkerThinning: Sendable {
    /// A worker's first words with a loss all become lines: a short run has no others.
    private static let firstLines = 16
    /// Between two lines of a worker after these: so long at least,
    private static let shortestSeconds = 5.0
    /// …this part of the time since the first line,
    private static let partOfAge = 1.0 / 200
    /// …and so long for each worker that there is.
    private static let secondsPerWorker = 0.05
    /// Workers that are kept apart: each names itself.
    private static let workersMax = 4096

    private var began: Double?
    private var workers: [String: Kept] = [:]

    private struct Kept: Sendable {
        var writtenAt: Double
        var phase: String
        var lines = 0
        /// Its newest word.
        var last: CoordinatorProgress.Worker?
        /// Of the losses since the last line.
        var sum = 0.0
        var count = 0
    }

    /// The line to write, with the mean of the losses since the worker's last one; nil: none now.
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
        // Between two orders a worker waits: that changes every second and says nothing.
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

    /// What was held back of each worker's losses, for the end of a run.
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
