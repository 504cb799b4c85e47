import Core
import Dispatch
import TestSupport
import Transport

/// A link on its own reactor thread. It tells a test everything that it sees, and does what the test says.
final class TestPeer: Sendable {
    enum Seen: Sendable {
        case started(endpoint: String)
        case frame([UInt8], from: PeerID, key: PublicKey?)
        case malformed(WireError)
        case connection(ConnectionNotice)
        case traffic(Traffic)
        /// It serves nothing from now on.
        case held
        case failed(String)
        case ended
    }

    private enum Letter: Sendable {
        case send([UInt8], to: [PeerID])
        case forget(PeerID)
        case reportTraffic
        case hold(DispatchSemaphore)
        case stop
    }

    private let mailbox = Mailbox<Letter>()
    private let events: AsyncStream<Seen>

    /// Creates a coordinator's end. `echo` sends every frame back to its sender.
    static func server(_ transport: any ServerTransport, echo: Bool = false) throws -> TestPeer {
        try TestPeer { mailbox, report in
            let link = try transport.listen(classify: classify)
            try run(
                link, mailbox, report,
                send: { frame, peers in try link.send(frame, to: peers) },
                forget: { link.forget($0) }, echo: echo)
        }
    }

    static func client(_ transport: any ClientTransport) throws -> TestPeer {
        try TestPeer { mailbox, report in
            let link = try transport.connect(classify: classify)
            try run(link, mailbox, report, send: { frame, _ in try link.send(frame) }, forget: { _ in }, echo: false)
        }
    }

    /// Creates a coordinator's end over TCP.
    static func server(access: AccessControl = .open, echo: Bool = false) throws -> TestPeer {
        try server(ZeroMQServer(address: try Address("tcp://127.0.0.1:0"), access: access, heartbeat: .none), echo: echo)
    }

    /// Creates a worker's end over TCP.
    static func client(
        _ endpoint: String, serverKey: PublicKey? = nil, keys: KeyPair? = nil, heartbeat: ConnectionHeartbeat = .none
    ) throws -> TestPeer {
        try client(ZeroMQClient(address: try Address(endpoint), serverKey: serverKey, keys: keys, heartbeat: heartbeat))
    }

    private static func run(
        _ link: any Link, _ mailbox: Mailbox<Letter>, _ report: (Seen) -> Void, send: ([UInt8], [PeerID]) throws -> Void,
        forget: (PeerID) -> Void, echo: Bool
    ) throws {
        report(.started(endpoint: link.endpoint))
        try runReactor(link, mailbox: mailbox, clock: ProcessClock()) { event in
            switch event {
            case .link(.frame(let frame, let peer, let key)):
                if echo { try send(frame, [peer]) }
                report(.frame(frame, from: peer, key: key))
            case .link(.malformed(let error, _)): report(.malformed(error))
            case .link(.connection(let notice)): report(.connection(notice))
            case .letter(.send(let frame, let peers)): try send(frame, peers)
            case .letter(.forget(let peer)): forget(peer)
            case .letter(.reportTraffic): report(.traffic(link.traffic))
            case .letter(.hold(let semaphore)):
                report(.held)
                semaphore.wait()
            case .letter(.stop): return .finish
            case .tick: break
            }
            return .continue
        }
    }

    private init(
        _ body: @escaping @Sendable (Mailbox<Letter>, _ report: (Seen) -> Void) throws -> Void
    ) throws {
        let (events, continuation) = AsyncStream<Seen>.makeStream()
        self.events = events
        _ = try NamedThread("test-peer") { [mailbox] in
            do {
                try body(mailbox) { continuation.yield($0) }
            } catch {
                continuation.yield(.failed("\(error)"))
            }
            continuation.yield(.ended)
            continuation.finish()
        }
    }

    func send(_ frame: [UInt8], to peers: [PeerID] = []) { mailbox.post(.send(frame, to: peers)) }
    func forget(_ peer: PeerID) { mailbox.post(.forget(peer)) }

