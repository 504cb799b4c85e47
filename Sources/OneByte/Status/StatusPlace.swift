import Coordinator
import Core
import FlyingFox
import FlyingSocks
import Foundation
import Glibc
import Transport

/// A place that has a run's status: the run's directory, or the HTTP address of its coordinator's dashboard.
enum StatusPlace: Sendable {
    case directory(String)
    case address(host: String, port: UInt16)

    /// - Throws: `SettingsError` if the text is neither.
    init(_ text: String) throws(SettingsError) {
        var isDirectory: ObjCBool = false
        if FileManager.default.fileExists(atPath: text, isDirectory: &isDirectory) {
            // The path of the ledger in a run directory is accepted too.
            self = .directory(isDirectory.boolValue ? text : URL(filePath: text).deletingLastPathComponent().path)
            return
        }
        guard let address = Self.address(text) else {
            throw .usage(
                "\(text): neither a run directory nor the address of a coordinator's dashboard, such as coordinator:8080"
            )
        }
        self = .address(host: address.host, port: address.port)
    }

    /// Reads `http://host:port/…`, `host:port`, or a port of this host.
    private static func address(_ text: String) -> (host: String, port: UInt16)? {
        var rest = text[...]
        let hasScheme = rest.hasPrefix("http://")
        if hasScheme { rest = rest.dropFirst("http://".count) }
        if let slash = rest.firstIndex(of: "/") { rest = rest[..<slash] }
        if let port = UInt16(rest) { return ("127.0.0.1", port) }
        guard let colon = rest.lastIndex(of: ":") else { return hasScheme && !rest.isEmpty ? (String(rest), 80) : nil }
        guard let port = UInt16(rest[rest.index(after: colon)...]), colon > rest.startIndex else { return nil }
        return (String(rest[..<colon]), port)
    }

    /// - Throws: `ProcessFailure` if there is no run, or nobody answers.
    func status() async throws -> RunStatus {
        switch self {
        case .directory(let path): try RunStatus.read(path)
        case .address(let host, let port): try await Self.ask(host, port)
        }
    }

    private static let patienceSeconds = 10.0

    private static func ask(_ host: String, _ port: UInt16) async throws -> RunStatus {
        let place = "\(host):\(port)"
        let bytes: Data
        do {
            bytes = try await withThrowingTaskGroup(of: Data.self) { group in
                defer { group.cancelAll() }
                group.addTask { try await get(host, port) }
                group.addTask {
                    try await Task.sleep(for: .seconds(patienceSeconds))
                    throw ProcessFailure(.unavailable, "\(place) has not answered within \(whole(patienceSeconds)) s")
                }
                return try await group.next() ?? Data()
            }
        } catch let error as SocketError {
            let reason = if case .failed(_, let code, _) = error { String(cString: strerror(code)) } else { "\(error)" }
            throw ProcessFailure(.unavailable, "\(place) does not answer (\(reason)); does a coordinator with --dashboard run there?")
        }
        guard let status = try? JSONDecoder().decode(RunStatus.self, from: bytes) else {
            throw ProcessFailure(.badData, "\(place) answers, but not with a run's status; is it a coordinator's --dashboard of this version?")
        }
        return status
    }

    private static func get(_ host: String, _ port: UInt16) async throws -> Data {
        let request = HTTPRequest(
            method: .GET, version: .http11, path: "/api/status", query: [],
            headers: [.host: host == "127.0.0.1" || host == "[::1]" ? "localhost" : host, .connection: "close"], body: HTTPBodySequence())
        guard case .found(let numbers) = NameResolution.resolve(host), let number = numbers.first else {
            throw ProcessFailure(.unavailable, "the name \(host) has no address")
        }
        var client = HTTPClient()
        let response =
            number.contains(":")
            ? try await client.sendHTTPRequest(request, to: sockaddr_in6.inet6(ip6: number, port: port))
            : try await client.sendHTTPRequest(request, to: sockaddr_in.inet(ip4: number, port: port))
        guard response.statusCode == .ok else {
            throw ProcessFailure(.unavailable, "\(host):\(port) answers with \(response.statusCode.code), not with a run's status")
        }
        return try await response.bodyData
    }
}
