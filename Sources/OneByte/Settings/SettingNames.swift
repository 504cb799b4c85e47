/// Names that are no setting's but were, or that other programs use.
enum SettingNames {
    /// Flags of commands that are no settings, by the names that other programs have for them.
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
