import Core
import FlyingFox
import FlyingSocks
import Foundation
import Logging
import Synchronization

/// Serves a process's page and its metrics over HTTP. It is read-only.
final class Dashboard: Sendable {
    let url: String
    private let task: Task<Void, Never>

    /// Listens, and answers requests until `stop`.
    ///
    /// - Throws: `ProcessFailure` if it can't listen there.
    init(_ address: DashboardAddress, _ source: DashboardSource) async throws {
        let handler = DashboardHandler(source: source, isLoopback: address.isLoopback)
        let server = try address.server(handler: handler)
        let failure = Mutex<(any Error)?>(nil)
        let task = Task {
            do { try await server.run() } catch { failure.withLock { $0 = error } }
        }
        while await !server.isListening {
            if let error = failure.withLock({ $0 }) {
                throw ProcessFailure(.unavailable, "the dashboard can't listen at \(address.url(port: address.port)): \(Self.reason(error))")
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        let port: UInt16 =
            switch await server.listeningAddress {
            case .ip4(_, port: let port), .ip6(_, port: let port): port
            case .unix, nil: address.port
            }
        url = address.url(port: port)
        self.task = task
    }

    /// Starts the dashboard that `--dashboard` asks for, and logs its address.
    ///
    /// - Throws: `SettingsError` if the text is no address, `ProcessFailure` if it can't listen there.
    static func start(at text: String, _ source: DashboardSource, _ logger: Logger) async throws -> Dashboard {
        let address = try DashboardAddress.parse(text)
        let dashboard = try await Dashboard(address, source)
        logger.info("dashboard at \(dashboard.url)")
        if let warning = warning(address) { logger.warning("\(warning)") }
        return dashboard
    }

    func stop() { task.cancel() }

    private static func reason(_ error: any Error) -> String {
        guard case SocketError.failed(_, let code, _) = error else { return "\(error)" }
        return code == EADDRINUSE ? "another process listens there; choose another port" : String(cString: strerror(code))
    }

    /// A warning if others than this host's processes can connect; nil if not.
    static func warning(_ address: DashboardAddress) -> String? {
        address.isLoopback
            ? nil
            : "whoever reaches \(address.host) can read the dashboard: the workers' names, their losses and all events; it has no password and no encryption"
    }
}

private struct DashboardHandler: HTTPHandler {
    let source: DashboardSource
    let isLoopback: Bool
    private let streams = StreamCount()

    init(source: DashboardSource, isLoopback: Bool) {
        self.source = source
        self.isLoopback = isLoopback
    }

    func handleRequest(_ request: HTTPRequest) async throws -> HTTPResponse {
        let route = DashboardRoute(method: request.method.rawValue, path: request.path, host: request.headers[.host], isLoopback: isLoopback)
        switch route {
        case .page: return text(RunPage.live, type: "text/html; charset=utf-8")
        case .status:
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return text(String(decoding: try encoder.encode(source.status()), as: UTF8.self) + "\n", type: "application/json")
        case .metrics: return text(MetricsText(source.status()).text, type: "text/plain; version=0.0.4; charset=utf-8")
        case .health: return text("ok\n")
        case .readiness:
            let reason = source.unreadiness()
            return text((reason ?? "ready") + "\n", status: reason == nil ? .ok : .serviceUnavailable)
        case .events: return events(after: request.headers[HTTPHeader("Last-Event-ID")].flatMap { Int($0) } ?? 0)
        case .unknown: return text("there is no \(request.path.prefix(200)), only \(DashboardRoute.paths)\n", status: .notFound)
        case .wrongMethod: return text("only GET: the dashboard is read-only\n", status: .methodNotAllowed)
        case .wrongHost: return text("this dashboard answers only to localhost\n", status: .forbidden)
        }
    }

    private func text(_ text: String, type: String = "text/plain; charset=utf-8", status: HTTPStatusCode = .ok) -> HTTPResponse {
        HTTPResponse(statusCode: status, headers: headers(type), body: Data(text.utf8))
    }

    private func headers(_ type: String) -> HTTPHeaders {
        [
            .contentType: type, .cacheControl: "no-store", HTTPHeader("X-Content-Type-Options"): "nosniff",
            HTTPHeader("Content-Security-Policy"):
                "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; frame-ancestors 'none'",
        ]
    }

    private func events(after number: Int) -> HTTPResponse {
        guard let token = streams.take() else { return text("too many pages are open\n", status: .serviceUnavailable) }
        let stream = EventStream(source: source, first: number, token: token)
        return HTTPResponse(statusCode: .ok, headers: headers("text/event-stream"), body: HTTPBodySequence(from: stream))
    }
}

/// Limits the open pages, because each holds a task and gets an update every second.
private final class StreamCount: Sendable {
    private static let most = 64
    private let count = Atomic<Int>(0)

    final class Token: Sendable {
        private let owner: StreamCount
        init(_ owner: StreamCount) { self.owner = owner }
        deinit { owner.count.subtract(1, ordering: .relaxed) }
    }

    func take() -> Token? {
        guard count.add(1, ordering: .relaxed).newValue <= Self.most else {
            count.subtract(1, ordering: .relaxed)
            return nil
        }
        return Token(self)
    }
}

/// Server-sent events: an update every second. Updates are numbered by the history's points, so a browser that reconnects gets what it missed.
private struct EventStream: AsyncBufferedSequence {
    typealias Element = UInt8
    let source: DashboardSource
    let first: Int
    let token: StreamCount.Token

    func makeAsyncIterator() -> Iterator { Iterator(source: source, next: first, token: token) }

    struct Iterator: AsyncBufferedIteratorProtocol {
        private static let interval = Duration.seconds(1)
        private let source: DashboardSource
        private var number: Int
        private let token: StreamCount.Token
        private var pending: ArraySlice<UInt8> = ArraySlice("retry: 2000\n\n".utf8)
        private var hasSent = false

        init(source: DashboardSource, next: Int, token: StreamCount.Token) {
            self.source = source
            number = next
            self.token = token
        }

        mutating func next() async throws -> UInt8? { try await nextBuffer(suggested: 1)?.first }

        mutating func nextBuffer(suggested count: Int) async throws -> [UInt8]? {
            if pending.isEmpty {
                if hasSent { try await Task.sleep(for: Self.interval) }
                hasSent = true
                let update = source.update(from: number)
                number = update.next
                pending = ArraySlice("id: \(number)\nevent: update\ndata: \(update.json)\n\n".utf8)
            }
            let part = Array(pending.prefix(Swift.max(1, count)))
            pending = pending.dropFirst(part.count)
            return part
        }
    }
}
