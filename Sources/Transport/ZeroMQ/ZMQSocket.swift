import CZeroMQ
import Glibc

/// A libzmq context. Contexts are thread-safe, but sockets are not. A socket keeps its context alive, so the context ends after its last socket.
package final class ZMQContext: Sendable {
    // libzmq documents the context as the one object that threads may share.
    nonisolated(unsafe) fileprivate let raw: UnsafeMutableRawPointer

    /// - Parameter ioThreads: number of threads that read, write and encrypt for all sockets. A connection stays with one of them.
    package init(ioThreads: Int32 = 1) throws(TransportError) {
        guard let raw = zmq_ctx_new() else { throw .lastCall("can't make a ZeroMQ context") }
        zmq_ctx_set(raw, ZMQ_IO_THREADS, ioThreads)
        // Without this a socket whose option was never set lingers for ever, and the process can't end.
        zmq_ctx_set(raw, ZMQ_BLOCKY, 0)
        self.raw = raw
    }

    deinit { while zmq_ctx_term(raw) != 0 && zmq_errno() == EINTR {} }
}

/// A libzmq socket. One thread owns it, and it is closed when that owner releases it. Every call on it returns at once.
package struct ZMQSocket: ~Copyable {
    package enum Kind { case router, dealer, pair, rep }

    /// One part of a message.
    package struct Part {
        package let bytes: [UInt8]
        package let hasMore: Bool
        /// The ZAP handler's name for the sender; empty without CURVE.
        package let user: String
    }

    let raw: UnsafeMutableRawPointer
    private let context: ZMQContext

    package init(_ kind: Kind, in context: ZMQContext) throws(TransportError) {
        let type =
            switch kind {
            case .router: ZMQ_ROUTER
            case .dealer: ZMQ_DEALER
            case .pair: ZMQ_PAIR
            case .rep: ZMQ_REP
            }
        guard let raw = zmq_socket(context.raw, type) else { throw .lastCall("can't make a ZeroMQ socket") }
        self.raw = raw
        self.context = context
    }

    deinit { zmq_close(raw) }

    package func set(_ option: Int32, _ value: Int32) throws(TransportError) {
        var value = value
        try check(zmq_setsockopt(raw, option, &value, MemoryLayout<Int32>.size), option)
    }

    /// Sets an option that libzmq wants as int64, such as ZMQ_MAXMSGSIZE.
    package func set(_ option: Int32, wide value: Int64) throws(TransportError) {
        var value = value
        try check(zmq_setsockopt(raw, option, &value, MemoryLayout<Int64>.size), option)
    }

    package func set(_ option: Int32, _ bytes: [UInt8]) throws(TransportError) {
        try check(bytes.withUnsafeBytes { zmq_setsockopt(raw, option, $0.baseAddress, $0.count) }, option)
    }

    private func check(_ result: Int32, _ option: Int32) throws(TransportError) {
        if result != 0 { throw .lastCall("ZeroMQ refuses socket option \(option)") }
    }

    package func bind(_ endpoint: String) throws(TransportError) {
        guard zmq_bind(raw, endpoint) != 0 else { return }
        switch zmq_errno() {
        case EADDRINUSE:
            throw TransportError(
                .addressInUse,
                "\(endpoint) is in use by another process; stop that process, or choose another port (port 0 takes a free one)")
        case ENODEV, EADDRNOTAVAIL:
            throw TransportError(
                .addressUnavailable,
                "\(endpoint) is not an address of this host; listen on one of its own IP addresses, or on tcp://*:PORT for all")
        case EACCES, EPERM:
            throw TransportError(
                .addressUnavailable, "this user may not listen on \(endpoint); choose a port above 1023, or a writable path")
        case EINVAL, EPROTONOSUPPORT:
            throw TransportError(.invalidAddress, "\(endpoint) is no address to listen on; write tcp://HOST:PORT")
        default:
            throw .lastCall("can't listen on \(endpoint)")
        }
    }

    package func connect(_ endpoint: String) throws(TransportError) {
        guard zmq_connect(raw, endpoint) != 0 else { return }
        if zmq_errno() == EINVAL || zmq_errno() == EPROTONOSUPPORT {
            throw TransportError(.invalidAddress, "\(endpoint) is no address to connect to; write tcp://HOST:PORT")
        }
        throw .lastCall("can't connect to \(endpoint)")
    }

    /// Gives a connection up, with what it has not sent. The socket may then connect elsewhere.
    package func disconnect(_ endpoint: String) throws(TransportError) {
        // ENOENT: it is no longer connected, which is what is wanted.
        if zmq_disconnect(raw, endpoint) != 0, zmq_errno() != ENOENT { throw .lastCall("can't leave \(endpoint)") }
    }

    /// Returns the endpoint at which a bound socket listens, with the port that was assigned for port 0.
    package func boundEndpoint() throws(TransportError) -> String {
        var text = [CChar](repeating: 0, count: 512)
        var size = text.count
        guard zmq_getsockopt(raw, ZMQ_LAST_ENDPOINT, &text, &size) == 0 else { throw .lastCall("can't read the bound address") }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Reports connections to a PAIR socket that connects to `endpoint`.
    package func monitor(_ events: Int32, at endpoint: String) throws(TransportError) {
        if zmq_socket_monitor(raw, endpoint, events) < 0 { throw .lastCall("can't watch the socket's connections") }
    }

    /// Sends one part of a message. It never waits.
    package func send(_ bytes: [UInt8], more: Bool = false) throws(TransportError) -> SendResult {
        while true {
            let flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)
            let result = bytes.withUnsafeBytes { zmq_send(raw, $0.baseAddress, $0.count, flags) }
            if result >= 0 { return .sent }
            switch zmq_errno() {
            case EINTR: continue
            case EAGAIN: return .wouldBlock
            case EHOSTUNREACH: return .unreachable
            default: throw .lastCall("can't send")
            }
        }
    }

    /// Sends the last part of a message. The queues of all peers that it is sent to share its bytes. It never waits.
    package func send(sharing message: inout ZMQMessage) throws(TransportError) -> SendResult {
        var copy = ZMQMessage()
        guard zmq_msg_copy(&copy.raw, &message.raw) == 0 else { throw .lastCall("can't share a message") }
        // A copy that was sent is empty again.
        while zmq_msg_send(&copy.raw, raw, ZMQ_DONTWAIT) < 0 {
            switch zmq_errno() {
            case EINTR: continue
            case EAGAIN: return .wouldBlock
            case EHOSTUNREACH: return .unreachable
            default: throw .lastCall("can't send")
            }
        }
        return .sent
    }

    /// Returns the next part, or nil if there is none yet. It never waits.
    package func receive(withUser: Bool = false) throws(TransportError) -> Part? {
        var message = zmq_msg_t()
        zmq_msg_init(&message)
        defer { zmq_msg_close(&message) }
        while zmq_msg_recv(&message, raw, ZMQ_DONTWAIT) < 0 {
            switch zmq_errno() {
            case EINTR: continue
            case EAGAIN: return nil
            default: throw .lastCall("can't receive")
            }
        }
        let bytes = [UInt8](UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: zmq_msg_size(&message)))
        let user = withUser ? zmq_msg_gets(&message, "User-Id").map { String(cString: $0) } ?? "" : ""
        return Part(bytes: bytes, hasMore: zmq_msg_more(&message) != 0, user: user)
    }

    /// Receives the next part into `message`, in place of its former content and without copying bytes. Returns false if there is none yet.
    package func receive(into message: inout ZMQMessage) throws(TransportError) -> Bool {
        while zmq_msg_recv(&message.raw, raw, ZMQ_DONTWAIT) < 0 {
            switch zmq_errno() {
            case EINTR: continue
            case EAGAIN: return false
            default: throw .lastCall("can't receive")
            }
        }
        return true
    }

    /// Returns a whole message, or nil if there is none yet.
    package func receiveParts() throws(TransportError) -> [[UInt8]]? {
        guard var part = try receive() else { return nil }
        var parts = [part.bytes]
        // Parts of a message arrive together, so none can be missing here.
        while part.hasMore, let next = try receive() {
            parts.append(next.bytes)
            part = next
        }
        return parts
    }

    package func pollItem(_ events: Int32) -> zmq_pollitem_t {
        zmq_pollitem_t(socket: raw, fd: 0, events: Int16(events), revents: 0)
    }
}
