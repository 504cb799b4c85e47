import Glibc

/// An address of this host, and who can reach it.
public struct HostAddress: Hashable, Sendable {
    public enum Reach: Hashable, Sendable {
        case thisHost
        /// Only with the interface's name behind it, and only on its own network.
        case link
        /// The containers or virtual machines of this host.
        case containers
        /// A private network (RFC 1918, RFC 4193, RFC 6598).
        case privateNetwork
        case everywhere
    }

    /// Without brackets.
    public let number: String
    public let interface: String
    public let reach: Reach

    public init(number: String, interface: String) {
        self.number = number
        self.interface = interface
        reach = Self.reach(of: number, interface: interface)
    }

    /// Whether a worker on another host may get in there.
    public var isReachable: Bool { reach == .privateNetwork || reach == .everywhere }

    /// As an address is written in front of a port.
    public var hostText: String { number.contains(":") ? "[\(number)]" : number }

    /// What a person should know of it; nil where there is nothing.
    public var warning: String? {
        switch reach {
        case .thisHost: "this host only"
        case .link: "its own network segment only, and not without the interface's name"
        case .containers: "containers and virtual machines of this host only"
        case .privateNetwork, .everywhere: nil
        }
    }

    private static let containerInterfaces = ["docker", "virbr", "veth", "cni", "flannel", "cali", "podman", "lxc", "br-"]

    private static func reach(of number: String, interface: String) -> Reach {
        if number == "::1" || number.hasPrefix("127.") { return .thisHost }
        let lower = number.lowercased()
        if number.hasPrefix("169.254.") || lower.hasPrefix("fe8") || lower.hasPrefix("fe9") || lower.hasPrefix("fea") || lower.hasPrefix("feb") {
            return .link
        }
        if containerInterfaces.contains(where: { interface.hasPrefix($0) }) { return .containers }
        if lower.contains(":") { return lower.hasPrefix("fc") || lower.hasPrefix("fd") ? .privateNetwork : .everywhere }
        let parts = number.split(separator: ".").compactMap { UInt8($0) }
        guard parts.count == 4 else { return .everywhere }
        let isPrivate =
            parts[0] == 10 || (parts[0] == 172 && (16...31).contains(parts[1])) || (parts[0] == 192 && parts[1] == 168)
            || (parts[0] == 100 && (64...127).contains(parts[1]))
        return isPrivate ? .privateNetwork : .everywhere
    }

    /// Those of all interfaces that are up: who can be reached from furthest first.
    public static func all() -> [HostAddress] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: [HostAddress] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard let address = entry.ifa_addr, entry.ifa_flags & UInt32(IFF_UP) != 0, let number = numeric(address) else { continue }
            // fe80::1%eth0: the interface is told apart.
            let plain = String(number.prefix { $0 != "%" })
            found.append(HostAddress(number: plain, interface: String(cString: entry.ifa_name)))
        }
        let order: [Reach] = [.everywhere, .privateNetwork, .containers, .link, .thisHost]
        return found.enumerated().sorted { a, b in
            let (first, second) = (order.firstIndex(of: a.element.reach) ?? 0, order.firstIndex(of: b.element.reach) ?? 0)
            return first == second ? a.offset < b.offset : first < second
        }.map(\.element)
    }

    /// An IPv4 or IPv6 address in digits.
    static func numeric(_ address: UnsafePointer<sockaddr>) -> String? {
        let length: socklen_t
        switch Int32(address.pointee.sa_family) {
        case AF_INET: length = socklen_t(MemoryLayout<sockaddr_in>.size)
        case AF_INET6: length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        default: return nil
        }
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        guard getnameinfo(address, length, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
