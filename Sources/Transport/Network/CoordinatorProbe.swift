import Core

/// Calls a coordinator as a worker would, to find out whether it lets this host in, which run it has, and how fast the link is. The probe does not
/// join the run, and leaves with a goodbye.
public struct CoordinatorProbe: Sendable {
    public enum Outcome: Sendable {
        /// No connection was made in time.
        case noConnection
        /// The connection was ended before its handshake was over, several times.
        case handshakeFailed(String)
        /// The connection was made, but nobody answers the hello.
        case noAnswer
        /// A relay is there, and its coordinator does not answer the hello.
        case noAnswerBehindRelay
        /// The other side speaks another version of the protocol, or another protocol.
        case notUnderstood(WireError)
        case refused(Refusal)
        /// The run is over; the value says how.
        case finished(RunFinish)
        case welcome(Answer)
    }

    public struct Answer: Sendable {
        public let welcome: Welcome
        public let roundTripSeconds: Double
        /// Number of bytes of the ledger that came, and the seconds that they took.
        public let bytes: Int
        public let seconds: Double
    }

    private let client: ZeroMQClient
    private let expectedRun: Digest?
    private let name: String
    private let clock = ProcessClock()

    /// Number of handshakes that fail in a row before it counts as no accident.
    private static let failuresMax = 3
    private static let measureSeconds = 3.0

    public init(_ join: JoinString, keys: KeyPair?, expectedRun: Digest?, name: String) {
        client = ZeroMQClient(join, keys: keys)
        self.expectedRun = expectedRun
        self.name = name
    }

    /// - Parameter seconds: time to wait for the connection, and again for the answer.
    public func run(seconds: Double) throws(TransportError) -> Outcome {
        let link = try client.connect(classify: { _ in .control })
        var generator = SystemRandomNumberGenerator()
        guard let session = SessionToken(bytes: (0..<SessionToken.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) })
        else { return .noAnswer }
        let hello = Hello(
            session: session, name: name, trains: false, evaluates: false, software: "onebyte doctor", expectedSpec: expectedRun,
            publicKey: client.publicKey?.description)
        var isConnected = false
        var failures = 0
        var reason = ""
        var deadline = clock.now.advanced(bySeconds: seconds)
        var saidHello = clock.now
        var hasAsked = false
        var isRelay = false
        while clock.now < deadline {
            // A relay answers a relay's ping itself. A coordinator that answers no hello is not asked more for it.
            if isConnected, !hasAsked, clock.now.seconds(since: saidHello) > seconds / 2 {
                hasAsked = true
                try link.send(RelayFrame.ping(sequence: 1).encoded())
            }
            try link.wait(seconds: min(0.25, deadline.seconds(since: clock.now)))
            for event in try link.service() {
                switch event {
                case .connection(.connected):
                    guard !isConnected else { continue }
                    isConnected = true
                    deadline = clock.now.advanced(bySeconds: seconds)
                    saidHello = clock.now
                    try link.send(Message.hello(hello).encoded())
                case .connection(.refused(_, let why, let isFinal)):
                    (failures, reason) = (failures + 1, why)
                    if isFinal || failures >= Self.failuresMax { return .handshakeFailed(why) }
                case .connection(.lost):
                    // A peer that is no coordinator also accepts the connection, and then ends it at the first message.
                    if !isConnected { failures += 1 }
                    if reason.isEmpty { reason = "the connection is ended before its handshake is over" }
                    if failures >= Self.failuresMax { return .handshakeFailed(reason) }
                case .connection(.retrying), .malformed: continue
                case .frame(let frame, _, _) where RelayFrame.isRelayFrame(frame):
                    if case .pong(_, RelayFrame.relayFrameBytes)? = try? RelayFrame(decoding: frame) { isRelay = true }
                case .frame(let frame, _, _):
                    let message: Message
                    do throws(WireError) {
                        message = try Message(decoding: frame)
                    } catch {
                        return .notUnderstood(error)
                    }
                    switch message {
                    case .refuse(let refusal): return .refused(refusal)
                    case .finished(let finish): return .finished(finish)
                    case .welcome(let welcome) where welcome.session == session:
                        let roundTrip = clock.now.seconds(since: saidHello)
                        let (bytes, time) = try measure(link)
                        try link.send(Message.goodbye(Goodbye(reason: "a check is done")).encoded())
                        _ = try link.service()
                        return .welcome(Answer(welcome: welcome, roundTripSeconds: roundTrip, bytes: bytes, seconds: time))
                    default: continue
                    }
                }
            }
        }
        if failures > 0 { return .handshakeFailed(reason) }
        return isRelay ? .noAnswerBehindRelay : isConnected ? .noAnswer : .noConnection
    }

    /// Fetches the ledger's first pieces, one after the other, for a few seconds.
    private func measure(_ link: any ClientLink) throws(TransportError) -> (bytes: Int, seconds: Double) {
        let start = clock.now
        let end = start.advanced(bySeconds: Self.measureSeconds)
        var last = start
        var (bytes, total, ticket) = (UInt64(0), UInt64.max, UInt32(0))
        try link.send(Message.fetch(LedgerFetch(offset: 0)).encoded())
        while clock.now < end, bytes < total {
            try link.wait(seconds: min(0.25, end.seconds(since: clock.now)))
            for case .frame(let frame, _, _) in try link.service() {
                guard case .chunk(let chunk)? = try? Message(decoding: frame), chunk.offset == bytes else { continue }
                bytes += UInt64(chunk.bytes.count)
                (total, ticket, last) = (chunk.total, chunk.ticket, clock.now)
                if bytes < total { try link.send(Message.fetch(LedgerFetch(offset: bytes, ticket: ticket)).encoded()) }
            }
        }
        return (Int(bytes), last.seconds(since: start))
    }
}
