/// The traffic of a link, counted where frames are handed to and taken from their connection: payload and ZMTP framing (and CURVE's envelope).
/// In-process frames count as on a connection without keys, so that figures can be compared. Not counted are the handshake of each connection
/// (`WireFraming.handshakeBytes`), ZMTP's own heartbeats (16 bytes in each direction for each interval and connection), and the headers of TCP and
/// IP.
public struct Traffic: Hashable, Sendable, Codable {
    /// Number of messages and their bytes.
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

    /// The traffic in one direction.
    public struct Direction: Hashable, Sendable, Codable {
        /// Contributions and commits, which training itself needs.
        public var rounds = Tally()
        /// Everything else: joining, the ledger for joiners, heartbeats, digests, evaluations, status.
        public var control = Tally()
        public var total: Tally { rounds + control }
        public init() {}
    }

    public var sent = Direction()
    public var received = Direction()
    /// Number of connections whose handshake succeeded.
    public var connections: UInt64 = 0
    /// Number of frames that were dropped because a peer's queue was full or its connection was gone. The protocol repairs that.
    public var dropped: UInt64 = 0
    /// Number of messages that have not exactly one frame.
    public var malformed: UInt64 = 0

    public init() {}

    /// Returns the traffic that a link has taken in, together with what its outbox has sent and dropped.
    func with(sent: Direction, dropped: UInt64) -> Traffic {
        var traffic = self
        traffic.sent = sent
        traffic.dropped = dropped
        return traffic
    }
}

/// The tally to which a frame belongs.
public enum TrafficClass: Sendable { case rounds, control }

extension Traffic.Direction {
    mutating func count(_ payload: Int, _ kind: TrafficClass, encrypted: Bool) {
        let bytes = UInt64(WireFraming.messageBytes(payload: payload, encrypted: encrypted))
        switch kind {
        case .rounds:
            rounds.messages += 1
            rounds.bytes += bytes
        case .control:
            control.messages += 1
            control.bytes += bytes
        }
    }
}
