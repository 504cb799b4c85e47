import Glibc

/// Counts the bytes that the interface towards a host has carried since the counter was made. Linux counts them for every interface. They include the
/// headers of TCP and IP and the bytes of all other programs.
public struct InterfaceCounter: Sendable {
    public let interface: String
    private let sentBefore: UInt64
    private let receivedBefore: UInt64

    /// Returns nil if there is no route, if the route stays on this host, or if the system does not count.
    public init?(toward number: String) {
        guard let local = Self.localAddress(toward: number),
            let found = HostAddress.all().first(where: { $0.number == local && $0.reach != .thisHost }),
            let sent = Self.read(found.interface, "tx_bytes"), let received = Self.read(found.interface, "rx_bytes")
        else { return nil }
        interface = found.interface
        sentBefore = sent
        receivedBefore = received
    }

    /// Bytes sent since the counter was made.
    public var sent: UInt64 { difference("tx_bytes", sentBefore) }
    /// Bytes received since the counter was made.
    public var received: UInt64 { difference("rx_bytes", receivedBefore) }

    /// Returns the bytes since the beginning. An interface that was removed and came back counts from 0.
    private func difference(_ name: String, _ before: UInt64) -> UInt64 {
        let now = Self.read(interface, name) ?? before
        return now >= before ? now - before : now
    }

    private static func read(_ interface: String, _ name: String) -> UInt64? {
        let descriptor = open("/sys/class/net/\(interface)/statistics/\(name)", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 32)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        return UInt64(String(decoding: bytes.prefix(count).filter { $0 != 0x0a }, as: UTF8.self))
    }

    /// Returns the local address of a connected datagram socket. Connecting it sends nothing.
    private static func localAddress(toward number: String) -> String? {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        hints.ai_flags = AI_NUMERICHOST
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(number, "9", &hints, &list) == 0, let entry = list?.pointee else { return nil }
        defer { freeaddrinfo(list) }
        let descriptor = socket(entry.ai_family, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard connect(descriptor, entry.ai_addr, entry.ai_addrlen) == 0 else { return nil }
        var address = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) == 0 ? HostAddress.numeric($0) : nil }
        }
    }
}
