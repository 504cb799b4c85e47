import Core
import Foundation
import Glibc
import Training
import Transport

/// The file of a host's privacy account: how much its examples have revealed in all runs that name this file. Only one process at a time may use it.
final class PrivacyAccountFile: Sendable {
    private let path: String
    private let lock: FileLock
    /// ρ of zCDP in the file; 0 for a new one.
    let rho: Double

    private struct Contents: Codable {
        var version = 1
        /// The largest ρ (zero-concentrated differential privacy) that an example has cost.
        var rho: Double
    }

    /// - Throws: `ProcessFailure` if another process uses the file, if it can't be read or written, or if it is no account.
    init(_ path: String) throws(ProcessFailure) {
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
        guard access(path, F_OK) == 0 || errno != ENOENT else {
            rho = 0
            return
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
        rho = contents.rho
    }

    /// Writes ρ, so that it is on the disk when this returns.
    func keep(_ rho: Double) throws {
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
