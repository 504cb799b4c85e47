import Foundation
import Glibc
import LanguageModel
import Synchronization

/// An external program that scores texts. It reads one JSON object per line and answers with one line each, in any order
/// (docs/reference/tasks.md, "An outside program's score"). `/bin/sh -c` starts it at the first batch, and it is kept alive.
///
/// `scores` blocks until all answers have arrived. Call it from one thread at a time.
public final class ScoringProgram {
    /// The command and its time limit.
    public struct Options: Sendable {
        /// Command line for `/bin/sh -c`.
        public var command: String
        /// Time limit in seconds for all answers to one batch.
        public var timeoutSeconds: Double

        public static let defaultTimeoutSeconds = 60.0

        public init(command: String, timeoutSeconds: Double = Options.defaultTimeoutSeconds) {
            self.command = command
            self.timeoutSeconds = timeoutSeconds
        }
    }

    /// Longest answer in bytes.
    private static let lineBytesMax = 1 << 20
    /// Number of characters of a line that an error shows.
    private static let shownCharacters = 200
    private static let lastLinesMax = 5
    private static let readBytes = 1 << 16
    /// Number of reads between two checks of the clock.
    private static let readsAtOnce = 16
    /// Time between two checks whether the answers are still wanted.
    private static let pollMilliseconds: Int32 = 100
    /// Time that the program has to end after its input was closed and it got SIGTERM.
    private static let shutdownMicroseconds: UInt32 = 500_000

    public let options: Options
    /// Checked while a batch is being scored; true ends it with `ScoringError.cancelled`.
    public var isCancelled: @Sendable () -> Bool = { false }
    /// Receives each line of the program's stderr.
    private let log: @Sendable (String) -> Void
    private var child: Child?
    private var nextID = 0
    private var lastLines: [String] = []

    private struct Child {
        let process: pid_t
        let input: Int32
        let output: Int32
        let errors: Int32
        var answers: [UInt8] = []
        var words: [UInt8] = []
        var stderrIsClosed = false  // its stderr is closed
    }

    /// - Parameter log: receives each line of the program's stderr.
    public init(_ options: Options, log: @escaping @Sendable (String) -> Void = { _ in }) {
        self.options = options
        self.log = log
        // Without this, writing to a program that has ended would end this process.
        signal(SIGPIPE, SIG_IGN)
    }

    deinit { stop() }

    /// Ends the program and everything that it has started: closes its input, sends SIGTERM, and finally SIGKILL.
    public func stop() {
        guard let child else { return }
        self.child = nil
        for descriptor in [child.input, child.output, child.errors] { close(descriptor) }
        kill(-child.process, SIGTERM)
        let step: UInt32 = 10_000
        for _ in 0..<Self.shutdownMicroseconds / step {
            if waitpid(child.process, nil, WNOHANG) == child.process {
                // The shell has ended, but its children may still run.
                kill(-child.process, SIGKILL)
                return
            }
            usleep(step)
        }
        kill(-child.process, SIGKILL)
        waitpid(child.process, nil, 0)
    }

    package func scores(of texts: [WrittenText]) throws -> [Double] {
        guard !texts.isEmpty else { return [] }
        do {
            return try exchange(texts)
        } catch is Ended {
            // The program may have ended long ago or by accident, so one restart is allowed.
            log("the program ended; starting it again")
        }
        do {
            return try exchange(texts)
        } catch let ended as Ended {
            throw failure(.unavailable, "\(ended.how) before it answered, and again after a restart")
        }
    }

    private struct Ended: Error {
        let how: String
    }

