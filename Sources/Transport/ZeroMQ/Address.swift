/// The address at which a coordinator listens: `tcp://HOST:PORT`, `HOST:PORT`, `HOST` alone, or `ipc://PATH` on one host.
public struct Address: Hashable, Sendable, CustomStringConvertible {
    /// The port of an address that is `HOST` alone.
    public static let defaultPort = 5151

    /// The address in ZeroMQ's form.
    public let endpoint: String
    /// The host's name or number; nil for ipc.
    public let host: String?

    /// Reads an address as people write it.
    ///
    /// - Throws: `TransportError` `.invalidAddress`, with the form that is expected.
    public init(_ text: String) throws(TransportError) {
        if text.hasPrefix("ipc://") && text.utf8.count > 6 {
            endpoint = text
            host = nil
            return
        }
        var rest = text[...]
        if rest.hasPrefix("tcp://") {
            rest = rest.dropFirst(6)
        } else if rest.contains("://") {
            throw TransportError(.invalidAddress, "\(text): only tcp:// and ipc:// addresses are known")
        }
        var port = String(Self.defaultPort)
        // In [::1]:5151 the port begins at a colon after the bracket.
        if let colon = rest.lastIndex(of: ":"), rest.lastIndex(of: "]").map({ $0 < colon }) ?? true {
            port = String(rest[rest.index(after: colon)...])
            rest = rest[..<colon]
        }
        guard !rest.isEmpty, !rest.contains(where: { $0.isWhitespace || "/?&;".contains($0) }) else {
            throw TransportError(.invalidAddress, "\(text): the host is missing; write tcp://HOST:PORT")
        }
        guard rest.hasPrefix("[") || !rest.contains(":") else {
            throw TransportError(.invalidAddress, "\(text): put an IPv6 address in brackets, as in tcp://[::1]:\(Self.defaultPort)")
        }
        guard rest.hasPrefix("[") == rest.hasSuffix("]") else {
            throw TransportError(.invalidAddress, "\(text): a bracket is missing; write an IPv6 address as in tcp://[::1]:\(Self.defaultPort)")
        }
        guard port == "*" || (Int(port).map { (0...65535).contains($0) } ?? false) else {
            throw TransportError(.invalidAddress, "\(text): the port is a number from 0 (any free one) to 65535, not \(port)")
        }
        // libzmq binds to numbers and interfaces, not to names.
        let host = rest == "localhost" ? "127.0.0.1" : String(rest)
        self.host = host
        endpoint = "tcp://\(host):\(port == "0" ? "*" : port)"
    }

    public var description: String { endpoint }

    /// Whether only this host can reach it.
    public var isLocal: Bool {
        guard let host else { return true }
        if host == "[::1]" { return true }
        let numbers = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        return numbers.count == 4 && numbers[0] == 127 && !numbers.contains(nil)
    }

    /// The port; nil for ipc, and if any free port will do.
    public var port: Int? { host == nil ? nil : endpoint.split(separator: ":").last.flatMap { Int($0) } }

    /// Whether it means all addresses of a host. Nobody can connect to such an address.
    public var isWildcard: Bool { host == "0.0.0.0" || host == "*" || host == "[::]" }

    /// Returns the same port at another host.
    public func at(host: String) throws(TransportError) -> Address {
        try Address("tcp://\(host):\(endpoint.split(separator: ":").last ?? "0")")
    }

    var isIPv6: Bool { host?.hasPrefix("[") ?? false }
}

/// Everything that a worker needs to join a run, in one word that a coordinator prints and a person pastes: `tcp://HOST:PORT?key=…&run=…&base=…`. It
/// has the server's public key, the run spec's SHA-256 and, if known, that of the base manifest, all in hexadecimal digits.
public struct JoinString: Hashable, Sendable, CustomStringConvertible {
    public var address: Address
    /// The coordinator's public key; nil: nothing is encrypted.
    public var serverKey: PublicKey?
    /// SHA-256 of the run spec, 64 hexadecimal digits.
    public var run: String?
    /// SHA-256 of the base manifest, 64 hexadecimal digits.
    public var base: String?

    public init(address: Address, serverKey: PublicKey? = nil, run: String? = nil, base: String? = nil) {
        self.base = base
        self.address = address
        self.serverKey = serverKey
        self.run = run
    }

    /// Reads a join string, or an address alone.
    ///
    /// - Throws: `TransportError` `.invalidAddress` or `.key` if a part is malformed or unknown.
    public init(_ text: String) throws(TransportError) {
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        address = try Address(String(parts[0]))
        guard parts.count == 2 else { return }
        for pair in parts[1].split(separator: "&") {
            if pair.hasPrefix("key=") {
                serverKey = try PublicKey(hex: String(pair.dropFirst(4)))
            } else if pair.hasPrefix("run=") {
                let run = String(pair.dropFirst(4))
                guard run.count == 64, bytesOfHex(run) != nil else {
                    throw TransportError(.invalidAddress, "\(text): the run is named by 64 hexadecimal digits; paste the whole join string")
                }
                self.run = run
            } else if pair.hasPrefix("base=") {
                let base = String(pair.dropFirst(5))
                guard base.count == 64, bytesOfHex(base) != nil else {
                    throw TransportError(.invalidAddress, "\(text): the base is named by 64 hexadecimal digits; paste the whole join string")
                }
                self.base = base
            } else {
                throw TransportError(.invalidAddress, "\(text): only key=, run= and base= are known after the question mark, not \(pair)")
            }
        }
    }

    public var description: String {
        let options = [serverKey.map { "key=\($0)" }, run.map { "run=\($0)" }, base.map { "base=\($0)" }].compactMap { $0 }
        return address.endpoint + (options.isEmpty ? "" : "?" + options.joined(separator: "&"))
    }
}
