import Core
import Glibc

/// The number of files and connections that this process may have open. Every connection is one, libzmq needs a few for each socket, and a library
/// that gets none ends the process.
public enum OpenFiles {
    /// Number of open files that a process needs besides its connections: standard streams, logs, files of the model and the run, libzmq's own.
    public static let base = 64

    /// Makes sure that `count` files can be open: it raises the soft limit, as far as the hard limit allows.
    ///
    /// - Parameters:
    ///   - count: number of all files that will be open at one time.
    ///   - purpose: what they are for, such as "90 workers", for the message if they are too many.
    /// - Throws: `ProcessFailure` `.inputOutput` if the hard limit is lower.
    public static func reserve(_ count: Int, for purpose: String) throws(ProcessFailure) {
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < rlim_t(count) else { return }
        let allowed = min(limit.rlim_max, rlim_t(count))
        limit.rlim_cur = max(limit.rlim_cur, allowed)
        let isRaised = setrlimit(resource, &limit) == 0
        guard !isRaised || allowed < rlim_t(count) else { return }
        throw ProcessFailure(
            .inputOutput,
            "\(purpose): \(count) open files and connections are needed, and this process may have \(limit.rlim_max)\nraise the limit (ulimit -n \(count), or LimitNOFILE= of a service), or ask for less"
        )
    }

    /// Raises the soft limit to `count` if possible, for files that may be needed.
    static func hope(for count: Int) {
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { return }
        limit.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, rlim_t(count)))
        setrlimit(resource, &limit)
    }

    private static var resource: __rlimit_resource_t { __rlimit_resource_t(RLIMIT_NOFILE.rawValue) }
}

/// Raises the limit for a coordinator, which may have as many workers as the protocol allows.
package func raiseFileLimit() { OpenFiles.hope(for: ProtocolLimits.peers * 2) }