    /// Exchanges one batch. Reading and writing alternate as far as each is possible, so that neither side blocks the other.
    private func exchange(_ texts: [WrittenText]) throws -> [Double] {
        if child == nil { child = try start() }
        let first = nextID
        nextID += texts.count
        var request: [UInt8] = []
        for (i, text) in texts.enumerated() {
            let object: [JSON.Member] = [
                .init(key: "id", value: .integer(first + i)), .init(key: "prompt", value: .string(text.prompt.prompt)),
                .init(key: "text", value: .string(text.text)),
            ]
            request += JSON.object(object + text.prompt.fields).text(indent: 0).utf8
            request.append(UInt8(ascii: "\n"))
        }
        var scores = [Double](repeating: .nan, count: texts.count)
        var missing = texts.count
        var written = 0
        let deadline = ContinuousClock.now + .seconds(options.timeoutSeconds)
        while missing > 0 {
            guard let child else { throw Ended(how: "it ended") }
            if isCancelled() {
                stop()
                throw ScoringError(.cancelled, "stopped while texts were scored")
            }
            if ContinuousClock.now > deadline {
                let error = failure(
                    .tooSlow,
                    """
                    no answer to \(missing) of \(texts.count) texts within \(options.timeoutSeconds) s; does it flush its output after each line \
                    (python3 -u does)?
                    """)
                stop()
                throw error
            }
            var polls = [
                pollfd(fd: written < request.count ? child.input : -1, events: Int16(POLLOUT), revents: 0),
                pollfd(fd: child.output, events: Int16(POLLIN), revents: 0),
                pollfd(fd: child.stderrIsClosed ? -1 : child.errors, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&polls, nfds_t(polls.count), Self.pollMilliseconds) > 0 else { continue }
            if polls[2].revents != 0 { listen() }
            if polls[1].revents != 0 {
                let isOpen = read(child.output) { self.child?.answers += $0 }
                for line in takeLines(\.answers, limit: Self.lineBytesMax) {
                    let (id, score) = try answer(line, ids: first..<nextID)
                    guard scores[id - first].isNaN else { throw bad("a second score for the text \(id)", line) }
                    scores[id - first] = score
                    missing -= 1
                }
                if !isOpen, missing > 0 { throw Ended(how: end()) }
            }
            if polls[0].revents != 0 {
                let count = request[written...].withUnsafeBytes { write(child.input, $0.baseAddress, $0.count) }
                if count > 0 { written += count } else if errno == EPIPE { throw Ended(how: end()) }
            }
        }
        listen()
        return scores
    }

    // MARK: Answers

    private func answer(_ line: String, ids: Range<Int>) throws -> (id: Int, score: Double) {
        var line = line
        let json = line.withUTF8 { try? JSON(UnsafeRawBufferPointer($0), file: "") }
        guard let json, json.members != nil else { throw bad("a line that is no JSON object", line) }
        guard let id = json["id"]?.integer else { throw bad("no \"id\"", line) }
        guard ids.contains(id) else { throw bad("the id \(id), which it was not asked for (\(ids.lowerBound) … \(ids.upperBound - 1) were)", line) }
        guard let score = json["score"]?.double, score.isFinite else { throw bad("a score that is no finite number", line) }
        return (id, score)
    }

    private func bad(_ what: String, _ line: String) -> ScoringError {
        let error = failure(.badAnswer, "it answered \(what): \(line.prefix(Self.shownCharacters))")
        stop()
        return error
    }

    /// Makes an error of one line, since a cluster shows the last line of a process's log when the process ends.
    private func failure(_ code: ScoringError.Code, _ what: String) -> ScoringError {
        listen()
        let said = lastLines.isEmpty ? "its stderr is empty" : "last lines of its stderr: " + lastLines.joined(separator: " | ")
        return ScoringError(code, "the objective's command \"\(options.command)\": \(what); \(said)")
    }

    // MARK: Pipes

    /// Reads what is there, up to a limit, so that a program that writes faster than this reads can't delay the check of time limits.
    /// Returns false at the end of the stream.
    private func read(_ descriptor: Int32, _ take: (ArraySlice<UInt8>) -> Void) -> Bool {
        var buffer = [UInt8](repeating: 0, count: Self.readBytes)
        for _ in 0..<Self.readsAtOnce {
            let count = buffer.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count == 0 { return false }
            if count < 0 {
                if errno == EINTR { continue }
                return errno == EAGAIN
            }
            take(buffer[..<count])
        }
        return true
    }

    /// Takes the whole lines from what was read; a line above the limit is taken as it is.
    private func takeLines(_ bytes: WritableKeyPath<Child, [UInt8]>, limit: Int) -> [String] {
        guard let held = child?[keyPath: bytes] else { return [] }
        var lines = held.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        var rest = lines.popLast() ?? []
        if rest.count > limit {
            lines.append(rest)
            rest = []
        }
        child?[keyPath: bytes] = Array(rest)
        return lines.map { String(decoding: $0, as: UTF8.self) }
    }

    /// Passes on the program's stderr.
    private func listen() {
        guard let errors = child?.errors, child?.stderrIsClosed == false else { return }
        let isOpen = read(errors) { child?.words += $0 }
        if !isOpen {
            child?.stderrIsClosed = true
            child?.words.append(UInt8(ascii: "\n"))
        }
        for line in takeLines(\.words, limit: Self.readBytes) where !line.isEmpty {
            log(line)
            lastLines = lastLines.suffix(Self.lastLinesMax - 1) + [line]
        }
    }

    /// Waits for a program that has closed its output, and returns how it ended.
    private func end() -> String {
        guard let child else { return "it ended" }
        listen()
        var status: Int32 = 0
        // With its output closed, the program has ended or is about to.
        let step: UInt32 = 10_000
        var isGone = false
        for _ in 0..<Self.shutdownMicroseconds / step where !isGone {
            isGone = waitpid(child.process, &status, WNOHANG) == child.process
            if !isGone { usleep(step) }
        }
        listen()
        if isGone {
            for descriptor in [child.input, child.output, child.errors] { close(descriptor) }
            kill(-child.process, SIGKILL)
            self.child = nil
            let signal = status & 0x7f
            return signal == 0 ? "it ended with status \(status >> 8 & 0xff)" : "it was killed by signal \(signal)"
        }
        stop()
        return "it closed its output"
    }

    // MARK: Starting

    private func start() throws -> Child {
        lastLines = []
        var pipes: [[Int32]] = []
        for _ in 0..<3 {
            var ends: [Int32] = [-1, -1]
            guard pipe(&ends) == 0 else {
                let reason = String(cString: strerror(errno))
                for end in pipes.joined() { close(end) }
                throw failure(.unavailable, "no pipe for it: \(reason)")
            }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            pipes.append(ends)
        }
        let (input, output, errors) = (pipes[0], pipes[1], pipes[2])

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, errors[1], STDERR_FILENO)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // The program gets a process group of its own. So Ctrl-C reaches only this process, which then ends the program and its children in
        // order. The program starts with default signal handling, whatever this process has set.
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var arguments: [UnsafeMutablePointer<CChar>?] = ["/bin/sh", "-c", options.command].map { (text: String) in strdup(text) } + [nil]
        var environment: [UnsafeMutablePointer<CChar>?] = ProcessInfo.processInfo.environment.map { strdup("\($0)=\($1)") } + [nil]
        defer { for text in arguments + environment { free(text) } }
        var process: pid_t = 0
        let failed = posix_spawn(&process, "/bin/sh", &actions, &attributes, &arguments, &environment)
        for end in [input[0], output[1], errors[1]] { close(end) }
        guard failed == 0 else {
            for end in [input[1], output[0], errors[0]] { close(end) }
            throw failure(.unavailable, "can't be started: \(String(cString: strerror(failed)))")
        }
        for end in [input[1], output[0], errors[0]] { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
        return Child(process: process, input: input[1], output: output[0], errors: errors[0])
    }
}

extension ScoringProgram: TextScorer {}
