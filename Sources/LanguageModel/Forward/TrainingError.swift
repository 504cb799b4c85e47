/// Why a run's tensors, examples or caches can't be used. The text names the cause and the remedy.
public struct TrainingError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Kind of the error, for tests and exit statuses.
    public enum Code: Hashable, Sendable {
        /// A tensor pattern matches nothing, or a basis does not fit.
        case badTensors
        /// The model can't take an example.
        case badExample
        /// There are no examples, or too few.
        case noExamples
        /// The prefix cache's file could not be written.
        case cacheFile
        /// A numerical routine failed.
        case numerical
        /// The caller asked to stop.
        case cancelled
    }
    public let code: Code
    public let description: String

    package init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
