import ClusterNode
import Coordinator
import Core
import Foundation
import Glibc
import Relay
import TestSupport
import Testing
import Transport
import Worker

/// Coordinators, relays and workers together: in one process, and as processes of their own.
@Suite(.serialized, .timeLimit(.minutes(5))) struct RelayTests {
    /// A relay in this test's own process.
    private final class RunningRelay: Sendable {
        let process: RelayProcess
        private let progress: AsyncStream<RelayProgress>
        private let outcomeTask: Task<RelayProcess.Outcome, any Error>

        init(near: any ServerTransport, far: any ClientTransport) {
            let (progress, continuation) = AsyncStream<RelayProgress>.makeStream()
            self.progress = progress
            let process = RelayProcess(configuration: .init(near: near, far: far, patienceSeconds: 30, onProgress: { continuation.yield($0) }))
            self.process = process
            outcomeTask = Task {
                defer { continuation.finish() }
                return try await process.run()
            }
        }

        var outcome: RelayProcess.Outcome { get async throws { try await outcomeTask.value } }

        /// The address for workers.
        func join() async throws -> JoinString {
            for await event in progress {
                if case .listening(let endpoint, let key) = event { return JoinString(address: try Address(endpoint), serverKey: key) }
            }
            throw Failure("the relay did not listen: \(try await outcome)")
        }
    }

    @Test("Workers behind a relay and beside it end with the ledger's parameters, and the relay ends with the run")
    func inProcess() async throws {
        let directory = try TestDirectory()
        let (far, near) = (InProcessNetwork(name: "far"), InProcessNetwork(name: "near"))
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 60, minimumWorkers: 4, evaluateEvery: 20), over: far)
        let relay = RunningRelay(near: near, far: far)
        let workers =
            ["a", "b", "c"].map { RunningWorker(near, name: $0) }
            + [RunningWorker(far, name: "d"), RunningWorker(near, name: "judge", trains: false, evaluates: true)]
        let outcome = try await coordinator.outcome
        #expect(outcome.finish.outcome == .completed && outcome.rounds == 60)
        let replayed = try directory.replay()
        for worker in workers { #expect(try await worker.finalDigest == replayed.digest) }
        let ended = try await relay.outcome
        #expect(ended.exit == .completed && ended.status == .success)
        // Four workers behind it have each commit, and the far link has it once.
        #expect(ended.far.received.total.bytes * 2 < ended.near.sent.total.bytes)
        #expect(outcome.traffic.received.rounds.messages < 3 * 60 + 60)
        #expect(ended.ledgerBytes > 0)
    }

    @Test("Everybody's connections break again and again, and all end with the ledger's parameters")
    func brokenConnections() async throws {
        let directory = try TestDirectory()
        let (far, near) = (InProcessNetwork(name: "far"), InProcessNetwork(name: "near"))
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 300, minimumWorkers: 2), over: far)
        let relay = RunningRelay(near: near, far: far)
        let workers = ["a", "b"].map { RunningWorker(near, name: $0, trainer: { ToyTrainer(microsecondsPerSample: 200) }) }
        for round: RoundNumber in [20, 60, 100, 140] {
            try await coordinator.round(round)
            far.dropConnections()
            try await coordinator.round(round + 20)
            near.dropConnections()
        }
        _ = try await coordinator.outcome
        let replayed = try directory.replay()
        #expect(replayed.rounds.count == 300)
        for worker in workers { #expect(try await worker.finalDigest == replayed.digest) }
        #expect(replayed.records.count { if case .admission = $0 { true } else { false } } == 2)
        #expect(try await relay.outcome.exit == .completed)
    }

    @Test("A relay that can't keep up lets the coordinator wait, and gets everything once it takes it")
    func farQueue() async throws {
        let network = InProcessNetwork(name: "far")
        let server = try network.listen(classify: { _ in .control }, frameLimit: ProtocolLimits.frameBytes)
        let letters = Mailbox<RelayLetter>()
        let far = FarLink(network, owner: letters)
        let thread = try NamedThread("far") { far.run(clock: ProcessClock()) }
        far.send([1])
        var relay: PeerID?
        while relay == nil { for case .frame(_, let from, _) in try server.service() { relay = from } }
        let peer = try #require(relay)
        let (frames, frameBytes) = (100, 1 << 20)
        for _ in 0..<frames { try server.send([UInt8](repeating: 2, count: frameBytes), to: [peer]) }
        func taken() -> Int { letters.takeAll().count { if case .event(.coordinator) = $0 { true } else { false } } }
        var count = 0
        for _ in 0..<100 {
            _ = try server.service()
            count += taken()
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(count * frameBytes >= 32 << 20 && count * frameBytes <= 33 << 20, "\(count) frames")
        var acknowledged = 0
        while count < frames {
            while acknowledged < count {
                far.take(frameBytes)
                acknowledged += 1
            }
            _ = try server.service()
            count += taken()
        }
        // It ends although nothing more is taken.
        for _ in 0..<40 { try server.send([UInt8](repeating: 2, count: frameBytes), to: [peer]) }
        try await Task.sleep(for: .milliseconds(50))
        far.finish()
        let hasEnded = thread.join(within: 10)
        #expect(hasEnded)
    }

    @Test("A worker that comes and goes without end makes a relay write twenty lines a second, and no more")
    func complaints() async throws {
        let directory = try TestDirectory()
        let (far, near) = (InProcessNetwork(name: "far"), InProcessNetwork(name: "near"))
        let coordinator = RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 10, minimumWorkers: 1), over: far)
        let (said, post) = AsyncStream<String>.makeStream()
        let (open, opened) = AsyncStream<Void>.makeStream()
        let process = RelayProcess(
            configuration: .init(
                near: near, far: far, patienceSeconds: 30,
                onProgress: { progress in
                    switch progress {
                    case .listening: opened.finish()
                    case .notice(.workerCame), .notice(.workerLeft), .warning: post.yield("\(progress)")
                    default: break
                    }
                }))
        let relay = Task {
            defer { post.finish() }
            return try await process.run()
        }
        for await _ in open {}
        // The second byte of a frame is its kind. The relay looks at no more of these two.
        let frames = [Message.Kind.goodbye, .hello].map { kind in
            var frame = [UInt8](repeating: 0, count: MessageCoding.headerBytes)
            frame[1] = kind.rawValue
            return frame
        }
        let pairs = 1_500
        let noise = try NamedThread("noise") {
            guard let link = try? near.connect(classify: { _ in .control }, queuedFrames: 256) else { return }
            for _ in 0..<30 {
                for _ in 0..<pairs / 30 { for frame in frames { try? link.send(frame) } }
                _ = try? link.service()
                usleep(50_000)
            }
        }
        let hasEnded = noise.join(within: 30)
        #expect(hasEnded)
        // Another worker is served all the same.
        let worker = RunningWorker(near, name: "honest")
        _ = try await coordinator.outcome
        #expect(try await worker.finalDigest == directory.replay().digest)
        _ = try await relay.value
        var (lines, counts): (Int, [Int]) = (0, [])
        for await line in said {
            if line.hasSuffix("more lines within a second are not shown") {
                counts.append(Int(line.prefix { $0.isNumber }) ?? 0)
            } else {
                lines += 1
            }
        }
        // The noise lasts for one second and a half, and longer on a slow machine.
        #expect(lines >= 20 && lines < pairs / 2, "\(lines)")
        #expect(!counts.isEmpty && counts.reduce(lines, +) > lines + pairs / 2 && counts.reduce(lines, +) <= 2 * pairs + 4, "\(lines) \(counts)")
    }

    @Test("A relay does not follow its coordinator into another run or to another base", arguments: ["run", "base"])
    func anotherRun(_ what: String) async throws {
        let (old, new) = (String(repeating: "ab", count: 32), String(repeating: "cd", count: 32))
        let process = RelayProcess(
            configuration: .init(near: InProcessNetwork(name: "near"), far: InProcessNetwork(name: "far"), run: old, base: old, patienceSeconds: 30))
        let place = try Address("tcp://127.0.0.1:5151")
        process.reconnect(to: JoinString(address: place, run: old))
        process.reconnect(to: JoinString(address: place, run: what == "run" ? new : old, base: what == "base" ? new : old))
        let outcome = try await process.run()
        #expect(outcome.status == .configuration && outcome.message.contains("another \(what)"), "\(outcome.message)")
    }

    @Test("The coordinator's list holds the relay's key and the relay's list the workers'; an admission holds the key that the connection proved")
    func keys() async throws {
        let directory = try TestDirectory()
        let (server, site, member, stranger) = (try KeyPair.generate(), try KeyPair.generate(), try KeyPair.generate(), try KeyPair.generate())
        let coordinator = try RunningCoordinator(directory, spec: ToyTrainer.spec(rounds: 30), access: .listed(server, [site.publicKey]))
        let join = try await coordinator.join()
        let turnedAway = try await RunningRelay(
            near: ZeroMQServer(address: try Address("tcp://127.0.0.1:0")), far: ZeroMQClient(join, keys: stranger)
        ).outcome
        #expect(turnedAway.status == .refused && turnedAway.message.contains("allow list"), "\(turnedAway.message)")
        let relay = RunningRelay(
            near: ZeroMQServer(address: try Address("tcp://127.0.0.1:0"), access: .listed(site, [member.publicKey])),
            far: ZeroMQClient(join, keys: site))
        let place = try await relay.join()
        #expect(place.serverKey == site.publicKey)
        #expect(try await RunningWorker(place, keys: stranger).outcome.status == .refused)
        let worker = RunningWorker(place, keys: member)
        #expect(try await coordinator.outcome.finish.outcome == .completed)
        let replayed = try directory.replay()
        #expect(try await worker.finalDigest == replayed.digest)
        let keys = replayed.records.compactMap { if case .admission(let admission) = $0 { admission.publicKey } else { nil } }
        #expect(keys == [Array("\(site.publicKey)".utf8)])
    }

    @Test("A relay and the coordinator are killed and started again; machines keep their numbers, and all end with the ledger's parameters")
    func killedRelay() async throws {
        let directory = try TestDirectory()
        let address = "tcp://127.0.0.1:\(try freePort())"
        var coordinator = try NodeProcess.coordinator(directory, address: address, rounds: 500, workers: 5, timeout: 60)
        let sites = ["tcp://127.0.0.1:\(try freePort())", "tcp://127.0.0.1:\(try freePort())"]
        var relays = try sites.map { try NodeProcess.relay(address, address: $0) }
        let workers =
            try ["w0", "w1"].map { try NodeProcess.worker(sites[0], name: $0, microseconds: 600) }
            + ["w2", "w3"].map { try NodeProcess.worker(sites[1], name: $0, microseconds: 600) }
            + [try NodeProcess.worker(address, name: "w4", microseconds: 600)]
        for round: RoundNumber in [40, 120, 200] {
            _ = try await coordinator.round(round)
            relays[0].signal(SIGKILL)
            #expect(await relays[0].exit == -SIGKILL)
            try await Task.sleep(for: .milliseconds(300))
            relays[0] = try NodeProcess.relay(address, address: sites[0])
        }
        _ = try await coordinator.round(260)
        coordinator.signal(SIGKILL)
        #expect(await coordinator.exit == -SIGKILL)
        coordinator = try NodeProcess.coordinator(directory, address: address, rounds: 500, workers: 5, timeout: 60)
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        #expect(replayed.rounds.map(\.round) == (0..<500).map { RoundNumber($0) })
        for worker in workers {
            let end = try await worker.next { $0.hasPrefix("ended") ? $0 : nil }
            #expect(end.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);"), "\(end)")
        }
        #expect(replayed.records.count { if case .admission = $0 { true } else { false } } == 5)
        for relay in relays { #expect(await relay.exit == 0) }
    }

    @Test("By relays the far links carry a sixth of the bytes down, and few more up")
    func farBytes() async throws {
        let perSite = 12
        func measure(_ connect: (String) async throws -> [NodeProcess]) async throws -> (up: Int, down: Int) {
            let directory = try TestDirectory()
            let coordinator = try NodeProcess.coordinator(
                directory, address: "tcp://127.0.0.1:0", rounds: 120, workers: 2 * perSite, timeout: 60)
            let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
            let lines = [try CountingProxy(to: address), try CountingProxy(to: address)]
            var processes: [NodeProcess] = []
            for line in lines { processes += try await connect(line.endpoint) }
            #expect(await coordinator.exit == 0)
            for process in processes { #expect(await process.exit == 0) }
            return (lines.reduce(0) { $0 + $1.bytesUp }, lines.reduce(0) { $0 + $1.bytesDown })
        }
        let direct = try await measure { [try NodeProcess.swarm($0, count: perSite)] }
        let relayed = try await measure { line in
            let relay = try NodeProcess.relay(line, address: "tcp://127.0.0.1:0")
            let site = try await relay.next { $0.hasPrefix("listening at ") ? String($0.dropFirst(13)) : nil }
            return [relay, try NodeProcess.swarm(site, count: perSite)]
        }
        print("2 sites × \(perSite) workers, 120 rounds: direct \(direct), by relays \(relayed)")
        #expect(relayed.down * 6 < direct.down)
        // Envelopes add their own bytes to short contributions. What they save upward are packets, whose headers are not counted here.
        #expect(relayed.up < 2 * direct.up)
    }
}
