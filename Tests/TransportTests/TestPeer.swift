import Core
import Dispatch
import Transport

/// A link on a reactor thread of its own that tells a test all that it sees, and does what the test says.
final class TestPeer: Sendable {
    enum Seen: Sendable {
        case started(endpoint: String)
        case frame([UInt8], from: PeerID, key: PublicKey?)
        case malformed(parts: Int)
        case connection(ConnectionNotice)
        case traffic(Traffic)
        case failed(String)
        case ended
    }

    enum Letter: Sendable {
        case send([UInt8], to: [PeerID])
        case forget(PeerID)
        case reportTraffic
        /// The thread serves nothing until it is signalled.
        case hold(DispatchSemaphore)
        case stop
    }

    let mailbox: Mailbox<Letter>
    let events: AsyncStream<Seen>

    /// `echo` sends every frame back to where it came from.
    static func server(
        _ address: String = "tcp://127.0.0.1:0", access: AccessControl = .open, echo: Bool = false,
        heartbeat: ConnectionHeartbeat = ConnectionHeartbeat(intervalMilliseconds: 0)
    ) throws -> TestPeer {
        let address = try Address(address)
        return try TestPeer { mailbox, report in
            var link = try ServerLink(address: address, access: access, heartbeat: heartbeat, classify: classify)
            report(.started(endpoint: link.endpoint))
            try runReactor(&link, mailbox: mailbox, clock: ProcessClock()) { event, link in
                switch event {
                case .link(.frame(let frame, let peer, let key)):
                    if echo { try link.send(frame, to: [peer]) }
                    report(.frame(frame, from: peer, key: key))
                case .link(.malformed(let parts, _)): report(.malformed(parts: parts))
                case .link(.connection(let notice)): report(.connection(notice))
                case .letter(.send(let frame, let peers)): try link.send(frame, to: peers)
                case .letter(.forget(let peer)): link.forget(peer)
                case .letter(.reportTraffic): report(.traffic(link.traffic))
                case .letter(.hold(let semaphore)): semaphore.wait()
                case .letter(.stop): return .finish
                case .tick: break
                }
                return .goOn
            }
        }
    }

    static func client(
        _ endpoint: String, serverKey: PublicKey? = nil, keys: KeyPair? = nil,
        heartbeat: ConnectionHeartbeat = ConnectionHeartbeat(intervalMilliseconds: 0)
    ) throws -> TestPeer {
        let address = try Address(endpoint)
        return try TestPeer { mailbox, report in
            var link = try ClientLink(
                address: address, serverKey: serverKey, keys: keys, heartbeat: heartbeat, classify: classify)
            report(.started(endpoint: endpoint))
            try runReactor(&link, mailbox: mailbox, clock: ProcessClock()) { event, link in
                switch event {
                case .link(.frame(let frame, let peer, let key)): report(.frame(frame, from: peer, key: key))
                case .link(.malformed(let parts, _)): report(.malformed(parts: parts))
                case .link(.connection(let notice)): report(.connection(notice))
                case .letter(.send(let frame, _)): try link.send(frame)
                case .letter(.reportTraffic): report(.traffic(link.traffic))
                case .letter(.hold(let semaphore)): semaphore.wait()
                case .letter(.stop): return .finish
                case .letter(.forget), .tick: break
                }
                return .goOn
            }
        }
    }

    private init(
        _ body: @escaping @Sendable (Mailbox<Letter>, _ report: (Seen) -> Void) throws -> Void
    ) throws {
        let mailbox = try Mailbox<Letter>()
        let (events, continuation) = AsyncStream<Seen>.makeStream()
        self.mailbox = mailbox
        self.events = events
        _ = try NamedThread("test-peer") {
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

    /// The next thing that `match` makes something of; earlier ones are lost.
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

    func traffic() async throws -> Traffic {
        mailbox.post(.reportTraffic)
        return try await next { if case .traffic(let traffic) = $0 { traffic } else { nil } }
    }

    func stop() async throws {
        mailbox.post(.stop)
        for await _ in events {}
    }

    struct Failure: Error { let reason: String }
}

/// Frames that begin with 1 count as training's.
func classify(_ frame: [UInt8]) -> TrafficClass { frame.first == 1 ? .rounds : .control }
