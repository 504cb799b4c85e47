import CZeroMQ

/// Reads a socket's monitor. Its messages have two frames: (event, value) and the endpoint.
struct ConnectionMonitor: ~Copyable {
    let socket: ZMQSocket

    init(_ watched: borrowing ZMQSocket, in context: ZMQContext, name: String) throws(TransportError) {
        let events =
            ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
        try watched.monitor(events, at: "inproc://monitor.\(name)")
        let socket = try ZMQSocket(.pair, in: context)
        try socket.set(ZMQ_LINGER, 0)
        try socket.connect("inproc://monitor.\(name)")
        self.socket = socket
    }

    func next() throws(TransportError) -> ConnectionNotice? {
        while let parts = try socket.receiveParts() {
            guard parts.count == 2, parts[0].count == 6 else { continue }
            let event = Int32(parts[0][0]) | Int32(parts[0][1]) << 8
            let endpoint = String(decoding: parts[1], as: UTF8.self)
            switch event {
            case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return .connected(endpoint)
            case ZMQ_EVENT_DISCONNECTED: return .lost(endpoint)
            case ZMQ_EVENT_CONNECT_RETRIED: return .retrying(endpoint)
            case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
                return .refused(endpoint, reason: "the public key of this side is not in the other side's allow list", isFinal: true)
            case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
                let reason = "the handshake failed: one side encrypts and the other does not, or it is neither coordinator nor relay"
                return .refused(endpoint, reason: reason, isFinal: true)
            default:
                let reason = "the connection ended within the handshake: wrong server key, or it is neither coordinator nor relay"
                return .refused(endpoint, reason: reason, isFinal: false)
            }
        }
        return nil
    }
}
