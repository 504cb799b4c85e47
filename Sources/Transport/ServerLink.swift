import CZeroMQ
import Core

/// The coordinator's end: one ROUTER for all workers.
package struct ServerLink: Link, ~Copyable {
    private let socket: ZMQSocket
    private let monitor: ConnectionMonitor
    private let accessHandler: AccessHandler
    private let encrypted: Bool
    private let classify: @Sendable ([UInt8]) -> TrafficClass
    private var queues: [PeerID: WaitingQueue] = [:]
    private var waitingBytes = 0
    package private(set) var traffic = Traffic()
    /// Where it listens, with the port that it was given.
    package let endpoint: String

    /// What waits for one slow peer.
    private struct WaitingQueue {
        var frames: [[UInt8]] = []
        var next = 0
        var bytes = 0
    }

    /// Listens. Anywhere but on this host alone it wants keys, unless `insecure` says that the network is trusted.
    package init(
        address: Address, access: AccessControl, insecure: Bool = false, heartbeat: ConnectionHeartbeat = ConnectionHeartbeat(),
        classify: @escaping @Sendable ([UInt8]) -> TrafficClass
    ) throws(TransportError) {
        if access.keys == nil && !address.isLocal && !insecure {
            throw TransportError(
                .insecure,
                "\(address) can be reached from the network, and without keys everyone there could join and read along; "
                    + "make a key with `onebyte keygen`, or listen on 127.0.0.1, or say --insecure if you trust the network")
        }
        let context = try ZMQContext(ioThreads: LinkLimits.serverThreads)
        let accessHandler = try AccessHandler(access, in: context)
        let socket = try ZMQSocket(.router, in: context)
        try socket.prepareForNetwork(heartbeat: heartbeat, ipv6: address.isIPv6)
        // Without MANDATORY a ROUTER silently drops what it can't deliver; with HANDOVER a worker that comes back with its
        // routing id takes its old connection over instead of being ignored.
        try socket.set(ZMQ_ROUTER_MANDATORY, 1)
        try socket.set(ZMQ_ROUTER_HANDOVER, 1)
        // Workers that come all at once, as after this coordinator's restart, would else wait for the kernel's next try.
        try socket.set(ZMQ_BACKLOG, LinkLimits.backlog)
        // The kernel begins with 16 KiB, which a commit to a thousand workers does not fit into.
        try socket.set(ZMQ_SNDBUF, LinkLimits.sendBufferBytes)
        if let keys = access.keys {
            try socket.set(ZMQ_CURVE_SERVER, 1)
            try socket.set(ZMQ_CURVE_SECRETKEY, keys.secret)
            // Without a domain libzmq never asks the handler.
            try socket.set(ZMQ_ZAP_DOMAIN, Array("onebyte".utf8))
        }
        let monitor = try ConnectionMonitor(socket, in: context, name: "server")
        try socket.bind(address.endpoint)
        endpoint = try socket.boundEndpoint()
        self.socket = socket
        self.monitor = monitor
        self.accessHandler = accessHandler
        encrypted = access.keys != nil
        self.classify = classify
    }

    /// Hands a frame to each peer, or queues it for a slow one. A peer that is not there is passed over.
    package mutating func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError) {
        let kind = classify(frame)
        // A commit goes to a thousand workers: they share one copy of its bytes.
        var message = try ZMQMessage(frame)
        for peer in peers {
            if queues[peer] != nil {
                enqueue(frame, for: peer)
                continue
            }
            switch try transmit(&message, frame.count, kind, to: peer) {
            case .sent: break
            case .wouldBlock: enqueue(frame, for: peer)
            case .unreachable: traffic.dropped += 1
            }
        }
    }

    /// Drops what waits for a peer.
    package mutating func forget(_ peer: PeerID) {
        guard let queue = queues.removeValue(forKey: peer) else { return }
        waitingBytes -= queue.bytes
        traffic.dropped += UInt64(queue.frames.count - queue.next)
    }

    private mutating func transmit(
        _ message: inout ZMQMessage, _ bytes: Int, _ kind: TrafficClass, to peer: PeerID
    ) throws(TransportError) -> ZMQSocket.SendResult {
        let result = try socket.send(peer.bytes, more: true)
        guard result == .sent else { return result }
        // A ROUTER that took the routing id takes the rest.
        guard try socket.send(sharing: &message) == .sent else { return .unreachable }
        traffic.sent.count(bytes, kind, encrypted: encrypted)
        return .sent
    }

    private mutating func enqueue(_ frame: [UInt8], for peer: PeerID) {
        var queue = queues.removeValue(forKey: peer) ?? WaitingQueue()
        defer { queues[peer] = queue }
        guard queue.frames.count - queue.next < LinkLimits.waitingMessages, queue.bytes + frame.count <= LinkLimits.waitingBytes,
            waitingBytes + frame.count <= LinkLimits.allWaitingBytes
        else {
            traffic.dropped += 1
            return
        }
        queue.frames.append(frame)
        queue.bytes += frame.count
        waitingBytes += frame.count
    }

    private mutating func flush() throws(TransportError) {
        for peer in queues.keys {
            guard var queue = queues.removeValue(forKey: peer) else { continue }
            var result = ZMQSocket.SendResult.sent
            while result == .sent, queue.next < queue.frames.count {
                let frame = queue.frames[queue.next]
                var message = try ZMQMessage(frame)
                result = try transmit(&message, frame.count, classify(frame), to: peer)
                guard result == .sent else { break }
                queue.frames[queue.next] = []
                queue.next += 1
                queue.bytes -= frame.count
                waitingBytes -= frame.count
            }
            switch result {
            case .sent: break
            case .wouldBlock:
                queue.frames.removeFirst(queue.next)
                queue.next = 0
                queues[peer] = queue
            case .unreachable:
                traffic.dropped += UInt64(queue.frames.count - queue.next)
                waitingBytes -= queue.bytes
            }
        }
    }

    package var isFlushed: Bool { queues.isEmpty }
    package var retryAfter: Int? { queues.isEmpty ? nil : LinkLimits.retryMilliseconds }

    package func pollItems() -> [zmq_pollitem_t] {
        [socket.pollItem(ZMQ_POLLIN), monitor.socket.pollItem(ZMQ_POLLIN), accessHandler.socket.pollItem(ZMQ_POLLIN)]
    }

    package mutating func service() throws(TransportError) -> [LinkEvent] {
        var events: [LinkEvent] = []
        for key in try accessHandler.service() {
            events.append(.connection(.refused(endpoint, reason: "a client's key is not in the allow list: \(key)", isFinal: true)))
        }
        while let notice = try monitor.next() {
            if case .connected = notice { traffic.connections += 1 }
            events.append(.connection(notice))
        }
        if !queues.isEmpty { try flush() }
        var bytes = 0
        for _ in 0..<LinkLimits.framesPerTurn where bytes < LinkLimits.bytesPerTurn {
            guard let id = try socket.receive() else { break }
            let peer = PeerID(id.bytes)
            guard id.hasMore, var part = try socket.receive(withUser: encrypted) else {
                traffic.malformed += 1
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
                traffic.received.count(frame.count, classify(frame), encrypted: encrypted)
                events.append(.frame(frame, from: peer, key: key))
            } else {
                traffic.malformed += 1
                events.append(.malformed(parts: parts, from: peer))
            }
        }
        return events
    }
}

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
