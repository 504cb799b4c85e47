/// How a process of a run ends, after sysexits.h, so that a service manager knows whether to try again (docs/reference/exit-statuses.md).
public enum ExitStatus: Int32, Sendable, Codable, CaseIterable {
    case success = 0
    /// Something that has no code of its own.
    case failure = 1
    /// Wrong or missing flags.
    case usage = 64
    /// A file or an example is not what it should be.
    case badData = 65
    /// A file, a directory or a model is not there.
    case missingInput = 66
    /// The coordinator did not answer for too long.
    case unavailable = 69
    /// A mistake in this program.
    case internalError = 70
    /// A file or a directory can't be made.
    case cannotCreate = 73
    /// The disk or the system refused.
    case inputOutput = 74
    /// It may work later: a port or a run directory in use, a full coordinator.
    case temporary = 75
    /// Turned away: a key, the allow list, an operator, parameters that differ again and again.
    case refused = 77
    /// The settings don't fit: another run, another base model, tensors that the model does not have.
    case configuration = 78
    /// Nothing contradicts a ledger, and some or all of it could be compared with nothing: outside the range of sysexits.
    case unproven = 79
    /// Ctrl-C.
    case interrupted = 130
    /// SIGTERM.
    case terminated = 143
}

/// Why a process can't go on, for its user: the message names what is meant and the remedy.
public struct ProcessFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public let status: ExitStatus
    public let message: String
    public var description: String { message }

    public init(_ status: ExitStatus, _ message: String) {
        self.status = status
        self.message = message
    }
}
