import Core
import Dispatch
import Testing
import Transport

/// What only the in-process network promises, or what can be checked exactly only there. `LinkTests` check what all transports promise.
@Suite(.timeLimit(.minutes(5))) struct InProcessTests {
    @Test("A worker that pauses reading then gets all that its queues hold, in order; the rest is dropped and counted")
    func slowWorker() async throws {
        let network = InProcessNetwork()
        let server = try TestPeer.server(network)
        let slow = try TestPeer.client(network)
        slow.send([1])
        let id = try await server.frame().from
        let gate = try await slow.hold()
        let (kept, tooMany) = (LinkLimits.connectionFrames + LinkLimits.waitingFrames, 100)
        for i in 0..<kept + tooMany { server.send(numbered(i), to: [id]) }
        #expect(try await server.traffic().dropped == UInt64(tooMany))
        gate.signal()
        for i in 0..<kept { try #require(number(of: try await slow.frame().bytes) == i) }
        server.send(numbered(7), to: [id])
        #expect(number(of: try await slow.frame().bytes) == 7)
        #expect(try await server.traffic().sent.total.messages == UInt64(kept + 1))
        try await slow.stop()
        try await server.stop()
    }

    @Test("A coordinator that pauses reading then gets all that the connection holds, and the youngest of the rest")
    func slowCoordinator() async throws {
        let network = InProcessNetwork()
        let server = try TestPeer.server(network)
        let client = try TestPeer.client(network)
        let gate = try await server.hold()
        let tooMany = 100
        let kept = LinkLimits.connectionFrames + LinkLimits.waitingFrames
        for i in 0..<kept + tooMany { client.send(numbered(i)) }
        #expect(try await client.traffic().dropped == UInt64(tooMany))
        gate.signal()
        for i in 0..<LinkLimits.connectionFrames { try #require(number(of: try await server.frame().bytes) == i) }
        for i in LinkLimits.connectionFrames + tooMany..<kept + tooMany {
            try #require(number(of: try await server.frame().bytes) == i)
        }
        try await client.stop()
        try await server.stop()
    }

    @Test("Bytes are bounded too: 64 MiB in the connection and 64 MiB behind it")
    func boundedBytes() async throws {
        let network = InProcessNetwork()
        let server = try TestPeer.server(network)
        let slow = try TestPeer.client(network)
        slow.send([1])
        let id = try await server.frame().from
        let gate = try await slow.hold()
        // All frames share one copy.
        let frame = [UInt8](repeating: 3, count: 16 << 20)
        for _ in 0..<10 { server.send(frame, to: [id]) }
        #expect(try await server.traffic().dropped == 2)
        gate.signal()
        for _ in 0..<8 { #expect(try await slow.frame().bytes.count == frame.count) }
        try await slow.stop()
        try await server.stop()
    }

    @Test("A connection that is dropped again and again loses frames but never reorders them, and later frames arrive")
    func droppedUnderLoad() async throws {
        let network = InProcessNetwork()
        let server = try TestPeer.server(network)
        let client = try TestPeer.client(network)
        try await client.connected()
        let (count, every) = (2000, 100)
        for i in 0..<count {
            client.send(numbered(i))
            guard i % every == every - 1 else { continue }
            // Some frames are on their way, some have arrived, and some wait for the client's thread.
            if i % 300 == 99 { _ = try await client.traffic() }
            network.dropConnections(isSeenByServer: i % 200 == 99)
        }
        client.send(numbered(count))
        var last = -1
        while last < count {
            let number = number(of: try await server.frame().bytes)
            try #require(number > last)
            last = number
        }
        #expect(try await server.traffic().connections == UInt64(count / every + 1))
        try await client.stop()
        try await server.stop()
    }

    @Test("A network that is cut lets nobody through until it is mended; then the waiting frames arrive")
    func cutAndMended() async throws {
        let network = InProcessNetwork()
        let server = try TestPeer.server(network, echo: true)
        let client = try TestPeer.client(network)
        client.send([1])
        #expect(try await client.frame().bytes == [1])
        network.cut()
        try await client.lost()
        #expect(try await client.notice() == .retrying(network.endpoint))
        client.send([2])
        let late = try TestPeer.client(network)
        #expect(try await late.notice() == .retrying(network.endpoint))
        late.send([3])
        #expect(try await late.traffic().sent.total.messages == 0)
        network.mend()
        #expect(try await client.frame().bytes == [2])
        #expect(try await late.frame().bytes == [3])
        for peer in [client, late, server] { try await peer.stop() }
    }

    @Test("A worker may come before its coordinator, and a second coordinator is refused until the first has gone")
    func comingAndGoing() async throws {
        let network = InProcessNetwork()
        let client = try TestPeer.client(network)
        client.send([1])
        let first = try TestPeer.server(network, echo: true)
        #expect(try await client.frame().bytes == [1])
        let error = #expect(throws: TransportError.self) { _ = try network.listen(classify: classify) }
        #expect(error?.code == .addressInUse)
        try await first.stop()
        let second = try TestPeer.server(network, echo: true)
        client.send([2])
        #expect(try await client.frame().bytes == [2])
        try await client.stop()
        try await second.stop()
    }

    @Test("Bytes count as on a connection without keys")
    func traffic() async throws {
        let network = InProcessNetwork()
        let server = try TestPeer.server(network, echo: true)
        let client = try TestPeer.client(network)
        for size in TrafficTests.sizes {
            client.send([UInt8](repeating: UInt8(size & 1), count: size))
            #expect(try await client.frame().bytes.count == size)
        }
        let (here, there) = (try await client.traffic(), try await server.traffic())
        let bytes = TrafficTests.sizes.reduce(0) { $0 + WireFraming.messageBytes(payload: $1, encrypted: false) }
        #expect(here.sent == there.received && here.received == there.sent)
        #expect(here.sent.total == .init(messages: UInt64(TrafficTests.sizes.count), bytes: UInt64(bytes)))
        #expect(here.sent.rounds.messages == UInt64(TrafficTests.sizes.count { $0 & 1 == 1 }))
        try await client.stop()
        try await server.stop()
    }
}

@Suite struct MailboxTests {
    @Test("A wake that comes before the wait is not lost, and a wait without a wake ends in time")
    func wakeSignal() {
        let signal = WakeSignal()
        signal.wake()
        signal.wait()
        let start = ContinuousClock.now
        signal.wait(seconds: 0.02)
        #expect(ContinuousClock.now - start >= .milliseconds(20))
    }

    @Test("All letters of many threads reach a reader that waits, each thread's in order")
    func manyThreads() throws {
        let mailbox = Mailbox<(Int, Int)>()
        let (threads, count) = (4, 5000)
        for thread in 0..<threads {
            _ = try NamedThread("post") { for i in 0..<count { mailbox.post((thread, i)) } }
        }
        var next = [Int](repeating: 0, count: threads)
        while next != [Int](repeating: count, count: threads) {
            for (thread, i) in mailbox.waitAndTakeAll() {
                try #require(i == next[thread])
                next[thread] += 1
            }
        }
        #expect(mailbox.isEmpty)
    }

    @Test("A letter that was posted before the reactor started wakes it")
    func early() {
        let mailbox = Mailbox<Int>()
        mailbox.post(1)
        let signal = WakeSignal()
        mailbox.wake(by: signal)
        signal.wait()
        #expect(mailbox.takeAll() == [1])
    }
}
