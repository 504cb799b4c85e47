import Core
import Glibc

/// Files and connections that this process may have open. Every connection is one, libzmq needs a few for each socket, and a library that gets
/// none ends the process.
public enum OpenFiles {
    /// What a process needs besides its connections: standard streams, logs, the model's and the run's files, libzmq's own.
    public static let base = 64

    /// Sees to it that so many can be open: raises the soft limit as far as the hard one allows.
    ///
    /// - Parameters:
    ///   - count: of all that will be open at a time.
    ///   - purpose: what they are for, to be said where they are too many: "90 workers".
    /// - Throws: `ProcessFailure` `.inputOutput` where the hard limit is lower.
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

    /// As many as `count` if they can be had: for what may come but need not.
    static func hope(for count: Int) {
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { return }
        limit.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, rlim_t(count)))
        setrlimit(resource, &limit)
    }

    private static var resource: __rlimit_resource_t { __rlimit_resource_t(RLIMIT_NOFILE.rawValue) }
}

/// A coordinator may have as many workers as the protocol allows.
package func raiseFileLimit() { OpenFiles.hope(for: ProtocolLimits.peers * 2) }
