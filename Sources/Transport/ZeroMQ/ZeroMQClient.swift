import CZeroMQ
import Core

/// The address and the keys with which a worker or a relay connects over ZeroMQ.
public struct ZeroMQClient: ClientTransport {
    public var address: Address
    /// The key that the coordinator must prove; nil: nothing is encrypted.
    public var serverKey: PublicKey?
    /// This side's own keys, if the coordinator has an allow list; nil: new keys for each connection.
    public var keys: KeyPair?
    public var heartbeat: ConnectionHeartbeat

    public init(
        address: Address, serverKey: PublicKey? = nil, keys: KeyPair? = nil, heartbeat: ConnectionHeartbeat = ConnectionHeartbeat()
    ) {
        self.address = address
        self.serverKey = serverKey
        self.keys = keys
        self.heartbeat = heartbeat
    }

    public init(_ join: JoinString, keys: KeyPair? = nil) {
        self.init(address: join.address, serverKey: join.serverKey, keys: keys)
    }

    public var publicKey: PublicKey? { keys?.publicKey }

    public func connect(classify: @escaping FrameClassifier, queuedFrames: Int) throws(TransportError) -> any ClientLink {
        try ZeroMQClientLink(self, classify: classify, queuedFrames: queuedFrames)
    }
}

/// A worker's or a relay's link over one DEALER socket.
final class ZeroMQClientLink: ClientLink {
    private let socket: ZMQSocket
    private let monitor: ConnectionMonitor
    private let wakes: EventDescriptor
    private let classify: FrameClassifier
    private var outbox: ClientOutbox
    private var incoming = Traffic()
    private let clock = ProcessClock()
    /// Nil if there is no name to look up.
    private var lookup: BackgroundLookup?
    private var rotation: AddressRotation
    private var notices: [ConnectionNotice] = []
    private var isLookupWanted = false
    private(set) var endpoint: String
    let isEncrypted: Bool
    private let keys: KeyPair?

    init(_ client: ZeroMQClient, classify: @escaping FrameClassifier, queuedFrames: Int) throws(TransportError) {
        let context = try ZMQContext()
        let socket = try ZMQSocket(.dealer, in: context)
        try socket.prepareForNetwork(heartbeat: client.heartbeat, ipv6: client.address.isIPv6, frameLimit: ProtocolLimits.frameBytes)
        try socket.set(ZMQ_SNDHWM, Int32(queuedFrames))
        // A name that nobody knows is an error at once. A name that can't be looked up now may be known soon.
        var addresses: [ResolvedAddress] = []
        do throws(LookupFailure) {
            addresses = try client.address.lookedUp()
        } catch {
            guard error.isTemporary else { throw error.error }
            notices.append(.retrying("\(error.host), which can't be looked up (\(error.reason))"))
        }
        // Nothing is queued for a coordinator that is not there: it would only get stale messages later.
        try socket.set(ZMQ_IMMEDIATE, 1)
        var generator = SystemRandomNumberGenerator()
        // The coordinator's name for this connection. It stays the same for the life of the link, also after a reconnection. Ids that begin with 0
        // are libzmq's own.
        var id: [UInt8] = [UInt8.random(in: 1...255, using: &generator)]
        for _ in 1..<16 { id.append(UInt8.random(in: 0...255, using: &generator)) }
        try socket.set(ZMQ_ROUTING_ID, id)
        let keys: KeyPair? = if client.serverKey == nil { nil } else if let keys = client.keys { keys } else { try KeyPair.generate() }
        if let serverKey = client.serverKey, let keys { try socket.encrypt(to: serverKey, with: keys) }
        self.keys = keys
        let monitor = try ConnectionMonitor(socket, in: context, name: "client")
        let wakes = try EventDescriptor()
        endpoint = client.address.endpoint
        rotation = AddressRotation(addresses, at: clock.now)
        lookup = client.address.hasName ? BackgroundLookup(client.address, waking: wakes) : nil
        if let first = rotation.current { try socket.connect(to: first) } else { lookup?.begin() }
        isEncrypted = client.serverKey != nil
        self.socket = socket
        self.monitor = monitor
        self.wakes = wakes
        self.classify = classify
        outbox = ClientOutbox(isEncrypted: client.serverKey != nil, classify: classify)
    }

    var waker: any Waker { wakes }
    var isFlushed: Bool { outbox.isEmpty }
    var traffic: Traffic { incoming.with(sent: outbox.sent, dropped: outbox.dropped) }

    func reconnect() throws(TransportError) {
        outbox.removeAll()
        if let current = rotation.current { try go(from: current, to: current) }
    }

    /// The socket stays, and with it this worker's routing id. So the coordinator recognises it.
    func reconnect(to join: JoinString) throws(TransportError) {
        guard (join.serverKey != nil) == isEncrypted else {
            throw TransportError(.key, "the coordinator \(isEncrypted ? "has no key any more" : "has a key now"); start this process again")
        }
        if let current = rotation.current { socket.disconnect(from: current) }
        if let serverKey = join.serverKey, let keys { try socket.encrypt(to: serverKey, with: keys) }
        endpoint = join.address.endpoint
        outbox.removeAll()
        // This is the reactor's thread, which must not wait for names.
        lookup = join.address.hasName ? BackgroundLookup(join.address, waking: wakes) : nil
        rotation = AddressRotation(lookup == nil ? [ResolvedAddress(endpoint: endpoint, isIPv6: join.address.isIPv6)] : [], at: clock.now)
        if let first = rotation.current { try socket.connect(to: first) } else { lookup?.begin() }
    }

    func send(_ frame: [UInt8]) throws(TransportError) {
        try outbox.send(frame) { (frame) throws(TransportError) in try socket.send(frame) }
    }

    func wait(seconds: Double) throws(TransportError) {
        let wanted = outbox.isEmpty ? ZMQ_POLLIN : ZMQ_POLLIN | ZMQ_POLLOUT
        try wakes.wait(at: [socket.pollItem(wanted), monitor.socket.pollItem(ZMQ_POLLIN)], seconds: seconds)
    }

    /// If nobody answers at one address, another address of the name may answer.
    private func follow(_ notice: ConnectionNotice) throws(TransportError) {
        switch notice {
        case .connected:
            incoming.connections += 1
            rotation.connected(at: clock.now)
        case .retrying:
            if let lookup, rotation.isLookupDue(at: clock.now) { lookup.begin() }
            let old = rotation.current
            if let next = rotation.retried(at: clock.now) { try go(from: old, to: next) }
        case .lost, .refused: break
        }
    }

    private func takeLookup() throws(TransportError) {
        if isLookupWanted, rotation.isLookupDue(at: clock.now) {
            isLookupWanted = false
            lookup?.begin()
        }
        guard let lookup, let answer = lookup.take() else { return }
        switch answer {
        case .success(let addresses):
            let old = rotation.current
            if let next = rotation.replace(with: addresses, at: clock.now) { try go(from: old, to: next) }
        case .failure(let failure):
            notices.append(.retrying("\(failure.host), which can't be looked up (\(failure.reason))"))
            // With an address libzmq keeps trying, and each try brings the next lookup. Without an address nothing else would.
            if rotation.current == nil { isLookupWanted = true }
        }
    }

    private func go(from old: ResolvedAddress?, to next: ResolvedAddress) throws(TransportError) {
        if let old { socket.disconnect(from: old) }
        try socket.connect(to: next)
    }

    func service() throws(TransportError) -> [LinkEvent] {
        var events: [LinkEvent] = []
        events += notices.map { .connection($0) }
        notices = []
        while let notice = try monitor.next() {
            try follow(notice)
            // Frames that wait would be stale when there is a connection again, and on a thin link they would be in the way.
            if case .lost = notice { outbox.removeAll() }
            events.append(.connection(notice))
        }
        try takeLookup()
        if !outbox.isEmpty { try outbox.flush { (frame) throws(TransportError) in try socket.send(frame) } }
        var bytes = 0
        for _ in 0..<LinkLimits.framesPerTurn where bytes < LinkLimits.bytesPerTurn {
            guard var part = try socket.receive() else { break }
            let frame = part.bytes
            bytes += frame.count
            var parts = 1
            while part.hasMore, let next = try socket.receive() {
                parts += 1
                part = next
            }
            if parts == 1 {
                incoming.received.count(frame.count, classify(frame), encrypted: isEncrypted)
                events.append(.frame(frame, from: PeerID([]), key: nil))
            } else {
                incoming.malformed += 1
                events.append(.malformed(parts: parts, from: PeerID([])))
            }
        }
        return events
    }
}
