import CZeroMQ

extension TransportError {
    /// Returns the error of libzmq's last call on this thread.
    static func lastCall(_ what: String) -> TransportError {
        TransportError(.system, "\(what): \(String(cString: zmq_strerror(zmq_errno())))")
    }
}
