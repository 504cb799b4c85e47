import Coordinator
import Core
import Transport

/// The progress of a run, built from its events alone. The live view and the report are made from it.
package struct RunProgress: Hashable, Sendable {
    package let rounds: Int
    /// Whether losses are minus a program's scores.
    package let isScored: Bool
    package let measures: MeasuredData
    package private(set) var roundsDone = 0
    package private(set) var samples = 0
    package private(set) var noValue = 0
    /// Traffic through the socket of the coordinator's present process.
    private var traffic = Traffic()
    /// Totals of the coordinator's earlier processes, each from its start to its last event.
    private var earlier = Past()
    package private(set) var trainingLoss: Double?
    package private(set) var first: HeldOutScore?
    package private(set) var latest: HeldOutScore?
    package private(set) var digest: Digest?
    package private(set) var digestRound: Int?
    package private(set) var digestChecks = 0
    /// Activity of each machine, by name.
    package private(set) var machines: [String: Phase] = [:]
    package private(set) var finish: RunFinish?
    /// Smoothed speed.
    package private(set) var samplesPerSecond: Double?
    /// Unix time in seconds.
    private var listeningSince: Double?
    private var trainingSince: Double?
    private var lastRoundAt: Double?
    private var firstRound: Int?
    private var lastTime: Double?
    private var timeLeft: TimeLeft

    package struct Phase: Hashable, Sendable {
        package let name: String
        package let progress: Double
        /// The work that `progress` is a part of.
        private let work: String
        private let at: Double
        /// Time and progress at the first report of this phase.
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
        /// Whether the machine trains, or could, while its prefix cache is being filled.
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

    /// Whether the coordinator's present process has not opened a round yet.
    package var isWaiting: Bool { firstRound == nil }

    /// Begins a new process of the coordinator. A coordinator that resumes a ledger counts from zero again.
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
        // A coordinator that resumes a ledger begins in the middle.
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

    /// Largest number of workers whose names are kept, admitted or not, because peers choose their names.
    private static let machinesShown = 4096

    private static func smooth(_ old: Double?, _ new: Double) -> Double {
        guard let old else { return new }
        return old + 0.1 * (new - old)
    }

    /// Seconds until the first round opened, while workers read, hash and fill caches.
    package var preparingSeconds: Double { earlier.preparing + max(0, (trainingSince ?? listeningSince ?? 0) - (listeningSince ?? 0)) }
    /// Seconds from the first round's opening to the last commit.
    package var trainingSeconds: Double { earlier.training + presentTrainingSeconds }
    private var presentTrainingSeconds: Double { max(0, (lastRoundAt ?? 0) - (trainingSince ?? lastRoundAt ?? 0)) }
    /// Seconds of the coordinator's earlier processes.
    package var earlierSeconds: Double { earlier.total }
    /// Seconds of the present process, from its start to its last event.
    package var presentSeconds: Double { max(0, (lastTime ?? 0) - (listeningSince ?? lastTime ?? 0)) }
    package var wireBytesOfRounds: UInt64 { earlier.wireBytesOfRounds &+ traffic.sent.rounds.bytes &+ traffic.received.rounds.bytes }
    package var wireBytes: UInt64 { earlier.wireBytes &+ traffic.sent.total.bytes &+ traffic.received.total.bytes }
    package var wireBytesPerSample: Double? { samples > 0 ? Double(wireBytes) / Double(samples) : nil }

    package var secondsLeft: Double? { timeLeft.seconds }
}
