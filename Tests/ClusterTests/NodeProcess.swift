import Coordinator
import Core
import Foundation
import Glibc
import Synchronization
import Testing
import Transport

/// A coordinator, a worker or a relay as its own process, and the lines that it prints.
final class NodeProcess: Sendable {
    let lines: AsyncStream<String>
    let identifier: pid_t
    private let ended: AsyncStream<Int32>

    /// The program lies beside the test program, where SwiftPM builds all programs of a package.
    private static let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        .appending(path: "ClusterNode").path

    /// - Parameter timeout: seconds of silence after which a worker counts as lost.
    static func coordinator(
        _ directory: TestDirectory, address: String, rounds: Int, workers: Int, timeout: Int = 3
    ) throws -> NodeProcess {
        try NodeProcess(["coordinator", address, directory.path, String(rounds), String(workers), "48", String(timeout)])
    }

    static func worker(_ address: String, name: String, microseconds: Int, state: String? = nil) throws -> NodeProcess {
        try NodeProcess(["worker", address, name, String(microseconds)] + (state.map { [$0] } ?? []))
    }

    static func relay(_ coordinator: String, address: String) throws -> NodeProcess { try NodeProcess(["relay", coordinator, address]) }

    /// As many workers with canned bytes behind one address.
    static func swarm(_ address: String, count: Int) throws -> NodeProcess { try NodeProcess(["swarm", address, String(count)]) }

    private init(_ arguments: [String]) throws {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw Failure("no pipe") }
        let (reading, writing) = (ends[0], ends[1])
        _ = fcntl(reading, F_SETFD, FD_CLOEXEC)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, writing, 1)
        posix_spawn_file_actions_addclose(&actions, writing)
        var pid = pid_t()
        let words = ([Self.program] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        let status = posix_spawn(&pid, Self.program, &actions, nil, words, environ)
        close(writing)
        guard status == 0 else { throw Failure("can't start \(Self.program): \(String(cString: strerror(status)))") }
        let child = pid
        identifier = child
        let (lines, said) = AsyncStream<String>.makeStream()
        let (ended, exited) = AsyncStream<Int32>.makeStream()
        self.lines = lines
        self.ended = ended
        _ = try NamedThread("node-output") {
            var rest: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            while true {
                let count = read(reading, &buffer, buffer.count)
                guard count > 0 else { break }
                rest += buffer[..<count]
                while let end = rest.firstIndex(of: 0x0a) {
                    said.yield(String(decoding: rest[..<end], as: UTF8.self))
                    rest.removeSubrange(...end)
                }
            }
            close(reading)
            said.finish()
            var status: Int32 = 0
            while waitpid(child, &status, 0) < 0 && errno == EINTR {}
            exited.yield(status)
            exited.finish()
        }
    }

    deinit { kill(identifier, SIGKILL) }

    func signal(_ signal: Int32) { kill(identifier, signal) }

    /// The exit status; negative for the signal that ended it.
    var exit: Int32 {
        get async {
            for await _ in lines {}
            for await status in ended { return status & 0x7f == 0 ? status >> 8 & 0xff : -(status & 0x7f) }
            return -1
        }
    }

    func next<Value>(_ match: (String) -> Value?) async throws -> Value {
        for await line in lines {
            if let value = match(line) { return value }
            if line.hasPrefix("failed") { throw Failure(line) }
        }
        throw Failure("the process ended before what was waited for")
    }

    /// Returns the first result that `match` gives for a coming event of a coordinator.
    func event<Value>(_ match: (CoordinatorProgress.Event) -> Value?) async throws -> Value {
        try await next { line in
            (try? JSONDecoder().decode(CoordinatorProgress.self, from: Data(line.utf8))).flatMap { match($0.event) }
        }
    }

    func round(_ number: RoundNumber) async throws -> CoordinatorProgress.Round {
        try await event { if case .round(let round) = $0, round.round >= number { round } else { nil } }
    }
}
