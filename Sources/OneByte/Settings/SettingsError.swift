/// A run file or a flag can't be used. The description names the file and line, or the flag, and what is expected.
package struct SettingsError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: Hashable, Sendable {
        /// The run file can't be opened.
        case missing
        /// The run file is wrong.
        case file
        /// A flag is wrong or missing.
        case usage
    }

    package let code: Code
    package let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }

    static func usage(_ description: String) -> SettingsError { SettingsError(.usage, description) }

    /// Returns the error for a wrong value, whatever its source.
    static func wrong(_ source: SettingSource, _ key: SettingKey, _ what: String) -> SettingsError {
        switch source {
        case .file: SettingsError(.file, "\(source): \(key.name): \(what)")
        case .flag: SettingsError(.usage, "\(source): \(what)")
        case .standard, .derived: SettingsError(.usage, "\(key.flag): \(what)")
        }
    }
}
