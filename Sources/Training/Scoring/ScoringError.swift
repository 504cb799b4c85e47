import LanguageModel

/// Why the external program could not score a text. The description names the command, what it did, and the last lines of its stderr.
public struct ScoringError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Kind of the error, for exit statuses.
    public enum Code: Hashable, Sendable {
        /// The program could not be started, or it ended.
        case unavailable
        /// The program exceeded its time limit.
        case tooSlow
        /// The program's answer is not a score.
        case badAnswer
        /// The caller asked to stop.
        case cancelled
        /// The run needs a program and has none.
        case missing
    }

    public let code: Code
    public let description: String

    public init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
