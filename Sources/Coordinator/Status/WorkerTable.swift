import Core
import Foundation

/// The state of each worker during a run, built from the coordinator's events alone. Displays, `status`, the page and the metrics are made from it.
public struct WorkerTable: Sendable {
    /// One worker, admitted or not.
    public struct Row: Sendable {
        public let name: String
        /// Nil before its admission.
        public fileprivate(set) var machine: MachineID?
        public fileprivate(set) var trains: Bool
        public fileprivate(set) var evaluates: Bool
        /// `WorkerStatus.Phase` by name; "greeted" before its first status.
        public fileprivate(set) var phase = "greeted"
        /// 0…1 within the phase; nil if the phase has no progress.
        public fileprivate(set) var progress: Double?
        /// Time and progress at the first report of this phase.
        fileprivate var progressSince: (time: Double, progress: Double)?
        /// The part of the prefix cache that is filled; nil if unknown.
        public fileprivate(set) var cache: Double?
        fileprivate var cacheSince: (time: Double, progress: Double)?
        /// Samples per second of computing, smoothed.
        public fileprivate(set) var samplesPerSecond: Double?
        /// Its own smoothed training loss, and whether it is out of line with the others'.
        public fileprivate(set) var losses: LossOutliers.Track?
        fileprivate var lossAt = 0.0
        /// Number of its bytes in the ledger, one per sample.
        public fileprivate(set) var bytes: UInt64 = 0
        /// Time of its last status, in Unix seconds.
        public fileprivate(set) var heard: Double
        /// Seconds between two of its status messages, smoothed. On a thin link they are rare.
        public fileprivate(set) var interval = 1.0
        /// Whether its bytes point against the others', so that the run's filter leaves them out.
        public fileprivate(set) var disagrees = false
        /// The reason why it left (`Departure.Reason` by name); nil while it is present.
        public fileprivate(set) var departure: String?
        fileprivate let session: UInt32?

        public var loss: Double? { losses?.loss }

        /// Seconds until `progress` is complete, at the speed so far; nil until that is known.
        public var secondsLeft: Double? { Self.secondsLeft(progress, since: progressSince, at: heard) }
        /// Seconds until the prefix cache is filled, at the speed so far; nil until that is known.
        public var cacheSecondsLeft: Double? { Self.secondsLeft(cache, since: cacheSince, at: heard) }

        private static func secondsLeft(_ part: Double?, since: (time: Double, progress: Double)?, at now: Double) -> Double? {
            guard let part, let since, part > 0, part < 1, now - since.time >= 1, part - since.progress > 0.005 else { return nil }
            return (1 - part) * (now - since.time) / (part - since.progress)
        }
    }

    /// Largest number of rows, because peers create them.
    private static let rowsMax = 4096
    /// Seconds of silence after which a worker that was never admitted counts as gone. No event reports its departure.
    private static let strangerSeconds = 30.0
    /// Age, in intervals of its worker, beyond which a loss says nothing about the present.
    private static let staleIntervals = 4.0
    private static let staleSeconds = 10.0
    /// Weight of a new rate.
    fileprivate static let rateWeight = 0.3

    private var rows: [String: Row] = [:]
    /// Keys in the order in which the workers came.
    private var order: [String] = []
    /// Time of the last search for rows that can go.
    private var searchedAt = -Double.infinity
    private var rounds = 0
    /// The losses' common figures. With many workers they are not computed for each status.
    private var field: LossOutliers.Field?
    private var fieldAt = -Double.infinity
    private static let rowsForEachWord = 64
    private static let fieldSeconds = 0.5

    public init() {}

    /// All workers, present or gone, by machine number; those never admitted come last.
    public var all: [Row] {
        order.compactMap { rows[$0] }.enumerated().sorted { a, b in
            (a.element.machine?.rawValue ?? .max, a.offset) < (b.element.machine?.rawValue ?? .max, b.offset)
        }.map(\.element)
    }

    /// The workers that are present.
    public var present: [Row] { all.filter { $0.departure == nil } }

    /// The present workers that train, in no order.
    public var trainers: [Row] { rows.values.filter { $0.trains && $0.departure == nil } }

    /// Mean of the smoothed losses of the workers that train; nil before the first report.
    public var meanLoss: Double? {
        let losses = trainers.compactMap(\.loss)
        return losses.isEmpty ? nil : losses.reduce(0, +) / Double(losses.count)
    }

