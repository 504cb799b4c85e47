import CZeroMQ
import Core
import Glibc
import Synchronization

/// One of the addresses that a name stands for, as ZeroMQ takes it.
///
/// The names are looked up here, not by libzmq: with IPv6 on it takes a name's IPv6 addresses alone, with IPv6 off its IPv4 addresses alone
/// (https://github.com/zeromq/libzmq/issues/4313), and it says nothing of a name that it can't find. The system's own order is what every
/// other program goes by.
package struct ResolvedAddress: Hashable, Sendable {
    package let endpoint: String
    package let isIPv6: Bool

    package init(endpoint: String, isIPv6: Bool) {
        self.endpoint = endpoint
        self.isIPv6 = isIPv6
    }
}

/// Why a name has no address.
package struct LookupFailure: Error, Hashable {
    package let host: String
    /// The resolver's own words: "Name or service not known".
    package let reason: String
    /// The resolver itself could not be asked; it may answer later.
    package let isTemporary: Bool

    package var error: TransportError {
        TransportError(.unknownHost, "the name \(host) can't be looked up: \(reason); check its spelling, or give the host's IP address")
    }
}

extension Address {
    /// The host is a name that has to be looked up: no number, and nothing that only `listen` takes.
    package var hasName: Bool {
        guard let host, !host.hasPrefix("["), host != "*" else { return false }
        let numbers = host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map { UInt8(String(Substring($0))) }
        return numbers.count != 4 || numbers.contains(nil)
    }

    /// What the name stands for, in the system's order (getaddrinfo(3), RFC 6724). An address that is a number is itself. Waits for the
    /// network's answer.
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

    /// Where to listen for a name that is one of this host's own; an interface's name is libzmq's affair.
    func ownAddress() throws(TransportError) -> ResolvedAddress {
        guard hasName, let host, if_nametoindex(host) == 0 else { return ResolvedAddress(endpoint: endpoint, isIPv6: isIPv6) }
        do {
            return try lookedUp()[0]
        } catch {
            throw error.error
        }
    }

    /// ":5151"
    private var portSuffix: String {
        guard let colon = endpoint.utf8.lastIndex(of: UInt8(ascii: ":")) else { return "" }
        return String(endpoint[colon...])
    }
}

/// Which of a name's addresses is tried. The first that answers is kept for as long as it does; where one does not, its neighbour has its turn.
package struct AddressRotation {
    /// An address has so long before the next is tried: libzmq's first three tries.
    static let secondsEach = 1.0
    /// Names are looked up anew no oftener than this.
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

    /// Nobody answered at the present address.
    ///
    /// - Returns: the address to try in its place; nil: go on with it.
    package mutating func retried(at now: Timestamp) -> ResolvedAddress? {
        guard addresses.count > 1, now.seconds(since: since) >= Self.secondsEach else { return nil }
        index = (index + 1) % addresses.count
        since = now
        return current
    }

    /// The connection is up: its address has its whole time again when it breaks.
    package mutating func connected(at now: Timestamp) { since = now }

    /// Whether the name is to be looked up anew, its host may have moved. True once for each time.
    package mutating func isLookupDue(at now: Timestamp) -> Bool {
        guard now.seconds(since: lookedUpAt) >= Self.secondsBetweenLookups else { return false }
        lookedUpAt = now
        return true
    }

    /// The name stands for these now.
    ///
    /// - Returns: the address to try, where the present one is no longer among them; nil: go on with it.
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

/// Looks a name up without holding up the thread that asks.
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

    /// Begins, unless it is at it.
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

    /// The answer, once.
    func take() -> Result<[ResolvedAddress], LookupFailure>? {
        state.withLock { state in
            defer { state.answer = nil }
            return state.answer
        }
    }
}

extension ZMQSocket {
    /// Connections that are made from now on go there.
    func connect(to address: ResolvedAddress) throws(TransportError) {
        try set(ZMQ_IPV6, address.isIPv6 ? 1 : 0)
        try connect(address.endpoint)
    }

    /// Ends the connection there, or the tries to make one. That there is none any more is no error.
    func disconnect(from address: ResolvedAddress) { zmq_disconnect(raw, address.endpoint) }
}
