import CZeroMQ
import Core
import Glibc
import Transport

/// A swarm's connections to its coordinator, one for each worker.
protocol SwarmConnections {
    /// Sends a frame. It is lost if the connection takes no more; the protocol repairs that.
    func send(_ frame: [UInt8], from member: Int) throws
    /// Waits at most this long for frames, and passes on those that have come, or some of them.
    func receive(waitMilliseconds: Int, _ take: (UnsafeRawBufferPointer, Int) throws -> Void) throws
}

/// Connections with CURVE by libzmq: one ROUTER that connects many times, each time under another name.
final class EncryptedConnections: SwarmConnections {
    private static let messagesPerTurn = 256
    private let socket: ZMQSocket
    private let names: [[UInt8]]

    init(_ address: Address, serverKey: PublicKey, identities: [[UInt8]]) throws {
        let socket = try ZMQSocket(.router, in: try ZMQContext())
        // The socket's names for its connections. Ids that begin with 0 are libzmq's own.
        names = identities.indices.map { [1, UInt8($0 >> 16 & 255), UInt8($0 >> 8 & 255), UInt8($0 & 255)] }
        for (identity, name) in zip(identities, names) {
            try socket.set(ZMQ_ROUTING_ID, identity)
            try socket.set(ZMQ_CONNECT_ROUTING_ID, name)
            try socket.encrypt(to: serverKey, with: KeyPair.generate())
            try socket.connect(address.endpoint)
        }
        self.socket = socket
    }

    func send(_ frame: [UInt8], from member: Int) throws {
        guard try socket.send(names[member], more: true) == .sent else { return }
        _ = try socket.send(frame)
    }

    func receive(waitMilliseconds: Int, _ take: (UnsafeRawBufferPointer, Int) throws -> Void) throws {
        var item = socket.pollItem(ZMQ_POLLIN)
        _ = zmq_poll(&item, 1, waitMilliseconds)
        var name = ZMQMessage()
        var frame = ZMQMessage()
        for _ in 0..<Self.messagesPerTurn {
            guard try socket.receive(into: &name) else { return }
            let member = name.withBytes { $0.dropFirst().reduce(0) { $0 << 8 | Int($1) } }
            guard try socket.receive(into: &frame), names.indices.contains(member) else { continue }
            try frame.withBytes { try take($0, member) }
        }
    }
}
