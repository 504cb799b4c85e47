import Core

/// Chooses which status messages of workers go into `metrics.jsonl`: every change of a worker's phase, and its loss, less and less often. So the
/// file stays small in long runs and with many workers, and still holds the curve of each worker's loss.
package struct WorkerThinning: Sendable {
    /// Number of a worker's first losses that all become lines, because a short run has no others.
    private static let firstLines = 16
    /// Largest number of workers whose first losses all become lines. More workers would write too many lines a second.
    private static let firstWorkers = 64
    /// Least number of seconds between two later lines of a worker.
    private static let shortestSeconds = 5.0
    /// Least time between two later lines, as a part of the time since the first line.
    private static let partOfAge = 1.0 / 200
    /// Least number of seconds between two later lines, per worker of the run.
    private static let secondsPerWorker = 0.05
    /// Largest number of workers that are told apart, because peers choose their names.
    private static let workersMax = 4096
    /// Seconds of silence after which a worker that was never admitted makes room for another. No event reports its departure.
    private static let strangerSeconds = 30.0

    private var began: Double?
    private var workers: [String: Kept] = [:]

    private struct Kept: Sendable {
        var writtenAt: Double
        var phase: String
        var lines = 0
        /// Its newest status, and the time of it.
        var last: CoordinatorProgress.Worker
        var heard: Double
        /// Sum and number of the losses since the last line.
        var sum = 0.0
        var count = 0

        /// The losses since the last line as a line; nil if there are none.
        var heldBack: CoordinatorProgress.Worker? {
            guard count > 0 else { return nil }
            var line = last
            line.trainingLoss = sum / Double(count)
            return line
        }
    }

    package init() {}

    /// Returns the line to write, with the mean of the losses since the worker's last line; nil if there is none to write now.
    package mutating func admit(_ worker: CoordinatorProgress.Worker, at time: Double) -> CoordinatorProgress.Worker? {
        let start = began ?? time
        began = start
        let key = worker.session.map { "\($0)" } ?? worker.name
        if workers[key] == nil, workers.count >= Self.workersMax {
            workers = workers.filter { $0.value.last.machine != nil || time - $0.value.heard <= Self.strangerSeconds }
            guard workers.count < Self.workersMax else { return nil }
        }
        var kept = workers[key] ?? Kept(writtenAt: -.infinity, phase: "", last: worker, heard: time)
        if let loss = worker.trainingLoss {
            kept.sum += loss
            kept.count += 1
        }
        (kept.last, kept.heard) = (worker, time)
        let seconds = max(Self.shortestSeconds, (time - start) * Self.partOfAge, Double(workers.count) * Self.secondsPerWorker)
        // A worker waits between two orders. That phase changes every second and says nothing.
        let phase = worker.phase == "waiting" ? "training" : worker.phase
        let isFirst = worker.trainingLoss != nil && kept.lines < Self.firstLines && workers.count <= Self.firstWorkers
        guard isFirst || time - kept.writtenAt >= seconds || phase != kept.phase else {
            workers[key] = kept
            return nil
        }
        let lines = kept.lines + (worker.trainingLoss == nil ? 0 : 1)
        workers[key] = Kept(writtenAt: time, phase: phase, lines: lines, last: worker, heard: time)
        return kept.heldBack ?? worker
    }

    /// Forgets a worker that has left. Returns its losses that were held back; nil if there are none.
    package mutating func remove(_ machine: MachineID) -> CoordinatorProgress.Worker? {
        guard let key = workers.first(where: { $0.value.last.machine == machine })?.key else { return nil }
        return workers.removeValue(forKey: key)?.heldBack
    }

    /// Returns the losses of each worker that were held back, at the end of a run.
    package mutating func flush() -> [CoordinatorProgress.Worker] {
        let held = workers.values.compactMap(\.heldBack)
        workers = [:]
        return held.sorted { ($0.machine?.rawValue ?? .max, $0.name) < ($1.machine?.rawValue ?? .max, $1.name) }
    }
}
