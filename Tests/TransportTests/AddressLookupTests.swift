import Core
import Foundation
import Testing
import Transport

@Suite struct AddressLookupTests {
    private func time(_ seconds: Double) -> Timestamp { Timestamp(nanoseconds: 0).advanced(bySeconds: 1000 + seconds) }
    private let first = ResolvedAddress(endpoint: "tcp://[2001:db8::1]:5151", isIPv6: true)
    private let second = ResolvedAddress(endpoint: "tcp://192.0.2.1:5151", isIPv6: false)
    private let third = ResolvedAddress(endpoint: "tcp://192.0.2.2:5151", isIPv6: false)

    @Test(
        "A number needs no lookup, and a name has the system's addresses with the port",
        arguments: [
            ("tcp://127.0.0.1:5151", false, "tcp://127.0.0.1:5151"), ("tcp://[::1]:7", false, "tcp://[::1]:7"),
            ("localhost:9", false, "tcp://127.0.0.1:9"),
        ])
    func numbers(_ text: String, _ isName: Bool, _ endpoint: String) throws {
        let address = try Address(text)
        #expect(address.hasName == isName)
        #expect(try address.lookedUp().first?.endpoint == endpoint)
    }

    @Test("A host that is no number is a name to look up", arguments: ["coordinator", "10.0.0", "1.2.3.4.example", "v6host", "300.1.1.1"])
    func names(_ host: String) throws {
        #expect(try Address("tcp://\(host):5151").hasName)
    }

    @Test("A name that nobody knows is an error at once, with the name")
    func unknownName() throws {
        let address = try Address("tcp://no-such-host.invalid:5151")
        #expect(throws: LookupFailure.self) { try address.lookedUp() }
        do {
            _ = try address.lookedUp()
        } catch {
            #expect(error.host == "no-such-host.invalid" && !error.reason.isEmpty)
            #expect(error.error.message.contains("no-such-host.invalid") && error.error.status == .unavailable)
        }
    }

    @Test("An address that is silent lets the next one have its turn") func anAddressThatIsSilentLetsItsNeighbourTry() {
        var rotation = AddressRotation([first, second], at: time(0))
        #expect(rotation.current == first)
        #expect(rotation.retried(at: time(0.5)) == nil, "it has its time")
        #expect(rotation.retried(at: time(1.2)) == second)
        rotation.connected(at: time(100))
        #expect(rotation.retried(at: time(100.5)) == nil && rotation.current == second, "who answered has its whole time again")
        #expect(rotation.retried(at: time(101.5)) == first)
    }

    @Test("A single address is tried again and again") func aSingleAddressIsTriedOn() {
        var rotation = AddressRotation([first], at: time(0))
        #expect(rotation.retried(at: time(100)) == nil && rotation.current == first)
    }

    @Test("A host that has moved is followed to its new address") func aHostThatMovedIsFollowed() {
        var rotation = AddressRotation([first, second], at: time(0))
        #expect(!rotation.isLookupDue(at: time(1)) && rotation.isLookupDue(at: time(6)) && !rotation.isLookupDue(at: time(7)))
        #expect(rotation.replace(with: [second, first], at: time(8)) == nil && rotation.current == first, "the one in use is still the name's")
        #expect(rotation.replace(with: [third], at: time(9)) == third)
        var none = AddressRotation([], at: time(0))
        #expect(none.current == nil && none.retried(at: time(9)) == nil)
        #expect(none.replace(with: [second], at: time(9)) == second)
    }

    @Test("An allow list with Windows line breaks has all of its keys, and its comments end with their lines")
    func allowListWithCarriageReturns() throws {
        let keys = try (0..<3).map { _ in try KeyPair.generate().publicKey }
        let text = "# ours\r\n" + keys.map { "\($0) name\r\n" }.joined()
        let file = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString)")
        try Data(text.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        #expect(try PublicKey.list(contentsOf: file.path) == Set(keys))
    }
}
