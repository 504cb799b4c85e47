import Core
import Foundation
import Transport

/// Something that happened at a coordinator. Displays, logs and `metrics.jsonl` are made from it. In JSON it is one flat object: `time` (Unix
/// seconds), `event`, and the fields of that event.
public struct CoordinatorProgress: Hashable, Sendable, Codable {
    /// Seconds since 1970.
    public let time: Double
    public let event: Event

    public init(time: Double, event: Event) {
        self.time = time
        self.event = event
    }

    /// The kind of event with its fields.
    public enum Event: Hashable, Sendable {
        /// A long ledger is being read, before anything else happens.
        case reading(LedgerFile.Reading)
        /// The coordinator listens and can be joined.
        case listening(Listening)
        /// A worker came; it is not admitted yet.
        case greeted(Greeting)
        /// A worker was refused.
        case refused(RefusedWorker)
        /// A machine was admitted.
        case joined(Joined)
        /// A machine departed.
        case left(Left)
        /// The run waits for machines.
        case waiting(Waiting)
        /// A round was committed.
        case round(Round)
        /// A contribution came after its round and is committed with a later one.
        case late(Late)
        /// A worker reported what it does.
        case worker(Worker)
        /// The run waits for something else than before, or no longer waits.
        case hold(Held)
        /// An evaluator reported its measurement.
        case evaluation(HeldOut)
        case trial(Trial)
        /// The machines' parameters were compared.
        case digests(Digests)
        /// A connection changed.
        case connection(String)
        /// Something that a person should know. The run goes on.
        case warning(String)
        /// The coordinator has ended.
        case finished(Finished)
    }

    public struct Listening: Hashable, Sendable, Codable {
        /// The address at which it listens.
        public let endpoint: String
        /// The coordinator's public key, 64 hexadecimal digits; nil if nothing is encrypted.
        public let serverKey: String?
        /// SHA-256 of the run spec.
        public let run: Digest
        /// The next round, and the number of rounds that the run will have.
        public let round: RoundNumber
        public let rounds: Int
        /// Number of samples committed before.
        public let samples: UInt64
        /// The key that signs the ledger.
        public let signer: SignerKey?
        /// SHA-256 of the base manifest, if the base model is known.
        public let base: Digest?

        /// Returns what a worker on this network joins with. `host` replaces an address like `0.0.0.0`, to which nobody can connect.
        public func joinString(host: String? = nil) throws(TransportError) -> JoinString {
            var endpoint = endpoint
            if let host, let colon = endpoint.lastIndex(of: ":") { endpoint = "tcp://\(host)\(endpoint[colon...])" }
            let key: PublicKey? = if let serverKey { try PublicKey(hex: serverKey) } else { nil }
            return JoinString(address: try Address(endpoint), serverKey: key, run: run.description, base: base?.description)
        }
    }

    public struct Greeting: Hashable, Sendable, Codable {
        public let name: String
        public let trains: Bool
        public let evaluates: Bool
        /// Tells workers of one name apart. Nil in events of earlier versions, here and below.
        public let session: UInt32?
    }

    public struct RefusedWorker: Hashable, Sendable, Codable {
        public let name: String
        public let code: Refusal.Code
        public let reason: String
        /// Details, such as the tensors that differ.
        public let details: [String]
    }

    public struct Joined: Hashable, Sendable, Codable {
        public let machine: MachineID
        public let name: String
        public let trains: Bool
        public let evaluates: Bool
        /// The next round at the admission.
        public let round: RoundNumber
        public let session: UInt32?
    }

    public struct Left: Hashable, Sendable, Codable {
        public let machine: MachineID
        public let name: String
        /// Name of the `Departure.Reason`: left, lost, replaced, diverged, removed.
        public let reason: String
        /// The next round at the departure.
        public let round: RoundNumber
    }

    /// Number of machines that train and are there, `of` the number that the run waits for.
    public struct Waiting: Hashable, Sendable, Codable {
        public let machines: Int
        public let of: Int
    }

