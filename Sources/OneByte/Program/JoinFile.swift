import Core
import Foundation
import Glibc
import Transport

/// The file by which a coordinator hands its join string to workers that share a file system with it. It is there, and whole, while the
/// coordinator listens.
struct JoinFile: Sendable {
    let path: String
    init(_ path: String) { self.path = path }

    private static let longest = 4096
    private static let secondsBetweenLooks = 0.5

    /// The join string, where one is there.
    var contents: String? {
        guard let data = FileManager.default.contents(atPath: path), data.count <= Self.longest else { return nil }
        let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? nil : text
    }

    /// Writes it whole or not at all, for this user's eyes: who knows a join string may get in.
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

    /// Takes it away, unless another coordinator has put its own there since.
    func remove(_ join: String) {
        if contents == join { unlink(path) }
    }

    /// Waits until a coordinator has written it.
    ///
    /// - Throws: `ProcessFailure` where none has after `seconds`, or what is there is no join string; `CancellationError`.
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

    /// Every other join string that is written there, until it is cancelled: a coordinator that was started again may be elsewhere.
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
