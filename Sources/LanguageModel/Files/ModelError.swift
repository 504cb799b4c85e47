/// Why a model could not be opened, read or written. The text names the file, the tensor or key, the problem, and the remedy.
public struct ModelError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Kind of the error, for tests and exit statuses.
    public enum Code: Hashable, Sendable, CaseIterable {
        /// A file or directory does not exist, or the hub does not have it.
        case notFound
        /// The operating system refused: permissions, a full disk, a failing device.
        case inputOutput
        /// The bytes violate their format: truncated, overlapping, overflowing, or of another format.
        case malformed
        /// The file is well formed, but of a kind that this program does not know.
        case unsupported
        /// The files lack a tensor that the architecture needs.
        case missingTensor
        /// A tensor's shape disagrees with the configuration.
        case wrongShape
        /// The caller asked for something that does not exist: an unknown tensor name, rows beyond the end.
        case badRequest
        /// A directory to write to is not empty.
        case occupied
        /// The hub could not be reached or answered with an error.
        case network
        /// The caller stopped the work.
        case cancelled
    }

    public let code: Code
    /// The file or directory.
    public let file: String
    /// The tensor, key or other part of the file; nil if the error concerns the whole file.
    public let subject: String?
    /// What is wrong with the file or its part.
    public let problem: String
    /// What to do about it; nil if the text has no remedy.
    public let remedy: String?

    public init(_ code: Code, file: String, subject: String? = nil, _ problem: String, remedy: String? = nil) {
        self.code = code
        self.file = file
        self.subject = subject
        self.problem = problem
        self.remedy = remedy
    }

    /// The file, its part and the problem, without the remedy.
    public var what: String { "\(file)\(subject.map { ": \($0)" } ?? ""): \(problem)" }

    public var description: String { what + (remedy.map { " (\($0))" } ?? "") }
}
