import CZeroMQ
import Glibc

/// Wakes a thread that polls sockets. It is an eventfd and not an inproc socket, because any thread may write to an eventfd.
final class EventDescriptor: Waker {
    let descriptor: Int32

    init() throws(TransportError) {
        descriptor = onebyte_eventfd()
        guard descriptor >= 0 else {
            throw TransportError(.system, "can't make an eventfd: \(String(cString: strerror(errno)))")
        }
    }

    deinit { close(descriptor) }

    func wake() {
        var one: UInt64 = 1
        // EAGAIN means that the counter is at its maximum: the reader is awake anyway.
        while write(descriptor, &one, 8) < 0 && errno == EINTR {}
    }

    /// Waits for a socket, a wake or the end of the time, and takes the wake.
    func wait(at sockets: [zmq_pollitem_t], seconds: Double) throws(TransportError) {
        var items = sockets
        items.append(zmq_pollitem_t(socket: nil, fd: descriptor, events: Int16(ZMQ_POLLIN), revents: 0))
        let milliseconds = (max(seconds, 0) * 1000).rounded(.up)
        guard zmq_poll(&items, Int32(items.count), Int(milliseconds)) >= 0 else {
            // EINTR is a signal. Its handler posts a letter.
            if zmq_errno() == EINTR { return }
            throw .lastCall("can't wait for the sockets")
        }
        if items[sockets.count].revents != 0 {
            var count: UInt64 = 0
            _ = read(descriptor, &count, 8)
        }
    }
}
