/// Why a run's tensors, examples or caches can't be used. The text names what is meant and the remedy.
public struct TrainingError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// A tensor name pattern that matches nothing, or a basis that does not fit.
        case badTensors
        /// An example that the model can't take.
        case badExample
        /// No examples, or too few.
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
