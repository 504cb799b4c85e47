import ArgumentParser

/// Flags for sources of settings other than single flags.
struct ConfigFlags: ParsableArguments {
    @Option(help: ArgumentHelp("A run file (docs/reference/settings.md); flags override what it says.", valueName: "file"))
    var config: String?

    @Flag(help: "Print the effective settings, each with its source, and end.")
    var printConfig = false
}

/// A group of settings as a type. `SettingFlags` needs one, because the argument parser tells option groups apart by their types.
protocol SettingGroup {
    static var group: Setting.FlagGroup { get }
}

enum PresetSettings: SettingGroup { static let group = Setting.FlagGroup.preset }
enum ModelSettings: SettingGroup { static let group = Setting.FlagGroup.model }
enum TaskSettings: SettingGroup { static let group = Setting.FlagGroup.task }
enum ObjectiveSettings: SettingGroup { static let group = Setting.FlagGroup.objective }
enum DataSettings: SettingGroup { static let group = Setting.FlagGroup.data }
enum PublicTextSettings: SettingGroup { static let group = Setting.FlagGroup.publicText }
enum TrainingSettings: SettingGroup { static let group = Setting.FlagGroup.training }
enum MachineSettings: SettingGroup { static let group = Setting.FlagGroup.machines }
enum ProcessSettings: SettingGroup { static let group = Setting.FlagGroup.processes }
enum WorkerSettings: SettingGroup { static let group = Setting.FlagGroup.workers }
enum PlaceSettings: SettingGroup { static let group = Setting.FlagGroup.place }

/// The flags of all settings in a group, made from the table.
///
/// The argument parser finds options by reflection. The mirror of this type shows one option per setting in place of stored properties.
struct SettingFlags<Group: SettingGroup>: ParsableArguments, CustomReflectable {
    private static var keys: [SettingKey] { SettingKey.allCases.filter { $0.setting.flags == Group.group } }

    /// Settings that were given on the command line.
    private(set) var settings: [SettingKey: [String]] = [:]

    init() {}

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Place.self)
        for key in Self.keys {
            if key.setting.type.isRepeatable {
                let texts = try container.decode(Option<[String]>.self, forKey: Place(key)).wrappedValue
                if !texts.isEmpty { settings[key] = texts }
            } else {
                settings[key] = try container.decode(Option<String?>.self, forKey: Place(key)).wrappedValue.map { [$0] }
            }
        }
    }

    var customMirror: Mirror {
        Mirror(
            self,
            children: Self.keys.map { key in
                let name = NameSpecification.customLong(String(key.flag.dropFirst(2)))
                let option: Any =
                    key.setting.type.isRepeatable
                    ? Option<[String]>(wrappedValue: [], name: name, help: .of(key)) : Option<String?>(name: name, help: .of(key))
                return (label: Place(key).stringValue, value: option)
            })
    }

    /// Key of a setting in the parser's result.
    private struct Place: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(_ key: SettingKey) { stringValue = "\(key)" }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}

extension ArgumentHelp {
    /// Returns the table's help, for a flag that is not in a group.
    static func of(_ key: SettingKey, isDefaultShown: Bool = true) -> ArgumentHelp {
        ArgumentHelp(isDefaultShown ? "\(key.setting.flagHelp)" : "\(key.setting.help)", valueName: key.setting.valueName)
    }
}

extension [SettingKey: [String]] {
    static func + (a: Self, b: Self) -> Self { a.merging(b) { $1 } }
}
