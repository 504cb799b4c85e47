import Core
import Transport

/// A worker. It holds the model and its own private data, tries directions and sends bytes; or it evaluates held-out data; or both.
///
/// The reactor thread owns the link and the state machine, so it answers whatever the model is doing. One compute thread owns the model and the
/// parameters and does one task at a time, in order. The transport may have threads of its own.
public final class WorkerProcess: Sendable {
    public struct Configuration: Sendable {
        /// The way and the address at which the worker finds the coordinator.
        public var transport: any ClientTransport
        /// The run that the worker expects there, by its spec's SHA-256; nil: any run.
        public var expectedRun: Digest?
        /// The base model that the worker expects, by its manifest's SHA-256; nil: whatever the run has.
        public var expectedBase: Digest?
        /// The worker's name in every display, such as its host's name.
        public var name: String
        public var trains: Bool
        public var evaluates: Bool
        /// The worker gives up when the coordinator has been silent for this long.
        public var patienceSeconds: Double
        /// The file to which the parameters are written when the run ends, and when `requestSnapshot` asks for it; nil: none.
        public var snapshotPath: String?
        /// The directory in which this worker keeps its last snapshots, to resume from when it is started again; nil: none.
        public var stateDirectory: String?
        /// Seconds between two snapshots.
        public var snapshotSeconds: Double
        /// A snapshot that another worker has written.
        public var bootstrap: String?
        /// Countersigns this worker's digests; nil: they are not countersigned.
        public var notary: (any Notary)?
        /// A basis that this host has. If it is the run's, it is not downloaded.
        public var basis: [UInt8]?
        /// The precision in which the trainer computes bytes; nil: the ledger does not say it.
        public var precision: ComputePrecision?
        /// Makes the trainer, on the compute thread, before the worker connects to the coordinator.
        public var makeTrainer: @Sendable () throws -> any Trainer
        /// Turns a trainer's error into an exit status and a message. This module knows no trainer's errors.
        public var failure: @Sendable (any Error) -> ProcessFailure
        /// Receives progress on the reactor's thread. It must return at once.
        public var onProgress: @Sendable (WorkerProgress) -> Void

        public init(
            transport: any ClientTransport, expectedRun: Digest? = nil, expectedBase: Digest? = nil, name: String, trains: Bool = true,
            evaluates: Bool = false,
            patienceSeconds: Double = 600, snapshotPath: String? = nil, stateDirectory: String? = nil,
            snapshotSeconds: Double = 30, bootstrap: String? = nil, notary: (any Notary)? = nil, basis: [UInt8]? = nil,
            precision: ComputePrecision? = nil,
            onProgress: @escaping @Sendable (WorkerProgress) -> Void = { _ in },
            failure: @escaping @Sendable (any Error) -> ProcessFailure = { $0 as? ProcessFailure ?? ProcessFailure(.failure, "\($0)") },
            makeTrainer: @escaping @Sendable () throws -> any Trainer
        ) {
            self.transport = transport
            self.expectedRun = expectedRun
            self.expectedBase = expectedBase
            self.name = name
            self.trains = trains
            self.evaluates = evaluates
            self.patienceSeconds = patienceSeconds
            self.snapshotPath = snapshotPath
            self.stateDirectory = stateDirectory
            self.snapshotSeconds = snapshotSeconds
            self.bootstrap = bootstrap
            self.notary = notary
            self.basis = basis
            self.precision = precision
            self.onProgress = onProgress
            self.failure = failure
            self.makeTrainer = makeTrainer
        }
    }

    /// The result of a worker.
    public struct Outcome: Hashable, Sendable {
        public let exit: WorkerExit
        public let status: ExitStatus
        /// The message for the user: what happened, and the remedy if there is one.
        public let message: String
        public let traffic: Traffic
        /// Whether work that nobody wants any more still goes on, on its own thread. A process that ends need not wait for it.
        public let isComputing: Bool
    }

    /// The version that a worker tells its coordinator.
    public static let software = "onebyte 0.1"