    public mutating func take(_ progress: CoordinatorProgress) {
        let time = progress.time
        switch progress.event {
        case .listening: self = WorkerTable()
        case .greeted(let greeting):
            let key = key(greeting.session, greeting.name)
            guard rows[key] == nil || rows[key]?.departure != nil else { return }
            insert(
                Row(
                    name: greeting.name, trains: greeting.trains, evaluates: greeting.evaluates, heard: time, session: greeting.session), at: key)
        case .joined(let joined):
            let key = key(joined.session, joined.name)
            if rows[key] == nil {
                insert(Row(name: joined.name, trains: joined.trains, evaluates: joined.evaluates, heard: time, session: joined.session), at: key)
            }
            rows[key]?.machine = joined.machine
            rows[key]?.departure = nil
        case .left(let left):
            guard let key = rows.first(where: { $0.value.machine == left.machine })?.key else { return }
            rows[key]?.departure = left.reason
        case .worker(let worker): take(worker, at: time)
        case .round(let round): rounds = round.effectiveRounds
        default: break
        }
    }

    private func key(_ session: UInt32?, _ name: String) -> String { session.map { "\($0)" } ?? name }

    private mutating func insert(_ row: Row, at key: String) {
        // A search looks at every row, so it is rare while there is room.
        let isFull = rows[key] == nil && rows.count >= Self.rowsMax
        if isFull || row.heard - searchedAt > Self.strangerSeconds { makeRoom(at: row.heard) }
        guard rows[key] != nil || rows.count < Self.rowsMax else { return }
        if rows.updateValue(row, forKey: key) == nil { order.append(key) }
    }

    /// Removes silent workers that were never admitted. If there are none and the table is full, removes the departed worker that was heard the
    /// longest ago.
    private mutating func makeRoom(at time: Double) {
        searchedAt = time
        var gone = Set(rows.filter { $0.value.machine == nil && time - $0.value.heard > Self.strangerSeconds }.keys)
        if gone.isEmpty, rows.count >= Self.rowsMax {
            let oldest = rows.filter { $0.value.departure != nil }.min { $0.value.heard < $1.value.heard }
            if let oldest { gone = [oldest.key] }
        }
        guard !gone.isEmpty else { return }
        for key in gone { rows[key] = nil }
        order.removeAll { gone.contains($0) }
    }

    private mutating func take(_ worker: CoordinatorProgress.Worker, at time: Double) {
        let key = key(worker.session, worker.name)
        if rows[key] == nil {
            insert(
                Row(
                    name: worker.name, trains: worker.trains ?? true, evaluates: worker.evaluates ?? false, heard: time,
                    session: worker.session), at: key)
        }
        guard var row = rows[key] else { return }
        row.note(worker, at: time)
        if let loss = worker.trainingLoss, loss.isFinite {
            if row.losses == nil { row.losses = .init(loss) } else { row.losses?.take(loss) }
            row.lossAt = time
            rows[key] = row
            if row.trains, var losses = row.losses {
                LossOutliers.judge(&losses, in: lossField(at: time), round: rounds)
                row.losses = losses
            }
        }
        rows[key] = row
    }

    private mutating func lossField(at time: Double) -> LossOutliers.Field? {
        if rows.count > Self.rowsForEachWord, time - fieldAt < Self.fieldSeconds { return field }
        fieldAt = time
        field = LossOutliers.Field(
            trainers.compactMap { time - $0.lossAt <= Self.staleIntervals * $0.interval + Self.staleSeconds ? $0.loss : nil })
        return field
    }
}

extension WorkerTable.Row {
    fileprivate mutating func note(_ worker: CoordinatorProgress.Worker, at time: Double) {
        machine = worker.machine ?? machine
        if worker.machine != nil { departure = nil }
        trains = worker.trains ?? trains
        evaluates = worker.evaluates ?? evaluates
        disagrees = worker.disagrees ?? false
        bytes = worker.bytes ?? bytes
        if phase != "greeted", time > heard { interval += 0.2 * (min(time - heard, 120) - interval) }
        heard = max(heard, time)
        let part = worker.progress ?? 0
        switch worker.phase {
        case "training", "waiting":
            if cacheSince == nil || part < cache ?? 0 { cacheSince = (time, part) }
            cache = part
            (progress, progressSince) = (nil, nil)
        case "loading": (progress, progressSince) = (nil, nil)
        default:
            if phase != worker.phase || part < progress ?? 0 { progressSince = (time, part) }
            progress = part
            // The head start of the cache has its own phase.
            if worker.phase == "caching", part < cacheSince?.progress ?? .infinity { cacheSince = (time, part) }
        }
        phase = worker.phase
        if let rate = worker.samplesPerSecond, rate > 0 {
            samplesPerSecond = samplesPerSecond.map { $0 + WorkerTable.rateWeight * (rate - $0) } ?? rate
        }
    }
}
