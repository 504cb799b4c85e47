import Core
import Dispatch
import Glibc
import TestSupport
import Testing
import Transport

@Suite(.timeLimit(.minutes(1))) struct LinkTests {
    @Test("Frames of every size go there and back", arguments: [0, 1, 255, 256, 70_000, ProtocolLimits.frameBytes])
    func roundTrip(size: Int) async throws {
        let server = try TestPeer.server(echo: true)
        let client = try TestPeer.client(try await server.endpoint())
        let frame = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        client.send(frame)
        #expect(try await server.frame().bytes == frame)
        #expect(try await client.frame().bytes == frame)
        try await client.stop()
        try await server.stop()
    }

    @Test("A frame that goes to many comes to each whole, also when others follow at once", arguments: [0, 20, 33, 34, 70_000])
    func manyPeers(size: Int) async throws {
        let server = try TestPeer.server()
        let endpoint = try await server.endpoint()
        var clients: [TestPeer] = []
        var peers: [PeerID] = []
        for number in 0..<5 {
            let client = try TestPeer.client(endpoint)
            client.send([UInt8(number)])
            peers.append(try await server.frame().from)
            clients.append(client)
        }
        let frames = (0..<3).map { number in (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ number) } }
        for frame in frames { server.send(frame, to: peers) }
        for client in clients {
            for frame in frames { #expect(try await client.frame().bytes == frame) }
            try await client.stop()
        }
        try await server.stop()
    }

    @Test("A frame beyond the limit never arrives; the sender loses its connection and gets a new one")
    func oversized() async throws {
        let server = try TestPeer.server(echo: true)
        let client = try TestPeer.client(try await server.endpoint())
        client.send([UInt8](repeating: 7, count: ProtocolLimits.frameBytes + 1))
        // What is sent before the client has noticed goes down with the old connection.
        _ = try await client.next { if case .connection(.lost) = $0 { true } else { nil } }
        client.send([9])
        #expect(try await server.frame().bytes == [9])
        try await client.stop()
        try await server.stop()
    }

    @Test("A peer that reads nothing keeps nobody waiting; what exceeds its queue is dropped and counted, the rest comes in order")
    func slowPeer() async throws {
        let server = try TestPeer.server(echo: false)
        let endpoint = try await server.endpoint()
        let slow = try TestPeer.client(endpoint)
        slow.send([1])
        let slowID = try await server.frame().from
        let gate = DispatchSemaphore(value: 0)
        slow.mailbox.post(.hold(gate))

        let sent = 4000
        for i in 0..<sent {
            server.send([UInt8(i & 255), UInt8(i >> 8)] + [UInt8](repeating: 0, count: 32 << 10), to: [slowID])
        }
        let quick = try TestPeer.client(endpoint)
        quick.send([2])
        let quickID = try await server.frame().from
        server.send([3], to: [quickID])
        #expect(try await quick.frame().bytes == [3])
        let dropped = try await server.traffic().dropped
        #expect(dropped > 0)

        gate.signal()
        var last = -1
        for _ in 0..<(sent - Int(dropped)) {
            let frame = try await slow.frame().bytes
            let number = Int(frame[0]) | Int(frame[1]) << 8
            try #require(number > last)
            last = number
        }
        for peer in [slow, quick, server] { try await peer.stop() }
    }

    @Test("What waits for a peer is dropped when it is forgotten, and a peer that never spoke can't be reached")
    func forget() async throws {
        let server = try TestPeer.server()
        let slow = try TestPeer.client(try await server.endpoint())
        slow.send([1])
        let id = try await server.frame().from
        let gate = DispatchSemaphore(value: 0)
        slow.mailbox.post(.hold(gate))
        for _ in 0..<1200 { server.send([UInt8](repeating: 0, count: 32 << 10), to: [id]) }
        #expect(try await server.traffic().dropped == 0)
        server.mailbox.post(.forget(id))
        let dropped = try await server.traffic().dropped
        #expect(dropped > 0)
        server.send([1], to: [PeerID([9, 9])])
        #expect(try await server.traffic().dropped == dropped + 1)
        gate.signal()
        try await slow.stop()
        try await server.stop()
    }

    @Test("A client connects again by itself when the coordinator comes back at the same address")
    func restart() async throws {
        let first = try TestPeer.server(echo: true)
        let endpoint = try await first.endpoint()
        let client = try TestPeer.client(endpoint)
        client.send([1])
        let id = try await first.frame().from
        try await first.stop()
        _ = try await client.next { if case .connection(.lost) = $0 { true } else { nil } }
        // Sent while nobody is there: it waits for the connection.
        client.send([2])
        let second = try TestPeer.server(endpoint, echo: true)
        let again = try await second.frame()
        #expect(again.bytes == [2])
        #expect(again.from == id)
        try await client.stop()
        try await second.stop()
    }

    @Test("A client whose connection broke unseen by the coordinator takes its own place again")
    func handover() async throws {
        let server = try TestPeer.server(echo: true)
        let proxy = try CountingProxy(to: try await server.endpoint())
        let client = try TestPeer.client(proxy.endpoint)
        client.send([1])
        let id = try await server.frame().from
        #expect(try await client.frame().bytes == [1])
        proxy.cutClients()
        _ = try await client.next { if case .connection(.connected) = $0 { true } else { nil } }
        client.send([2])
        #expect(try await server.frame().from == id)
        #expect(try await client.frame().bytes == [2])
        try await client.stop()
        try await server.stop()
        proxy.close()
    }

    @Test("Messages of several frames and bytes that are no ZMTP are ignored and counted")
    func garbage() async throws {
        let server = try TestPeer.server(echo: true)
        let endpoint = try await server.endpoint()
        let odd = try TestPeer.client(endpoint)
        let context = try ZMQContext()
        let socket = try ZMQSocket(.dealer, in: context)
        try socket.connect(endpoint)
        _ = try socket.send([1], more: true)
        _ = try socket.send([2], more: true)
        _ = try socket.send([3])
        #expect(try await server.next { if case .malformed(let parts) = $0 { parts } else { nil } } == 3)

        let raw = connectLoopback(port: UInt16(endpoint.split(separator: ":").last!)!)
        let noise = [UInt8](repeating: 0x47, count: 300)
        #expect(write(raw, noise, noise.count) == noise.count)
        close(raw)
        _ = try await server.next { seen in
            switch seen {
            case .connection(.refused), .connection(.lost): true
            default: nil
            }
        }

        odd.send([5])
        #expect(try await server.frame().bytes == [5])
        #expect(try await server.traffic().malformed == 1)
        try await odd.stop()
        try await server.stop()
    }
}