    private let configuration: Configuration
    private let mailbox: Mailbox<WorkerLetter>

    public init(configuration: Configuration) {
        self.configuration = configuration
        mailbox = Mailbox()
    }

    /// Runs until the run is complete, the worker is stopped or turned away, or it can't go on. It may be called once.
    ///
    /// - Throws: `ProcessFailure` if it can't begin.
    public func run() async throws -> Outcome {
        let configuration = configuration
        let mailbox = mailbox
        return try await onThread(named: "onebyte-net") {
            do {
                return try WorkerShell.run(configuration, mailbox)
            } catch let error as TransportError {
                throw ProcessFailure(error)
            }
        }
    }

    /// Says goodbye and ends, as Ctrl-C does.
    public func requestStop() { mailbox.post(.event(.stopRequested)) }

    /// Leaves the coordinator's old address for this one and stays the same machine.
    public func reconnect(to join: JoinString) { mailbox.post(.reconnect(join)) }

    /// Writes the present parameters to `snapshotPath` as soon as the task in hand is done.
    public func requestSnapshot() { mailbox.post(.snapshot) }
}

/// A message from another thread to the worker's reactor.
enum WorkerLetter: Sendable {
    case event(WorkerEvent)
    /// The compute thread can't go on.
    case failed(ProcessFailure)
    case snapshot
    case reconnect(JoinString)
    case snapshotWritten(String)
    case snapshotFailed(ProcessFailure)
    case warning(String)
}

/// Something that happened at a worker, for its log and display.
public enum WorkerProgress: Sendable, CustomStringConvertible {
    case notice(WorkerNotice)
    case connection(ConnectionNotice)
    case snapshot(path: String)
    case warning(String)

    public var description: String {
        switch self {
        case .connection(let notice): notice.description
        case .snapshot(let path): "parameters written to \(path)"
        case .warning(let text): "warning: \(text)"
        case .notice(let notice): Self.text(notice)
        }
    }

    private static func text(_ notice: WorkerNotice) -> String {
        switch notice {
        case .greeting(let attempt): attempt <= 1 ? "calling the coordinator" : "calling the coordinator, attempt \(attempt)"
        case .welcomed(let spec, let records, let signer):
            "welcomed to run \(spec.short) with \(records) ledger records" + (signer.map { ", signed by \($0)" } ?? "")
        case .downloading(let bytes, let total, let seconds):
            "downloading the ledger: \(bytes) of \(total) bytes" + (seconds.map { ", about \(Int($0.rounded(.up))) s left" } ?? "")
        case .catchingUp(let rounds, let seconds):
            "catching up: \(rounds) rounds behind" + (seconds.map { ", about \(Int($0.rounded(.up))) s left" } ?? "")
        case .restored(let round): "resuming from the snapshot before round \(round)"
        case .joined(let machine): "joined as \(machine)"
        case .applied(let round): "round \(round) applied"
        case .contributed(let round, let samples, let loss):
            "round \(round): \(samples) samples" + (loss.isNaN ? "" : ", loss \(rounded(loss))")
        case .privacy(let status):
            "private bytes so far: ε = \(rounded(status.epsilon)) at δ = \(status.delta)"
                + (status.isSpent ? "; the budget is spent, and this worker gives no values any more" : "")
        case .digest(let round, let digest): "parameters before round \(round): \(digest.short)"
        case .evaluated(let report):
            "evaluation data before round \(report.round): loss \(rounded(report.loss))"
                + (report.accuracy.isNaN ? "" : ", accuracy \(rounded(report.accuracy))")
        case .silent(let seconds): "the coordinator has been silent for \(Int(seconds)) s"
        case .rebuilding: "building the parameters again from base and ledger"
        case .warning(let text): "warning: \(text)"
        }
    }

    /// Rounds to four decimals without Foundation.
    private static func rounded(_ value: Double) -> String {
        value.isFinite ? "\((value * 10_000).rounded() / 10_000)" : "\(value)"
    }
}
