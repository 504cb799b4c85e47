import Core
import Glibc
import Transport

/// A coordinator: admits machines, opens and commits rounds, keeps the ledger. It never holds the model.
///
/// ```swift
/// let server = ZeroMQServer(address: try Address("127.0.0.1:0"))
/// let coordinator = CoordinatorProcess(configuration: .init(transport: server, runDirectory: "run", spec: spec))
/// let outcome = try await coordinator.run()
/// ```
///
/// Two threads and the transport's own: the reactor owns the link and the state machine; the disk owns the ledger's file, so that a slow
/// fsync keeps no worker's heartbeat waiting.
public final class CoordinatorProcess: Sendable {
    /// What is this host's own affair; what the run's machines share is in the spec.
    public struct Configuration: Sendable {
        /// How and where it listens.
        public var transport: any ServerTransport
        /// Holds the ledger, `run.json` (the spec) and `metrics.jsonl`. An existing ledger is resumed.
        public var runDirectory: String
        /// A new run's spec; nil: resume the run directory's. For a directory that has a ledger it must be the same spec.
        public var spec: RunSpec?
        /// The encoded basis, for a new run with a shape.
        public var basis: [UInt8]?
        /// Pins a new run's base model; nil: the first worker's becomes the run's.
        public var base: BaseManifest?
        /// The process that started this one and has the run directory's lock for both; nil: this one takes it.
        public var lockHolder: Int32?
        /// Signs the ledger, given the run directory, which is there by then; nil: nobody does.
        public var makeNotary: (@Sendable (RunDirectory) throws -> any Notary)?
        /// Called on the reactor's thread: it must return at once.
        public var onProgress: @Sendable (CoordinatorProgress) -> Void

        public init(
            transport: any ServerTransport, runDirectory: String, spec: RunSpec? = nil, basis: [UInt8]? = nil, base: BaseManifest? = nil,
            lockHolder: Int32? = nil, makeNotary: (@Sendable (RunDirectory) throws -> any Notary)? = nil,
            onProgress: @escaping @Sendable (CoordinatorProgress) -> Void = { _ in }
        ) {
            self.transport = transport
            self.runDirectory = runDirectory
            self.spec = spec
            self.basis = basis
            self.base = base
            self.lockHolder = lockHolder
            self.makeNotary = makeNotary
            self.onProgress = onProgress
        }
    }

    /// How a coordinator ended.
    public struct Outcome: Hashable, Sendable {
        public let finish: RunFinish
        public let status: ExitStatus
        public let traffic: Traffic
        /// Bytes committed in the whole run, one a sample.
        public let samples: UInt64
        public let rounds: RoundNumber
        /// That the workers last agreed on.
        public let digest: Digest?
        /// The ledger's hash chain after its last record.
        public let chain: Digest
        /// Who signed it, where somebody did.
        public let signer: SignerKey?
    }

    private let configuration: Configuration
    private let mailbox: Mailbox<CoordinatorLetter>

    public init(configuration: Configuration) {
        self.configuration = configuration
        mailbox = Mailbox()
    }

    /// Runs until the run is complete, stopped, or can't go on. At most once.
    ///
    /// - Throws: `TransportError` where it can't listen; `ProcessFailure` where it can't begin otherwise: a run directory that is locked,
    ///   damaged or of another run.
    public func run() async throws -> Outcome {
        let configuration = configuration
        let mailbox = mailbox
        return try await onThread(named: "onebyte-net") {
            do {
                return try CoordinatorShell.run(configuration, mailbox)
            } catch let error as LedgerFileError {
                throw ProcessFailure(error.status, "\(error)")
            }
        }
    }

    /// Ends the run here, as after Ctrl-C: workers are told, the ledger is whole, and the same run directory goes on with it.
    public func requestStop() { mailbox.post(.event(.stopRequested)) }

    /// Takes a machine's contributions to these rounds out, exactly, on all workers.
    public func retract(_ machine: MachineID, rounds: Range<RoundNumber>) { mailbox.post(.event(.retract(machine, rounds: rounds))) }

    /// Goes back to the parameters before `round` and multiplies the learning rate by 2^rateShift.
    public func rewind(to round: RoundNumber, rateShift: Int8) { mailbox.post(.event(.rewind(to: round, rateShift: rateShift))) }

    /// Sets a machine aside.
    public func remove(_ machine: MachineID) { mailbox.post(.event(.remove(machine))) }
}

/// What other threads tell the coordinator's reactor.
enum CoordinatorLetter: Sendable {
    case event(CoordinatorEvent)
    /// Ledger bytes that were read for a peer.
    case chunk(LedgerChunk, to: PeerID)
    case warning(String)
}