    /// A committed round. `RoundSummary` explains the fields.
    public struct Round: Hashable, Sendable, Codable {
        public let round: RoundNumber
        public let machines: Int
        public let samples: Int
        public let noValue: Int
        /// Nil in events of earlier versions, which did not count it.
        public let leftOut: Int?
        public let saturated: Int
        public let meanMagnitude: Double
        public let scaleExponent: Int8
        public let learningRate: Double
        public let seconds: Double
        /// Number of rounds in force, this one included.
        public let effectiveRounds: Int
        /// Number of samples of the whole run.
        public let samplesSoFar: UInt64
        /// Traffic of this process since it started, at the coordinator's socket.
        public let traffic: Traffic
    }

    public struct Late: Hashable, Sendable, Codable {
        public let machine: MachineID
        public let round: RoundNumber
        public let samples: Int
    }

    /// A worker's status, about once a second; less often in `metrics.jsonl` (`WorkerThinning`). `WorkerStatus` explains the fields; nil stands for
    /// NaN.
    public struct Worker: Hashable, Sendable, Codable {
        public let machine: MachineID?
        public let name: String
        /// `WorkerStatus.Phase` by name: loading, hashing, caching, catchingUp, training, evaluating, waiting, fetching.
        public let phase: String
        /// 0…1 within the phase; while training or waiting, the part of the prefix cache that is filled.
        public let progress: Double?
        /// Mean over the samples since the worker's last status.
        public var trainingLoss: Double?
        public let samplesPerSecond: Double?
        /// Number of ledger records in its parameters.
        public let applied: UInt64
        public let session: UInt32?
        public let trains: Bool?
        public let evaluates: Bool?
        /// Number of its bytes in the ledger, one per sample.
        public let bytes: UInt64?
        /// True if its bytes point against the other machines', so that the robust filter leaves them out.
        public let disagrees: Bool?
    }

    /// Something that the run waits for (`Hold`), or that it no longer waits.
    public struct Held: Hashable, Sendable, Codable {
        public enum Reason: String, Hashable, Sendable, Codable, CaseIterable {
            /// The run waits for nothing.
            case none
            case workers, evaluators, returning, shares, ledger, closing
        }
        public let reason: Reason
        /// Names of the first workers that the run waits for, at most `Hold.Workers.namesMax`.
        public var workers: [String] = []
        /// Number of all workers that the run waits for by name. Nil in events of earlier versions, where `workers` has all names.
        public var count: Int?
        /// The open round; only for `shares`.
        public var round: RoundNumber?
        /// The reason why the workers first rebuild their parameters; only for `shares`.
        public var undoing: Hold.Undoing?
        /// Number of workers that are present, and number that are needed; only for `workers`.
        public var machines: Int?
        public var of: Int?
    }

    /// An evaluator's measurement. `EvaluationReport` explains the fields; nil stands for NaN and infinities.
    public struct HeldOut: Hashable, Sendable, Codable {
        public let machine: MachineID
        public let name: String
        public let round: RoundNumber
        public let examples: UInt32
        public let loss: Double?
        public let accuracy: Double?
        public let bestThresholdAccuracy: Double?
        public let auc: Double?
        public let seconds: Double?
        /// The scores of the examples that steer the run.
        public let validation: Validated?
        /// Movement of the tensor that has moved most, divided by its norm.
        public let moved: Double?
        /// Mean gain of the examples since the base, and its standard error.
        public let gain: Double?
        public let gainError: Double?
    }

    /// The scores of the validation examples. Nil stands for NaN and infinities.
    public struct Validated: Hashable, Sendable, Codable {
        public let examples: UInt32
        /// The validation loss at the trial's end; nil if it is not finite.
        public let loss: Double?
        public let accuracy: Double?
        /// Standard error of the mean change of the losses since the base.
        public let noise: Double?
    }

    /// A learning rate that was tried.
    public struct Trial: Hashable, Sendable, Codable {
        public let learningRate: Double
        public let loss: Double?
        /// Whether the run continues at this rate.
        public let isChosen: Bool
    }

    public struct Digests: Hashable, Sendable, Codable {
        public let round: RoundNumber
        /// The digest that all machines have; nil if they differ.
        public let digest: Digest?
        /// The machines in groups of equal digests, the largest group first.
        public let groups: [[MachineID]]
    }

