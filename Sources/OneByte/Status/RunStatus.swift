import Coordinator
import Core
import Transport

/// The status of a run at a moment, which the live view, `onebyte status`, `/api/status`, the page and the metrics show. It is a pure function of
/// the coordinator's events and the time. The names of its JSON keys do not change.
package struct RunStatus: Codable, Hashable, Sendable {
    package var role = "coordinator"
    package var version: String
    /// The worker's name; nil for a coordinator.
    package var name: String?
    /// SHA-256 of the run's spec.
    package var run: String?
    /// Where the coordinator listens for workers.
    package var endpoint: String?
    package var state: State
    /// Time of this status, and time at which the present process began to listen, in Unix seconds.
    package var time: Double
    package var since: Double?
    /// Number of rounds in force, and number of rounds planned.
    package var round: Int
    package var rounds: Int
    /// Number of bytes in the ledger, one per sample.
    package var samples: UInt64
    package var samplesPerSecond: Double?
    package var secondsLeft: Double?
    /// Training loss, smoothed over all workers.
    package var trainingLoss: Double?
    /// Whether the losses are minus a program's scores.
    package var isScored: Bool
    package var learningRate: Double?
    /// Nil if the run is not private, or if only the workers know how often an example was read.
    package var privacy: PrivacyLoss?
    /// Name of the data that judge the run, and the model's scores on them before round 0 and at the last measurement.
    package var evaluationName: String
    package var before: HeldOutScore?
    package var latest: HeldOutScore?
    /// Nil for a worker.
    package var wire: Wire?
    /// What the coordinator waits for, in words; nil while it waits for nothing.
    package var waitingFor: String?
    package var workers: [Worker]
    /// Sentences that a person should read.
    package var notes: [String]
    /// The digest of all machines at the last comparison, the round before which that was, and the number of comparisons.
    package var digest: String?
    package var digestRound: Int?
    package var digestChecks: Int
    package var digestDisagreements: Int
    /// How the run ended, in the coordinator's words.
    package var ending: String?

    package enum State: String, Codable, Hashable, Sendable, CaseIterable {
        /// This coordinator has not committed a round yet.
        case preparing
        case training
        /// The run waits for something.
        case waiting
        case completed, stopped, failed

        /// Whether a coordinator is running.
        package var isLive: Bool { [.preparing, .training, .waiting].contains(self) }
    }

    /// What the ledger's bytes so far have cost an example, and a worker's budget. The worker's account has the truth.
    package struct PrivacyLoss: Codable, Hashable, Sendable {
        package var epsilon: Double
        package var budget: Double
        package var delta: Double
    }

    /// Bytes through the coordinator's socket, by kind. All but the total are those of the coordinator's present process.
    package struct Wire: Codable, Hashable, Sendable {
        /// Bytes that workers send for rounds, and bytes of the commits that they get.
        package var contributions: UInt64
        package var commits: UInt64
        /// All other bytes, in and out: joining, the ledger, heartbeats, digests, evaluations, status.
        package var controlIn: UInt64
        package var controlOut: UInt64
        /// Bytes of all the run's coordinator processes that left events.
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
        /// Nil before its admission.
        package var machine: UInt32?
        package var trains: Bool
        package var evaluates: Bool
        /// The worker's state for people, in one or two words.
        package var state: String
        /// Progress 0…1 within the state, and seconds for the rest; nil if unknown.
        package var progress: Double?
        package var secondsLeft: Double?
        /// The part of the prefix cache that is filled, and seconds for the rest; nil if unknown.
        package var cache: Double?
        package var cacheSecondsLeft: Double?
        package var samplesPerSecond: Double?
        /// Its own training loss, smoothed.
        package var trainingLoss: Double?
        /// Seconds since its last message; nil if it or the run has ended.
        package var heard: Double?
        package var bytes: UInt64
        /// Its part of all bytes of the workers in this list.
        package var share: Double?
        package var marks: [Mark]
        /// Whether it takes part or is about to.
        package var isPresent: Bool

        /// Whether it is gone and nobody wanted that: it was lost, or failed.
        package var isMissed: Bool { !isPresent && Self.failures.contains(state) }
        private static let failures = Set([Departure.Reason.lost, .diverged].map { "\($0)" })

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

    /// A fault of a worker.
    package enum Mark: String, Codable, Hashable, Sendable, CaseIterable {
        /// Its loss is out of line with the others' (`LossOutliers`).
        case bad
        /// Its bytes point against the others' and are left out.
        case disagrees
        /// The others compute more than twice as fast (`RateOutliers`).
        case slow
        /// It has sent nothing for too long.
        case silent
    }

    enum CodingKeys: String, CodingKey {
        case role, version, name, run, endpoint, state, time, since, round, rounds, samples
        case samplesPerSecond = "samples_per_second"
        case secondsLeft = "seconds_left"
        case trainingLoss = "training_loss"
        case isScored = "scored"
        case learningRate = "learning_rate"
        case privacy
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
    /// Seconds without a message, and number of its usual intervals, after both of which a worker counts as silent.
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
        privacy = progress.privacyLoss
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

    /// A sentence for each mark, with a key that does not change with the sentence's numbers.
    var markNotes: [(mark: Mark, key: String, text: String)] {
        // At the end all are gone.
        let training = workers.filter { ($0.isPresent || !state.isLive) && $0.trains }
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

    /// Returns a sentence that says what the run waits for.
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

    /// Joins names, as in "worker-1, worker-2 and 5 others".
    private static func list(_ names: [String]) -> String {
        let names = names.map { printable($0, onOneLine: true) }
        guard names.count > 1 else { return names.first ?? "the workers" }
        if names.count <= 3 { return names.dropLast().joined(separator: ", ") + " and " + names[names.count - 1] }
        return names.prefix(2).joined(separator: ", ") + " and \(names.count - 2) others"
    }

    /// Formats samples per second.
    package static func rate(_ value: Double) -> String { value < 10 ? fixed(value, 1) : grouped(whole(value)) }
}

extension RunStatus.Worker {
    /// - Parameter now: nil if the run has ended, because nobody is silent then.
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
        // What its bytes were like is told after the run, too.
        if isPresent || now == nil {
            if row.losses?.isOutOfLine == true { marks.append(.bad) }
            if row.disagrees { marks.append(.disagrees) }
        }
        if isPresent {
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
            // A worker that waits for a moment between two orders counts as training.
            case "training" where isUnderWay && row.trains, "waiting" where isUnderWay && row.trains:
                held == nil || isAwaited ? "training" : "waiting"
            default: "ready"
            }
    }
}
