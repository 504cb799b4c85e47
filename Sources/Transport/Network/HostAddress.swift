import Glibc

/// An address of this host, and the hosts that can reach it.
public struct HostAddress: Hashable, Sendable {
    /// The hosts from which an address can be reached.
    public enum Reach: Hashable, Sendable {
        case thisHost
        /// Reachable only with the interface's name, and only on its own network.
        case link
        /// Reachable by the containers or virtual machines of this host.
        case containers
        /// A private network (RFC 1918, RFC 4193, RFC 6598).
        case privateNetwork
        case everywhere
    }

    /// The address in digits, without brackets.
    public let number: String
    /// The name of the interface, such as `eth0`.
    public let interface: String
    public let reach: Reach

    public init(number: String, interface: String) {
        self.number = number
        self.interface = interface
        reach = Self.reach(of: number, interface: interface)
    }

    /// Whether a worker on another host may be able to connect to it.
    public var isReachable: Bool { reach == .privateNetwork || reach == .everywhere }

    /// The address as it is written before a port.
    public var hostText: String { number.contains(":") ? "[\(number)]" : number }

    /// A warning for a person; nil if there is none.
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

    /// Returns the addresses of all active interfaces. Those with the furthest reach come first.
    public static func all() -> [HostAddress] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: [HostAddress] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard let address = entry.ifa_addr, entry.ifa_flags & UInt32(IFF_UP) != 0, let number = numeric(address) else { continue }
            // In fe80::1%eth0 the interface's name follows the address.
            let plain = String(number.prefix { $0 != "%" })
            found.append(HostAddress(number: plain, interface: String(cString: entry.ifa_name)))
        }
        let order: [Reach] = [.everywhere, .privateNetwork, .containers, .link, .thisHost]
        return found.enumerated().sorted { a, b in
            let (first, second) = (order.firstIndex(of: a.element.reach) ?? 0, order.firstIndex(of: b.element.reach) ?? 0)
            return first == second ? a.offset < b.offset : first < second
        }.map(\.element)
    }

    /// Returns an IPv4 or IPv6 address in digits.
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
