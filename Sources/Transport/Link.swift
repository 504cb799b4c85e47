import Core

/// Makes the coordinator's end of a transport.
public protocol ServerTransport: Sendable {
    /// Begins to listen, on the thread that will own the link.
    ///
    /// - Parameters:
    ///   - classify: returns the tally of `Traffic` to which a frame belongs.
    ///   - frameLimit: largest size of a frame in bytes. The sender of a larger one is cut off before the frame is read.
    /// - Throws: `TransportError`, with the remedy, if nobody can listen there.
    func listen(classify: @escaping FrameClassifier, frameLimit: Int) throws(TransportError) -> any ServerLink
}

extension ServerTransport {
    package func listen(classify: @escaping FrameClassifier) throws(TransportError) -> any ServerLink {
        try listen(classify: classify, frameLimit: ProtocolLimits.frameBytes)
    }
}

/// Makes a worker's end of a transport.
public protocol ClientTransport: Sendable {
    /// The key by which the coordinator knows this worker; nil if the worker has no key of its own.
    var publicKey: PublicKey? { get }

    /// Begins to connect, on the thread that will own the link. The coordinator need not be there yet.
    ///
    /// - Parameters:
    ///   - classify: returns the tally of `Traffic` to which a frame belongs.
    ///   - queuedFrames: number of frames that the connection itself queues. With few of them, the link is not flushed while the connection is behind.
    /// - Throws: `TransportError`, with the remedy, if there can be no such connection.
    func connect(classify: @escaping FrameClassifier, queuedFrames: Int) throws(TransportError) -> any ClientLink
}

extension ClientTransport {
    package func connect(classify: @escaping FrameClassifier) throws(TransportError) -> any ClientLink {
        try connect(classify: classify, queuedFrames: LinkLimits.connectionFrames)
    }
}

/// Returns the tally to which a frame belongs.
public typealias FrameClassifier = @Sendable ([UInt8]) -> TrafficClass

/// One end of the connections between a coordinator and its workers. It carries frames, whole and in order for each peer. It may lose some when a
/// connection ends or a queue is full, and the protocol repairs that.
///
/// A link belongs to the thread that made it, its reactor's, and is closed when that thread releases it. Only `wait` waits.
public protocol Link: AnyObject {
    /// The address at which the coordinator listens, for logs and messages.
    var endpoint: String { get }
    /// The traffic that has gone through this link.
    var traffic: Traffic { get }
    /// Whether every frame that was sent has been handed to its connection, or dropped.
    var isFlushed: Bool { get }
    /// Ends a `wait` early, from any thread.
    var waker: any Waker { get }
    /// Waits until `service` has something to do, the waker was used, or `seconds` have passed. It may return early for no reason.
    func wait(seconds: Double) throws(TransportError)
    /// Sends waiting frames and takes in events: at most `LinkLimits.framesPerTurn` frames and about `LinkLimits.bytesPerTurn` bytes.
    func service() throws(TransportError) -> [LinkEvent]
}

/// The coordinator's end. It hears all workers and speaks to each that has connected.
public protocol ServerLink: Link {
    /// The key that workers must know; nil if nothing is encrypted.
    var publicKey: PublicKey? { get }
    /// Hands a frame to each peer, or queues it for a slow one. A peer that is not there is skipped.
    func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError)
    /// Drops the frames that wait for a peer.
    func forget(_ peer: PeerID)
}

/// A worker's end. It connects and reconnects by itself as long as it lives.
public protocol ClientLink: Link {
    /// Whether the coordinator must prove a key.
    var isEncrypted: Bool { get }
    /// Ends the connection and makes a new one.
    func reconnect() throws(TransportError)
    /// Leaves the coordinator's address for another one, at which the restarted coordinator listens.
    func reconnect(to join: JoinString) throws(TransportError)
    /// Hands a frame to the connection, or keeps it until there is one. If too much waits, the oldest frames are dropped: a younger heartbeat or
    /// answer is worth more.
    func send(_ frame: [UInt8]) throws(TransportError)
}

/// Wakes the thread that waits at a link.
public protocol Waker: Sendable {
    func wake()
}

/// What a link reports to its reactor.
public enum LinkEvent: Sendable {
    /// A message of one frame. At a worker `from` is empty. `key` is the key that the sender has proved.
    case frame([UInt8], from: PeerID, key: PublicKey?)
    /// A message that none of our peers sends: it has not exactly one frame, or is an envelope that can't be taken apart.
    case malformed(WireError, from: PeerID)
    case connection(ConnectionNotice)

    static func malformed(parts: Int, from peer: PeerID) -> LinkEvent {
        .malformed(.invalid(field: "message", reason: "\(parts) frames, not one"), from: peer)
    }
}

/// A change of a connection, for logs. The transport reconnects by itself.
public enum ConnectionNotice: Hashable, Sendable, CustomStringConvertible {
    case connected(String)
    /// Nobody answers there yet. The transport tries again by itself.
    case retrying(String)
    case lost(String)
    /// One side refuses the other. If that is final, the transport does not try again.
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

/// The result of offering a frame to a connection.
package enum SendResult: Sendable {
    case sent
    /// The connection's queue is full, or nobody is connected yet.
    case wouldBlock
    /// There is no such peer.
    case unreachable
}

/// The limits of every transport's queues.
package enum LinkLimits {
    /// Number of frames taken in before timers and letters get their turn.
    static let framesPerTurn = 256
    /// A turn also ends after this number of bytes and at most one frame more, so that many large frames at once do not fill gigabytes of memory.
    package static let bytesPerTurn = 32 << 20
    /// Number of frames in a connection's own queue in one direction.
    package static let connectionFrames = 256
    /// Number of frames that wait for one slow peer beyond that.
    package static let waitingFrames = 1024
    /// Bytes that wait for one slow peer.
    package static let waitingBytes = 64 << 20
    /// Bytes that wait for all slow peers together.
    static let allWaitingBytes = 512 << 20
    /// Number of frames of one relay's envelopes that are taken before the next relay's.
    static let framesPerRelay = 32
    /// Bytes of envelopes of one relay that wait to be taken apart, unless a single one has more; and their number.
    static let relayBytes = 4 << 20
    static let relayEnvelopes = 256
    /// Time that a closed link has to send what it still holds.
    static let lingerMilliseconds: Int32 = 300
}
