import Coordinator
import Core
import Transport

/// What is known of a run while it goes on, from its events alone; the live view and the report are made of it.
package struct RunProgress: Sendable {
    package let rounds: Int
    /// The losses are minus a program's scores.
    package let isScored: Bool
    package let measures: MeasuredData
    package private(set) var roundsDone = 0
    package private(set) var samples = 0
    package private(set) var noValue = 0
    /// Through the socket of the coordinator's present process.
    package private(set) var traffic = Traffic()
    /// What the coordinator's earlier processes came to, each from its start to the last that it told.
    private var earlier = Past()
    package private(set) var trainingLoss: Double?
    package private(set) var first: HeldOutScore?
    package private(set) var latest: HeldOutScore?
    package private(set) var digest: Digest?
    package private(set) var digestRound: Int?
    package private(set) var digestChecks = 0
    package private(set) var digestDisagreements = 0
    package private(set) var workers = WorkerTable()
    /// Of the coordinator's present process.
    package private(set) var listening: CoordinatorProgress.Listening?
    /// The last one that was committed.
    package private(set) var lastRound: CoordinatorProgress.Round?
    /// What the run waits for, and since when (Unix seconds); nil while it goes on.
    package private(set) var hold: (what: CoordinatorProgress.Held, since: Double)?
    package private(set) var finish: RunFinish?
    /// Smoothed.
    package private(set) var samplesPerSecond: Double?
    /// Unix seconds.
    package private(set) var listeningSince: Double?
    private var trainingSince: Double?
    private var lastRoundAt: Double?
    private var firstRound: Int?
    package private(set) var lastTime: Double?

    private struct Past: Hashable, Sendable {
        var wireBytes: UInt64 = 0
        var wireBytesOfRounds: UInt64 = 0
        var preparing = 0.0
        var training = 0.0
        var total = 0.0
    }

    package init(rounds: Int, isScored: Bool = false, measures: MeasuredData = .unknown) {
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
        finish = nil
        hold = nil
        (listeningSince, trainingSince, lastRoundAt, firstRound, samplesPerSecond) = (time, nil, nil, nil, nil)
    }

    package mutating func take(_ progress: CoordinatorProgress) {
        defer { lastTime = progress.time }
        workers.take(progress)
        switch progress.event {
        case .listening(let listening):
            beginProcess(at: progress.time)
            self.listening = listening
        case .worker(let worker):
            if let loss = worker.trainingLoss { trainingLoss = Self.smooth(trainingLoss, loss) }
        case .hold(let held):
            hold = held.reason == .none ? nil : (held, hold?.what.reason == held.reason ? hold?.since ?? progress.time : progress.time)
        case .round(let round): take(round, at: progress.time)
        case .evaluation(let heldOut):
            let measurement = HeldOutScore(heldOut, isScored: isScored)
            // "Before" is before round 0, also where a coordinator was started again.
            if heldOut.round == 0 { first = measurement }
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
        case .reading, .trial, .greeted, .refused, .joined, .left, .waiting, .late, .connection, .warning: break
        }
    }

    private mutating func take(_ round: CoordinatorProgress.Round, at time: Double) {
        // A coordinator that goes on with a ledger begins in the middle.
        firstRound = firstRound ?? round.effectiveRounds - 1
        roundsDone = round.effectiveRounds
        lastRound = round
        hold = nil
        samples &+= round.samples
        noValue &+= round.noValue
        traffic = round.traffic
        trainingSince = trainingSince ?? time - round.seconds
        if let previous = lastRoundAt, time > previous {
            samplesPerSecond = Self.smooth(samplesPerSecond, Double(round.samples) / (time - previous))
        }
        lastRoundAt = time
    }

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

    package var secondsLeft: Double? {
        guard let firstRound, roundsDone - firstRound > 1, presentTrainingSeconds > 0 else { return nil }
        return Double(rounds - roundsDone) * presentTrainingSeconds / Double(roundsDone - firstRound)
    }
}
