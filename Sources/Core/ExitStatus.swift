/// The exit status of a process, after sysexits.h, so that a service manager knows whether to try again (docs/reference/exit-statuses.md).
public enum ExitStatus: Int32, Sendable, Codable, CaseIterable {
    case success = 0
    /// An error that has no code of its own.
    case failure = 1
    /// Wrong or missing flags.
    case usage = 64
    /// A file or an example does not have the right form.
    case badData = 65
    /// A file, a directory or a model does not exist.
    case missingInput = 66
    /// The coordinator did not answer in time.
    case unavailable = 69
    /// A bug in this program.
    case internalError = 70
    /// A file or a directory can't be made.
    case cannotCreate = 73
    /// The disk or the operating system refused.
    case inputOutput = 74
    /// Trying later may work: a port or a run directory is in use, or the coordinator is full.
    case temporary = 75
    /// The coordinator refused: the key, the allow list, an operator, or parameters that differed again and again.
    case refused = 77
    /// The settings do not fit together: another run, another base model, or tensors that the model does not have.
    case configuration = 78
    /// Nothing contradicts a ledger, but some or all of it could not be compared with anything. The code is outside the range of sysexits.
    case unproven = 79
    /// SIGINT (Ctrl-C).
    case interrupted = 130
    /// SIGTERM.
    case terminated = 143
}

/// Why a process can't go on, told to its user. The message says what is wrong and what helps.
public struct ProcessFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public let status: ExitStatus
    /// What is wrong and what helps, for the user.
    public let message: String
    public var description: String { message }

    public init(_ status: ExitStatus, _ message: String) {
        self.status = status
        self.message = message
    }
}
