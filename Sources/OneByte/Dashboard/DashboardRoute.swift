/// The resource that a request to a dashboard asks for.
package enum DashboardRoute: Hashable, Sendable {
    case page, events, status, metrics, health, readiness
    case unknown
    /// A method other than GET and HEAD, because the dashboard is read-only.
    case wrongMethod
    /// A browser that came here under another name, as by DNS rebinding. Foreign pages must read nothing of this host.
    case wrongHost

    /// All paths, for people who ask for one that does not exist.
    static let paths = "/, /api/status, /metrics, /healthz, /readyz, /events"

    /// - Parameters:
    ///   - host: the `Host` header.
    ///   - isLoopback: whether the server listens on this host alone.
    package init(method: String, path: String, host: String?, isLoopback: Bool) {
        guard method == "GET" || method == "HEAD" else {
            self = .wrongMethod
            return
        }
        if isLoopback, let host, !Self.isLocal(host) {
            self = .wrongHost
            return
        }
        self =
            switch path {
            case "/", "/index.html": .page
            case "/events": .events
            case "/api/status": .status
            case "/metrics": .metrics
            case "/healthz": .health
            case "/readyz": .readiness
            default: .unknown
            }
    }

    private static func isLocal(_ host: String) -> Bool {
        var name = host[...]
        if let colon = name.lastIndex(of: ":"), name[name.index(after: colon)...].allSatisfy(\.isNumber) { name = name[..<colon] }
        return name == "localhost" || name == "[::1]" || (name.hasPrefix("127.") && name.allSatisfy { $0.isNumber || $0 == "." })
    }
}
