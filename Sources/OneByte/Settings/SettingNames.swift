/// Names that are no setting's but were, or that other programs use.
enum SettingNames {
    enum Meaning {
        /// Earlier versions called the setting so.
        case former(SettingKey)
        /// Other programs do, or it is spelt with underscores.
        case likely(SettingKey)
        /// Earlier versions had such a setting; the text says what to do.
        case retired(String)
    }

    /// - Parameter name: without section and dashes.
    static func meaning(of name: String) -> Meaning? {
        let name = name.lowercased().replacing("_", with: "-")
        if let remedy = Setting.retired[name] { return .retired(remedy) }
        for key in SettingKey.allCases {
            if key.setting.formerly.contains(name) { return .former(key) }
            if key.setting.aliases.contains(name) || key.name == name || key.flag == "--\(name)" { return .likely(key) }
        }
        return nil
    }

    /// What else has changed with a name: its words.
    static func wordsChanged(of key: SettingKey) -> String {
        key.setting.formerWords.sorted { $0.key < $1.key }.map { ", and its word \"\($0)\" is now \"\($1)\"" }.joined()
    }
}

/// What the argument parser does not notice or can't explain.
package enum CommandLineCheck {
    /// A flag that is unknown to the command but known to us: one that was renamed, or that other programs have.
    package static func renamedFlag(in arguments: [String]) -> SettingsError? {
        for name in optionNames(arguments) {
            let bare = String(name.dropFirst(2))
            switch SettingNames.meaning(of: bare) {
            case .retired(let remedy): return .usage("\(name) \(remedy)")
            case .former(let key): return .usage("\(name) is now \(key.flag)\(SettingNames.wordsChanged(of: key)); give \(key.flag)")
            case .likely(let key) where key.flag != name: return .usage("there is no \(name); did you mean \(key.flag)? (\(key.setting.help))")
            case .likely, nil: continue
            }
        }
        return nil
    }

    /// A flag that is given twice and holds one value: the parser would keep the last in silence.
    package static func repeatedFlag(in arguments: [String]) -> SettingsError? {
        let repeatable = Set(SettingKey.allCases.filter { $0.setting.type.isRepeatable }.map(\.flag))
        var seen: Set<String> = []
        for name in optionNames(arguments) where !repeatable.contains(name) && !seen.insert(name).inserted {
            return .usage("\(name) is given twice; leave one out")
        }
        return nil
    }

    /// The options that are given. An option's value in an argument of its own never begins with two dashes; what follows a lone `--`
    /// is no option.
    private static func optionNames(_ arguments: [String]) -> [String] {
        arguments.prefix { $0 != "--" }.compactMap { argument in
            // The one option with a short name.
            if argument == "-o" { return "--output" }
            return argument.hasPrefix("--") ? String(argument.prefix { $0 != "=" }) : nil
        }
    }
}
