import LanguageModel

/// Why a text could not be scored by the program outside. The text names the command, what it did, and its own last words.
public struct ScoringError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// It could not be started, or ended.
        case unavailable
        /// It took longer than it may.
        case tooSlow
        /// It answered something that is no score.
        case badAnswer
        /// The caller asked to stop.
        case cancelled
        /// There is no program where the run needs one.
        case missing
    }

    public let code: Code
    public let description: String

    public init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
