import Glibc

/// The addresses of a host's name, as seen from this host.
public enum NameResolution: Hashable, Sendable {
    /// The addresses in digits, in the order in which they would be tried.
    case found([String])
    /// The name service answered that the name does not exist.
    case unknown(String)
    /// The name service did not answer, or can't answer now.
    case unavailable(String)

    /// Asks the system (getaddrinfo(3), in the order of RFC 6724). That takes as long as the system's resolver takes.
    public static func resolve(_ host: String) -> NameResolution {
        let name = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(name, nil, &hints, &list)
        guard status == 0 else {
            let reason = status == EAI_SYSTEM ? String(cString: strerror(errno)) : String(cString: gai_strerror(status))
            return status == EAI_NONAME || status == EAI_NODATA ? .unknown(reason) : .unavailable(reason)
        }
        defer { freeaddrinfo(list) }
        var numbers: [String] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ai_next
            if let address = entry.ai_addr, let number = HostAddress.numeric(address), !numbers.contains(number) { numbers.append(number) }
        }
        return .found(numbers)
    }

    /// Glibc's headers hide this constant.
    private static let EAI_NODATA: Int32 = -5
}
