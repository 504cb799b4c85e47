import Core
import Transport

/// The addresses at which a coordinator can be reached, and the one that goes into the join string.
package struct JoinPlaces: Sendable {
    /// The host's name if it leads others here, else the address with the widest reach.
    package let host: String?
    /// Addresses that others may reach.
    package let reachable: [HostAddress]
    /// All addresses, each with a remark.
    package let lines: [String]
    /// Why the host's own name is not in the join string, or is in it despite doubts.
    package let nameWarning: String?

    /// - Parameters:
    ///   - address: address on which the coordinator listens.
    ///   - advertised: host that its operator wants in the join string.
    package init(
        listening address: Address, addresses: [HostAddress], hostName: String, advertised: String? = nil,
        resolve: (String) -> NameResolution
    ) {
        guard address.isWildcard else {
            host = advertised
            reachable = address.isLocal ? [] : addresses.filter { $0.hostText == address.host }
            lines = address.isLocal && address.host != nil ? ["\(address): this host only"] : []
            nameWarning = nil
            return
        }
        let version6 = address.host == "[::]"
        let usable = addresses.filter { version6 || !$0.number.contains(":") }
        let port = address.endpoint.split(separator: ":").last ?? ""
        let reachable = usable.filter(\.isReachable)
        self.reachable = reachable
        lines = usable.map { place in
            "tcp://\(place.hostText):\(port)  \(place.interface)" + (place.warning.map { ": \($0)" } ?? "")
        }
        if let advertised {
            host = advertised
            nameWarning = nil
            return
        }
        let numbers: [String] = if case .found(let found) = resolve(hostName) { found } else { [] }
        if numbers.contains(where: { number in reachable.contains { $0.number == number } }) {
            host = hostName
            nameWarning = nil
        } else {
            host = reachable.first?.hostText ?? hostName
            let meaning = numbers.isEmpty ? "is not known here" : "stands for \(numbers.joined(separator: ", ")) here, which others can't reach"
            nameWarning = reachable.isEmpty ? "no address of this host can be reached from elsewhere" : "the name \(hostName) \(meaning)"
        }
    }
}
