import CZeroMQ
import Core
import Glibc

/// The settings of ZeroMQ's sockets. docs/reference/transport.md gives the reasons.
enum SocketOptions {
    /// Seconds between two tries to hand a slow peer its messages: a ROUTER can't be polled for one peer.
    static let retrySeconds = 0.005
    /// Number of ZeroMQ's own threads at a coordinator. With a thousand workers they have the most to do, and with keys even more.
    static let serverThreads = Int32(min(max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1), 4))
    /// Size of the kernel's buffer for what a connection has not acknowledged: a chunk of the ledger, which is the longest message that is sent
    /// often. Memory is taken only as needed.
    static let sendBufferBytes = Int32(ProtocolLimits.chunkBytes)
    /// Number of connections that may wait to be accepted. The kernel may allow fewer.
    static let backlog: Int32 = 4096
    static let reconnectMilliseconds: Int32 = 100
    /// Upper bound of the doubling time between two tries. It is well within the heartbeats' timeout, so a worker is back before a restarted
    /// coordinator gives it up.
    static let reconnectMillisecondsMax: Int32 = 3_000
    /// Time for a handshake. On a line of 2,400 bit/s a handshake with keys takes about three seconds.
    static let handshakeMilliseconds: Int32 = 20_000
    /// Time after which a connection that was not made is tried again. The kernel's own tries are soon half a minute apart, and a link that is back
    /// would go unnoticed for that long.
    static let connectMilliseconds: Int32 = 6_000
    /// Data that is not acknowledged for this time has met a dead connection. Bytes that are acknowledged one by one, as on a thin link, count as
    /// life.
    static let unacknowledgedMilliseconds: Int32 = 20_000
}

/// ZMTP's own heartbeats. They keep address translation alive and notice peers that hang. Only whole frames count as life, so the timeout is longer
/// than a long frame takes on a thin link. Dead connections are noticed by data that is not acknowledged.
public struct ConnectionHeartbeat: Hashable, Sendable {
    /// 0: no heartbeats.
    public var intervalMilliseconds: Int32
    public var timeoutMilliseconds: Int32
    public init(intervalMilliseconds: Int32 = 30_000, timeoutMilliseconds: Int32 = 120_000) {
        self.intervalMilliseconds = intervalMilliseconds
        self.timeoutMilliseconds = timeoutMilliseconds
    }
}

extension ZMQSocket {
    /// Sets the options that both sides need before they bind or connect.
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
