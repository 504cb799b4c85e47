import Coordinator
import Core
import Transport

/// How a run stands at a moment: what the live view, `onebyte status`, `/api/status`, the page and the metrics show. A pure function of the
/// coordinator's events and the time. The names of the keys in JSON stay.
package struct RunStatus: Codable, Hashable, Sendable {
    package var role = "coordinator"
    package var version: String
    /// Of a worker: what it is called.
    package var name: String?
    /// SHA-256 of the run's spec.
    package var run: String?
    /// Where the coordinator listens for workers.
    package var endpoint: String?
    package var state: State
    /// Unix seconds: when this was so, and when the present coordinator began to listen.
    package var time: Double
    package var since: Double?
    /// Rounds in force, and how many there are to be.
    package var round: Int
    package var rounds: Int
    /// Bytes in the ledger, one a sample.
    package var samples: UInt64
    package var samplesPerSecond: Double?
    package var secondsLeft: Double?
    /// Smoothed, over all workers.
    package var trainingLoss: Double?
    /// The losses are minus a program's scores.
    package var isScored: Bool
    package var learningRate: Double?
    /// What the data that judge the run are called, and what the model makes of them: before round 0, and at last.
    package var evaluationName: String
    package var before: HeldOutScore?
    package var latest: HeldOutScore?
    /// Absent of a worker.
    package var wire: Wire?
    /// What the coordinator waits for, in words; absent while rounds go on.
    package var waitingFor: String?
    package var workers: [Worker]
    /// What a person should know, one sentence each.
    package var notes: [String]
    /// That all machines had at the last comparison, the round before which that was, and how many comparisons there were.
    package var digest: String?
    package var digestRound: Int?
    package var digestChecks: Int
    package var digestDisagreements: Int
    /// How the run ended, in the coordinator's words.
    package var ending: String?

    package enum State: String, Codable, Hashable, Sendable, CaseIterable {
        /// No round was committed yet, by this coordinator.
        case preparing
        case training
        /// Something is waited for.
        case waiting
        case completed, stopped, failed

        /// A coordinator is at work.
        package var isLive: Bool { [.preparing, .training, .waiting].contains(self) }
    }

    /// Bytes through the coordinator's socket, by kind; those of the coordinator's present process, but for the total.
    package struct Wire: Codable, Hashable, Sendable {
        /// What workers send for rounds, and what they are told of them.
        package var contributions: UInt64
        package var commits: UInt64
        /// All else, in and out: joining, the ledger, heartbeats, digests, evaluations, status.
        package var controlIn: UInt64
        package var controlOut: UInt64
        /// Of all processes of the run that events tell of.
        package var total: UInt64
        package var perSample: Double?

        enum CodingKeys: String, CodingKey {
            case contributions, commits
            case controlIn = "control_in"
            case controlOut = "control_out"
            case total
            case perSample = "per_sample"
        }
    }

    package struct Worker: Codable, Hashable, Sendable {
        package var name: String
        /// Absent before its admission.
        package var machine: UInt32?
        package var trains: Bool
        package var evaluates: Bool
        /// One word or two, for people.
        package var state: String
        /// 0…1 within the state, where that is known, and how long the rest will take.
        package var progress: Double?
        package var secondsLeft: Double?
        /// The part of the prefix cache that is there, and how long the rest will take.
        package var cache: Double?
        package var cacheSecondsLeft: Double?
        package var samplesPerSecond: Double?
        /// Its own, smoothed.
        package var trainingLoss: Double?
        /// Seconds since its last word; absent where it or the run has ended.
        package var heard: Double?
        package var bytes: UInt64
        /// Of all bytes of the workers in this list.
        package var share: Double?
        package var marks: [Mark]
        /// It takes part, or is about to.
        package var isPresent: Bool

        enum CodingKeys: String, CodingKey {
            case name, machine, trains, evaluates, state, progress
            case secondsLeft = "seconds_left"
            case cache
            case cacheSecondsLeft = "cache_seconds_left"
            case samplesPerSecond = "samples_per_second"
            case trainingLoss = "training_loss"
            case heard = "heard_seconds_ago"
            case bytes, share, marks
            case isPresent = "present"
        }
    }

    /// What is wrong with a worker.
    package enum Mark: String, Codable, Hashable, Sendable, CaseIterable {
        /// Its loss is out of line with the others' (`LossOutliers`).
        case bad
        /// Its bytes point against the others' and are left out.
        case disagrees
        /// The others compute more than twice as fast (`RateOutliers`).
        case slow
        /// It has said nothing for too long.
        case silent
    }

    enum CodingKeys: String, CodingKey {
        case role, version, name, run, endpoint, state, time, since, round, rounds, samples
        case samplesPerSecond = "samples_per_second"
        case secondsLeft = "seconds_left"
        case trainingLoss = "training_loss"
        case isScored = "scored"
        case learningRate = "learning_rate"
        case evaluationName = "evaluation_name"
        case before, latest, wire
        case waitingFor = "waiting_for"
        case workers, notes, digest
        case digestRound = "digest_round"
        case digestChecks = "digest_checks"
        case digestDisagreements = "digest_disagreements"
        case ending
    }
}

