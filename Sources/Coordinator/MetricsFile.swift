import Glibc

/// The file `metrics.jsonl`. It never holds up training: a line that can't be written is lost, which is reported once, and later lines are tried
/// again, beginning with opening the file.
struct MetricsFile: ~Copyable {
    private let path: String
    private var descriptor: Int32 = -1
    private var isFailing = false
    /// Whether a line was cut short. The next one then begins with a line break.
    private var isTorn = false

    init(path: String) { self.path = path }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Appends one line. Returns a message for a person, if there is one.
    mutating func append(_ line: [UInt8]) -> String? {
        if descriptor < 0 { descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600) }
        guard descriptor >= 0 else { return failure(errno) }
        let bytes = isTorn ? [0x0a] + line : line
        var done = 0
        while done < bytes.count {
            let wrote = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress?.advanced(by: done), $0.count - done) }
            if wrote < 0 && errno == EINTR { continue }
            guard wrote > 0 else {
                let code = errno
                if done > 0 { isTorn = true }
                return failure(code)
            }
            done += wrote
        }
        (isFailing, isTorn) = (false, false)
        return nil
    }

    private mutating func failure(_ code: Int32) -> String? {
        defer { isFailing = true }
        return isFailing ? nil : "can't write \(path): \(String(cString: strerror(code))); these lines are lost, training goes on"
    }
}
