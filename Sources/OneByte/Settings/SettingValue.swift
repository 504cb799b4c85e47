/// A setting's value as given by a run file or a flag.
package enum SettingValue: Hashable, Sendable {
    case text(String)
    case integer(Int)
    case number(Double)
    case texts([String])
    case table([String: String])

    /// The value in TOML.
    package var toml: String {
        switch self {
        case .text(let value): Self.quoted(value)
        case .integer(let value): String(value)
        case .number(let value): "\(value)"
        case .texts(let values): "[" + values.map(Self.quoted).joined(separator: ", ") + "]"
        case .table(let values):
            "{ " + values.sorted { $0.key < $1.key }.map { "\(Self.quoted($0.key)) = \(Self.quoted($0.value))" }.joined(separator: ", ") + " }"
        }
    }

    /// The value as written on a command line.
    var bare: String {
        switch self {
        case .text(let value): value
        case .integer(let value): String(value)
        case .number(let value): value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : "\(value)"
        case .texts(let values): values.joined(separator: ", ")
        case .table(let values): values.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ", ")
        }
    }

    private static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case "\r": quoted += "\\r"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let digits = String(scalar.value, radix: 16, uppercase: true)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}

/// Source of a value.
package enum SettingSource: Hashable, Sendable, CustomStringConvertible {
    case standard
    /// Worked out from something else, which the text names.
    case derived(String)
    case file(path: String, line: Int?)
    case flag(String)

    package var description: String {
        switch self {
        case .standard: "default"
        case .derived(let what): what
        case .file(let path, let line): line.map { "\(path):\($0)" } ?? path
        case .flag(let name): name
        }
    }
}
