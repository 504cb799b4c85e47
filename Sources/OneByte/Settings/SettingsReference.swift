/// The reference page of all settings, generated from the table.
package enum SettingsReference {
    package static var markdown: String {
        var lines = [
            "# Settings", "",
            "This page is made by `onebyte settings`; a test compares the two.", "",
            "Each key stands in a run file (TOML) under its section, and is a flag of the commands that it concerns. **Flags override the file,",
            "the file overrides defaults.** An unknown key is an error with its line and a guess at what was meant. `--print-config` prints the",
            "effective settings, each with its source, and ends; that text is a run file itself, and stands as `run.toml` in the run directory.",
            "Paths are relative to where the program is started.", "",
            "Settings of the **run** are the same for all machines: they are part of the run's spec, under the name in the last column, whose",
            "SHA-256 names the run. Settings of the **host** are each machine's own affair.",
        ]
        var section: String?
        for key in SettingKey.allCases {
            if key.section != section {
                section = key.section
                lines += ["", key.section.isEmpty ? "## Before the first section" : "## `[\(key.section)]`", ""]
                lines += ["| key, flag | value | default | meaning | whose |", "| --- | --- | --- | --- | --- |"]
            }
            lines.append("| " + cells(of: key).map { $0.replacing("|", with: "\\|") }.joined(separator: " | ") + " |")
        }
        lines += ["", "## Former names", "", "They are errors that name the new one.", "", "| then | now |", "| --- | --- |"]
        for key in SettingKey.allCases {
            for name in key.setting.formerly { lines.append("| `\(name)` | `\(key.rawValue)` |") }
            for (word, now) in key.setting.formerWords.sorted(by: { $0.key < $1.key }) {
                lines.append("| `\"\(word)\"` of `\(key.setting.formerly.first ?? key.name)` | `\"\(now)\"` of `\(key.name)` |")
            }
        }
        for (name, remedy) in Setting.retired.sorted(by: { $0.key < $1.key }) { lines.append("| `\(name)` | \(remedy) |") }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func cells(of key: SettingKey) -> [String] {
        let setting = key.setting
        let unit = setting.unit.map { ", \($0)" } ?? ""
        let owner =
            switch setting.owner {
            case .run(let place): "run: `\(place)`"
            case .host: "host"
            }
        return [
            "`\(key.name)`<br>`\(key.flag)`", setting.type.description + unit, setting.standard.text ?? "",
            setting.help + (setting.details.map { " \($0)" } ?? ""), owner,
        ]
    }
}
