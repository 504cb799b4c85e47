import Core
import TestSupport
import Testing
import Transport

@Suite(.timeLimit(.minutes(5))) struct TrafficTests {
    static let sizes = [1, 16, 254, 255, 256, 257, 300, 5000]

    @Test("Counted bytes and the handshake are everything that a TCP proxy sees")
    func plain() async throws {
        let server = try TestPeer.server(echo: true)
        let proxy = try CountingProxy(to: try await server.endpoint())
        let client = try TestPeer.client(proxy.endpoint)
        for size in Self.sizes {
            client.send([UInt8](repeating: UInt8(size & 1), count: size))
            #expect(try await client.frame().bytes.count == size)
        }
        let seen = try await client.traffic()
        let there = try await server.traffic()
        #expect(seen.sent == there.received)
        #expect(seen.received == there.sent)
        #expect(seen.sent.rounds.messages == UInt64(Self.sizes.count { $0 & 1 == 1 }))
        #expect(seen.sent.control.messages == UInt64(Self.sizes.count { $0 & 1 == 0 }))
        #expect(Int(seen.sent.total.bytes) + WireFraming.handshakeBytes(routingID: 16) == proxy.bytesUp)
        #expect(Int(seen.received.total.bytes) + WireFraming.handshakeBytes(routingID: 0) == proxy.bytesDown)
        #expect(seen.connections == 1)
        #expect(there.connections == 1)
        try await client.stop()
        try await server.stop()
        proxy.close()
    }

    @Test("With CURVE each message grows by its envelope, which is counted")
    func encrypted() async throws {
        let keys = try KeyPair.generate()
        let server = try TestPeer.server(access: .encrypted(keys), echo: true)
        let proxy = try CountingProxy(to: try await server.endpoint())
        let client = try TestPeer.client(proxy.endpoint, serverKey: keys.publicKey)
        client.send([0])
        _ = try await client.frame()
        let before = (proxy.bytesUp, proxy.bytesDown, try await client.traffic())
        for size in Self.sizes + [222, 223] {
            client.send([UInt8](repeating: 0, count: size))
            #expect(try await client.frame().bytes.count == size)
        }
        let after = try await client.traffic()
        #expect(Int(after.sent.total.bytes - before.2.sent.total.bytes) == proxy.bytesUp - before.0)
        #expect(Int(after.received.total.bytes - before.2.received.total.bytes) == proxy.bytesDown - before.1)
        try await client.stop()
        try await server.stop()
        proxy.close()
    }

    @Test("ZMTP's heartbeats cost what the documentation says")
    func heartbeats() async throws {
        let server = try TestPeer.server(echo: true)
        let proxy = try CountingProxy(to: try await server.endpoint())
        // Only the client pings: 9 bytes up and 7 down each time.
        let client = try TestPeer.client(
            proxy.endpoint, heartbeat: ConnectionHeartbeat(intervalMilliseconds: 20, timeoutMilliseconds: 10_000))
        client.send([0])
        _ = try await client.frame()
        var pings = 0
        while pings < 5 {
            client.send([0])
            _ = try await client.frame()
            let up = proxy.bytesUp - WireFraming.handshakeBytes(routingID: 16) - Int(try await client.traffic().sent.total.bytes)
            #expect(up >= 0 && up % 9 == 0)
            pings = up / 9
        }
        try await client.stop()
        try await server.stop()
        proxy.close()
    }
}
