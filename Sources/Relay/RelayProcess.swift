import Core
import Transport

/// A relay between a site's workers and the coordinator. It carries what is the same for all workers once over the far link. It holds no model, no
/// data, no ledger that anybody needs, and no keys of workers.
///
/// Two threads and the transports' own: one owns the link to the workers and the state machine, the other owns the link to the coordinator.
public final class RelayProcess: Sendable {
    public struct Configuration: Sendable {
        /// The way and the address at which workers find the relay.
        public var near: any ServerTransport
        /// The way and the address at which the relay finds the coordinator.
        public var far: any ClientTransport
        /// The run and the base that the coordinator's join string names; nil: none. A later join string must name the same.
        public var run: String?
        public var base: String?
        /// The relay gives up when the coordinator has been silent for this long.
        public var patienceSeconds: Double
        /// Receives progress on the relay's thread. It must return at once.
        public var onProgress: @Sendable (RelayProgress) -> Void

        public init(
            near: any ServerTransport, far: any ClientTransport, run: String? = nil, base: String? = nil, patienceSeconds: Double = 600,
            onProgress: @escaping @Sendable (RelayProgress) -> Void = { _ in }
        ) {
            self.near = near
            self.far = far
            self.run = run
            self.base = base
            self.patienceSeconds = patienceSeconds
            self.onProgress = onProgress
        }
    }

    /// The result of a relay.
    public struct Outcome: Hashable, Sendable {
        public let exit: RelayExit
        public let status: ExitStatus
        /// What it has to say to a person.
        public let message: String
        /// Traffic with the coordinator.
        public let far: Traffic
        /// Traffic with the workers.
        public let near: Traffic
        /// Bytes of the ledger that joiners got from the relay's own copy.
        public let ledgerBytes: Int
    }

    private let configuration: Configuration
    private let mailbox = Mailbox<RelayLetter>()

    public init(configuration: Configuration) { self.configuration = configuration }

    /// Runs until the run has ended, the relay is stopped, or it can't go on. It may be called once.
    ///
    /// - Throws: `TransportError` if it can't listen or there can be no connection.
    public func run() async throws -> Outcome {
        let (configuration, mailbox) = (self.configuration, self.mailbox)
        return try await onThread(named: "onebyte-net") { try RelayShell.run(configuration, mailbox) }
    }

    /// Ends the relay. Its workers wait for it or another one at its address.
    public func requestStop() { mailbox.post(.event(.stopRequested)) }

    /// Leaves the coordinator's address for another one, at which the restarted coordinator listens. If the join string names another run or base
    /// than before, the relay ends: its workers are told of the first.
    public func reconnect(to join: JoinString) { mailbox.post(.move(join)) }
}

/// Progress of a relay, for logs.
public enum RelayProgress: Sendable, CustomStringConvertible {
    case listening(endpoint: String, key: PublicKey?)
    /// The connection to the coordinator.
    case connection(ConnectionNotice)
    case notice(RelayNotice)
    case warning(String)

    public var description: String {
        switch self {
        case .listening(let endpoint, _): "listening at \(endpoint)"
        case .connection(let notice): "\(notice)"
        case .notice(let notice): "\(notice)"
        case .warning(let text): text
        }
    }
}

/// A message to the thread that owns the state machine.
package enum RelayLetter: Sendable {
    case event(RelayEvent)
    /// The far link is made.
    case ready(endpoint: String, isEncrypted: Bool)
    case connection(ConnectionNotice)
    /// A message that no coordinator sends came over the far link.
    case malformed(WireError)
    case move(JoinString)
    /// The far link can't go on.
    case failed(TransportError)
}
