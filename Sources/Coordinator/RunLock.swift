import Core
import Glibc
import Transport

/// The right to write into a run directory. One process has it at a time, as long as this object lives. The processes that it starts write under its
/// lock.
///
/// The lock is a file of its own, since there is no ledger yet when a run begins.
public final class RunLock: Sendable {
    /// Nil: this process works under another process's lock.
    private let lock: FileLock?

    /// - Parameters:
    ///   - path: the lock's file.
    ///   - holder: the process that started this one and has the lock for both, if there is one.
    /// - Throws: `RunLockError.held` while another process has it.
    init(_ path: String, under holder: Int32? = nil) throws(RunLockError) {
        do throws(FileLock.Failure) {
            lock = try FileLock(path)
        } catch {
            switch error {
            case .held(let process):
                guard let holder, process ?? holder == holder else { throw .held(path: path, by: process) }
                lock = nil
            case .system(let code): throw .system(path: path, errno: code)
            }
        }
    }
}

/// The reason why nothing can be written into a run directory now.
public enum RunLockError: Error, Hashable, Sendable {
    case held(path: String, by: Int32?)
    case system(path: String, errno: Int32)
}

extension ProcessFailure {
    /// - Parameter directory: the directory as the user named it.
    public init(_ error: RunLockError, directory: String) {
        switch error {
        case .held(_, let process):
            self.init(.temporary, "\(directory) is in use by \(LockHolder.text(process)); wait for its end, or choose another run directory")
        case .system(let path, let code):
            self.init(
                .cannotCreate, "\(path): can't lock the run directory: \(String(cString: strerror(code))); choose one that this user may write to")
        }
    }
}