extension RunStatus {
    /// Without a word for so long, and for so many of its usual intervals, a worker is silent.
    fileprivate static let silentSeconds = 6.0
    fileprivate static let silentIntervals = 3.0

    /// - Parameter now: Unix seconds.
    package init(_ progress: RunProgress, at now: Double) {
        version = Version.number
        run = progress.listening?.run.description
        endpoint = progress.listening?.endpoint
        time = now
        since = progress.listeningSince
        round = progress.roundsDone
        rounds = progress.rounds
        samples = progress.lastRound?.samplesSoFar ?? progress.listening?.samples ?? 0
        samplesPerSecond = progress.samplesPerSecond
        secondsLeft = progress.finish == nil ? progress.secondsLeft : nil
        trainingLoss = progress.trainingLoss
        isScored = progress.isScored
        learningRate = progress.lastRound?.learningRate
        evaluationName = progress.measures.name
        before = progress.first
        latest = progress.latest
        wire = Wire(
            contributions: progress.traffic.received.rounds.bytes, commits: progress.traffic.sent.rounds.bytes,
            controlIn: progress.traffic.received.control.bytes, controlOut: progress.traffic.sent.control.bytes, total: progress.wireBytes,
            perSample: progress.wireBytesPerSample)
        digest = progress.digest?.description
        digestRound = progress.digestRound
        (digestChecks, digestDisagreements) = (progress.digestChecks, progress.digestDisagreements)
        ending = progress.finish?.message
        let held = progress.hold?.what
        waitingFor = progress.hold.map { Self.sentence($0.what, seconds: now - $0.since) }
        state =
            switch progress.finish?.outcome {
            case .completed: .completed
            case .stopped: .stopped
            case .failed: .failed
            case nil: progress.isWaiting ? .preparing : held == nil ? .training : .waiting
            }
        let table = progress.workers
        let rates = RateOutliers(table.trainers.compactMap(\.samplesPerSecond))
        let bytes = table.all.reduce(UInt64(0)) { $0 &+ $1.bytes }
        let isLive = progress.finish == nil
        workers = table.all.map { Worker($0, rates: rates, allBytes: bytes, held: held, isUnderWay: !progress.isWaiting, at: isLive ? now : nil) }
        notes = []
        notes = markNotes.map(\.text)
        if progress.digestDisagreements > 0 {
            notes.append(
                "at \(grouped(progress.digestDisagreements)) of the comparisons the machines' parameters differed; those that were wrong rebuild")
        }
    }

    /// A sentence for each mark, with a key that stays while its numbers change.
    var markNotes: [(mark: Mark, key: String, text: String)] {
        let training = workers.filter { $0.isPresent && $0.trains }
        return workers.filter { !$0.marks.isEmpty }.flatMap { worker in
            let others = training.filter { $0 != worker }
            return worker.marks.map { (mark: $0, key: "\($0) \(worker.machine ?? 0) \(worker.name)", text: Self.sentence($0, worker, others)) }
        }
    }

    private static func sentence(_ mark: Mark, _ worker: Worker, _ others: [Worker]) -> String {
        let name = printable(worker.name, onOneLine: true)
        switch mark {
        case .bad:
            let usual = LossOutliers.median(others.compactMap(\.trainingLoss)) ?? 0
            return
                "\(name) looks bad: loss \(fixed(worker.trainingLoss ?? 0, 2)) where the others have \(fixed(usual, 2)); look at its data and its labels"
        case .disagrees: return "\(name)'s bytes point against the others' and are left out; look at its data and its labels"
        case .slow:
            let usual = LossOutliers.median(others.compactMap(\.samplesPerSecond)) ?? 0
            return "\(name) is slow: \(rate(worker.samplesPerSecond ?? 0)) samples/s where the others have \(rate(usual)); each round waits for it"
        case .silent: return "\(name) has said nothing for \(duration(worker.heard ?? 0))"
        }
    }

