import Core
import Foundation
import Glibc
import Training
import Transport

/// The file of a host's privacy account: how much its examples have revealed in all runs that name this file. Only one process at a time may use it.
package final class PrivacyAccountFile: Sendable {
    /// The file's own absolute path, whatever links lead to it.
    package let path: String
    private let lock: FileLock
    /// ρ of zCDP in the file; nil for one that does not exist yet.
    private let found: Double?
    /// ρ of zCDP so far.
    package var rho: Double { found ?? 0 }

    private struct Contents: Codable {
        var version = 1
        /// The largest ρ (zero-concentrated differential privacy) that an example has cost.
        var rho: Double
    }

    /// - Throws: `ProcessFailure` if another process uses the file, if it has several names, if it can't be read or written, or if it is no account.
    package init(_ name: String) throws(ProcessFailure) {
        let path = try Self.ownPath(of: name)
        self.path = path
        do throws(FileLock.Failure) {
            lock = try FileLock(path + ".lock")
        } catch {
            switch error {
            case .held(let process):
                throw ProcessFailure(
                    .temporary, "the privacy account \(path) is in use by \(LockHolder.text(process)); two workers can't spend the same budget")
            case .system(let code):
                throw ProcessFailure(.cannotCreate, "can't use the privacy account \(path): \(String(cString: strerror(code)))")
            }
        }
        var status = stat()
        guard stat(path, &status) == 0 || errno != ENOENT else {
            found = nil
            return
        }
        // The first write would part the names: each would go on with an account of its own.
        guard status.st_nlink <= 1 else {
            throw ProcessFailure(
                .configuration,
                "the privacy account \(path) has \(status.st_nlink) names (hard links), and each would become an account of its own\nkeep the file under one name alone"
            )
        }
        let bytes = try readWhole(path)
        guard let contents = try? JSONDecoder().decode(Contents.self, from: Data(bytes)), contents.version == 1, contents.rho >= 0,
            contents.rho.isFinite
        else {
            throw ProcessFailure(
                .badData,
                "\(path) is no privacy account, or is damaged; what these examples have revealed is unknown\nput back a copy, or begin a new account only if their bytes were never given to anybody"
            )
        }
        found = contents.rho
    }

    /// Returns the path of the file itself. Another name for it would have another lock, and a write would replace the link.
    private static func ownPath(of name: String) throws(ProcessFailure) -> String {
        func real(_ name: String) -> String? {
            guard let found = realpath(name, nil) else { return nil }
            defer { free(found) }
            return String(cString: found)
        }
        if let path = real(name) { return path }
        let reason = String(cString: strerror(errno))
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        let parent = parts.count > 1 ? parts.dropLast().joined(separator: "/") + "/" : "."
        var link = stat()
        guard lstat(name, &link) != 0, errno == ENOENT, let directory = real(parent), let file = parts.last, !file.isEmpty else {
            throw ProcessFailure(.cannotCreate, "can't use the privacy account \(name): \(reason)")
        }
        return (directory == "/" ? "" : directory) + "/" + file
    }

    /// Returns what the account said when it was opened, for the log. A mistyped name shows there.
    package func text(delta: Double) -> String {
        guard let found else { return "new privacy account at \(path): nothing spent so far" }
        return "the privacy account at \(path) has spent ε = \(fixed(PrivacyLoss.epsilon(rho: found, delta: delta), 3)) at δ = \(delta)"
    }

    /// Writes ρ, so that it is on the disk when this returns.
    package func keep(_ rho: Double) throws {
        let partial = path + ".partial"
        let text = Array("{\"version\":1,\"rho\":\(rho)}\n".utf8)
        func failure() -> ProcessFailure {
            ProcessFailure(.inputOutput, "can't write the privacy account \(path): \(String(cString: strerror(errno))); no byte leaves without it")
        }
        let file = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure() }
        defer { close(file) }
        guard write(file, text, text.count) == text.count, fsync(file) == 0, rename(partial, path) == 0 else { throw failure() }
        let directory = open(URL(filePath: path).deletingLastPathComponent().path, O_RDONLY | O_CLOEXEC)
        guard directory >= 0 else { throw failure() }
        defer { close(directory) }
        guard fsync(directory) == 0 else { throw failure() }
    }
}
