import Core

/// The complete description of one setting. Flags, run files, the check of values, `--print-config` and the reference page are made from
/// it.
package struct Setting: Sendable {
    package let type: ValueType
    package let standard: Standard
    /// Unit of a number.
    package let unit: String?
    /// One sentence, for `--help` and the reference page.
    package let help: String
    /// Further sentences, for the reference page only.
    package let details: String?
    /// Placeholder between < and > in `--help`.
    package let valueName: String
    package let owner: Owner
    /// Group of flags, which decides which commands have the setting as a flag.
    package let flags: FlagGroup
    /// Name of the flag if it differs from the key.
    package let flagName: String?
    /// Names of the setting in earlier versions.
    package let formerly: [String]
    /// Names of the setting in other programs.
    package let aliases: [String]
    /// Words for its values in earlier versions, with the present words.
    package let formerWords: [String: String]

    init(
        _ type: ValueType, _ standard: Standard = .none, unit: String? = nil, valueName: String? = nil, owner: Owner, flags: FlagGroup,
        flagName: String? = nil, formerly: [String] = [], aliases: [String] = [], formerWords: [String: String] = [:], _ help: String,
        _ details: String? = nil
    ) {
        self.type = type
        self.standard = standard
        self.unit = unit
        self.help = help
        self.details = details
        self.valueName = valueName ?? unit ?? type.name
        self.owner = owner
        self.flags = flags
        self.flagName = flagName
        self.formerly = formerly
        self.aliases = aliases
        self.formerWords = formerWords
    }

    /// Type of a setting's value.
    package enum ValueType: Sendable {
        case text
        case oneOf([String])
        /// A whole number, or a word that stands for one; that number may lie outside the range.
        case integer(ClosedRange<Int>, words: [String: Int] = [:])
        /// A number within the range; with `orZero` also 0, which switches something off.
        case number(ClosedRange<Double>, orZero: Bool = false)
        /// One text or a list of them; its flag may be given several times.
        case texts
        /// A table from text to text; its flag is given once per entry.
        case table
        /// A number of bytes such as "2GB".
        case size

        /// Default placeholder for a value.
        var name: String {
            switch self {
            case .text: "text"
            case .oneOf: "word"
            case .integer, .number: "number"
            case .texts: "text"
            case .table: "key=value"
            case .size: "size"
            }
        }

        /// Description on the reference page.
        var description: String {
            switch self {
            case .text: "text"
            case .oneOf(let words): words.map { "`\"\($0)\"`" }.joined(separator: ", ")
            case .integer(let range, let words):
                (["whole number, \(RunSpecLimits.text(range))"] + words.keys.sorted().map { "`\"\($0)\"`" }).joined(separator: ", or ")
            case .number(let range, let orZero): "number, \(orZero ? "0 or " : "")\(RunSpecLimits.text(range))"
            case .texts: "text or list of texts"
            case .table: "table from text to text"
            case .size: "size, such as `\"512MB\"` or `\"2GiB\"`"
            }
        }

        /// Whether its flag may be given several times.
        package var isRepeatable: Bool {
            switch self {
            case .texts, .table: true
            case .text, .oneOf, .integer, .number, .size: false
            }
        }
    }

    /// Value of a setting that neither a flag nor a run file gives.
    package struct Standard: Sendable {
        /// Text for help and reference page.
        package let text: String?
        /// Returns the value with its reason; without a reason it is simply the default. Returns nil if there is no default or the program
        /// works it out where it is used. The function sees the given settings, and the defaults of the settings above it in the table.
        let value: @Sendable (Settings) -> (value: SettingValue, reason: String?)?

        static let none = Standard(text: nil) { _ in nil }

        static func value(_ value: SettingValue) -> Standard { Standard(text: value.bare) { _ in (value, nil) } }

        /// A default that is worked out where the setting is used.
        static func elsewhere(_ text: String) -> Standard { Standard(text: text) { _ in nil } }

        static func rule(_ text: String, _ rule: @escaping @Sendable (Settings) -> (value: SettingValue, reason: String?)?) -> Standard {
            Standard(text: text, value: rule)
        }
    }

    /// Who decides a setting.
    package enum Owner: Hashable, Sendable {
        /// The run: all machines must agree. The text is the value's place in the canonical spec.
        case run(String)
        /// Each host for itself.
        case host
    }

    /// Settings whose flags belong together; a command takes whole groups.
    package enum FlagGroup: Hashable, Sendable {
        case preset, model, task, objective, data, publicText, training, machines, processes, workers, place
    }

    /// Help text of its flag.
    package var flagHelp: String { help + (standard.text.map { " (default: \($0))" } ?? "") }
}

extension SettingKey {
    /// Section of the run file, such as `training`; empty for keys before the first section.
    var section: String { rawValue.split(separator: ".").count > 1 ? String(rawValue.split(separator: ".")[0]) : "" }
    /// Key within its section.
    var name: String { String(rawValue.split(separator: ".").last ?? "") }
    /// Name of the flag on the command line.
    package var flag: String { "--\(setting.flagName ?? name)" }

    /// Settings in `objective = { command = "…", max-tokens = 16 }`, by their keys there.
    static let partsOfObjective: [String: SettingKey] = {
        let prefix = "\(SettingKey.objective.name)-"
        return Dictionary(
            uniqueKeysWithValues: allCases.filter { $0.name.hasPrefix(prefix) }.map { (String($0.name.dropFirst(prefix.count)), $0) })
    }()
}