    public struct Finished: Hashable, Sendable, Codable {
        public let finish: RunFinish
        public let traffic: Traffic
        public let samples: UInt64
        public let digest: Digest?
        /// The ledger's hash chain after its last record, and the key that signed it. Both are absent from events of earlier versions.
        public let chain: Digest?
        public let signer: SignerKey?
    }
}

extension CoordinatorProgress.Event {
    init(_ notice: CoordinatorNotice, traffic: Traffic, samples: UInt64) {
        self =
            switch notice {
            case .greeted(let name, let session, let trains, let evaluates):
                .greeted(.init(name: name, trains: trains, evaluates: evaluates, session: session))
            case .baseAdopted(let tensors, let from):
                .warning("the base model of \(from) (\(tensors) tensors) is the run's from now on")
            case .refused(let name, let refusal):
                .refused(.init(name: name, code: refusal.code, reason: refusal.reason, details: refusal.details))
            case .joined(let machine, let name, let session, let trains, let evaluates, let round):
                .joined(.init(machine: machine, name: name, trains: trains, evaluates: evaluates, round: round, session: session))
            case .left(let machine, let name, let reason, let round):
                .left(.init(machine: machine, name: name, reason: "\(reason)", round: round))
            case .waiting(let machines, let of): .waiting(.init(machines: machines, of: of))
            case .roundCommitted(let round):
                .round(
                    .init(
                        round: round.round, machines: round.machines, samples: round.samples, noValue: round.noValue, leftOut: round.leftOut,
                        saturated: round.saturated, meanMagnitude: round.meanMagnitude, scaleExponent: round.scaleExponent,
                        learningRate: round.learningRate, seconds: round.seconds, effectiveRounds: round.effectiveRounds, samplesSoFar: samples,
                        traffic: traffic))
            case .late(let machine, let round, let samples): .late(.init(machine: machine, round: round, samples: samples))
            case .status(let report): .worker(.init(report))
            case .hold(let hold): .hold(.init(hold))
            case .evaluated(let machine, let name, let report): .evaluation(.init(machine: machine, name: name, report))
            case .trial(let rate, let loss, let isChosen): .trial(.init(learningRate: rate, loss: loss.known, isChosen: isChosen))
            case .digestsAgree(let round, let digest, let machines):
                .digests(.init(round: round, digest: digest, groups: [machines]))
            case .digestsDiffer(let round, let groups): .digests(.init(round: round, digest: nil, groups: groups))
            case .rebuilding(_, let name): .warning("\(name) builds its parameters again from base and ledger")
            case .retracted(let machine, let rounds):
                .warning("the contributions of \(machine) to rounds \(rounds.lowerBound)…\(rounds.upperBound - 1) are taken out")
            case .rewound(let round, _, isFinal: true): .warning("the run ends with the parameters before round \(round)")
            case .restored(let machine, let rounds):
                .warning("the contributions of \(machine) to rounds \(rounds.lowerBound)…\(rounds.upperBound - 1) are put back")
            case .rewound(let round, let rate, isFinal: false):
                .warning("back to the parameters before round \(round); the learning rate is \(rate) from here on")
            case .ledgerStalled(let reason): .warning("rounds wait for the ledger: \(reason)")
            case .ledgerRecovered: .warning("the ledger can be written again; rounds go on")
            case .warning(let text): .warning(text)
            }
    }
}

extension CoordinatorProgress.Worker {
    init(_ report: WorkerReport) {
        let status = report.status
        self.init(
            machine: report.machine, name: report.name, phase: "\(status.phase)", progress: status.progress.known,
            trainingLoss: status.trainingLoss.known, samplesPerSecond: status.samplesPerSecond.known, applied: status.applied,
            session: report.session, trains: report.trains, evaluates: report.evaluates, bytes: report.bytes,
            disagrees: report.disagrees ? true : nil)
    }
}

extension CoordinatorProgress.Held {
    init(_ hold: Hold?) {
        self =
            switch hold {
            case nil: Self(reason: .none)
            case .workers(let there, let needed): Self(reason: .workers, machines: there, of: needed)
            case .evaluators(let workers): Self(reason: .evaluators, workers: workers.names, count: workers.count)
            case .returning(let workers): Self(reason: .returning, workers: workers.names, count: workers.count)
            case .shares(let round, let workers, let undoing):
                Self(reason: .shares, workers: workers.names, count: workers.count, round: round, undoing: undoing)
            case .ledger: Self(reason: .ledger)
            case .closing(let workers): Self(reason: .closing, workers: workers.names, count: workers.count)
            }
    }
}

