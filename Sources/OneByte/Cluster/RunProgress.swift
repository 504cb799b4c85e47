import Coordinator
import Core
import Transport

/// What is known of a run while it goes on, from its events alone; the live view and the report are made of it.
package struct RunProgress: Hashable, Sendable {
    package let rounds: Int
    /// The losses are minus a program's scores.
    package let isScored: Bool
    package let measures: MeasuredData
    package private(set) var roundsDone = 0
    package private(set) var samples = 0
    package private(set) var noValue = 0
    /// Through the socket of the coordinator's present process.
    private var traffic = Traffic()
    /// What the coordinator's earlier processes came to, each from its start to the last that it told.
    private var earlier = Past()
    package private(set) var trainingLoss: Double?
    package private(set) var first: HeldOutScore?
    package private(set) var latest: HeldOutScore?
    package private(set) var digest: Digest?
    package private(set) var digestRound: Int?
    package private(set) var digestChecks = 0
    /// What each machine is doing, by its name.
    package private(set) var machines: [String: Phase] = [:]
    package private(set) var finish: RunFinish?
    /// Smoothed.
    package private(set) var samplesPerSecond: Double?
    /// Unix seconds.
    private var listeningSince: Double?
    private var trainingSince: Double?
    private var lastRoundAt: Double?
    private var firstRound: Int?
    private var lastTime: Double?
    private var timeLeft: TimeLeft

    package struct Phase: Hashable, Sendable {
        package let name: String
        package let progress: Double
        /// Of what `progress` is a part.
        private let work: String
        private let at: Double
        /// When it was first heard of, and how far it was.
        private let since: (time: Double, progress: Double)

        init(_ worker: CoordinatorProgress.Worker, at time: Double, after last: Phase?) {
            let part = worker.progress ?? 0
            let work = ["caching", "training", "waiting"].contains(worker.phase) ? "cache" : worker.phase
            name = worker.phase
            progress = part
            self.work = work
            at = time
            if let last, last.work == work, last.progress <= part { since = last.since } else { since = (time, part) }
        }

        package var isUnderWay: Bool { progress > 0 && progress < 1 }
        /// It trains, or could, while its prefix cache is being filled.
        package var fillsCache: Bool { work == "cache" && name != "caching" && isUnderWay }

        /// What `progress` is a part of is a prefix cache, whether full or not.
        var isOfCache: Bool { work == "cache" }

        /// At the speed so far, once that is known.
        package var secondsLeft: Double? {
            guard isUnderWay, at - since.time >= 1, progress - since.progress > 0.005 else { return nil }
            return (1 - progress) * (at - since.time) / (progress - since.progress)
        }

        package static func == (a: Self, b: Self) -> Bool { (a.name, a.progress, a.at) == (b.name, b.progress, b.at) }
        package func hash(into hasher: inout Hasher) {
            hasher.combine(name)
            hasher.combine(progress)
            hasher.combine(at)
        }
    }

    private struct Past: Hashable, Sendable {
        var wireBytes: UInt64 = 0
        var wireBytesOfRounds: UInt64 = 0
        var preparing = 0.0
        var training = 0.0
        var total = 0.0
    }

    package init(rounds: Int, isScored: Bool = false, measures: MeasuredData = .unknown, plan: TimeLeft.Plan? = nil) {
        timeLeft = TimeLeft(plan ?? TimeLeft.Plan(rounds: rounds))
        self.rounds = rounds
        self.isScored = isScored
        self.measures = measures
    }

    /// Before the first round of the coordinator's present process.
    package var isWaiting: Bool { firstRound == nil }

    /// A coordinator that goes on with a ledger counts from zero again.
    private mutating func beginProcess(at time: Double) {
        earlier = Past(
            wireBytes: wireBytes, wireBytesOfRounds: wireBytesOfRounds, preparing: preparingSeconds, training: trainingSeconds,
            total: earlierSeconds + presentSeconds)
        traffic = Traffic()
        machines = [:]
        finish = nil
        timeLeft.beginProcess()
        (listeningSince, trainingSince, lastRoundAt, firstRound, samplesPerSecond) = (time, nil, nil, nil, nil)
    }

    package mutating func take(_ progress: CoordinatorProgress) {
        defer { lastTime = progress.time }
        switch progress.event {
        case .listening: beginProcess(at: progress.time)
        case .worker(let worker):
            guard machines[worker.name] != nil || machines.count < Self.machinesShown else { return }
            machines[worker.name] = Phase(worker, at: progress.time, after: machines[worker.name])
            let caches = machines.values.filter(\.fillsCache)
            if !caches.isEmpty {
                // A full cache is not among those that are being filled.
                let count = Double(max(machines.values.count { $0.isOfCache }, 1))
                timeLeft.takeCache((count - caches.reduce(0) { $0 + 1 - $1.progress }) / count, at: progress.time)
            } else if !isWaiting {
                timeLeft.takeCache(1, at: progress.time)
            }
            if let loss = worker.trainingLoss { trainingLoss = Self.smooth(trainingLoss, loss) }
        case .left(let left): machines[left.name] = nil
        case .round(let round): take(round, at: progress.time)
        case .evaluation(let heldOut):
            let measurement = HeldOutScore(heldOut, isScored: isScored)
            // "Before" is before round 0 and no other: not where a coordinator began again.
            if measurement.round == 0 { first = first ?? measurement }
            latest = measurement
        case .digests(let digests):
            guard let agreed = digests.digest else { return }
            digest = agreed
            digestRound = Int(digests.round)
            digestChecks += 1
        case .finished(let finished):
            finish = finished.finish
            traffic = finished.traffic
        case .trial(let trial): timeLeft.takeTrial(learningRate: trial.learningRate, loss: trial.loss, isChosen: trial.isChosen)
        case .reading, .greeted, .refused, .joined, .waiting, .late, .connection, .warning: break
        }
    }

    private mutating func take(_ round: CoordinatorProgress.Round, at time: Double) {
        // A coordinator that goes on with a ledger begins in the middle.
        firstRound = firstRound ?? round.effectiveRounds - 1
        roundsDone = round.effectiveRounds
        samples &+= round.samples
        noValue &+= round.noValue
        traffic = round.traffic
        trainingSince = trainingSince ?? time - round.seconds
        if let previous = lastRoundAt, time > previous {
            samplesPerSecond = Self.smooth(samplesPerSecond, Double(round.samples) / (time - previous))
        }
        lastRoundAt = time
        timeLeft.takeRound(at: time, seconds: round.seconds, roundsInForce: round.effectiveRounds)
    }

    /// Names that are kept of workers, admitted or not: each of them is chosen by a peer.
    private static let machinesShown = 4096

    private static func smooth(_ old: Double?, _ new: Double) -> Double {
        guard let old else { return new }
        return old + 0.1 * (new - old)
    }

    /// Until the first round opened: the workers read, hash and cache.
    package var preparingSeconds: Double { earlier.preparing + max(0, (trainingSince ?? listeningSince ?? 0) - (listeningSince ?? 0)) }
    /// From the first round's opening to the last commit.
    package var trainingSeconds: Double { earlier.training + presentTrainingSeconds }
    private var presentTrainingSeconds: Double { max(0, (lastRoundAt ?? 0) - (trainingSince ?? lastRoundAt ?? 0)) }
    /// Of the coordinator's processes before the present one.
    package var earlierSeconds: Double { earlier.total }
    /// Of the present one, from its start to the last that it told.
    package var presentSeconds: Double { max(0, (lastTime ?? 0) - (listeningSince ?? lastTime ?? 0)) }
    package var wireBytesOfRounds: UInt64 { earlier.wireBytesOfRounds &+ traffic.sent.rounds.bytes &+ traffic.received.rounds.bytes }
    package var wireBytes: UInt64 { earlier.wireBytes &+ traffic.sent.total.bytes &+ traffic.received.total.bytes }
    package var wireBytesPerSample: Double? { samples > 0 ? Double(wireBytes) / Double(samples) : nil }

    package var secondsLeft: Double? { timeLeft.seconds }
}
