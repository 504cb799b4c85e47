/// Why a model could not be opened, read or written. The text names the file, the tensor or key, what is wrong, and the remedy.
public struct ModelError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of thing went wrong; for tests and for exit codes.
    public enum Code: Hashable, Sendable, CaseIterable {
        /// A file or directory is not there, or the hub does not have it.
        case notFound
        /// The operating system refused: permissions, a full disk, a failing device.
        case inputOutput
        /// The bytes are not what their format allows: cut short, overlapping, overflowing, not the format at all.
        case malformed
        /// Well formed, but of a kind that this program does not know.
        case unsupported
        /// A tensor that the architecture needs is not in the files.
        case missingTensor
        /// A tensor's shape disagrees with the configuration.
        case wrongShape
        /// The caller asked for something that is not there: an unknown tensor name, rows beyond the end.
        case badRequest
        /// A directory that is to be written is not empty.
        case occupied
        /// The hub could not be reached or answered with an error.
        case network
        /// Whoever waited for it does not want it any more.
        case cancelled
    }

    public let code: Code
    /// The file or directory.
    public let file: String
    /// The tensor, key or other part of the file that is meant; nil where the whole file is.
    public let subject: String?
    public let problem: String
    public let remedy: String?

    public init(_ code: Code, file: String, subject: String? = nil, _ problem: String, remedy: String? = nil) {
        self.code = code
        self.file = file
        self.subject = subject
        self.problem = problem
        self.remedy = remedy
    }

    public var description: String {
        var text = file
        if let subject { text += ": \(subject)" }
        text += ": \(problem)"
        if let remedy { text += " (\(remedy))" }
        return text
    }
}
