import Coordinator
import Core
import Transport
import Worker

/// A run's curves and events, built from the coordinator's events alone. The page and the reports in CSV, JSON and TensorBoard's format are made
/// from it. It stays small in long runs: if a series grows too long, every second point is dropped, and later points are taken half as often.
package struct RunHistory: Sendable {
    /// A point of a curve, or an event. In JSON it is one flat object.
    package struct Point: Codable, Hashable, Sendable {
        package enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
            case round, evaluation, worker, event
        }
        /// Number of the point. It grows by one per point, and counts dropped points too.
        package var number: Int
        package var kind: Kind
        /// Number of rounds committed before, as the ledger numbers rounds.
        package var round: Int
        /// Unix seconds.
        package var time: Double
        /// Number of samples in the ledger, one byte each, and of bytes through the coordinator's socket.
        package var samples: UInt64
        package var bytes: UInt64
        /// Smoothed training loss for `round` and `worker`; for `evaluation`, loss on the data that judge the run.
        package var loss: Double?
        package var accuracy: Double?
        package var validationLoss: Double?
        package var validationAccuracy: Double?
        package var learningRate: Double?
        package var meanMagnitude: Double?
        package var worker: String?
        package var machine: UInt32?
        package var text: String?

        enum CodingKeys: String, CodingKey {
            case number = "n"
            case kind, round, time, samples, bytes, loss, accuracy
            case validationLoss = "validation_loss"
            case validationAccuracy = "validation_accuracy"
            case learningRate = "learning_rate"
            case meanMagnitude = "mean_magnitude"
            case worker, machine, text
        }
    }

    /// Points of one curve, thinned out.
    private struct Series: Sendable {
        var points: [Point] = []
        private(set) var stride = 1
        private var skipped = 0

        mutating func append(_ point: Point, limit: Int) {
            skipped += 1
            guard skipped >= stride else { return }
            skipped = 0
            points.append(point)
            guard points.count > limit else { return }
            stride *= 2
            points = points.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
        }
    }

    private static let roundsMax = 2000
    private static let evaluationsMax = 2000
    private static let eventsMax = 500
    private static let pointsOfWorkerMax = 400
    private static let workersMax = 256

    private var rounds = Series()
    private var evaluations = Series()
    private var workers: [String: Series] = [:]
    private var events: [Point] = []
    /// Number of events that made room for later ones, and whether losses of some workers were not kept.
    private var eventsDropped = 0
    private var hasLeftOutWorkers = false
    private var next = 0
    private var round = 0
    private var samples: UInt64 = 0

    package init() {}

    /// All points, in the order of their numbers.
    package var points: [Point] { points(from: 0) }

    /// Returns the points from a number on, in the order of their numbers.
    package func points(from number: Int) -> [Point] {
        let series = [rounds.points, evaluations.points, events] + workers.values.map(\.points)
        return series.flatMap { $0.filter { $0.number >= number } }.sorted { $0.number < $1.number }
    }

    /// What the points leave out, as one sentence; nil if they are complete.
    package var omission: String? {
        let stride = ([rounds.stride, evaluations.stride] + workers.values.map(\.stride)).max() ?? 1
        let parts = [
            stride > 1 ? "long curves have one point in \(stride)" : nil,
            eventsDropped > 0 ? "the first \(grouped(eventsDropped)) events are left out" : nil,
            hasLeftOutWorkers ? "only the first \(Self.workersMax) workers have curves" : nil,
        ].compactMap { $0 }
        return parts.isEmpty ? nil : parts.joined(separator: ", ")
    }

    private mutating func append(event point: Point) {
        events.append(point)
        guard events.count > Self.eventsMax else { return }
        eventsDropped += events.count - Self.eventsMax
        events.removeFirst(events.count - Self.eventsMax)
    }

    /// The number of the next point.
    package var end: Int { next }

    /// - Parameter progress: the progress after the same events, including this one.
    package mutating func take(_ news: CoordinatorProgress, _ progress: RunProgress) {
        samples = progress.lastRound?.samplesSoFar ?? max(samples, progress.listening?.samples ?? 0)
        switch news.event {
        case .listening(let listening):
            round = max(round, Int(listening.round))
            note("the coordinator listens; the next round is \(listening.round)", news, progress)
        case .round(let committed):
            round = Int(committed.round) + 1
            var point = make(.round, news, progress)
            point.loss = progress.trainingLoss
            point.learningRate = committed.learningRate
            point.meanMagnitude = committed.meanMagnitude
            rounds.append(point, limit: Self.roundsMax)
        case .evaluation(let heldOut):
            var point = make(.evaluation, news, progress)
            point.round = Int(heldOut.round)
            (point.loss, point.accuracy, point.worker) = (heldOut.loss, heldOut.accuracy, heldOut.name)
            (point.validationLoss, point.validationAccuracy) = (heldOut.validation?.loss, heldOut.validation?.accuracy)
            evaluations.append(point, limit: Self.evaluationsMax)
        case .worker(let worker):
            guard let loss = worker.trainingLoss else { return }
            let key = worker.session.map { "\($0)" } ?? worker.name
            guard workers[key] != nil || workers.count < Self.workersMax else {
                hasLeftOutWorkers = true
                return
            }
            var point = make(.worker, news, progress)
            (point.loss, point.worker, point.machine) = (loss, worker.name, worker.machine?.rawValue)
            workers[key, default: Series()].append(point, limit: Self.pointsOfWorkerMax)
        default: if let text = Self.text(news.event) { note(text, news, progress) }
        }
    }

    /// Takes a worker's own reports: its losses and its measurements.
    mutating func take(_ progress: WorkerProgress, _ worker: WorkerMonitor.State, named name: String, at time: Double) {
        round = worker.round
        samples = worker.samples
        var point = Point(number: next, kind: .worker, round: round, time: time, samples: samples, bytes: 0)
        switch progress {
        case .notice(.contributed(let round, _, let loss)) where loss.isFinite:
            (point.round, point.loss, point.worker, point.machine) = (Int(round) + 1, loss, name, worker.machine)
            workers[name, default: Series()].append(point, limit: Self.pointsOfWorkerMax)
        case .notice(.evaluated(let report)):
            point.kind = .evaluation
            point.round = Int(report.round)
            (point.loss, point.accuracy, point.worker) = (worker.latest?.loss, worker.latest?.accuracy, name)
            evaluations.append(point, limit: Self.evaluationsMax)
        case .notice(.applied), .notice(.contributed), .notice(.digest): return
        case .notice(.privacy(let status)) where !status.isSpent: return
        case .connection, .snapshot, .warning, .notice:
            point.kind = .event
            point.text = shortened(printable("\(progress)", onOneLine: true), to: 500)
            append(event: point)
        }
        next += 1
    }

    private mutating func note(_ text: String, _ news: CoordinatorProgress, _ progress: RunProgress) {
        var point = make(.event, news, progress)
        point.text = shortened(printable(text, onOneLine: true), to: 500)
        append(event: point)
    }

    private mutating func make(_ kind: Point.Kind, _ news: CoordinatorProgress, _ progress: RunProgress) -> Point {
        defer { next += 1 }
        return Point(number: next, kind: kind, round: round, time: news.time, samples: samples, bytes: progress.wireBytes)
    }

    /// Returns the text of an event that belongs in a run's history; nil for other events.
    private static func text(_ event: CoordinatorProgress.Event) -> String? {
        switch event {
        case .joined(let joined): "\(joined.name) joined as \(joined.machine)\(joined.evaluates && !joined.trains ? ", to evaluate" : "")"
        case .left(let left): left.reason == "\(Departure.Reason.left)" ? "\(left.name) left" : "\(left.name) is gone: \(left.reason)"
        case .refused(let worker): "\(worker.name) was turned away: \(worker.reason)"
        case .trial(let trial):
            "learning rate \(trial.learningRate) \(trial.isChosen ? "is chosen" : "was tried"), validation loss \(trial.loss.map { fixed($0, 4) } ?? "not finite")"
        case .digests(let digests) where digests.digest == nil: "the machines' digests differ before round \(digests.round)"
        case .warning(let text): text
        case .finished(let finished): "\(finished.finish.outcome.rawValue): \(finished.finish.message)"
        default: nil
        }
    }
}
