import CZeroMQ

/// A message part in libzmq's own memory.
package struct ZMQMessage: ~Copyable {
    var raw = zmq_msg_t()

    /// Creates an empty message to receive into.
    package init() { zmq_msg_init(&raw) }

    /// - Throws: `.system` if there is no memory for it.
    package init(_ bytes: [UInt8]) throws(TransportError) {
        if zmq_msg_init_size(&raw, bytes.count) != 0 {
            zmq_msg_init(&raw)
            throw .lastCall("no memory for a message of \(bytes.count) bytes")
        }
        bytes.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress { zmq_msg_data(&raw)?.copyMemory(from: start, byteCount: bytes.count) }
        }
    }

    deinit {
        // A message may be moved bit by bit: zmq_msg_move does nothing more.
        var last = raw
        zmq_msg_close(&last)
    }

    /// Calls `body` with the message's bytes, which are valid during the call.
    package mutating func withBytes<Value, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        try body(UnsafeRawBufferPointer(start: zmq_msg_data(&raw), count: zmq_msg_size(&raw)))
    }
}
