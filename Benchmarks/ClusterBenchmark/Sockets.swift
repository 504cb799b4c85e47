import ArgumentParser
import Foundation
import Glibc
import Synchronization
import Transport

/// Measures the cost of the kernel's TCP alone for the bytes of a round: the lower limit for a coordinator's rounds.
struct Sockets: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Rounds a second of bare sockets that carry a round's bytes, without ZeroMQ, ledger or decisions.",
        discussion: """
            One thread has a connection for each worker, reads a contribution from all and sends each a commit in one call; another thread is
            the workers. What a coordinator takes beyond that is ZeroMQ, ledger and decisions.
            """)

    @Option(help: "Connections.") var workers = 1024
    @Option(help: "Rounds.") var rounds = 200
    @Option(help: "Bytes of a contribution.") var up = 33
    @Option(help: "Bytes of a commit.") var down = 21_000

    func validate() throws {
        guard workers > 0, workers <= 10_000, rounds > 0, up > 0, down > 0, down <= 1 << 20 else {
            throw ValidationError("workers are 1…10,000, a commit has at most a MiB, and nothing is 0")
        }
    }

    func run() throws {
        raiseFileLimit()
        let listener = try Self.listen(backlog: workers)
        defer { close(listener.socket) }
        let (workers, rounds, up, down) = (workers, rounds, up, down)
        let swarm = Swarm()
        let finished = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            let result = Result { try Self.work(port: listener.port, workers: workers, rounds: rounds, up: up, down: down) }
            swarm.result.withLock { $0 = result }
            // After a failure, do not wait for workers that will not connect.
            if case .failure = result { shutdown(listener.socket, Int32(SHUT_RDWR)) }
            finished.signal()
        }
        let start = Self.clock(CLOCK_MONOTONIC)
        var accepted: [Int32] = []
        defer { accepted.forEach { close($0) } }
        for _ in 0..<workers { accepted.append(try Self.checked(accept(listener.socket, nil, nil), "accept")) }
        let connected = Self.clock(CLOCK_MONOTONIC)
        say("\(workers) connections after \(String(format: "%.1f", connected - start)) s")
        let used = Self.clock(CLOCK_THREAD_CPUTIME_ID)
        try Self.serve(accepted, rounds: rounds, up: up, down: down)
        let milliseconds = (Self.clock(CLOCK_THREAD_CPUTIME_ID) - used) * 1000 / Double(rounds)
        finished.wait()
        let seconds = Self.clock(CLOCK_MONOTONIC) - connected
        let swarmMilliseconds = try swarm.result.withLock { try $0.get() }
        try Figure.print("sockets.\(workers).rounds_per_second", Double(rounds) / seconds, "rounds/s")
        try Figure.print("sockets.\(workers).cpu_ms_per_round", milliseconds, "ms")
        try Figure.print("sockets.\(workers).swarm_cpu_ms_per_round", swarmMilliseconds, "ms")
    }

    /// Result of the workers' thread, once it has signalled.
    private final class Swarm: Sendable { let result = Mutex<Result<Double, any Error>>(.success(0)) }

    private static func listen(backlog: Int) throws -> (socket: Int32, port: in_port_t) {
        let listener = try checked(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), "socket")
        var address = loopback(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        try withUnsafeMutablePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = try checked(bind(listener, $0, length), "bind")
                _ = try checked(Glibc.listen(listener, Int32(backlog)), "listen")
                _ = try checked(getsockname(listener, $0, &length), "getsockname")
            }
        }
        return (listener, in_port_t(bigEndian: address.sin_port))
    }

    /// Runs the coordinator's side.
    private static func serve(_ sockets: [Int32], rounds: Int, up: Int, down: Int) throws {
        try sendAtOnce(sockets)
        let commit = [UInt8](repeating: 1, count: down)
        for _ in 0..<rounds {
            var missing = sockets.count * up
            try receive(sockets) { _, count in
                missing -= count
                return missing > 0
            }
            for socket in sockets { try sendAll(socket, commit) }
        }
    }

    /// Runs the workers' side: one contribution each, and another after every commit but the last.
    ///
    /// - Returns: milliseconds of processor time per round.
    private static func work(port: in_port_t, workers: Int, rounds: Int, up: Int, down: Int) throws -> Double {
        var sockets: [Int32] = []
        defer { sockets.forEach { close($0) } }
        for _ in 0..<workers {
            let socket = try checked(Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), "socket")
            sockets.append(socket)
            var address = loopback(port: port)
            try withUnsafePointer(to: &address) { pointer in
                try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = try checked(connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)), "connect")
                }
            }
        }
        try sendAtOnce(sockets)
        let used = clock(CLOCK_THREAD_CPUTIME_ID)
        let contribution = [UInt8](repeating: 1, count: up)
        for socket in sockets { try sendAll(socket, contribution) }
        var received = [Int32: Int](minimumCapacity: workers)
        var (missing, commits) = (workers * down * rounds, 0)
        try receive(sockets) { socket, count in
            missing -= count
            received[socket, default: 0] += count
            // A commit follows a contribution, so these bytes contain none of a second commit.
            if received[socket] == down {
                received[socket] = 0
                commits += 1
                if commits <= workers * (rounds - 1) { try sendAll(socket, contribution) }
            }
            return missing > 0
        }
        return (clock(CLOCK_THREAD_CPUTIME_ID) - used) * 1000 / Double(rounds)
    }

    /// Turns off delayed sending, so that a contribution does not wait for more data.
    private static func sendAtOnce(_ sockets: [Int32]) throws {
        for socket in sockets {
            var on: Int32 = 1
            _ = try checked(setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size)), "setsockopt")
        }
    }

    /// Reads what arrives until `more` returns false.
    private static func receive(_ sockets: [Int32], _ more: (Int32, Int) throws -> Bool) throws {
        var waiting = sockets.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            _ = try checked(poll(&waiting, nfds_t(waiting.count), -1), "poll")
            for ready in waiting where ready.revents != 0 {
                let count = try checked(Int32(recv(ready.fd, &buffer, buffer.count, Int32(MSG_DONTWAIT))), "recv")
                guard count > 0 else { throw ValidationError("a connection ended") }
                if try !more(ready.fd, Int(count)) { return }
            }
        }
    }

    private static func sendAll(_ socket: Int32, _ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { bytes in
            var sent = 0
            while sent < bytes.count {
                sent += Int(try checked(Int32(send(socket, bytes.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))), "send"))
            }
        }
    }

    private static func loopback(port: in_port_t) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = in_addr_t(INADDR_LOOPBACK).bigEndian
        return address
    }

    private static func checked(_ result: Int32, _ call: String) throws -> Int32 {
        guard result >= 0 else { throw ValidationError("\(call): \(String(cString: strerror(errno)))") }
        return result
    }

    private static func clock(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}
