import CZeroMQ
import Core
import Glibc

/// What a link reports to its reactor.
public enum LinkEvent: Sendable {
    /// A message of one frame. At a worker `from` is empty; `key` is the sender's proven CURVE key.
    case frame([UInt8], from: PeerID, key: PublicKey?)
    /// A message that nobody of ours sends: not one frame.
    case malformed(parts: Int, from: PeerID)
    case connection(ConnectionNotice)
}

/// What happens to the connections below the messages, for logs: reconnecting is ZeroMQ's affair.
public enum ConnectionNotice: Hashable, Sendable, CustomStringConvertible {
    case connected(String)
    /// Nobody answers there yet; it tries again by itself.
    case retrying(String)
    case lost(String)
    /// The other side does not let us in, or we not it. Where that is final, ZeroMQ does not try again.
    case refused(String, reason: String, isFinal: Bool)

    public var description: String {
        switch self {
        case .connected(let endpoint): "connected: \(endpoint)"
        case .retrying(let endpoint): "no connection to \(endpoint) yet, trying again"
        case .lost(let endpoint): "connection lost: \(endpoint)"
        case .refused(let endpoint, let reason, _): "\(endpoint): \(reason)"
        }
    }
}

/// One end of the star: a coordinator's `ServerLink` or a worker's `ClientLink`. Lives on its reactor's thread; no call on
/// it waits.
package protocol Link: ~Copyable {
    func pollItems() -> [zmq_pollitem_t]
    /// In milliseconds, when `service` should be called again though no socket is ready; nil: never.
    var retryAfter: Int? { get }
    /// Sends what waits and takes in what has come, at most `LinkLimits.framesPerTurn` frames
    /// and about `LinkLimits.bytesPerTurn` bytes.
    mutating func service() throws(TransportError) -> [LinkEvent]
    /// Whether nothing waits to be handed to ZeroMQ.
    var isFlushed: Bool { get }
}

package enum LinkLimits {
    /// Taken in before timers and commands get their turn.
    static let framesPerTurn = 256
    /// A turn ends also here, at the latest one frame later: so many large frames at once are no reason to hold gigabytes.
    static let bytesPerTurn = 32 << 20
    /// Messages in ZeroMQ's own queue to or from one peer.
    static let highWaterMark: Int32 = 256
    /// Messages and bytes that wait for one slow peer beyond that.
    static let waitingMessages = 1024
    static let waitingBytes = 64 << 20
    /// Bytes that wait for all slow peers together.
    static let allWaitingBytes = 512 << 20
    /// Between two tries to hand a slow peer its messages: a ROUTER can't be polled for one peer.
    static let retryMilliseconds = 5
    /// Of ZeroMQ at a coordinator: with a thousand workers it is they that have the most to do, and with keys still more.
    static let serverThreads = Int32(min(max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1), 4))
    /// That the kernel keeps for a connection until they are acknowledged: a chunk of the ledger, the longest message that is sent often. Taken only
    /// as it is needed.
    static let sendBufferBytes = Int32(ProtocolLimits.chunkBytes)
    /// Connections that wait to be accepted; the kernel may allow fewer.
    static let backlog: Int32 = 4096
    static let reconnectMilliseconds: Int32 = 100
    /// The doubling ends here, well within the heartbeats' time-out: a worker is back before a coordinator that was started again
    /// gives it up.
    static let reconnectMillisecondsMax: Int32 = 3_000
    static let handshakeMilliseconds: Int32 = 10_000
    /// How long a closed socket may still send what it holds.
    static let lingerMilliseconds: Int32 = 300
}

/// ZMTP's own heartbeats, which keep address translation alive and notice dead TCP connections.
public struct ConnectionHeartbeat: Hashable, Sendable {
    /// 0: none.
    public var intervalMilliseconds: Int32
    public var timeoutMilliseconds: Int32
    public init(intervalMilliseconds: Int32 = 5000, timeoutMilliseconds: Int32 = 15_000) {
        self.intervalMilliseconds = intervalMilliseconds
        self.timeoutMilliseconds = timeoutMilliseconds
    }
}

extension ZMQSocket {
    /// What both sides set, before they bind or connect.
    func prepareForNetwork(heartbeat: ConnectionHeartbeat, ipv6: Bool) throws(TransportError) {
        try set(ZMQ_LINGER, LinkLimits.lingerMilliseconds)
        try set(ZMQ_SNDHWM, LinkLimits.highWaterMark)
        try set(ZMQ_RCVHWM, LinkLimits.highWaterMark)
        try set(ZMQ_MAXMSGSIZE, wide: Int64(ProtocolLimits.frameBytes))
        try set(ZMQ_HANDSHAKE_IVL, LinkLimits.handshakeMilliseconds)
        try set(ZMQ_RECONNECT_IVL, LinkLimits.reconnectMilliseconds)
        try set(ZMQ_RECONNECT_IVL_MAX, LinkLimits.reconnectMillisecondsMax)
        try set(ZMQ_TCP_KEEPALIVE, 1)
        if heartbeat.intervalMilliseconds > 0 {
            try set(ZMQ_HEARTBEAT_IVL, heartbeat.intervalMilliseconds)
            try set(ZMQ_HEARTBEAT_TIMEOUT, heartbeat.timeoutMilliseconds)
            try set(ZMQ_HEARTBEAT_TTL, heartbeat.timeoutMilliseconds)
        }
        if ipv6 { try set(ZMQ_IPV6, 1) }
    }
}

/// Reads a socket's monitor: two frames, (event, value) and the endpoint.
struct ConnectionMonitor: ~Copyable {
    let socket: ZMQSocket

    init(_ watched: borrowing ZMQSocket, in context: ZMQContext, name: String) throws(TransportError) {
        let events =
            ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
        try watched.monitor(events, at: "inproc://monitor.\(name)")
        let socket = try ZMQSocket(.pair, in: context)
        try socket.set(ZMQ_LINGER, 0)
        try socket.connect("inproc://monitor.\(name)")
        self.socket = socket
    }

    func next() throws(TransportError) -> ConnectionNotice? {
        while let parts = try socket.receiveParts() {
            guard parts.count == 2, parts[0].count == 6 else { continue }
            let event = Int32(parts[0][0]) | Int32(parts[0][1]) << 8
            let endpoint = String(decoding: parts[1], as: UTF8.self)
            switch event {
            case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return .connected(endpoint)
            case ZMQ_EVENT_DISCONNECTED: return .lost(endpoint)
            case ZMQ_EVENT_CONNECT_RETRIED: return .retrying(endpoint)
            case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
                return .refused(endpoint, reason: "this worker's public key is not in the coordinator's allow list", isFinal: true)
            case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
                let reason = "the handshake failed: one side encrypts and the other does not, or it is no coordinator"
                return .refused(endpoint, reason: reason, isFinal: true)
            default:
                let reason = "the connection ended within the handshake: wrong server key, or it is no coordinator"
                return .refused(endpoint, reason: reason, isFinal: false)
            }
        }
        return nil
    }
}
