import Glibc
import Synchronization

/// Writes whole lines to a descriptor, one at a time from any thread, without C's buffers. A line that was written is out, even if the
/// process is killed the next instant.
struct LineStream: Sendable {
    let descriptor: Int32
    private static let lock = Mutex(())
    private static let failure = Atomic<Int32>(0)
    /// Error of a result that could not be written, unless its reader had gone; 0 if there was none.
    static var lost: Int32 { failure.load(ordering: .relaxed) }

    /// Writes one or more lines; terminal commands in them are escaped.
    func write(_ line: String) { writeRaw(printable(line) + "\n") }

    /// Writes the contents of a file or a model: unchanged for another program, printable for a person.
    func writeContents(_ text: String) { writeRaw(isatty(descriptor) == 1 ? printable(text) : text) }

    /// Writes text unchanged: this program's own cursor movements and colours, with `printable` text between them.
    func writeRaw(_ text: String) {
        Self.lock.withLock { _ in
            var bytes = Array(text.utf8)[...]
            while !bytes.isEmpty {
                let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
                if written < 0, errno == EINTR { continue }
                guard written > 0 else {
                    // A reader that has gone must not end a run. A result that a full disk did not take must not look like a success.
                    if descriptor == STDOUT_FILENO, errno != EPIPE { Self.failure.store(errno, ordering: .relaxed) }
                    return
                }
                bytes = bytes.dropFirst(written)
            }
        }
    }

    /// Whether the output is a terminal that can move its cursor.
    var isLive: Bool { isatty(descriptor) == 1 && environmentValue("TERM") != "dumb" }
    var hasColour: Bool { isLive && environmentValue("NO_COLOR").isEmpty }

    var columns: Int {
        var size = winsize()
        return ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }
}

/// Stream of results.
let standardOutput = LineStream(descriptor: STDOUT_FILENO)
/// Stream of logs, errors and the live view.
let standardError = LineStream(descriptor: STDERR_FILENO)

private func environmentValue(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }
