import Coordinator
import Core
import Foundation
import Glibc
import Testing
import Transport
import Worker

/// Real processes, real sockets, real SIGKILL.
@Suite(.timeLimit(.minutes(2))) struct CrashTests {
    @Test("A killed worker departs when its heartbeats stop, and the run goes on; its replacement is a new machine")
    func workerKilled() async throws {
        let directory = try TestDirectory()
        let coordinator = try NodeProcess.coordinator(directory, address: "tcp://127.0.0.1:0", rounds: 400, workers: 2)
        // The rounds are so slow that one worker alone needs nine seconds for the rest: a new process may start late while other tests keep the
        // processors busy.
        let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
        let stays = try NodeProcess.worker(address, name: "stays", microseconds: 500)
        let dies = try NodeProcess.worker(address, name: "dies", microseconds: 500)
        _ = try await coordinator.round(20)
        dies.signal(SIGKILL)
        #expect(await dies.exit == -SIGKILL)
        let left = try await coordinator.event { if case .left(let left) = $0 { left } else { nil } }
        #expect(left.name == "dies")
        #expect(left.reason == "lost")
        let comes = try NodeProcess.worker(address, name: "comes", microseconds: 500)
        let joined = try await coordinator.event { if case .joined(let joined) = $0, joined.name == "comes" { joined } else { nil } }
        #expect(joined.machine > left.machine)
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        #expect(replayed.rounds.count == 400)
        for worker in [stays, comes] {
            #expect(
                try await worker.next { $0.hasPrefix("ended") ? $0 : nil }.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);")
            )
            #expect(await worker.exit == 0)
        }
    }

    @Test("A coordinator that is killed again and again resumes from its ledger; its workers reconnect and nothing is lost")
    func coordinatorKilled() async throws {
        // `make chaos` sets more kills.
        let kills = ProcessInfo.processInfo.environment["ONEBYTE_KILLS"].flatMap { Int($0) } ?? 5
        let directory = try TestDirectory()
        let port = try freePort()
        let address = "tcp://127.0.0.1:\(port)"
        // Several times the rounds between two kills: the news of a round may come late while other tests keep the processors busy.
        let rounds = kills * 120
        var coordinator = try NodeProcess.coordinator(directory, address: address, rounds: rounds, workers: 2, timeout: 60)
        let workers = try ["a", "b"].map { try NodeProcess.worker(address, name: $0, microseconds: 400) }
        var heard: RoundNumber = 0
        for kill in 1...kills {
            heard = try await coordinator.round(heard + 30).round
            coordinator.signal(SIGKILL)
            #expect(await coordinator.exit == -SIGKILL)
            coordinator = try NodeProcess.coordinator(directory, address: address, rounds: rounds, workers: 2, timeout: 60)
            let begun = try await coordinator.event { if case .listening(let at) = $0 { at.round } else { nil } }
            // A round that it has announced is on disk.
            #expect(begun > heard, "kill \(kill)")
        }
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        #expect(replayed.rounds.map(\.round) == (0..<RoundNumber(rounds)).map { $0 })
        var seen = Set<UInt64>()
        for contribution in replayed.rounds.flatMap(\.contributions) {
            for i in contribution.bytes.indices {
                let sample = UInt64(contribution.machine.rawValue) << 32 | UInt64(contribution.firstSample) + UInt64(i)
                #expect(seen.insert(sample).inserted, "a sample is applied twice")
            }
        }
        for worker in workers {
            #expect(
                try await worker.next { $0.hasPrefix("ended") ? $0 : nil }.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);")
            )
        }
        // The same two machines take part all the time: their sessions outlive the coordinator.
        let admitted = replayed.records.count { if case .admission = $0 { true } else { false } }
        #expect(admitted == 2)
    }

    @Test("A worker that is killed and started again resumes from its snapshot and skips a damaged one")
    func goesOnFromSnapshot() async throws {
        let directory = try TestDirectory()
        let state = directory.path + "/state"
        let coordinator = try NodeProcess.coordinator(directory, address: "tcp://127.0.0.1:0", rounds: 1000, workers: 2)
        let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
        let stays = try NodeProcess.worker(address, name: "stays", microseconds: 100)
        let first = try NodeProcess.worker(address, name: "first", microseconds: 100, state: state)
        _ = try await coordinator.round(100)
        first.signal(SIGKILL)
        #expect(await first.exit == -SIGKILL)
        // A crash of the host may leave such a file.
        try Data("1BSNAP02 and then nothing".utf8).write(to: URL(filePath: state + "/parameters-999999.snapshot"))
        let kept = try FileManager.default.contentsOfDirectory(atPath: state).filter { $0.hasSuffix(".snapshot") }
        #expect(kept.count >= 2)
        let second = try NodeProcess.worker(address, name: "second", microseconds: 100, state: state)
        let warning = try await second.next { $0.contains("is skipped") ? $0 : nil }
        #expect(warning.contains("parameters-999999"))
        let restored = try await second.next { $0.hasPrefix("resuming from the snapshot before round ") ? $0 : nil }
        #expect(try #require(restored.split(separator: " ").last.flatMap { Int($0) }) >= 50)
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        for worker in [stays, second] {
            #expect(
                try await worker.next { $0.hasPrefix("ended") ? $0 : nil }.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);")
            )
        }
    }

    @Test("A worker on another host starts from another worker's snapshot file; a file that is no snapshot stops it before it connects")
    func bootstrap() async throws {
        let directory = try TestDirectory()
        let state = directory.path + "/state"
        let coordinator = try NodeProcess.coordinator(directory, address: "tcp://127.0.0.1:0", rounds: 1500, workers: 1)
        let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
        let peer = try NodeProcess.worker(address, name: "peer", microseconds: 100, state: state)
        _ = try await coordinator.round(150)
        let snapshots = try FileManager.default.contentsOfDirectory(atPath: state).filter { $0.hasSuffix(".snapshot") }.sorted()
        let carried = directory.path + "/carried"
        try FileManager.default.copyItem(atPath: "\(state)/\(try #require(snapshots.last))", toPath: carried)
        let newcomer = RunningWorker(try JoinString(address), name: "newcomer", bootstrap: carried)
        let restored = try await newcomer.next { progress -> RoundNumber? in
            if case .notice(.restored(let round)) = progress { round } else { nil }
        }
        #expect(restored >= 100)

        try Data("no snapshot".utf8).write(to: URL(filePath: directory.path + "/other"))
        let mistaken = RunningWorker(try JoinString(address), bootstrap: directory.path + "/other")
        do {
            Issue.record("a file that is no snapshot was taken: \(try await mistaken.outcome)")
        } catch let failure as ProcessFailure {
            #expect(failure.status == .badData && failure.message.contains("/other"))
        }
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        #expect(try await newcomer.finalDigest == replayed.digest)
        #expect(try await peer.next { $0.hasPrefix("ended") ? $0 : nil }.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);"))
    }

    @Test("SIGTERM at a coordinator ends all of its processes with status 0 and leaves a ledger that can be resumed")
    func terminated() async throws {
        let directory = try TestDirectory()
        let coordinator = try NodeProcess.coordinator(directory, address: "tcp://127.0.0.1:0", rounds: 100_000, workers: 2)
        let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
        let workers = try ["a", "b"].map { try NodeProcess.worker(address, name: $0, microseconds: 100) }
        let heard = try await coordinator.round(20).round
        coordinator.signal(SIGTERM)
        #expect(await coordinator.exit == 0)
        for worker in workers { #expect(await worker.exit == 0) }
        #expect(try directory.replay().rounds.count > Int(heard))
    }

    @Test("A worker that stands still for a while (SIGSTOP) does no harm: it goes on, or comes back as a new machine")
    func workerStopped() async throws {
        let directory = try TestDirectory()
        let coordinator = try NodeProcess.coordinator(directory, address: "tcp://127.0.0.1:0", rounds: 600, workers: 2)
        let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
        let stays = try NodeProcess.worker(address, name: "stays", microseconds: 100)
        let stops = try NodeProcess.worker(address, name: "stops", microseconds: 100)
        _ = try await coordinator.round(20)
        stops.signal(SIGSTOP)
        _ = try await coordinator.event { if case .left(let left) = $0, left.name == "stops" { true } else { nil } }
        stops.signal(SIGCONT)
        _ = try await coordinator.event { if case .joined(let joined) = $0, joined.name == "stops" { true } else { nil } }
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        for worker in [stays, stops] {
            #expect(
                try await worker.next { $0.hasPrefix("ended") ? $0 : nil }.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);")
            )
        }
    }

    @Test(
        "A full disk makes rounds wait; a read-only one is an error at the start; nothing is lost on either", .enabled(if: mayMount)
    )
    func diskOfItsOwn() async throws {
        let directory = try TestDirectory()
        try mountCommand("-t", "tmpfs", "-o", "size=256k", "tmpfs", directory.path)
        defer { umount2(directory.path, Int32(MNT_DETACH)) }
        let address = "tcp://127.0.0.1:\(try freePort())"
        func coordinator() throws -> NodeProcess {
            try NodeProcess.coordinator(directory, address: address, rounds: 400, workers: 2, timeout: 60)
        }
        let first = try coordinator()
        let workers = try ["a", "b"].map { try NodeProcess.worker(address, name: $0, microseconds: 1_000) }
        _ = try await first.round(20)
        let filler = directory.path + "/filler"
        fill(filler)
        _ = try await first.event { if case .warning(let text) = $0, text.hasPrefix("rounds wait for the ledger") { true } else { nil } }
        unlink(filler)
        _ = try await first.event {
            if case .warning(let text) = $0, text.hasPrefix("the ledger can be written again") { true } else { nil }
        }
        first.signal(SIGKILL)
        #expect(await first.exit == -SIGKILL)

        try mountCommand("-o", "remount,ro", directory.path)
        let refused = try coordinator()
        do {
            _ = try await refused.event { if case .listening = $0 { true } else { nil } }
            Issue.record("it runs without a disk to write to")
        } catch let failure as Failure {
            #expect(failure.description.contains(directory.path) && failure.description.contains("ead-only"), "\(failure)")
        }
        #expect(await refused.exit > 0)
        try mountCommand("-o", "remount,rw", directory.path)
        #expect(await (try coordinator()).exit == 0)
        let replayed = try directory.replay()
        #expect(replayed.rounds.count == 400)
        for worker in workers {
            #expect(
                try await worker.next { $0.hasPrefix("ended") ? $0 : nil }.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);")
            )
        }
    }

    @Test("On a full disk rounds wait and nothing is torn; when there is room again, the run goes on by itself", .enabled(if: hasPrlimit))
    func diskFull() async throws {
        let directory = try TestDirectory()
        let coordinator = try NodeProcess.coordinator(directory, address: "tcp://127.0.0.1:0", rounds: 200, workers: 2, timeout: 60)
        let address = try await coordinator.event { if case .listening(let at) = $0 { at.endpoint } else { nil } }
        let workers = try ["a", "b"].map { try NodeProcess.worker(address, name: $0, microseconds: 400) }
        _ = try await coordinator.round(20)
        // The kernel refuses to extend this file, as it does on a full disk.
        try limitFileSize(of: coordinator.identifier, to: "1024")
        let stalled = try await coordinator.event {
            if case .warning(let text) = $0, text.hasPrefix("rounds wait for the ledger") { text } else { nil }
        }
        #expect(stalled.contains(directory.ledger))
        let committed = try directory.replay().rounds.count
        #expect(committed < 200)
        try limitFileSize(of: coordinator.identifier, to: "unlimited")
        _ = try await coordinator.event {
            if case .warning(let text) = $0, text.hasPrefix("the ledger can be written again") { true } else { nil }
        }
        #expect(await coordinator.exit == 0)
        let replayed = try directory.replay()
        #expect(replayed.rounds.count == 200)
        for worker in workers {
            #expect(
                try await worker.next { $0.hasPrefix("ended") ? $0 : nil }.hasPrefix("ended the run is complete; its parameters: \(replayed.digest);")
            )
        }
    }
}

/// Whether this process is root and the kernel lets it mount.
private let mayMount: Bool = {
    guard getuid() == 0, let directory = try? TestDirectory() else { return false }
    guard (try? mountCommand("-t", "tmpfs", "-o", "size=64k", "tmpfs", directory.path)) != nil else { return false }
    umount2(directory.path, Int32(MNT_DETACH))
    return true
}()

private func mountCommand(_ arguments: String...) throws {
    try run("/usr/bin/mount", arguments)
}

/// Fills the disk.
private func fill(_ path: String) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    defer { close(descriptor) }
    let block = [UInt8](repeating: 0, count: 4096)
    while write(descriptor, block, block.count) > 0 {}
}

private let hasPrlimit = FileManager.default.isExecutableFile(atPath: "/usr/bin/prlimit")

private func limitFileSize(of process: pid_t, to bytes: String) throws {
    try run("/usr/bin/prlimit", ["--pid", String(process), "--fsize=\(bytes):"])
}

private func run(_ path: String, _ arguments: [String]) throws {
    let tool = Process()
    tool.executableURL = URL(filePath: path)
    tool.arguments = arguments
    tool.standardError = FileHandle.nullDevice
    try tool.run()
    tool.waitUntilExit()
    guard tool.terminationStatus == 0 else { throw Failure("\(path) ended with \(tool.terminationStatus)") }
}

/// Returns a port on which nobody listens at the moment.
func freePort() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0 }
    }
    guard bound else { throw Failure("no free port") }
    return UInt16(bigEndian: address.sin_port)
}
