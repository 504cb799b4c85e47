import Coordinator
import Core
import Transport

/// The progress of a run, built from its events alone. Displays and the report are made from it.
package struct RunProgress: Sendable {
    package let rounds: Int
    /// Whether losses are minus a program's scores.
    package let isScored: Bool
    package let measures: MeasuredData
    /// The run's budget, where each round is one release of every worker's examples; nil in other runs.
    private let privacy: Privacy?
    package private(set) var roundsDone = 0
    package private(set) var samples = 0
    package private(set) var noValue = 0
    /// Number of bytes, of those without a value, that the filter left out.
    package private(set) var leftOut = 0
    /// Traffic through the socket of the coordinator's present process.
    package private(set) var traffic = Traffic()
    /// Totals of the coordinator's earlier processes, each from its start to its last event.
    private var earlier = Past()
    package private(set) var trainingLoss: Double?
    package private(set) var first: HeldOutScore?
    package private(set) var latest: HeldOutScore?
    package private(set) var digest: Digest?
    package private(set) var digestRound: Int?
    package private(set) var digestChecks = 0
    package private(set) var digestDisagreements = 0
    package private(set) var workers = WorkerTable()
    /// The announcement of the coordinator's present process.
    package private(set) var listening: CoordinatorProgress.Listening?
    /// The last committed round.
    package private(set) var lastRound: CoordinatorProgress.Round?
    /// What the run waits for, and since when (Unix seconds); nil while it waits for nothing.
    package private(set) var hold: (what: CoordinatorProgress.Held, since: Double)?
    package private(set) var finish: RunFinish?
    /// Smoothed speed.
    package private(set) var samplesPerSecond: Double?
    /// Unix time in seconds.
    package private(set) var listeningSince: Double?
    private var trainingSince: Double?
    private var lastRoundAt: Double?
    package private(set) var lastTime: Double?
    private var timeLeft: TimeLeft

    private struct Past: Hashable, Sendable {
        var wireBytes: UInt64 = 0
        var wireBytesOfRounds: UInt64 = 0
        var preparing = 0.0
        var training = 0.0
        var total = 0.0
    }

    package init(rounds: Int, isScored: Bool = false, measures: MeasuredData = .unknown, plan: TimeLeft.Plan? = nil, privacy: Privacy? = nil) {
        self.privacy = privacy
        timeLeft = TimeLeft(plan ?? TimeLeft.Plan(rounds: rounds))
        self.rounds = rounds
        self.isScored = isScored
        self.measures = measures
    }

    /// What the rounds so far have cost an example of a worker that answered all of them. Rounds that were opened again cost more: a worker's account
    /// has the truth.
    package var privacyLoss: RunStatus.PrivacyLoss? {
        privacy.map { privacy in
            let spent = privacy.epsilon(releases: lastRound.map { Int($0.round) + 1 } ?? 0)
            return .init(epsilon: min(spent, privacy.epsilon), budget: privacy.epsilon, delta: privacy.delta)
        }
    }

    /// Whether the coordinator's present process has not opened a round yet.
    package var isWaiting: Bool { trainingSince == nil }

    /// Begins a new process of the coordinator. A coordinator that resumes a ledger counts from zero again.
    private mutating func beginProcess(at time: Double) {
        earlier = Past(
            wireBytes: wireBytes, wireBytesOfRounds: wireBytesOfRounds, preparing: preparingSeconds, training: trainingSeconds,
            total: earlierSeconds + presentSeconds)
        traffic = Traffic()
        finish = nil
        hold = nil
        timeLeft.beginProcess()
        (listeningSince, trainingSince, lastRoundAt, samplesPerSecond) = (time, nil, nil, nil)
    }

    package mutating func take(_ progress: CoordinatorProgress) {
        defer { lastTime = progress.time }
        workers.take(progress)
        switch progress.event {
        case .listening(let listening):
            beginProcess(at: progress.time)
            self.listening = listening
        case .worker(let worker):
            // Each round updates the training loss. Before the first round, only the workers' reports can.
            if worker.trainingLoss != nil, trainingLoss == nil { trainingLoss = workers.meanLoss }
        case .hold(let held):
            hold = held.reason == .none ? nil : (held, hold?.what.reason == held.reason ? hold?.since ?? progress.time : progress.time)
        case .round(let round): take(round, at: progress.time)
        case .evaluation(let heldOut):
            let measurement = HeldOutScore(heldOut, isScored: isScored)
            // "Before" means before round 0, even after a restart of the coordinator.
            if heldOut.round == 0 { first = first ?? measurement }
            latest = measurement
        case .digests(let digests):
            guard let agreed = digests.digest else {
                digestDisagreements += 1
                return
            }
            digest = agreed
            digestRound = Int(digests.round)
            digestChecks += 1
        case .finished(let finished):
            finish = finished.finish
            hold = nil
            traffic = finished.traffic
        case .trial(let trial): timeLeft.takeTrial(learningRate: trial.learningRate, loss: trial.loss, isChosen: trial.isChosen)
        case .reading, .greeted, .refused, .joined, .left, .waiting, .late, .connection, .warning: break
        }
    }

    /// Takes the filled part of the training workers' prefix caches. Caches that are filled before the first round say nothing about rounds.
    private mutating func takeCaches(at time: Double) {
        let parts = workers.trainers.filter { $0.phase != "caching" }.compactMap(\.cache)
        if parts.contains(where: { $0 > 0 && $0 < 1 }) {
            timeLeft.takeCache(parts.reduce(0, +) / Double(parts.count), at: time)
        } else if !isWaiting {
            timeLeft.takeCache(1, at: time)
        }
    }

    private mutating func take(_ round: CoordinatorProgress.Round, at time: Double) {
        roundsDone = max(0, round.effectiveRounds)
        trainingLoss = workers.meanLoss ?? trainingLoss
        lastRound = round
        hold = nil
        samples &+= round.samples
        noValue &+= round.noValue
        leftOut &+= round.leftOut ?? 0
        traffic = round.traffic
        trainingSince = trainingSince ?? time - round.seconds
        if let previous = lastRoundAt, time > previous {
            samplesPerSecond = Self.smooth(samplesPerSecond, Double(round.samples) / (time - previous))
        }
        lastRoundAt = time
        timeLeft.takeRound(at: time, seconds: round.seconds, roundsInForce: roundsDone)
        takeCaches(at: time)
    }

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
