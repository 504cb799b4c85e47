import CZeroMQ
import Core

/// A worker's end: one DEALER, which connects and reconnects by itself for as long as it lives.
package struct ClientLink: Link, ~Copyable {
    private let socket: ZMQSocket
    private let monitor: ConnectionMonitor
    private let encrypted: Bool
    private let classify: @Sendable ([UInt8]) -> TrafficClass
    private var waiting: [[UInt8]] = []
    private var waitingBytes = 0
    package private(set) var traffic = Traffic()

    package init(
        address: Address, serverKey: PublicKey? = nil, keys: KeyPair? = nil, heartbeat: ConnectionHeartbeat = ConnectionHeartbeat(),
        classify: @escaping @Sendable ([UInt8]) -> TrafficClass
    ) throws(TransportError) {
        let context = try ZMQContext()
        let socket = try ZMQSocket(.dealer, in: context)
        try socket.prepareForNetwork(heartbeat: heartbeat, ipv6: address.isIPv6)
        // Nothing is queued for a coordinator that is not there: it would only get stale messages later.
        try socket.set(ZMQ_IMMEDIATE, 1)
        var generator = SystemRandomNumberGenerator()
        // The coordinator's name for this connection: the same for the life of the link, also after a reconnection. Ids that
        // begin with 0 are libzmq's own.
        var id: [UInt8] = [UInt8.random(in: 1...255, using: &generator)]
        for _ in 1..<16 { id.append(UInt8.random(in: 0...255, using: &generator)) }
        try socket.set(ZMQ_ROUTING_ID, id)
        if let serverKey {
            let keys = if let keys { keys } else { try KeyPair.generate() }
            try socket.encrypt(to: serverKey, with: keys)
        }
        let monitor = try ConnectionMonitor(socket, in: context, name: "client")
        try socket.connect(address.endpoint)
        encrypted = serverKey != nil
        self.socket = socket
        self.monitor = monitor
        self.classify = classify
    }

    /// Hands a frame to the connection, or keeps it until there is one; when too much waits, the oldest goes: a younger
    /// heartbeat or answer says more.
    package mutating func send(_ frame: [UInt8]) throws(TransportError) {
        waiting.append(frame)
        waitingBytes += frame.count
        while waiting.count > LinkLimits.waitingMessages || waitingBytes > LinkLimits.waitingBytes {
            waitingBytes -= waiting.removeFirst().count
            traffic.dropped += 1
        }
        try flush()
    }

    private mutating func flush() throws(TransportError) {
        var sent = 0
        defer { waiting.removeFirst(sent) }
        while sent < waiting.count, try socket.send(waiting[sent]) == .sent {
            traffic.sent.count(waiting[sent].count, classify(waiting[sent]), encrypted: encrypted)
            waitingBytes -= waiting[sent].count
            sent += 1
        }
    }

    package var isFlushed: Bool { waiting.isEmpty }
    package var retryAfter: Int? { nil }

    package func pollItems() -> [zmq_pollitem_t] {
        [socket.pollItem(waiting.isEmpty ? ZMQ_POLLIN : ZMQ_POLLIN | ZMQ_POLLOUT), monitor.socket.pollItem(ZMQ_POLLIN)]
    }

    package mutating func service() throws(TransportError) -> [LinkEvent] {
        var events: [LinkEvent] = []
        while let notice = try monitor.next() {
            if case .connected = notice { traffic.connections += 1 }
            events.append(.connection(notice))
        }
        if !waiting.isEmpty { try flush() }
        for _ in 0..<LinkLimits.framesPerTurn {
            guard var part = try socket.receive() else { break }
            let frame = part.bytes
            var parts = 1
            while part.hasMore, let next = try socket.receive() {
                parts += 1
                part = next
            }
            if parts == 1 {
                traffic.received.count(frame.count, classify(frame), encrypted: encrypted)
                events.append(.frame(frame, from: PeerID([]), key: nil))
            } else {
                traffic.malformed += 1
                events.append(.malformed(parts: parts, from: PeerID([])))
            }
        }
        return events
    }
}

extension ZMQSocket {
    /// Encrypts the connections that are made from now on.
    package func encrypt(to serverKey: PublicKey, with keys: KeyPair) throws(TransportError) {
        try set(ZMQ_CURVE_SERVERKEY, serverKey.bytes)
        try set(ZMQ_CURVE_PUBLICKEY, keys.publicKey.bytes)
        try set(ZMQ_CURVE_SECRETKEY, keys.secret)
    }
}
