import CZeroMQ
import Core
import Glibc
import Synchronization

/// One of the addresses of a name, in ZeroMQ's form.
///
/// Names are looked up here and not by libzmq. With IPv6 on, libzmq uses only a name's IPv6 addresses, and with IPv6 off only its IPv4 addresses
/// (https://github.com/zeromq/libzmq/issues/4313). It also reports no error for a name that it can't find. The order of the addresses is the
/// system's, which every other program uses too.
package struct ResolvedAddress: Hashable, Sendable {
    package let endpoint: String
    package let isIPv6: Bool

    package init(endpoint: String, isIPv6: Bool) {
        self.endpoint = endpoint
        self.isIPv6 = isIPv6
    }
}

/// The reason why a name has no address.
package struct LookupFailure: Error, Hashable {
    package let host: String
    /// The resolver's own words, such as "Name or service not known".
    package let reason: String
    /// Whether the resolver itself could not be asked. It may answer later.
    package let isTemporary: Bool

    package var error: TransportError {
        TransportError(.unknownHost, "the name \(host) can't be looked up: \(reason); check its spelling, or give the host's IP address")
    }
}

extension Address {
    /// Whether the host is a name that has to be looked up: neither a number nor a form that only `listen` accepts.
    package var hasName: Bool {
        guard let host, !host.hasPrefix("["), host != "*" else { return false }
        let numbers = host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map { UInt8(String(Substring($0))) }
        return numbers.count != 4 || numbers.contains(nil)
    }

    /// Returns the addresses of the name in the system's order (getaddrinfo(3), RFC 6724). A number is its own address. This waits for the network's
    /// answer.
    package func lookedUp() throws(LookupFailure) -> [ResolvedAddress] {
        guard hasName, let host else { return [ResolvedAddress(endpoint: endpoint, isIPv6: isIPv6)] }
        let numbers: [String]
        switch NameResolution.resolve(host) {
        case .found(let found): numbers = found
        case .unknown(let reason): throw LookupFailure(host: host, reason: reason, isTemporary: false)
        case .unavailable(let reason): throw LookupFailure(host: host, reason: reason, isTemporary: true)
        }
        guard !numbers.isEmpty else { throw LookupFailure(host: host, reason: "it has no IP address", isTemporary: false) }
        return numbers.map { number in
            let isIPv6 = number.utf8.contains(UInt8(ascii: ":"))
            return ResolvedAddress(endpoint: "tcp://\(isIPv6 ? "[\(number)]" : number)\(portSuffix)", isIPv6: isIPv6)
        }
    }

    /// Returns the address to listen at if the name is one of this host's own. The name of an interface is left to libzmq.
    func ownAddress() throws(TransportError) -> ResolvedAddress {
        guard hasName, let host, if_nametoindex(host) == 0 else { return ResolvedAddress(endpoint: endpoint, isIPv6: isIPv6) }
        do {
            return try lookedUp()[0]
        } catch {
            throw error.error
        }
    }

    /// The colon and the port, such as ":5151".
    private var portSuffix: String {
        guard let colon = endpoint.utf8.lastIndex(of: UInt8(ascii: ":")) else { return "" }
        return String(endpoint[colon...])
    }
}

/// Chooses which of a name's addresses is tried. The first that answers is kept as long as it answers. When it does not, the next one has its turn.
package struct AddressRotation {
    /// Seconds before the next address is tried: the time of libzmq's first three tries.
    static let secondsEach = 1.0
    /// Least number of seconds between two lookups of a name.
    static let secondsBetweenLookups = 5.0

    private(set) var addresses: [ResolvedAddress]
    private var index = 0
    private var since: Timestamp
    private var lookedUpAt: Timestamp

    package init(_ addresses: [ResolvedAddress], at now: Timestamp) {
        self.addresses = addresses
        (since, lookedUpAt) = (now, now)
    }

    package var current: ResolvedAddress? { addresses.indices.contains(index) ? addresses[index] : nil }

    /// Notes that nobody answered at the present address.
    ///
    /// - Returns: the address to try next; nil: continue with the present one.
    package mutating func retried(at now: Timestamp) -> ResolvedAddress? {
        guard addresses.count > 1, now.seconds(since: since) >= Self.secondsEach else { return nil }
        index = (index + 1) % addresses.count
        since = now
        return current
    }

    /// Notes that the connection is up. Its address has its full time again when it breaks.
    package mutating func connected(at now: Timestamp) { since = now }

    /// Whether the name should be looked up again, because its host may have moved. It is true once for each due lookup.
    package mutating func isLookupDue(at now: Timestamp) -> Bool {
        guard now.seconds(since: lookedUpAt) >= Self.secondsBetweenLookups else { return false }
        lookedUpAt = now
        return true
    }

    /// Takes the name's new addresses.
    ///
    /// - Returns: the address to try if the present one is no longer among them; nil: continue with the present one.
    package mutating func replace(with new: [ResolvedAddress], at now: Timestamp) -> ResolvedAddress? {
        let old = current
        addresses = new
        if let old, let place = new.firstIndex(of: old) {
            index = place
            return nil
        }
        (index, since) = (0, now)
        return current
    }
}

/// Looks a name up without blocking the thread that asks.
final class BackgroundLookup: Sendable {
    private struct State {
        var isRunning = false
        var answer: Result<[ResolvedAddress], LookupFailure>?
    }

    private let state = Mutex(State())
    private let address: Address
    private let wakes: EventDescriptor

    init(_ address: Address, waking wakes: EventDescriptor) {
        self.address = address
        self.wakes = wakes
    }

    /// Begins a lookup, unless one is under way.
    func begin() {
        let isFirst = state.withLock { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        guard isFirst else { return }
        // Nobody waits for it: a resolver may take a minute to give up.
        let thread = try? NamedThread("onebyte-lookup") { [self] in
            let answer: Result<[ResolvedAddress], LookupFailure>
            do throws(LookupFailure) { answer = .success(try address.lookedUp()) } catch { answer = .failure(error) }
            state.withLock { $0 = State(isRunning: false, answer: answer) }
            wakes.wake()
        }
        if thread == nil { state.withLock { $0.isRunning = false } }
    }

    /// Returns the answer, once.
    func take() -> Result<[ResolvedAddress], LookupFailure>? {
        state.withLock { state in
            defer { state.answer = nil }
            return state.answer
        }
    }
}

extension ZMQSocket {
    /// Makes connections to this address from now on.
    func connect(to address: ResolvedAddress) throws(TransportError) {
        try set(ZMQ_IPV6, address.isIPv6 ? 1 : 0)
        try connect(address.endpoint)
    }

    /// Ends the connection to this address, or the tries to make one. It is no error if there is none any more.
    func disconnect(from address: ResolvedAddress) { zmq_disconnect(raw, address.endpoint) }
}
