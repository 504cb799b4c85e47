/// What went through a socket, counted where messages are handed to and taken from ZeroMQ: payload and ZMTP framing
/// (and CURVE's envelope). Not in it: the handshake of each connection (`WireFraming.handshakeBytes`), ZMTP's own heartbeats (16 bytes
/// each way per interval and connection), TCP and IP headers.
public struct Traffic: Hashable, Sendable, Codable {
    public struct Tally: Hashable, Sendable, Codable {
        public var messages: UInt64 = 0
        public var bytes: UInt64 = 0

        public static func + (a: Tally, b: Tally) -> Tally {
            Tally(messages: a.messages + b.messages, bytes: a.bytes + b.bytes)
        }

        public init(messages: UInt64 = 0, bytes: UInt64 = 0) {
            self.messages = messages
            self.bytes = bytes
        }
    }

    public struct Direction: Hashable, Sendable, Codable {
        /// Contributions and commits: what training itself costs.
        public var rounds = Tally()
        /// All else: joining, the ledger for joiners, heartbeats, digests, evaluations, status.
        public var control = Tally()
        public var total: Tally { rounds + control }
        public init() {}
    }

    public var sent = Direction()
    public var received = Direction()
    /// Connections whose handshake succeeded.
    public var connections: UInt64 = 0
    /// Messages thrown away because a peer's queue was full or its connection gone. The protocol repairs that.
    public var dropped: UInt64 = 0
    /// Messages that are not one frame.
    public var malformed: UInt64 = 0

    public init() {}
}

/// To which tally a frame belongs.
public enum TrafficClass: Sendable { case rounds, control }

/// The bytes that ZMTP 3.1 (RFC 37) puts around a message of one frame.
public enum WireFraming {
    /// Flags and size of a frame: one byte of size up to 255 bytes, else eight.
    public static func headerBytes(payload: Int) -> Int { payload <= 255 ? 2 : 9 }

    /// CurveZMQ (RFC 26): "\x07MESSAGE", a nonce of 8 bytes, a flags byte and a 16-byte authenticator around the payload.
    public static let curveEnvelopeBytes = 33

    /// On the wire for a message of `payload` bytes.
    public static func messageBytes(payload: Int, encrypted: Bool) -> Int {
        let body = encrypted ? payload + curveEnvelopeBytes : payload
        return body + headerBytes(payload: body)
    }

    /// A connection's greeting and READY command without encryption, sent by a DEALER with a routing id of `routingID`
    /// bytes or by a ROUTER (0 bytes).
    public static func handshakeBytes(routingID: Int) -> Int {
        let greeting = 64
        let property = { (name: Int, value: Int) in 1 + name + 4 + value }
        // "Socket-Type" with "DEALER" or "ROUTER", and "Identity".
        let ready = 6 + property(11, 6) + property(8, routingID)
        return greeting + headerBytes(payload: ready) + ready
    }
}
