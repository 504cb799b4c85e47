import LanguageModel

/// What is wrong with a user's data or with the task that reads them. The text names the place and the remedy.
public struct DataError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Kind of the error, for exit statuses.
    public enum Code: Hashable, Sendable {
        /// The file does not exist or can't be opened.
        case missing
        /// The file can be opened, but its contents can't be used.
        case malformed
        /// The task itself (template, labels, length) can't be used.
        case task
    }

    public let code: Code
    /// `file:line: what is wrong`, and a remedy on the next line.
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }

    static func at(_ place: DataPlace, _ what: String) -> DataError { DataError(.malformed, "\(place): \(what)") }
}

/// A line of a data file, as error messages show it.
public struct DataPlace: Hashable, Sendable, CustomStringConvertible {
    public let path: String
    /// Line number, counted from 1.
    public let line: Int

    public init(path: String, line: Int) {
        self.path = path
        self.line = line
    }

    public var description: String { "\(path):\(line)" }
}
