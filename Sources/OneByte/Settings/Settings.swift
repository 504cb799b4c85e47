import Core
import Foundation
import LanguageModel
import Training

/// All settings of a run with their sources. Flags override the run file, which overrides defaults.
package struct Settings: Sendable {
    private var values: [SettingKey: (value: SettingValue, source: SettingSource)] = [:]

    /// - Parameters:
    ///   - file: path of a run file, if there is one.
    ///   - flags: values from the command line, as texts.
    /// - Throws: `SettingsError` for a file that can't be read and for any wrong value.
    package init(file: String?, flags: [SettingKey: [String]]) throws(SettingsError) {
        if let file {
            for (key, entry) in try SettingsFile.read(file) { values[key] = entry }
        }
        for (key, texts) in flags {
            values[key] = (try Self.value(of: texts, for: key), .flag(key.flag))
        }
        if case .text(let name)? = values[.preset]?.value, let preset = Preset(rawValue: name) {
            for (key, value) in preset.values where values[key] == nil { values[key] = (value, .derived("of the preset \(name)")) }
        }
        for key in SettingKey.allCases where values[key] == nil {
            guard let standard = key.setting.standard.value(self) else { continue }
            values[key] = (standard.value, standard.reason.map(SettingSource.derived) ?? .standard)
        }
        try checkObjective()
        for (key, entry) in values { try Self.check(entry.value, for: key, entry.source) }
        if try integer(.dampedComponents) > 0, try text(.perturbation) != PerturbationFamily.rank1.rawValue {
            throw .wrong(values[.dampedComponents]?.source ?? .standard, .dampedComponents, "needs the perturbation rank1; leave it out, or say 0")
        }
        if try integer(.dampedComponents) > 0, trainsOnlyAdapters {
            throw .wrong(
                values[.dampedComponents]?.source ?? .standard, .dampedComponents,
                "is for directions of layers, and only adapters are trained; leave it out, or train layers (\(SettingKey.train.flag))")
        }
        if try number(.momentum) > 0, !trainsOnlyAdapters {
            throw .wrong(values[.momentum]?.source ?? .standard, .momentum, "needs that only adapters are trained; leave it out, or say 0")
        }
        if try integer(.warmupRounds) > integer(.rounds) {
            throw .wrong(values[.warmupRounds]?.source ?? .standard, .warmupRounds, "more than all rounds")
        }
    }

    /// Refuses settings of a command's score if the objective is another one, because they would have no effect.
    private func checkObjective() throws(SettingsError) {
        let objective = self[text: .objective] ?? ""
        guard objective != Objective.command.rawValue else { return }
        for key in SettingKey.partsOfObjective.values {
            if let source = values[key]?.source, source != .standard {
                throw .wrong(source, key, "belongs to the objective command, and the objective is \(objective)")
            }
        }
    }

    /// Sets a value that follows from something else, such as the kind of task from the data.
    package mutating func derive(_ key: SettingKey, _ value: SettingValue, from what: String) {
        values[key] = (value, .derived(what))
    }

    /// Removes a setting that has been carried out.
    package mutating func remove(_ key: SettingKey) { values[key] = nil }

    /// Returns where hidden states are kept: bytes of memory, and a directory for files. The directory is nil if there is no home
    /// directory, as in some services; everything is then kept in memory.
    package func prefixCache() throws(SettingsError) -> (memoryBytes: Int, directory: String?) {
        if let directory = optionalText(.cacheDirectory) {
            if case .flag(let flag)? = source(.cacheMemory) {
                throw .usage("\(flag) does nothing beside \(SettingKey.cacheDirectory.flag), which keeps all in files; leave one out")
            }
            return (0, directory)
        }
        let bytes = ByteSize(try text(.cacheMemory))?.bytes ?? 0
        let environment = ProcessInfo.processInfo.environment
        // Relative paths in this variable must be ignored (XDG Base Directory Specification).
        if let path = environment["XDG_CACHE_HOME"], path.hasPrefix("/") { return (bytes, path + "/onebyte") }
        return (bytes, environment["HOME"].flatMap { $0.isEmpty ? nil : $0 + "/.cache/onebyte" })
    }

    /// Returns the precision of samples, and of the hidden states that are computed once for each example.
    package func precision() throws(SettingsError) -> ComputePrecision {
        guard let samples = Precision(rawValue: try text(.precision)), let prefix = Precision(rawValue: try text(.prefixPrecision)) else {
            throw .usage("the precision is unknown")
        }
        return ComputePrecision(samples: samples, hiddenStates: prefix)
    }

    /// Returns the value from the file or a flag, even for a setting further down in the table, whose default is not known yet.
    func given(_ key: SettingKey) -> SettingValue? { values[key]?.value }
    /// Whether the file or a flag gives the setting.
    func isGiven(_ key: SettingKey) -> Bool {
        switch values[key]?.source {
        case .file, .flag: true
        case .standard, .derived, nil: false
        }
    }
    package func has(_ key: SettingKey) -> Bool { values[key] != nil }
    package func source(_ key: SettingKey) -> SettingSource? { values[key]?.source }

    private subscript(text key: SettingKey) -> String? {
        if case .text(let text)? = values[key]?.value { text } else { nil }
    }

    /// Returns the text of a setting that must have a value.
    ///
    /// - Throws: `SettingsError` `.usage` with the flag and the key if there is no value.
    package func text(_ key: SettingKey) throws(SettingsError) -> String {
        guard let text = self[text: key] else { throw Self.needed(key) }
        return text
    }

    package func optionalText(_ key: SettingKey) -> String? { self[text: key] }

    /// Returns the program that scores texts; nil if there is none.
    package func scoring() throws(SettingsError) -> ScoringProgram.Options? {
        guard let command = optionalText(.objectiveCommand) else { return nil }
        // A file that the user wrote counts like a flag. A file in a run directory may come from somebody else.
        if case .file(let path, _)? = source(.objectiveCommand), Self.isInRunDirectory(path) {
            throw SettingsError.usage(
                "\(path): this run's objective is a command, which stands in the run directory: \(command)\nIf you trust it, give it yourself: \(SettingKey.objectiveCommand.flag) \(shellWord(command))"
            )
        }
        return ScoringProgram.Options(command: command, timeoutSeconds: try number(.objectiveTimeout))
    }

    private static func isInRunDirectory(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: URL(filePath: path).deletingLastPathComponent().appending(path: "ledger").path)
    }

    package func texts(_ key: SettingKey) throws(SettingsError) -> [String] {
        guard case .texts(let texts)? = values[key]?.value else { throw Self.needed(key) }
        return texts
    }

    package func integer(_ key: SettingKey) throws(SettingsError) -> Int {
        guard case .integer(let integer)? = values[key]?.value else { throw Self.needed(key) }
        return integer
    }

    package func number(_ key: SettingKey) throws(SettingsError) -> Double {
        guard case .number(let number)? = values[key]?.value else { throw Self.needed(key) }
        return number
    }

    package func table(_ key: SettingKey) -> [String: String]? {
        guard case .table(let table)? = values[key]?.value else { return nil }
        return table
    }

    private static func needed(_ key: SettingKey) -> SettingsError {
        SettingsError(.usage, "\(key.flag) is needed (or \(key.rawValue) in a run file given with --config)")
    }

    /// The effective configuration as a run file that gives the same run again, each line with its source.
    package var annotated: String { annotated(without: []) }

    /// - Parameter left: settings to leave out.
    package func annotated(without left: Set<SettingKey>) -> String {
        var lines: [String] = []
        var section = ""
        for key in SettingKey.allCases where !left.contains(key) {
            guard let entry = values[key] else { continue }
            if key.section != section {
                section = key.section
                lines += ["", "[\(section)]"]
            }
            let assignment = "\(key.name) = \(Self.inFile(entry.value, key).toml)"
            let padding = String(repeating: " ", count: max(1, 44 - assignment.count))
            lines.append("\(assignment)\(padding)# \(entry.source)")
        }
        return lines.joined(separator: "\n").trimmingCharacters(in: .newlines) + "\n"
    }

    // MARK: Values

    /// Returns a value for a run file. A number that can only be given as a word is written as the word.
    private static func inFile(_ value: SettingValue, _ key: SettingKey) -> SettingValue {
        guard case .integer(let range, let words) = key.setting.type, case .integer(let integer) = value, !range.contains(integer),
            let word = words.first(where: { $0.value == integer })
        else { return value }
        return .text(word.key)
    }

    private static func value(of texts: [String], for key: SettingKey) throws(SettingsError) -> SettingValue {
        let source = SettingSource.flag(key.flag)
        let last = texts.last ?? ""
        switch key.setting.type {
        case .text, .oneOf, .size: return .text(last)
        case .integer(let range, let words):
            if let integer = words[last] { return .integer(integer) }
            guard let integer = Int(last) else { throw .wrong(source, key, "\"\(last)\" is no whole number\(Self.orAWord(words))") }
            // The number behind a word can't be given directly.
            guard range.contains(integer) else { throw .wrong(source, key, Self.outside(integer, range, words)) }
            return .integer(integer)
        case .number:
            guard let number = Double(last), number.isFinite else { throw .wrong(source, key, "\"\(last)\" is no number") }
            return .number(number)
        case .texts: return .texts(texts.flatMap { $0.utf8.split(separator: UInt8(ascii: ",")).map { String(Substring($0)) } })
        case .table:
            var table: [String: String] = [:]
            for text in texts {
                // Works on bytes, because an accent at the beginning of the word would combine with the equals sign.
                guard let equals = text.utf8.firstIndex(of: UInt8(ascii: "=")), equals > text.startIndex else {
                    throw .wrong(source, key, "\"\(text)\" must be label=word, for instance '1= great'")
                }
                let label = String(text[..<equals])
                guard table.updateValue(String(text[text.utf8.index(after: equals)...]), forKey: label) == nil else {
                    throw .wrong(source, key, "the label \"\(label)\" is given twice")
                }
            }
            return .table(table)
        }
    }

    private static func check(_ value: SettingValue, for key: SettingKey, _ source: SettingSource) throws(SettingsError) {
        switch (key.setting.type, value) {
        case (.oneOf(let words), .text(let text)) where !words.contains(text):
            if let now = key.setting.formerWords[text] { throw .wrong(source, key, "\"\(text)\" is now \"\(now)\"") }
            let hint = nearestWord(to: text, in: words).map { "; did you mean \"\($0)\"?" } ?? ""
            throw .wrong(source, key, "\"\(text)\" is none of \(words.joined(separator: ", "))\(hint)")
        case (.integer(let range, let words), .integer(let integer)) where !range.contains(integer) && !words.values.contains(integer):
            throw .wrong(source, key, outside(integer, range, words))
        case (.number(let range, let orZero), .number(let number)) where !range.contains(number) && !(orZero && number == 0):
            throw .wrong(source, key, "\(number) is not \(orZero ? "0 or " : "")within \(RunSpecLimits.text(range))")
        case (.size, .text(let text)) where ByteSize(text) == nil:
            throw .wrong(source, key, "\"\(text)\" is no size; say 512MB or 2GB, for instance")
        case (.text, .text("")): throw .wrong(source, key, "must not be empty")
        default: return
        }
    }

    /// Returns what is wrong with a whole number from a flag or a run file.
    static func outside(_ integer: Int, _ range: ClosedRange<Int>, _ words: [String: Int]) -> String {
        "\(integer) is not within \(RunSpecLimits.text(range))\(orAWord(words))"
    }

    static func orAWord(_ words: [String: Int]) -> String { words.keys.sorted().map { ", nor \"\($0)\"" }.joined() }
}
