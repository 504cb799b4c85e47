import CZeroMQ
import Core
import Glibc
import Transport

/// Connections without encryption that speak ZMTP 3.1 (RFC 37) as a DEALER does, over plain sockets. A thousand of them take a third of the processor
/// time that libzmq would take, which leaves more to the coordinator on the same host.
final class PlainConnections: SwarmConnections {
    private struct Connection {
        let descriptor: Int32
        /// Bytes of a frame that is not whole yet.
        var pending: [UInt8] = []
        var hasGreeted = false
        /// Whether the coordinator's READY has come. libzmq takes no message before it has sent its own.
        var isReady = false
        /// Frames that wait for that.
        var waiting: [UInt8] = []
    }

    private enum Flag {
        static let long: UInt8 = 2
        static let command: UInt8 = 4
    }

    private static let eventsPerTurn = 64
    private static let greetingBytes = 64
    private static let pingTimeToLiveBytes = 2
    private var connections: [Connection] = []
    private let poller: Int32
    private var buffer = [UInt8](repeating: 0, count: 1 << 17)

    /// - Throws: `ProcessFailure` if nobody listens at an IPv4 address.
    init(_ address: Address, identities: [[UInt8]]) throws {
        poller = epoll_create1(Int32(EPOLL_CLOEXEC))
        let parts = address.endpoint.split(separator: ":")
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        guard let port = parts.last.flatMap({ UInt16($0) }), let host = address.host, inet_pton(AF_INET, host, &target.sin_addr) == 1 else {
            throw ProcessFailure(.configuration, "\(address) is no IPv4 address with a port")
        }
        target.sin_port = port.bigEndian
        for identity in identities {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            let size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let connected = withUnsafePointer(to: &target) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
            }
            guard descriptor >= 0, connected == 0 else {
                throw ProcessFailure(.unavailable, "can't connect to \(address): \(String(cString: strerror(errno)))")
            }
            var one: Int32 = 1
            setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
            _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
            var event = epoll_event()
            event.events = EPOLLIN.rawValue
            event.data.u32 = UInt32(connections.count)
            guard epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event) == 0 else {
                throw ProcessFailure(.inputOutput, "can't watch a connection: \(String(cString: strerror(errno)))")
            }
            connections.append(Connection(descriptor: descriptor))
            write(Self.greeting + Self.ready(identity), to: descriptor)
        }
    }

    deinit {
        for connection in connections { close(connection.descriptor) }
        close(poller)
    }

    func send(_ frame: [UInt8], from member: Int) throws {
        let framed = Self.framed(frame, flags: 0)
        if connections[member].isReady { write(framed, to: connections[member].descriptor) } else { connections[member].waiting += framed }
    }

    func receive(waitMilliseconds: Int, _ take: (UnsafeRawBufferPointer, Int) throws -> Void) throws {
        try withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: Self.eventsPerTurn) { events in
            let count = epoll_wait(poller, events.baseAddress, Int32(Self.eventsPerTurn), Int32(waitMilliseconds))
            for i in 0..<max(Int(count), 0) { try read(Int(events[i].data.u32), take) }
        }
    }

    private func read(_ member: Int, _ take: (UnsafeRawBufferPointer, Int) throws -> Void) throws {
        let count = recv(connections[member].descriptor, &buffer, buffer.count, 0)
        guard count > 0 else {
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            throw ProcessFailure(.unavailable, "the coordinator has closed a worker's connection")
        }
        if connections[member].pending.isEmpty {
            let used = try buffer.withUnsafeBytes { try parse(UnsafeRawBufferPointer(rebasing: $0[..<count]), member, take) }
            if used < count { connections[member].pending = Array(buffer[used..<count]) }
        } else {
            var pending = connections[member].pending
            connections[member].pending = []
            pending += buffer[..<count]
            let used = try pending.withUnsafeBytes { try parse($0, member, take) }
            if used < pending.count { connections[member].pending = Array(pending[used...]) }
        }
    }

    /// Takes whole frames from the beginning of `bytes`. Returns the number of bytes that they had.
    private func parse(_ bytes: UnsafeRawBufferPointer, _ member: Int, _ take: (UnsafeRawBufferPointer, Int) throws -> Void) throws -> Int {
        var at = 0
        if !connections[member].hasGreeted {
            guard bytes.count >= Self.greetingBytes else { return 0 }
            connections[member].hasGreeted = true
            at = Self.greetingBytes
        }
        while bytes.count - at >= 2 {
            let flags = bytes[at]
            let isLong = flags & Flag.long != 0
            let header = isLong ? 9 : 2
            guard bytes.count - at >= header else { break }
            let size = bytes[at + 1..<at + header].reduce(0) { $0 << 8 | Int($1) }
            guard size <= ProtocolLimits.frameBytes else { throw ProcessFailure(.badData, "a frame of \(size) bytes") }
            guard bytes.count - at - header >= size else { break }
            let body = UnsafeRawBufferPointer(rebasing: bytes[at + header..<at + header + size])
            if flags & Flag.command == 0 { try take(body, member) } else { try obey(body, member) }
            at += header + size
        }
        return at
    }

    /// Obeys a command: READY lets messages through, and PING is answered by a PONG with its context.
    private func obey(_ command: UnsafeRawBufferPointer, _ member: Int) throws {
        let name = Array("\u{4}PING".utf8)
        if command.starts(with: name) {
            let context = command.dropFirst(name.count + Self.pingTimeToLiveBytes)
            write(Self.framed(Array("\u{4}PONG".utf8) + context, flags: Flag.command), to: connections[member].descriptor)
        } else if command.starts(with: "\u{5}READY".utf8) {
            connections[member].isReady = true
            write(connections[member].waiting, to: connections[member].descriptor)
            connections[member].waiting = []
        } else if command.starts(with: "\u{5}ERROR".utf8) {
            throw ProcessFailure(.refused, "the coordinator does not take a worker's connection")
        }
    }

    private func write(_ bytes: [UInt8], to descriptor: Int32) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    // MARK: ZMTP

    /// Signature, version 3.1, mechanism NULL, not a server, filler.
    private static let greeting: [UInt8] =
        [0xff] + [UInt8](repeating: 0, count: 8) + [0x7f, 3, 1] + Array("NULL".utf8)
        + [UInt8](repeating: 0, count: 16 + 1 + 31)

    private static func ready(_ identity: [UInt8]) -> [UInt8] {
        func property(_ name: String, _ value: [UInt8]) -> [UInt8] {
            [UInt8(name.utf8.count)] + Array(name.utf8) + [0, 0, 0, UInt8(value.count)] + value
        }
        let body = Array("\u{5}READY".utf8) + property("Socket-Type", Array("DEALER".utf8)) + property("Identity", identity)
        return framed(body, flags: Flag.command)
    }

    private static func framed(_ body: [UInt8], flags: UInt8) -> [UInt8] {
        if body.count <= Int(UInt8.max) { return [flags, UInt8(body.count)] + body }
        let size = (0..<8).reversed().map { UInt8(truncatingIfNeeded: body.count >> (8 * $0)) }
        return [flags | Flag.long] + size + body
    }
}
