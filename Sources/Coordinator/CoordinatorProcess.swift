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
/// Two threads and the transport's own: the reactor owns the link and the state machine, and the disk thread owns the ledger's file, so that a slow
/// fsync keeps no worker's heartbeat waiting.
public final class CoordinatorProcess: Sendable {
    /// The settings of this host. What all machines of the run share is in the spec.
    public struct Configuration: Sendable {
        /// The way and the address at which the coordinator listens.
        public var transport: any ServerTransport
        /// The directory that holds the ledger, `run.json` (the spec) and `metrics.jsonl`. An existing ledger is resumed.
        public var runDirectory: String
        /// A new run's spec; nil: the run directory's ledger is resumed. If the directory has a ledger, the spec must be the ledger's.
        public var spec: RunSpec?
        /// The encoded basis, for a new run that needs one.
        public var basis: [UInt8]?
        /// Fixes a new run's base model; nil: the first worker's becomes the run's.
        public var base: BaseManifest?
        /// The process that started this one and holds the run directory's lock for both; nil: this process takes the lock.
        public var lockHolder: Int32?
        /// Makes the signer of the ledger from the run directory, which exists by then; nil: nobody signs.
        public var makeNotary: (@Sendable (RunDirectory) throws -> any Notary)?
        /// Receives progress on the reactor's thread. It must return at once.
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

    /// The result of a coordinator.
    public struct Outcome: Hashable, Sendable {
        public let finish: RunFinish
        public let status: ExitStatus
        public let traffic: Traffic
        /// Number of bytes committed in the whole run: one for each sample.
        public let samples: UInt64
        /// Number of rounds in the ledger, void ones included.
        public let rounds: RoundNumber
        /// The digest that the workers last agreed on.
        public let digest: Digest?
        /// The ledger's hash chain after its last record.
        public let chain: Digest
        /// The key that signed the ledger; nil if nobody signed it.
        public let signer: SignerKey?
    }

    private let configuration: Configuration
    private let mailbox: Mailbox<CoordinatorLetter>

    public init(configuration: Configuration) {
        self.configuration = configuration
        mailbox = Mailbox()
    }

    /// Runs until the run is complete, is stopped, or can't go on. It may be called once.
    ///
    /// - Throws: `TransportError` if it can't listen; `ProcessFailure` if it can't begin for another reason, such as a run directory that is locked,
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

    /// Stops the run here, as Ctrl-C does. Workers are told, the ledger is whole, and the same run directory can be resumed.
    public func requestStop() { mailbox.post(.event(.stopRequested)) }

    /// Takes a machine's contributions to these rounds out, exactly, on all workers.
    public func retract(_ machine: MachineID, rounds: Range<RoundNumber>) { mailbox.post(.event(.retract(machine, rounds: rounds))) }

    /// Goes back to the parameters before `round` and multiplies the learning rate by 2^rateShift.
    public func rewind(to round: RoundNumber, rateShift: Int8) { mailbox.post(.event(.rewind(to: round, rateShift: rateShift))) }

    /// Evicts a machine.
    public func remove(_ machine: MachineID) { mailbox.post(.event(.remove(machine))) }
}

/// A message from another thread to the coordinator's reactor.
package enum CoordinatorLetter: Sendable {
    case event(CoordinatorEvent)
    /// Ledger bytes that were read for a peer.
    case chunk(LedgerChunk, to: PeerID)
    case warning(String)
}
