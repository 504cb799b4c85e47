import Coordinator
import Core
import Foundation
import Synchronization
import Transport
import Worker

/// A worker's own state, as a run's status with one worker. So the same page and the same metrics serve workers and coordinators.
final class WorkerMonitor: Sendable {
    /// The state, folded from the worker's own events.
    struct State: Sendable {
        var isConnected = false
        var isSilent = false
        /// The run that has welcomed it; nil before.
        var run: Digest?
        var machine: UInt32?
        var phase = "calling"
        /// Number of rounds in its parameters.
        var round = 0
        var samples: UInt64 = 0
        var trainingLoss: Double?
        var samplesPerSecond: Double?
        var latest: HeldOutScore?
        var before: HeldOutScore?
        var digest: (digest: Digest, round: Int)?
        var digestChecks = 0
        /// What its examples have revealed so far; nil if the run is not private.
        var privacy: PrivacyStatus?
        var lastWord: Double?
        var warning: String?
        var ending: String?
        private var lastContribution: Double?

        /// Weight of a new loss or rate.
        private static let weight = 0.1

        mutating func take(_ progress: WorkerProgress, at time: Double) {
            lastWord = time
            switch progress {
            case .connection(.connected): isConnected = true
            case .connection(.lost), .connection(.retrying), .connection(.refused): isConnected = false
            case .snapshot: break
            case .warning(let text): warning = text
            case .notice(let notice): take(notice, at: time)
            }
        }

        private mutating func take(_ notice: WorkerNotice, at time: Double) {
            if case .silent = notice { isSilent = true } else { isSilent = false }
            switch notice {
            case .greeting: (phase, machine) = ("calling", nil)
            case .welcomed(let spec, _, _): (run, phase) = (spec, "preparing")
            case .downloading: phase = "fetching ledger"
            case .catchingUp: phase = "catching up"
            case .restored(let round): self.round = Int(round)
            case .joined(let number): (machine, phase) = (number.rawValue, "ready")
            case .applied(let round):
                self.round = Int(round) + 1
                if phase == "catching up" || phase == "rebuilding" { phase = machine == nil ? "preparing" : "ready" }
            case .contributed(_, let count, let loss):
                phase = "training"
                samples += UInt64(max(0, count))
                if loss.isFinite { trainingLoss = trainingLoss.map { $0 + Self.weight * (loss - $0) } ?? loss }
                if let last = lastContribution, time > last {
                    let rate = Double(count) / (time - last)
                    samplesPerSecond = samplesPerSecond.map { $0 + Self.weight * (rate - $0) } ?? rate
                }
                lastContribution = time
            case .privacy(let status): privacy = status
            case .digest(let round, let digest):
                self.digest = (digest, Int(round))
                digestChecks += 1
            case .evaluated(let report):
                let score = HeldOutScore(report)
                if report.round == 0 { before = score }
                latest = score
            case .rebuilding: phase = "rebuilding"
            case .warning(let text): warning = text
            case .silent: break
            }
        }
    }

    private let name: String
    private let trains: Bool
    private let evaluates: Bool
    private let began = Date().timeIntervalSince1970
    private let state = Mutex((worker: State(), history: RunHistory()))

    init(name: String, trains: Bool, evaluates: Bool) {
        (self.name, self.trains, self.evaluates) = (name, trains, evaluates)
    }

    func take(_ progress: WorkerProgress) {
        let time = Date().timeIntervalSince1970
        state.withLock { state in
            state.worker.take(progress, at: time)
            state.history.take(progress, state.worker, named: name, at: time)
        }
    }

    var history: RunHistory { state.withLock { $0.history } }

    /// The reason why it takes no part yet; nil if it does.
    var unreadiness: String? {
        let worker = state.withLock { $0.worker }
        if worker.machine == nil { return "the worker has not joined yet: \(worker.phase)" }
        return worker.isSilent ? "the coordinator is silent" : nil
    }

    var status: RunStatus {
        let worker = state.withLock { $0.worker }
        return RunStatus(worker, name: name, trains: trains, evaluates: evaluates, since: began, at: Date().timeIntervalSince1970)
    }
}

extension RunStatus {
    private static func sentence(_ privacy: PrivacyStatus) -> String {
        "its private bytes so far have cost ε = \(fixed(privacy.epsilon, 3)) at δ = \(privacy.delta)"
            + (privacy.isSpent ? "; the budget is spent, and it gives no values any more" : "")
    }

    fileprivate init(_ worker: WorkerMonitor.State, name: String, trains: Bool, evaluates: Bool, since: Double, at now: Double) {
        let isJoined = worker.machine != nil
        let row = Worker(
            name: name, machine: worker.machine, trains: trains, evaluates: evaluates, state: worker.phase,
            samplesPerSecond: worker.samplesPerSecond, trainingLoss: worker.trainingLoss, heard: worker.lastWord.map { now - $0 },
            bytes: worker.samples, marks: [], isPresent: true)
        self.init(
            role: "worker", version: Version.number, name: name, run: worker.run?.description,
            state: worker.isSilent ? .waiting : isJoined ? .training : .preparing, time: now, since: since, round: worker.round, rounds: 0,
            samples: worker.samples, samplesPerSecond: worker.samplesPerSecond, trainingLoss: worker.trainingLoss, isScored: false,
            evaluationName: MeasuredData.unknown.name, before: worker.before, latest: worker.latest,
            waitingFor: worker.isSilent ? "the coordinator has been silent for longer than its timeout" : nil, workers: [row],
            notes: [worker.warning.map { printable($0, onOneLine: true) }, worker.privacy.map(Self.sentence)].compactMap { $0 },
            digest: worker.digest?.digest.description,
            digestRound: worker.digest?.round, digestChecks: worker.digestChecks, digestDisagreements: 0)
    }
}
