import Core
import Foundation
import Testing
import Transport

@Suite(.timeLimit(.minutes(5))) struct SecurityTests {
    @Test("A listed client gets in, and the coordinator knows its key")
    func listed() async throws {
        let (serverKeys, clientKeys) = (try KeyPair.generate(), try KeyPair.generate())
        let server = try TestPeer.server(access: .listed(serverKeys, [clientKeys.publicKey]), echo: true)
        let client = try TestPeer.client(try await server.endpoint(), serverKey: serverKeys.publicKey, keys: clientKeys)
        client.send([1])
        #expect(try await server.frame().key == clientKeys.publicKey)
        #expect(try await client.frame().bytes == [1])
        try await client.stop()
        try await server.stop()
    }

    @Test("A client that is not listed is refused, and both sides say why")
    func unlisted() async throws {
        let (serverKeys, clientKeys) = (try KeyPair.generate(), try KeyPair.generate())
        let server = try TestPeer.server(access: .listed(serverKeys, []), echo: true)
        let client = try TestPeer.client(try await server.endpoint(), serverKey: serverKeys.publicKey, keys: clientKeys)
        client.send([1])
        let told = try await client.next { if case .connection(.refused(_, let reason, _)) = $0 { reason } else { nil } }
        #expect(told.contains("allow list"))
        let logged = try await server.next { if case .connection(.refused(_, let reason, _)) = $0 { reason } else { nil } }
        #expect(logged.contains(clientKeys.publicKey.description))
        try await client.stop()
        try await server.stop()
    }

    @Test("A client with a wrong server key, or with none, does not get in")
    func wrongKeys() async throws {
        let server = try TestPeer.server(access: .encrypted(try KeyPair.generate()), echo: true)
        let endpoint = try await server.endpoint()
        for key in [nil, try KeyPair.generate().publicKey] {
            let client = try TestPeer.client(endpoint, serverKey: key)
            client.send([1])
            _ = try await client.next {
                switch $0 {
                case .connection(.refused), .connection(.lost): true
                default: nil
                }
            }
            try await client.stop()
        }
        #expect(try await server.traffic().received.total.messages == 0)
        try await server.stop()
    }

    @Test("Key files can be read only by their owner, and read back the same")
    func files() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "keys-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "coordinator").path
        let keys = try KeyPair.generate()
        try keys.write(to: path)
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        #expect(try KeyPair(contentsOf: path).publicKey == keys.publicKey)
        #expect(try PublicKey.list(contentsOf: path + ".pub") == [keys.publicKey])
        #expect(throws: TransportError.self) { try keys.write(to: path) }

        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
        let error = #expect(throws: TransportError.self) { try KeyPair(contentsOf: path) }
        #expect(error?.message == "the key file \(path) can be read by others; run: chmod 600 \(path)")
        #expect(!"\(keys)".contains(try String(contentsOfFile: path, encoding: .utf8).prefix(64)))
    }

    @Test("An error in an allow list names the line")
    func brokenList() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "list-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let key = try KeyPair.generate().publicKey
        try "# workers\n\(key) first\n\nabc\n".write(toFile: path, atomically: true, encoding: .utf8)
        let error = #expect(throws: TransportError.self) { try PublicKey.list(contentsOf: path) }
        #expect(error?.message.hasPrefix("\(path):4: a public key has 64 hexadecimal digits") == true)
    }

    @Test(
        "Listening beyond this host requires keys or an explicit permission",
        arguments: ["tcp://*:0", "tcp://0.0.0.0:0", "tcp://192.0.2.1:5000", "tcp://[::]:0", "tcp://example.org:1", "tcp://127.example.org:1"])
    func insecure(address: String) throws {
        let address = try Address(address)
        #expect(!address.isLocal)
        #expect(throws: TransportError.self) {
            do { _ = try ZeroMQServer(address: address).listen(classify: classify) } catch let error as TransportError {
                #expect(error.code == .insecure)
                throw error
            }
        }
    }

    @Test("A port in use is one clear error")
    func portInUse() async throws {
        let server = try TestPeer.server()
        let endpoint = try await server.endpoint()
        let error = #expect(throws: TransportError.self) {
            _ = try ZeroMQServer(address: try Address(endpoint)).listen(classify: classify)
        }
        #expect(error?.code == .addressInUse)
        #expect(
            error?.message
                == "\(endpoint) is in use by another process; stop that process, or choose another port (port 0 takes a free one)")
        try await server.stop()
    }

    @Test("Addresses are understood in the forms that people write")
    func addresses() throws {
        #expect(try Address("tcp://10.0.0.1:80").endpoint == "tcp://10.0.0.1:80")
        #expect(try Address("10.0.0.1").endpoint == "tcp://10.0.0.1:5151")
        #expect(try Address("localhost:9").endpoint == "tcp://127.0.0.1:9")
        #expect(try Address("127.0.0.1:0").endpoint == "tcp://127.0.0.1:*")
        for text in ["tcp://[::1:99", "[::1", "::1]:99", "fe80]"] { #expect(throws: TransportError.self, "\(text)") { try Address(text) } }
        #expect(try Address("[::1]:9").isLocal)
        #expect(try Address("ipc:///run/onebyte.sock").isLocal)
        #expect(try !Address("127.0.0.1.example.org:9").isLocal)
        for wrong in ["", "tcp://", "udp://a:1", "a:b", "a:70000", "::1:5", "a b:1", "tcp://:5"] {
            #expect(throws: TransportError.self, "\(wrong)") { try Address(wrong) }
        }
    }

    @Test("A join string reads back from its text, and a damaged one is refused")
    func joinStrings() throws {
        let key = try KeyPair.generate().publicKey
        let run = String(repeating: "0f", count: 32)
        let join = JoinString(address: try Address("tcp://10.0.0.1:80"), serverKey: key, run: run)
        #expect(try JoinString(join.description) == join)
        #expect(try JoinString("tcp://10.0.0.1:80") == JoinString(address: try Address("10.0.0.1:80")))
        for wrong in ["tcp://a:1?key=12", "tcp://a:1?run=12", "tcp://a:1?token=1"] {
            #expect(throws: TransportError.self, "\(wrong)") { try JoinString(wrong) }
        }
    }
}
