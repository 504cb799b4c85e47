import Coordinator
import Core
import Transport
import Worker

/// A run's curves and events, from the coordinator's events alone: what the page and the reports in CSV, JSON and TensorBoard's format are
/// made of. It stays small however long a run is: of a series that has grown too long every second point goes, and later ones are taken
/// half as often.
package struct RunHistory: Sendable {
    /// A point of a curve, or something that happened. In JSON one flat object.
    package struct Point: Codable, Hashable, Sendable {
        package enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
            case round, evaluation, worker, event
        }
        /// Grows by one from point to point, also of those that have gone.
        package var number: Int
        package var kind: Kind
        /// Rounds that were committed before: the same numbers as the ledger's.
        package var round: Int
        /// Unix seconds.
        package var time: Double
        /// Bytes in the ledger, one a sample, and those through the coordinator's socket.
        package var samples: UInt64
        package var bytes: UInt64
        /// Of `round` and `worker` the smoothed training loss, of `evaluation` that of the data that judge the run.
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
        private var stride = 1
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
    private var next = 0
    private var round = 0
    private var samples: UInt64 = 0

    package init() {}

    /// All points, in the order in which they came.
    package var points: [Point] {
        (rounds.points + evaluations.points + workers.values.flatMap(\.points) + events).sorted { $0.number < $1.number }
    }

    /// Those from a number on.
    package func points(from number: Int) -> [Point] { points.filter { $0.number >= number } }

    /// Above all numbers that were given.
    package var end: Int { next }

    /// - Parameter progress: of the same events, this one included.
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
            guard workers[key] != nil || workers.count < Self.workersMax else { return }
            var point = make(.worker, news, progress)
            (point.loss, point.worker, point.machine) = (loss, worker.name, worker.machine?.rawValue)
            workers[key, default: Series()].append(point, limit: Self.pointsOfWorkerMax)
        default: if let text = Self.text(news.event) { note(text, news, progress) }
        }
    }

    /// A worker's own words: its losses and what it measures.
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
        case .connection, .snapshot, .warning, .notice:
            point.kind = .event
            point.text = shortened(printable("\(progress)", onOneLine: true), to: 500)
            events.append(point)
            if events.count > Self.eventsMax { events.removeFirst(events.count - Self.eventsMax) }
        }
        next += 1
    }

    private mutating func note(_ text: String, _ news: CoordinatorProgress, _ progress: RunProgress) {
        var point = make(.event, news, progress)
        point.text = shortened(printable(text, onOneLine: true), to: 500)
        events.append(point)
        if events.count > Self.eventsMax { events.removeFirst(events.count - Self.eventsMax) }
    }

    private mutating func make(_ kind: Point.Kind, _ news: CoordinatorProgress, _ progress: RunProgress) -> Point {
        defer { next += 1 }
        return Point(number: next, kind: kind, round: round, time: news.time, samples: samples, bytes: progress.wireBytes)
    }

    /// What belongs into a run's story.
    private static func text(_ event: CoordinatorProgress.Event) -> String? {
        switch event {
        case .joined(let joined): "\(joined.name) joined as \(joined.machine)\(joined.evaluates && !joined.trains ? ", to evaluate" : "")"
        case .left(let left): "\(left.name) left: \(left.reason)"
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
