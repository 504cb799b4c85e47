import Core
import Foundation
import LanguageModel
import TOMLKit

/// Reads a run file in TOML. Every key must be known, and every value must have its setting's type and range.
enum SettingsFile {
    /// Largest size of a run file, which is written by hand.
    static let maximumBytes = 1 << 20

    /// Returns the values in a run file, each with its line as source.
    ///
    /// - Throws: `SettingsError` `.missing` if the file can't be read; `.file` with `path:line` for any error in it.
    static func read(_ path: String) throws(SettingsError) -> [SettingKey: (SettingValue, SettingSource)] {
        guard let data = FileManager.default.contents(atPath: path) else {
            if let missing = MissingPath(path) { throw SettingsError(.missing, "\(path): \(missing.problem)\n\(missing.remedy)") }
            throw SettingsError(.missing, "\(path): can't read the run file; may this user read it, and is it a file?")
        }
        if let foreign = ForeignFormat(start: Array(data.prefix(ForeignFormat.bytesNeeded)), path: path, isTaken: isFile) {
            throw SettingsError(.file, "\(path): \(foreign.problem)\n\(foreign.remedy)")
        }
        guard data.count <= maximumBytes, let text = String(validating: data, as: UTF8.self) else {
            throw SettingsError(.file, "\(path): not a run file (TOML in UTF-8, at most \(maximumBytes >> 20) MiB)")
        }
        return try parse(text, path: path)
    }

    static func parse(_ text: String, path: String) throws(SettingsError) -> [SettingKey: (SettingValue, SettingSource)] {
        // The parser would treat this byte as the end of the text.
        if let end = text.utf8.firstIndex(of: 0) {
            let line = text.utf8[..<end].count { $0 == UInt8(ascii: "\n") } + 1
            throw SettingsError(.file, "\(path):\(line): a NUL byte, which TOML does not have")
        }
        if let line = NamelessTable.line(in: text) {
            throw SettingsError(.file, "\(path):\(line): not TOML: a table's name must follow its [, such as [task]")
        }
        let root: TOMLTable
        do {
            root = try TOMLTable(string: text)
        } catch let error as TOMLParseError {
            throw SettingsError(.file, "\(path):\(error.source.begin.line): not TOML: \(error.description)")
        } catch {
            throw SettingsError(.file, "\(path): not TOML: \(error)")
        }
        // TOMLKit's tables point into the root without owning it.
        defer { withExtendedLifetime(root) {} }
        let lines = KeyLines(text)
        var settings: [SettingKey: (SettingValue, SettingSource)] = [:]
        /// Sets a value once. TOML itself refuses a key that is given twice, but a setting has several spellings.
        func set(_ key: SettingKey, _ value: SettingValue, _ source: SettingSource) throws(SettingsError) {
            if let earlier = settings[key] {
                throw SettingsError(.file, "\(source): \(key.rawValue) is given twice, also at \(earlier.1); leave one out")
            }
            settings[key] = (value, source)
        }
        func take(_ place: String, _ value: any TOMLValueConvertible) throws(SettingsError) {
            let line = lines.line(of: place)
            let source = SettingSource.file(path: path, line: line)
            guard let key = SettingKey(rawValue: place) else {
                throw SettingsError(.file, "\(source): \(unknown(place))")
            }
            guard key == .objective, let table = value.table else {
                try set(key, try read(value, for: key, source), source)
                return
            }
            // A table means a command's score, and says how the texts are written.
            try set(key, .text(Objective.command.rawValue), source)
            for name in table.keys {
                guard let part = SettingKey.partsOfObjective[name], let value = table[name] else {
                    let hint = nearestWord(to: name, in: SettingKey.partsOfObjective.keys.sorted()).map { "; did you mean \"\($0)\"?" } ?? ""
                    throw .wrong(
                        source, key,
                        "unknown setting \"\(name)\" (known: \(SettingKey.partsOfObjective.keys.sorted().joined(separator: ", ")))\(hint)")
                }
                try set(part, try read(value, for: part, source), source)
            }
        }
        let sections = Set(SettingKey.allCases.map(\.section)).subtracting([""])
        for name in root.keys {
            guard let value = root[name] else { continue }
            if sections.contains(name), let section = value.table {
                for key in section.keys {
                    if let value = section[key] { try take("\(name).\(key)", value) }
                }
            } else {
                try take(name, value)
            }
        }
        return settings
    }

