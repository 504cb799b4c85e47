import Core
import Foundation
import Glibc
import Subprocess
import SystemPackage

/// One of the processes of a cluster: this program with other arguments.
struct ChildProcess: Sendable {
    let name: String
    let arguments: [String]
    /// Path of its log. A child whose output nobody reads writes its standard output there too.
    let log: String
    /// Size of the log when this value was made; what stands before it is from an earlier run.
    private let logStart: UInt64

    init(name: String, arguments: [String], log: String) {
        self.name = name
        self.arguments = arguments
        self.log = log
        let existing = FileHandle(forReadingAtPath: log)
        defer { try? existing?.close() }
        logStart = (try? existing?.seekToEnd()) ?? 0
    }

    /// How a child ended.
    enum Ending: Hashable, Sendable {
        case exited(Int32)
        case killed(signal: Int32)
    }

    /// Time that a child has after SIGTERM to flush its files and leave in order.
    private static let secondsToStop = 10

    /// Runs the process. Cancelling the task stops it with SIGTERM, then SIGKILL.
    ///
    /// - Parameter eachLine: receives its standard output line by line; nil sends the output to the log.
    /// - Throws: `ProcessFailure` if it can't be started or its log can't be written.
    func run(eachLine: (@Sendable (String) -> Void)?) async throws -> Ending {
        var options = PlatformOptions()
        // The child gets a process group of its own, so that Ctrl-C reaches only the parent, which stops the children in order.
        options.processGroupID = 0
        options.teardownSequence = [.send(signal: .terminate, allowedDurationToNextStep: .seconds(Self.secondsToStop))]
        let environment = Environment.inherit.updating(["ONEBYTE_PARENT": "\(getpid())"])
        let executable = Executable.path(FilePath("/proc/self/exe").resolved)
        let descriptor: FileDescriptor
        do {
            descriptor = try FileDescriptor.open(
                FilePath(log), .writeOnly, options: [.create, .append, .closeOnExec], permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch {
            throw ProcessFailure(.cannotCreate, "\(log): can't write the log of \(name): \(error)")
        }
        let status: TerminationStatus
        do {
            if let eachLine {
                status = try await Subprocess.run(
                    executable, arguments: Arguments(arguments), environment: environment, platformOptions: options, input: .none,
                    output: .sequence, error: .fileDescriptor(descriptor, closeAfterSpawningProcess: true)
                ) { execution in
                    for try await line in execution.standardOutput.strings() { eachLine(line) }
                }.terminationStatus
            } else {
                status = try await Subprocess.run(
                    executable, arguments: Arguments(arguments), environment: environment, platformOptions: options, input: .none,
                    output: .fileDescriptor(descriptor, closeAfterSpawningProcess: true), error: .combinedWithOutput
                ).terminationStatus
            }
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw ProcessFailure(.internalError, "\(name) can't be run: \(error)")
        }
        return switch status {
        case .exited(let code): .exited(code)
        case .signaled(let signal): .killed(signal: signal)
        }
    }

    /// Returns the end of its log: the error that ended it, if it reported one, else its last lines.
    func lastWords() -> String {
        let lines = Self.tail(of: log, from: logStart).split(separator: "\n").map(String.init)
        if let error = lines.last(where: { $0.hasPrefix("error: ") || $0.hasPrefix("Error: ") }) {
            return String(error.dropFirst("error: ".count))
        }
        return lines.suffix(Self.shownLines).joined(separator: "\n  ")
    }

    private static let shownLines = 5
    private static let tailBytes: UInt64 = 8192

    private static func tail(of path: String, from start: UInt64) -> String {
        guard let handle = FileHandle(forReadingAtPath: path) else { return "" }
        defer { try? handle.close() }
        guard let end = try? handle.seekToEnd() else { return "" }
        try? handle.seek(toOffset: max(start, end > tailBytes ? end - tailBytes : 0))
        return String(decoding: (try? handle.readToEnd()) ?? Data(), as: UTF8.self)
    }
}

extension FilePath {
    /// The target of a link. A child started through /proc/self would find itself there.
    fileprivate var resolved: FilePath {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: string)).map { FilePath($0) } ?? self
    }
}

extension ChildProcess.Ending: CustomStringConvertible {
    var description: String {
        switch self {
        case .exited(let status): "ended with status \(status)"
        case .killed(let signal): "was killed by signal \(signal)"
        }
    }

    var isSuccess: Bool { self == .exited(0) }

    /// Exit status of a cluster if one of its processes ended like this.
    var status: ExitStatus {
        if case .exited(let code) = self, let status = ExitStatus(rawValue: code), status != .success { status } else { .failure }
    }
}
