import CZeroMQ

extension TransportError {
    /// What libzmq's last call on this thread complained about.
    static func lastCall(_ what: String) -> TransportError {
        TransportError(.system, "\(what): \(String(cString: zmq_strerror(zmq_errno())))")
    }
}