extension CoordinatorProgress.HeldOut {
    /// Takes an evaluator's report. Numbers that are not finite become nil.
    public init(machine: MachineID, name: String, _ report: EvaluationReport) {
        self.init(
            machine: machine, name: name, round: report.round, examples: report.examples, loss: report.loss.known,
            accuracy: report.accuracy.known, bestThresholdAccuracy: report.bestThresholdAccuracy.known, auc: report.auc.known,
            seconds: report.seconds.known,
            validation: report.validation.map {
                .init(examples: $0.examples, loss: $0.loss.known, accuracy: $0.accuracy.known, noise: $0.noise.known)
            }, moved: report.moved.known, gain: report.gain.known, gainError: report.gainError.known)
    }
}

extension Double {
    /// Nil for NaN and infinities, which JSON does not have.
    fileprivate var known: Double? { isFinite ? self : nil }
}

extension CoordinatorProgress {
    private enum Name: String, Codable {
        case reading, listening, greeted, refused, joined, left, waiting, round, late, worker, hold, evaluation, trial, digests, connection, warning,
            finished
    }
    private enum Key: String, CodingKey { case time, event, message }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(time, forKey: .time)
        func put(_ name: Name, _ fields: any Encodable) throws {
            try container.encode(name, forKey: .event)
            try fields.encode(to: encoder)
        }
        func put(_ name: Name, message: String) throws {
            try container.encode(name, forKey: .event)
            try container.encode(message, forKey: .message)
        }
        switch event {
        case .reading(let fields): try put(.reading, fields)
        case .listening(let fields): try put(.listening, fields)
        case .greeted(let fields): try put(.greeted, fields)
        case .refused(let fields): try put(.refused, fields)
        case .joined(let fields): try put(.joined, fields)
        case .left(let fields): try put(.left, fields)
        case .waiting(let fields): try put(.waiting, fields)
        case .round(let fields): try put(.round, fields)
        case .late(let fields): try put(.late, fields)
        case .worker(let fields): try put(.worker, fields)
        case .hold(let fields): try put(.hold, fields)
        case .evaluation(let fields): try put(.evaluation, fields)
        case .trial(let fields): try put(.trial, fields)
        case .digests(let fields): try put(.digests, fields)
        case .connection(let text): try put(.connection, message: text)
        case .warning(let text): try put(.warning, message: text)
        case .finished(let fields): try put(.finished, fields)
        }
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        time = try container.decode(Double.self, forKey: .time)
        func message() throws -> String { try container.decode(String.self, forKey: .message) }
        event =
            switch try container.decode(Name.self, forKey: .event) {
            case .reading: .reading(try LedgerFile.Reading(from: decoder))
            case .listening: .listening(try Listening(from: decoder))
            case .greeted: .greeted(try Greeting(from: decoder))
            case .refused: .refused(try RefusedWorker(from: decoder))
            case .joined: .joined(try Joined(from: decoder))
            case .left: .left(try Left(from: decoder))
            case .waiting: .waiting(try Waiting(from: decoder))
            case .round: .round(try Round(from: decoder))
            case .late: .late(try Late(from: decoder))
            case .worker: .worker(try Worker(from: decoder))
            case .hold: .hold(try Held(from: decoder))
            case .evaluation: .evaluation(try HeldOut(from: decoder))
            case .trial: .trial(try Trial(from: decoder))
            case .digests: .digests(try Digests(from: decoder))
            case .connection: .connection(try message())
            case .warning: .warning(try message())
            case .finished: .finished(try Finished(from: decoder))
            }
        guard isPlausible else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "numbers that no coordinator writes"))
        }
    }

    /// The event as one line of `metrics.jsonl`, including the line break; nil if it can't be encoded.
    public var jsonLine: [UInt8]? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(self)).map { [UInt8]($0) + [0x0a] }
    }
}
