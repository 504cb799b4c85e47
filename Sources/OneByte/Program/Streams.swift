import Glibc
import Synchronization

/// Whole lines to a descriptor, one at a time from any thread, past C's buffers: a line that is written is out, also when the
/// process is killed the next instant.
struct LineStream: Sendable {
    let descriptor: Int32
    private static let lock = Mutex(())
    private static let failure = Atomic<Int32>(0)
    /// The error of a result's write that was lost, other than to a reader that had gone; 0 where there was none.
    static var lost: Int32 { failure.load(ordering: .relaxed) }

    /// A line, or several; what is in it that would command a terminal is escaped.
    func write(_ line: String) { writeRaw(printable(line) + "\n") }

    /// What a file or a model says, as it is for another program and printable for a person.
    func writeContents(_ text: String) { writeRaw(isatty(descriptor) == 1 ? printable(text) : text) }

    /// As it is: cursor movements and colours of ours, with `printable` text between them.
    func writeRaw(_ text: String) {
        Self.lock.withLock { _ in
            var bytes = Array(text.utf8)[...]
            while !bytes.isEmpty {
                let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
                if written < 0, errno == EINTR { continue }
                guard written > 0 else {
                    // A reader that has gone is no reason to end a run; a result that a full disk did not take is not to look like a success.
                    if descriptor == STDOUT_FILENO, errno != EPIPE { Self.failure.store(errno, ordering: .relaxed) }
                    return
                }
                bytes = bytes.dropFirst(written)
            }
        }
    }

    /// Whether a person is looking, on a terminal that can move its cursor.
    var isLive: Bool { isatty(descriptor) == 1 && environmentValue("TERM") != "dumb" }
    var hasColour: Bool { isLive && environmentValue("NO_COLOR").isEmpty }

    var columns: Int { size.ws_col > 0 ? Int(size.ws_col) : 80 }
    var rows: Int { size.ws_row > 0 ? Int(size.ws_row) : 24 }

    private var size: winsize {
        var size = winsize()
        return ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 ? size : winsize()
    }
}

/// Results.
let standardOutput = LineStream(descriptor: STDOUT_FILENO)
/// Logs, errors and the live view.
let standardError = LineStream(descriptor: STDERR_FILENO)

private func environmentValue(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }
