import Core

/// Makes the coordinator's end of a transport.
public protocol ServerTransport: Sendable {
    /// Begins to listen, on the thread that will own the link.
    ///
    /// - Parameters:
    ///   - classify: to which tally of `Traffic` a frame belongs.
    ///   - frameLimit: bytes of a frame beyond which its sender is cut off before it is read.
    /// - Throws: where nobody can listen there, with the remedy.
    func listen(classify: @escaping FrameClassifier, frameLimit: Int) throws(TransportError) -> any ServerLink
}

extension ServerTransport {
    package func listen(classify: @escaping FrameClassifier) throws(TransportError) -> any ServerLink {
        try listen(classify: classify, frameLimit: ProtocolLimits.frameBytes)
    }
}

/// Makes a worker's end of a transport.
public protocol ClientTransport: Sendable {
    /// The key by which the coordinator knows this worker; nil where it has none of its own.
    var publicKey: PublicKey? { get }

    /// Begins to connect, on the thread that will own the link. A coordinator need not be there yet.
    ///
    /// - Parameter classify: to which tally of `Traffic` a frame belongs.
    /// - Throws: where there can be no such connection, with the remedy.
    func connect(classify: @escaping FrameClassifier) throws(TransportError) -> any ClientLink
}

/// To which tally a frame belongs.
public typealias FrameClassifier = @Sendable ([UInt8]) -> TrafficClass

/// One end of the star of a coordinator and its workers. It carries frames, whole and in order for each peer; it may lose some where a
/// connection ends or a queue is full, and the protocol repairs that.
///
/// A link belongs to the thread that made it, its reactor's, and is closed when that thread lets go of it. Only `wait` waits.
public protocol Link: AnyObject {
    /// Where the coordinator listens, for logs and messages.
    var endpoint: String { get }
    /// What has gone through this link.
    var traffic: Traffic { get }
    /// Whether every frame that was sent has been handed to its connection, or dropped.
    var isFlushed: Bool { get }
    /// Ends a `wait` early, from any thread.
    var waker: any Waker { get }
    /// Waits until `service` has something to do, the waker was used, or `seconds` have passed. It may return early for no reason.
    func wait(seconds: Double) throws(TransportError)
    /// Sends what waits and takes in what has come: at most `LinkLimits.framesPerTurn` frames and about `LinkLimits.bytesPerTurn` bytes.
    func service() throws(TransportError) -> [LinkEvent]
}

/// The coordinator's end: it hears all workers, and speaks to each that has connected.
public protocol ServerLink: Link {
    /// The key that workers must know; nil where nothing is encrypted.
    var publicKey: PublicKey? { get }
    /// Hands a frame to each peer, or queues it for a slow one. A peer that is not there is passed over.
    func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError)
    /// Drops what waits for a peer.
    func forget(_ peer: PeerID)
}

/// A worker's end, which connects and reconnects by itself for as long as it lives.
public protocol ClientLink: Link {
    /// Whether the coordinator must prove a key.
    var isEncrypted: Bool { get }
    /// Ends the connection and makes it anew.
    func reconnect() throws(TransportError)
    /// Leaves the coordinator's address for another one, where its next life listens.
    func reconnect(to join: JoinString) throws(TransportError)
    /// Hands a frame to the connection, or keeps it until there is one. Where too much waits, the oldest goes: a younger heartbeat or
    /// answer says more.
    func send(_ frame: [UInt8]) throws(TransportError)
}

/// Wakes the thread that waits at a link.
public protocol Waker: Sendable {
    func wake()
}

/// What a link reports to its reactor.
public enum LinkEvent: Sendable {
    /// A message of one frame. At a worker `from` is empty; `key` is the sender's proven key.
    case frame([UInt8], from: PeerID, key: PublicKey?)
    /// A message that nobody of ours sends: not one frame.
    case malformed(parts: Int, from: PeerID)
    case connection(ConnectionNotice)
}

/// What happens to the connections below the frames, for logs. Reconnecting is the transport's own affair.
public enum ConnectionNotice: Hashable, Sendable, CustomStringConvertible {
    case connected(String)
    /// Nobody answers there yet; the transport tries again by itself.
    case retrying(String)
    case lost(String)
    /// One side does not let the other in. Where that is final, the transport does not try again.
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

/// What became of a frame that was offered to a connection.
package enum SendResult: Sendable {
    case sent
    /// The connection's queue is full, or nobody is connected yet.
    case wouldBlock
    /// There is no such peer.
    case unreachable
}

/// The limits of every transport's queues.
package enum LinkLimits {
    /// Frames taken in before timers and letters get their turn.
    static let framesPerTurn = 256
    /// A turn also ends here, at the latest one frame later: many large frames at once are no reason to hold gigabytes.
    static let bytesPerTurn = 32 << 20
    /// Frames in a connection's own queue in one direction.
    package static let connectionFrames = 256
    /// Frames that wait for one slow peer beyond that.
    package static let waitingFrames = 1024
    /// Bytes that wait for one slow peer.
    package static let waitingBytes = 64 << 20
    /// Bytes that wait for all slow peers together.
    static let allWaitingBytes = 512 << 20
    /// How long a closed link may still send what it holds.
    static let lingerMilliseconds: Int32 = 300
}