    /// Makes the peer serve nothing until the semaphore is signalled. Returns when that has begun.
    func hold() async throws -> DispatchSemaphore {
        let semaphore = DispatchSemaphore(value: 0)
        mailbox.post(.hold(semaphore))
        try await next { if case .held = $0 { () } else { nil } }
        return semaphore
    }

    /// Returns the first result that `match` gives for a coming event. Events before it are lost.
    func next<Value>(_ match: (Seen) -> Value?) async throws -> Value {
        for await event in events {
            if let value = match(event) { return value }
            if case .failed(let reason) = event { throw Failure(reason: reason) }
        }
        throw Failure(reason: "it ended before what was waited for")
    }

    func endpoint() async throws -> String {
        try await next { if case .started(let endpoint) = $0 { endpoint } else { nil } }
    }

    func frame() async throws -> (bytes: [UInt8], from: PeerID, key: PublicKey?) {
        try await next { if case .frame(let bytes, let from, let key) = $0 { (bytes, from, key) } else { nil } }
    }

    func notice() async throws -> ConnectionNotice {
        try await next { if case .connection(let notice) = $0 { notice } else { nil } }
    }

    func connected() async throws { try await next { if case .connection(.connected) = $0 { () } else { nil } } }
    func lost() async throws { try await next { if case .connection(.lost) = $0 { () } else { nil } } }

    func traffic() async throws -> Traffic {
        mailbox.post(.reportTraffic)
        return try await next { if case .traffic(let traffic) = $0 { traffic } else { nil } }
    }

    /// Returns this many frames, and waits for the loss of the connection on which they came, in whichever order the transport reports them.
    func framesAndLoss(_ count: Int) async throws -> [[UInt8]] {
        var frames: [[UInt8]] = []
        var isLost = false
        while frames.count < count || !isLost {
            try await next { (seen) -> Void? in
                switch seen {
                case .frame(let bytes, _, _): frames.append(bytes)
                case .connection(.lost): isLost = true
                default: return nil
                }
                return ()
            }
        }
        return frames
    }

    func requestStop() { mailbox.post(.stop) }

    func stop() async throws {
        requestStop()
        for await _ in events {}
    }

    struct Failure: Error { let reason: String }
}

/// Counts frames that begin with 1 as training's.
@Sendable func classify(_ frame: [UInt8]) -> TrafficClass { frame.first == 1 ? .rounds : .control }

extension ConnectionHeartbeat {
    static let none = ConnectionHeartbeat(intervalMilliseconds: 0)
}

/// The transports, which must behave alike.
enum TransportKind: CaseIterable { case zeroMQ, inProcess }

/// A place for one coordinator and its workers on any transport. Its connections can be dropped.
final class TestNetwork {
    private let network = InProcessNetwork()
    private let kind: TransportKind
    private var endpoint: String?
    private var proxy: CountingProxy?

    init(_ kind: TransportKind) { self.kind = kind }

    /// Creates a coordinator, always at the same place.
    func server(echo: Bool = false) async throws -> TestPeer {
        guard kind == .zeroMQ else { return try TestPeer.server(network, echo: echo) }
        let peer = try TestPeer.server(
            ZeroMQServer(address: try Address(endpoint ?? "tcp://127.0.0.1:0"), heartbeat: .none), echo: echo)
        endpoint = try await peer.endpoint()
        return peer
    }

    /// Creates a worker of this network's coordinator.
    func client() throws -> TestPeer {
        guard kind == .zeroMQ else { return try TestPeer.client(network) }
        guard let endpoint else { throw TestPeer.Failure(reason: "no coordinator has told its port yet") }
        return try TestPeer.client(proxy?.endpoint ?? endpoint)
    }

    /// Makes the connections of later workers droppable.
    func makeDroppable() throws {
        if kind == .zeroMQ, let endpoint { proxy = try CountingProxy(to: endpoint) }
    }

    /// Undoes `makeDroppable`.
    func close() { proxy?.close() }

    func dropConnections(isSeenByServer: Bool = true) {
        guard kind == .zeroMQ else { return network.dropConnections(isSeenByServer: isSeenByServer) }
        proxy?.cutClients(isSeenByServer: isSeenByServer)
    }
}
