import CZeroMQ
import Core
import Glibc

/// What ZeroMQ's sockets are set to. docs/reference/transport.md says why.
enum SocketOptions {
    /// Between two tries to hand a slow peer its messages: a ROUTER can't be polled for one peer.
    static let retrySeconds = 0.005
    /// ZeroMQ's own threads at a coordinator: with a thousand workers it is they that have the most to do, and with keys still more.
    static let serverThreads = Int32(min(max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1), 4))
    /// What the kernel keeps for a connection until it is acknowledged: a chunk of the ledger, the longest message that is sent often.
    /// It is taken only as it is needed.
    static let sendBufferBytes = Int32(ProtocolLimits.chunkBytes)
    /// Connections that wait to be accepted; the kernel may allow fewer.
    static let backlog: Int32 = 4096
    static let reconnectMilliseconds: Int32 = 100
    /// The doubling ends here, well within the heartbeats' time-out: a worker is back before a coordinator that was started again
    /// gives it up.
    static let reconnectMillisecondsMax: Int32 = 3_000
    /// On a line of 2,400 bit/s a handshake with keys takes some three seconds.
    static let handshakeMilliseconds: Int32 = 20_000
    /// Until a connection that does not come about is tried anew: the kernel's own tries soon lie half a minute apart, and a link that is back
    /// would not be noticed so long.
    static let connectMilliseconds: Int32 = 6_000
    /// What is sent and not acknowledged for so long has met a dead connection. Bytes that are acknowledged one by one, as on a thin link,
    /// count as life.
    static let unacknowledgedMilliseconds: Int32 = 20_000
}

/// ZMTP's own heartbeats, which keep address translation alive and notice peers that hang. They count whole frames as life, so the timeout is
/// longer than a long frame on a thin link takes; dead connections are noticed by what is not acknowledged.
public struct ConnectionHeartbeat: Hashable, Sendable {
    /// 0: none.
    public var intervalMilliseconds: Int32
    public var timeoutMilliseconds: Int32
    public init(intervalMilliseconds: Int32 = 30_000, timeoutMilliseconds: Int32 = 120_000) {
        self.intervalMilliseconds = intervalMilliseconds
        self.timeoutMilliseconds = timeoutMilliseconds
    }
}

extension ZMQSocket {
    /// What both sides set, before they bind or connect.
    func prepareForNetwork(heartbeat: ConnectionHeartbeat, ipv6: Bool, frameLimit: Int) throws(TransportError) {
        try set(ZMQ_LINGER, LinkLimits.lingerMilliseconds)
        try set(ZMQ_SNDHWM, Int32(LinkLimits.connectionFrames))
        try set(ZMQ_RCVHWM, Int32(LinkLimits.connectionFrames))
        try set(ZMQ_MAXMSGSIZE, wide: Int64(frameLimit))
        try set(ZMQ_HANDSHAKE_IVL, SocketOptions.handshakeMilliseconds)
        try set(ZMQ_RECONNECT_IVL, SocketOptions.reconnectMilliseconds)
        try set(ZMQ_RECONNECT_IVL_MAX, SocketOptions.reconnectMillisecondsMax)
        try set(ZMQ_CONNECT_TIMEOUT, SocketOptions.connectMilliseconds)
        try set(ZMQ_TCP_MAXRT, SocketOptions.unacknowledgedMilliseconds)
        try set(ZMQ_TCP_KEEPALIVE, 1)
        if heartbeat.intervalMilliseconds > 0 {
            try set(ZMQ_HEARTBEAT_IVL, heartbeat.intervalMilliseconds)
            try set(ZMQ_HEARTBEAT_TIMEOUT, heartbeat.timeoutMilliseconds)
            try set(ZMQ_HEARTBEAT_TTL, heartbeat.timeoutMilliseconds)
        }
        if ipv6 { try set(ZMQ_IPV6, 1) }
    }

    /// Encrypts the connections that are made from now on.
    package func encrypt(to serverKey: PublicKey, with keys: KeyPair) throws(TransportError) {
        try set(ZMQ_CURVE_SERVERKEY, serverKey.bytes)
        try set(ZMQ_CURVE_PUBLICKEY, keys.publicKey.bytes)
        try set(ZMQ_CURVE_SECRETKEY, keys.secret)
    }
}
