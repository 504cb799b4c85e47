import Core
import FlyingFox
import FlyingSocks
import Glibc

/// An address at which a process serves its dashboard over HTTP. At `8080` and `127.0.0.1:8080` only this host can connect; at `0.0.0.0:8080` and
/// `[::]:8080` everyone who reaches it can. Port 0 stands for any free port.
package struct DashboardAddress: Hashable, Sendable {
    /// The IP address, without brackets.
    package let host: String
    package let port: UInt16

    package init?(_ text: String) {
        let host: Substring
        let port: Substring
        if let colon = text.lastIndex(of: ":") {
            (host, port) = (text[..<colon], text[text.index(after: colon)...])
        } else {
            (host, port) = ("127.0.0.1", text[...])
        }
        guard let number = UInt16(port) else { return nil }
        self.port = number
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : String(host)
        self.host = bare == "localhost" ? "127.0.0.1" : bare
        guard isIPv4 || (host.hasPrefix("[") && isIPv6) else { return nil }
    }

    private var isIPv4: Bool {
        var address = in_addr()
        return inet_pton(AF_INET, host, &address) == 1
    }

    private var isIPv6: Bool {
        var address = in6_addr()
        return inet_pton(AF_INET6, host, &address) == 1
    }

    /// Whether only this host's processes can connect.
    package var isLoopback: Bool { host.hasPrefix("127.") || host == "::1" }

    package func url(port: UInt16) -> String { "http://\(isIPv4 ? host : "[\(host)]"):\(port)/" }

    /// - Parameter logger: takes FlyingFox's messages about connections.
    func server(handler: some HTTPHandler) throws -> HTTPServer {
        isIPv4
            ? HTTPServer(address: try sockaddr_in.inet(ip4: host, port: port), logger: DisabledLogger.disabled, handler: handler)
            : HTTPServer(address: try sockaddr_in6.inet6(ip6: host, port: port), logger: DisabledLogger.disabled, handler: handler)
    }

    /// - Throws: `SettingsError` that shows what an address looks like.
    package static func parse(_ text: String) throws(SettingsError) -> DashboardAddress {
        guard let address = DashboardAddress(text) else {
            throw .usage("\(SettingKey.dashboard.flag): \"\(text)\" is no port and no address with one, such as 8080, 127.0.0.1:8080 or [::1]:8080")
        }
        return address
    }
}