    /// What is waited for.
    private static func sentence(_ held: CoordinatorProgress.Held, seconds: Double) -> String {
        let names = list(held.workers)
        let since = seconds >= 1 ? ", for \(duration(seconds)) now" : ""
        switch (held.reason, held.undoing) {
        case (.none, _): return ""
        case (.workers, _):
            let (there, needed) = (held.machines ?? 0, held.of ?? 1)
            return needed == 1 ? "waiting for a worker that trains\(since)" : "waiting for workers: \(there) of \(needed) are ready\(since)"
        case (.evaluators, _): return "waiting for \(names) to measure the evaluation data\(since)"
        case (.returning, _): return "waiting for \(names) to come back\(since)"
        case (.shares, let undoing?):
            let what = undoing == .retraction ? "the retraction" : "going back"
            return "\(names) \(held.workers.count == 1 ? "rebuilds" : "rebuild") the parameters after \(what)\(since)"
        case (.shares, nil): return "waiting for \(names) to answer round \(held.round ?? 0)\(since)"
        case (.ledger, _): return "rounds wait for the disk, which does not take the ledger\(since)"
        case (.closing, _): return "all rounds are done; waiting for the last word of \(names)\(since)"
        }
    }

    /// worker-1, worker-2 and 5 others
    private static func list(_ names: [String]) -> String {
        let names = names.map { printable($0, onOneLine: true) }
        guard names.count > 1 else { return names.first ?? "the workers" }
        if names.count <= 3 { return names.dropLast().joined(separator: ", ") + " and " + names[names.count - 1] }
        return names.prefix(2).joined(separator: ", ") + " and \(names.count - 2) others"
    }

    /// Samples a second.
    package static func rate(_ value: Double) -> String { value < 10 ? fixed(value, 1) : grouped(whole(value)) }
}

extension RunStatus.Worker {
    /// - Parameter now: nil where the run has ended: nobody is silent then.
    fileprivate init(
        _ row: WorkerTable.Row, rates: RateOutliers, allBytes: UInt64, held: CoordinatorProgress.Held?, isUnderWay: Bool, at now: Double?
    ) {
        name = row.name
        machine = row.machine?.rawValue
        (trains, evaluates) = (row.trains, row.evaluates)
        progress = row.progress
        secondsLeft = row.secondsLeft
        cache = row.cache
        cacheSecondsLeft = row.cacheSecondsLeft
        samplesPerSecond = row.trains ? row.samplesPerSecond : nil
        trainingLoss = row.loss
        heard = row.departure == nil ? now.map { max(0, $0 - row.heard) } : nil
        bytes = row.bytes
        share = allBytes > 0 ? Double(row.bytes) / Double(allBytes) : nil
        isPresent = row.departure == nil
        marks = []
        if isPresent {
            if row.losses?.isOutOfLine == true { marks.append(.bad) }
            if row.disagrees { marks.append(.disagrees) }
            if row.trains, let rate = row.samplesPerSecond, rates.isSlow(rate) { marks.append(.slow) }
            if heard ?? 0 > max(RunStatus.silentSeconds, RunStatus.silentIntervals * row.interval) { marks.append(.silent) }
        }
        let isAwaited = held?.workers.contains(row.name) ?? false
        state =
            switch row.phase {
            case _ where row.departure != nil: row.departure ?? "left"
            case _ where marks.contains(.silent): "silent"
            case "greeted": "calling"
            case "loading": "reading model"
            case "hashing": "hashing model"
            case "caching": "caching"
            case "fetching": "fetching ledger"
            case "catchingUp": held?.undoing != nil ? "rebuilding" : "catching up"
            case "evaluating": "evaluating"
            // Between two orders a worker waits for a moment: that is training all the same.
            case "training" where isUnderWay && row.trains, "waiting" where isUnderWay && row.trains:
                held == nil || isAwaited ? "training" : "waiting"
            default: "ready"
            }
    }
}