    private static func read(
        _ value: any TOMLValueConvertible, for key: SettingKey, _ source: SettingSource
    ) throws(SettingsError) -> SettingValue {
        switch key.setting.type {
        case .text, .oneOf:
            if let text = value.string { return .text(text) }
            throw .wrong(source, key, "must be a text in quotes, not \(described(value))")
        case .size:
            if let text = value.string { return .text(text) }
            if let integer = value.int { return .text("\(integer)") }
            throw .wrong(source, key, "must be a size such as \"2GB\", not \(described(value))")
        case .integer(let range, let words):
            if let integer = value.int {
                // The number behind a word can't be given directly.
                guard range.contains(integer) else { throw .wrong(source, key, Settings.outside(integer, range, words)) }
                return .integer(integer)
            }
            if let integer = value.string.flatMap({ words[$0] }) { return .integer(integer) }
            throw .wrong(source, key, "must be a whole number\(words.keys.sorted().map { " or \"\($0)\"" }.joined()), not \(described(value))")
        case .number:
            if let number = value.double { return .number(number) }
            if let integer = value.int { return .number(Double(integer)) }
            throw .wrong(source, key, "must be a number, not \(described(value))")
        case .texts:
            if let text = value.string { return .texts([text]) }
            if let array = value.array {
                let texts = array.compactMap(\.string)
                if texts.count == array.count, !texts.isEmpty { return .texts(texts) }
            }
            throw .wrong(source, key, "must be a text or a list of texts, not \(described(value))")
        case .table:
            guard let table = value.table else {
                throw .wrong(source, key, "must be a table such as { 0 = \" terrible\", 1 = \" great\" }, not \(described(value))")
            }
            var texts: [String: String] = [:]
            for name in table.keys {
                guard let text = table[name]?.string else {
                    throw .wrong(source, key, "the word of \"\(name)\" must be a text in quotes")
                }
                texts[name] = text
            }
            return .table(texts)
        }
    }

    private static func described(_ value: any TOMLValueConvertible) -> String {
        switch value.type {
        case .string: "the text \"\(value.string ?? "")\""
        case .int: "\(value.int ?? 0)"
        case .double: "\(value.double ?? 0)"
        case .bool: "\(value.bool ?? false)"
        case .array: value.array?.isEmpty == true ? "an empty list" : "a list with something else in it"
        case .table: "a table"
        default: "a date or a time"
        }
    }

    /// Returns what is wrong with an unknown key, and what to do.
    private static func unknown(_ place: String) -> String {
        let name = place.split(separator: ".").last.map(String.init) ?? place
        let unknown = "unknown setting \"\(place)\""
        switch SettingNames.meaning(of: name) {
        case .retired(let remedy): return "\"\(place)\" \(remedy)"
        case .former(let key): return "\"\(place)\" is now \"\(key.rawValue)\"\(SettingNames.wordsChanged(of: key)); rename it"
        // This also finds the right key in the wrong section.
        case .likely(let key): return "\(unknown); did you mean \"\(key.rawValue)\"?"
        case nil: break
        }
        if let nearest = nearestWord(to: place, in: SettingKey.allCases.map(\.rawValue)) { return "\(unknown); did you mean \"\(nearest)\"?" }
        if let near = nearestWord(to: name, in: SettingKey.allCases.map(\.name)),
            let key = SettingKey.allCases.first(where: { $0.name == near })
        {
            return "\(unknown); did you mean \"\(key.rawValue)\"?"
        }
        return "\(unknown); `onebyte settings` lists what there is"
    }
}

/// The line of each key in a TOML text. TOMLKit keeps no positions after parsing. The text is valid here, so reading headers and `key =` is
/// enough. Keys within an inline table have the line of the table.
private struct KeyLines {
    private var lines: [String: Int] = [:]

    init(_ text: String) {
        var section = ""
        // Works on bytes, because Swift treats a Windows line end as one character that is not a line feed.
        for (index, bytes) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
            let line = String(Substring(bytes)).trimmingCharacters(in: CharacterSet(charactersIn: " \t\r\u{FEFF}"))
            if line.hasPrefix("["), let end = line.utf8.firstIndex(of: UInt8(ascii: "]")) {
                section = String(line[line.index(after: line.startIndex)..<end])
                lines[section] = lines[section] ?? index + 1
            } else if let equals = line.utf8.firstIndex(of: UInt8(ascii: "=")), !line.hasPrefix("#") {
                let key = line[..<equals].trimmingCharacters(in: CharacterSet(charactersIn: " \t\"'"))
                let place = section.isEmpty ? key : "\(section).\(key)"
                lines[place] = lines[place] ?? index + 1
            }
        }
    }

    func line(of place: String) -> Int? {
        if let line = lines[place] { return line }
        guard let dot = place.lastIndex(of: ".") else { return nil }
        return line(of: String(place[..<dot]))
    }
}
