/// Names that settings had in earlier versions or have in other programs.
enum SettingNames {
    /// Flags that are not settings, by their names in other programs.
    static let otherFlags = [
        "output-dir": ["--output", "--directory"], "out-dir": ["--output", "--directory"], "out": ["--output"],
        "save-dir": ["--output", "--directory"],
        "outfile": ["--output"], "max-new-tokens": ["--max-tokens"], "n-predict": ["--max-tokens"], "temp": ["--temperature"],
        "dtype": ["--data-type", "--precision"],
        "outtype": ["--data-type"], "force": ["--overwrite"], "resume-from-checkpoint": ["--resume"], "checkpoint": ["--resume", "--ledger"],
        "adapter": ["--ledger"],
        "lora": ["--ledger"], "run": ["--ledger"], "dry-run": ["--dry-run", "--print-config"], "plan": ["--dry-run", "--print-config"],
        "test-file": ["--eval-file", "--evaluate"], "round": ["--at-round"],
        "worker": ["--machine"], "json": ["--format"], "host": ["--listen", "--coordinator"], "address": ["--listen", "--coordinator"],
        "server": ["--coordinator"], "master": ["--coordinator"], "id": ["--name"],
    ]

    enum Meaning {
        /// The setting had this name in earlier versions.
        case former(SettingKey)
        /// The setting has this name in other programs, or it is spelt with underscores.
        case likely(SettingKey)
        /// Earlier versions had such a setting; the text says what to do.
        case retired(String)
    }

    /// Returns what a name that is no setting's stands for; nil if it is unknown.
    ///
    /// - Parameter name: the name without section and dashes.
    static func meaning(of name: String) -> Meaning? {
        let name = name.lowercased().replacing("_", with: "-")
        if let remedy = Setting.retired[name] { return .retired(remedy) }
        for key in SettingKey.allCases {
            if key.setting.formerly.contains(name) { return .former(key) }
            if key.setting.aliases.contains(name) || key.name == name || key.flag == "--\(name)" { return .likely(key) }
        }
        return nil
    }

    /// Describes values of a renamed setting whose words have changed too.
    static func wordsChanged(of key: SettingKey) -> String {
        key.setting.formerWords.sorted { $0.key < $1.key }.map { ", and its word \"\($0)\" is now \"\($1)\"" }.joined()
    }
}
