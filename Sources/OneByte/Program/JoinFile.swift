import Core
import Foundation
import Glibc
import Transport

/// The file through which a coordinator gives its join string to workers on the same file system. It exists, and is complete, while the
/// coordinator listens.
struct JoinFile: Sendable {
    let path: String
    init(_ path: String) { self.path = path }

    private static let longest = 4096
    private static let secondsBetweenLooks = 0.5

    /// The join string; nil if the file does not hold one.
    var contents: String? {
        guard let data = FileManager.default.contents(atPath: path), data.count <= Self.longest else { return nil }
        let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? nil : text
    }

    /// Writes the file whole or not at all, readable by this user alone, because whoever knows a join string may get in.
    func write(_ join: String) throws(ProcessFailure) {
        let temporary = "\(path).\(getpid()).new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(errno) }
        let bytes = Array((join + "\n").utf8)
        let isWritten = Glibc.write(descriptor, bytes, bytes.count) == bytes.count && fsync(descriptor) == 0
        let code = errno
        close(descriptor)
        guard isWritten, rename(temporary, path) == 0 else {
            let code = isWritten ? errno : code
            unlink(temporary)
            throw failure(code)
        }
    }

    private func failure(_ code: Int32) -> ProcessFailure {
        ProcessFailure(.cannotCreate, "\(path): the join string can't be written: \(String(cString: strerror(code)))")
    }

    /// Removes the file, unless another coordinator has replaced it since.
    func remove(_ join: String) {
        if contents == join { unlink(path) }
    }

    /// Waits until a coordinator has written the file.
    ///
    /// - Throws: `ProcessFailure` if none has after `seconds`, or if the contents are not a join string; `CancellationError`.
    func wait(seconds: Double) async throws -> JoinString {
        let end = ContinuousClock.now.advanced(by: .seconds(seconds))
        while true {
            if let contents {
                do throws(TransportError) {
                    return try JoinString(contents)
                } catch {
                    throw ProcessFailure(.badData, "\(path) holds no join string: \(error.message)")
                }
            }
            guard ContinuousClock.now < end else {
                throw ProcessFailure(
                    .unavailable,
                    "\(path): no coordinator has written a join string there for \(Int(seconds)) s; is it started with --join-file, on the same file system?"
                )
            }
            try await Task.sleep(for: .seconds(Self.secondsBetweenLooks))
        }
    }

    /// Returns a stream of later join strings in the file, until it is cancelled. A coordinator that is restarted may have another address.
    func changes(after first: JoinString) -> AsyncStream<JoinString> {
        AsyncStream { continuation in
            let watch = Task {
                var last = first
                while !Task.isCancelled {
                    try? await Task.sleep(for: .seconds(2 * Self.secondsBetweenLooks))
                    guard let contents, let join = try? JoinString(contents), join != last else { continue }
                    last = join
                    continuation.yield(join)
                }
                continuation.finish()
            }
            continuation.onTermination = { _ in watch.cancel() }
        }
    }
}
