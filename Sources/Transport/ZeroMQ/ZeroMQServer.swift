import CZeroMQ
import Core

/// The address at which a coordinator listens with ZeroMQ, and the clients that may connect: TCP, or a Unix socket on this host.
public struct ZeroMQServer: ServerTransport {
    public var address: Address
    public var access: AccessControl
    /// Whether to listen beyond this host without keys.
    public var insecure: Bool
    public var heartbeat: ConnectionHeartbeat

    public init(
        address: Address, access: AccessControl = .open, insecure: Bool = false, heartbeat: ConnectionHeartbeat = ConnectionHeartbeat()
    ) {
        self.address = address
        self.access = access
        self.insecure = insecure
        self.heartbeat = heartbeat
    }

    /// Listens. Except on addresses of this host alone it requires keys, unless `insecure` says that the network is trusted.
    public func listen(classify: @escaping FrameClassifier, frameLimit: Int) throws(TransportError) -> any ServerLink {
        if access.keys == nil && !address.isLocal && !insecure {
            throw TransportError(
                .insecure,
                "\(address) can be reached from the network, and without keys everyone there could join and read along")
        }
        raiseFileLimit()
        return try ZeroMQServerLink(self, classify: classify, frameLimit: frameLimit)
    }
}

/// A coordinator's link: one ROUTER socket for all workers.
final class ZeroMQServerLink: ServerLink {
    private let socket: ZMQSocket
    private let monitor: ConnectionMonitor
    private let accessHandler: AccessHandler
    private let wakes: EventDescriptor
    private let classify: FrameClassifier
    private var outbox: ServerOutbox
    private var incoming = Traffic()
    let publicKey: PublicKey?
    /// The address at which it listens, with the port that it was given.
    let endpoint: String

    init(_ server: ZeroMQServer, classify: @escaping FrameClassifier, frameLimit: Int) throws(TransportError) {
        let context = try ZMQContext(ioThreads: SocketOptions.serverThreads)
        let accessHandler = try AccessHandler(server.access, in: context)
        let socket = try ZMQSocket(.router, in: context)
        let own = try server.address.ownAddress()
        try socket.prepareForNetwork(heartbeat: server.heartbeat, ipv6: own.isIPv6, frameLimit: frameLimit)
        // Without MANDATORY a ROUTER silently drops what it can't deliver. With HANDOVER a worker that comes back with its routing id takes over its
        // old connection instead of being ignored.
        try socket.set(ZMQ_ROUTER_MANDATORY, 1)
        try socket.set(ZMQ_ROUTER_HANDOVER, 1)
        // Workers may all come at once, as after a restart of this coordinator. With a shorter queue they would have to wait for the kernel's next
        // try.
        try socket.set(ZMQ_BACKLOG, SocketOptions.backlog)
        // The kernel begins with 16 KiB. A commit to a thousand workers does not fit into that.
        try socket.set(ZMQ_SNDBUF, SocketOptions.sendBufferBytes)
        if let keys = server.access.keys {
            try socket.set(ZMQ_CURVE_SERVER, 1)
            try socket.set(ZMQ_CURVE_SECRETKEY, keys.secret)
            // Without a domain libzmq never asks the handler.
            try socket.set(ZMQ_ZAP_DOMAIN, Array("onebyte".utf8))
        }
        let monitor = try ConnectionMonitor(socket, in: context, name: "server")
        let wakes = try EventDescriptor()
        try socket.bind(own.endpoint)
        endpoint = try socket.boundEndpoint()
        publicKey = server.access.keys?.publicKey
        self.socket = socket
        self.monitor = monitor
        self.accessHandler = accessHandler
        self.wakes = wakes
        self.classify = classify
        outbox = ServerOutbox(isEncrypted: server.access.keys != nil, classify: classify)
    }

    var waker: any Waker { wakes }
    var isFlushed: Bool { outbox.isEmpty }
    var traffic: Traffic { incoming.with(sent: outbox.sent, dropped: outbox.dropped) }

    func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError) {
        // A commit goes to a thousand workers. They share one copy of its bytes.
        var message = try ZMQMessage(frame)
        try outbox.send(frame, to: peers) { (peer) throws(TransportError) in try transmit(&message, to: peer) }
    }

    func forget(_ peer: PeerID) { outbox.forget(peer) }

    private func transmit(_ message: inout ZMQMessage, to peer: PeerID) throws(TransportError) -> SendResult {
        let result = try socket.send(peer.bytes, more: true)
        guard result == .sent else { return result }
        // A ROUTER that took the routing id takes the rest too.
        return try socket.send(sharing: &message) == .sent ? .sent : .unreachable
    }

    func wait(seconds: Double) throws(TransportError) {
        let items = [socket.pollItem(ZMQ_POLLIN), monitor.socket.pollItem(ZMQ_POLLIN), accessHandler.socket.pollItem(ZMQ_POLLIN)]
        try wakes.wait(at: items, seconds: outbox.isEmpty ? seconds : min(seconds, SocketOptions.retrySeconds))
    }

    func service() throws(TransportError) -> [LinkEvent] {
        var events: [LinkEvent] = []
        for key in try accessHandler.service() {
            events.append(.connection(.refused(endpoint, reason: "a client's key is not in the allow list: \(key)", isFinal: true)))
        }
        while let notice = try monitor.next() {
            if case .connected = notice { incoming.connections += 1 }
            events.append(.connection(notice))
        }
        if !outbox.isEmpty {
            try outbox.flush { (frame, peer) throws(TransportError) in
                var message = try ZMQMessage(frame)
                return try transmit(&message, to: peer)
            }
        }
        var bytes = 0
        for _ in 0..<LinkLimits.framesPerTurn where bytes < LinkLimits.bytesPerTurn {
            guard let id = try socket.receive() else { break }
            let peer = PeerID(id.bytes)
            guard id.hasMore, var part = try socket.receive(withUser: publicKey != nil) else {
                incoming.malformed += 1
                events.append(.malformed(parts: 0, from: peer))
                continue
            }
            let frame = part.bytes
            bytes += frame.count
            let key = part.user.isEmpty ? nil : try? PublicKey(hex: part.user)
            var parts = 1
            while part.hasMore, let next = try socket.receive() {
                parts += 1
                part = next
            }
            if parts == 1 {
                incoming.received.count(frame.count, classify(frame), encrypted: publicKey != nil)
                events.append(.frame(frame, from: peer, key: key))
            } else {
                incoming.malformed += 1
                events.append(.malformed(parts: parts, from: peer))
            }
        }
        return events
    }
}
