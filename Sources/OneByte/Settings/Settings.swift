import Core
import Foundation
import LanguageModel
import Training

/// All settings of a run with where each comes from: flags over the run file over defaults.
package struct Settings: Sendable {
    private var values: [SettingKey: (value: SettingValue, source: SettingSource)] = [:]

    /// - Parameters:
    ///   - file: a run file's path, if there is one.
    ///   - flags: what the command line gives, as texts.
    /// - Throws: `SettingsError` for a file that can't be read and for any value that is wrong.
    package init(file: String?, flags: [SettingKey: [String]]) throws(SettingsError) {
        for (key, value) in Self.standard { values[key] = (value, .standard) }
        if let file {
            for (key, entry) in try SettingsFile.read(file) { values[key] = entry }
        }
        for (key, texts) in flags {
            values[key] = (try Self.value(of: texts, for: key), .flag(key.flag))
        }
        deriveWhatIsMissing()
        try checkObjective()
        for (key, entry) in values { try Self.check(entry.value, for: key, entry.source) }
        if try integer(.dampedComponents) > 0, try text(.perturbation) != PerturbationFamily.rank1.rawValue {
            throw .wrong(values[.dampedComponents]?.source ?? .standard, .dampedComponents, "needs the perturbation rank1; leave it out, or say 0")
        }
        if try integer(.warmupRounds) > integer(.rounds) {
            throw .wrong(values[.warmupRounds]?.source ?? .standard, .warmupRounds, "more than all rounds")
        }
    }

    private static let standard: [SettingKey: SettingValue] = [
        .maxLength: .integer(128),
        .objective: .text("loss"),
        .generalizedCrossEntropy: .number(0),
        .train: .texts(["all"]),
        .perturbation: .text(PerturbationFamily.rank1.rawValue),
        .schedule: .text(LearningRateSchedule.linear.rawValue),
        .warmupRounds: .integer(0),
        .rounds: .integer(400),
        .samplesPerRound: .integer(256),
        .rateTrials: .integer(0),
        .patience: .integer(0),
        .targetMagnitude: .integer(32),
        .seed: .integer(0),
        .evaluateEvery: .integer(20),
        .digestEvery: .integer(20),
        .workers: .integer(3),
        .minimumWorkers: .integer(1),
        .roundDeadlineFactor: .number(0),
        .quorum: .number(0.5),
        .staleness: .integer(0),
        .roundSeconds: .number(0),
        .filter: .text("none"),
        .filterFactor: .number(3),
        .onFaulty: .text("show"),
        .heartbeat: .number(1),
        .heartbeatTimeout: .number(10),
        .listen: .text("tcp://127.0.0.1:5151"),
        .cacheMemory: .text("2GiB"),
        .precision: .text(Precision.float.rawValue),
    ]

    /// What belongs to a command's score is an error beside another objective: it would do nothing.
    private func checkObjective() throws(SettingsError) {
        let objective = self[text: .objective] ?? ""
        guard objective != Objective.command.rawValue else { return }
        for key in SettingKey.partsOfObjective.values {
            if let source = values[key]?.source, source != .standard {
                throw .wrong(source, key, "belongs to the objective command, and the objective is \(objective)")
            }
        }
    }

    private mutating func deriveWhatIsMissing() {
        if values[.objectiveCommand] != nil, values[.objective]?.source == .standard {
            values[.objective] = (.text(Objective.command.rawValue), .derived("since there is a command"))
        }
        if self[text: .objective] == Objective.command.rawValue {
            let standard: [SettingKey: SettingValue] = [
                .objectiveMaxTokens: .integer(Writing.defaultMaxTokens), .objectiveStop: .text("end"),
                .objectiveTimeout: .number(ScoringProgram.Options.defaultTimeoutSeconds),
            ]
            for (key, value) in standard where values[key] == nil { values[key] = (value, .standard) }
        }
        let family = self[text: .perturbation]
        let hasSteps = self[text: .objective] != "loss"
        if values[.epsilon] == nil { values[.epsilon] = hasSteps ? (.number(0.03), .derived("since the objective has steps")) : (.number(1e-3), .standard) }
        if values[.batchSize] == nil {
            values[.batchSize] = hasSteps ? (.integer(32), .derived("since the objective has steps")) : (.integer(1), .standard)
        }
        if values[.samplesPerBatch] == nil {
            // Two cost no learning that could be measured, more do (docs/research/learning.md); a round still reads 32 examples or more.
            let shared = if case .integer(let samples)? = values[.samplesPerRound]?.value, !hasSteps, samples >= 64 { 2 } else { 1 }
            values[.samplesPerBatch] = (.integer(shared), .derived("by the samples of a round"))
        }
        if values[.estimator] == nil {
            let shares = values[.samplesPerBatch]?.value != .integer(1) && !hasSteps
            let reason = shares ? "since samples share examples" : hasSteps ? "since the objective has steps" : "since no samples share examples"
            values[.estimator] = (.text((shares ? EstimatorKind.oneSided : .twoSided).rawValue), .derived(reason))
        }
        if values[.dampedComponents] == nil {
            // A shape needs public text to be made from, and pays at the top of the model.
            let shaped = family == PerturbationFamily.rank1.rawValue && values[.basisText] != nil
            values[.dampedComponents] = (.integer(shaped ? 4 : 0), .derived(shaped ? "since there is public text" : "without public text"))
        }
        if values[.guardTolerance] == nil {
            let has = values[.validationFile] != nil && values[.evaluateEvery]?.value != .integer(0)
            values[.guardTolerance] = (.number(has ? 0.1 : 0), .derived(has ? "since there is validation data" : "without validations"))
        }
        if values[.learningRate] == nil {
            let shaped = values[.dampedComponents]?.value != .integer(0)
            let rate: (Double, String) =
                switch (family, shaped) {
                case ("rank1", _) where hasSteps: (0.1, "for rank1 and an objective with steps")
                case ("rank1", true): (0.04, "for a shaped rank1")
                case ("rank1", false): (0.016, "for a plain rank1")
                default: (3e-5, "for a dense perturbation")
                }
            values[.learningRate] = (.number(rate.0), .derived(rate.1))
        }
    }

    /// Takes a value over from elsewhere, such as the kind of task that the data show.
    package mutating func derive(_ key: SettingKey, _ value: SettingValue, from what: String) {
        values[key] = (value, .derived(what))
    }

    package func has(_ key: SettingKey) -> Bool { values[key] != nil }
    package func source(_ key: SettingKey) -> SettingSource? { values[key]?.source }

    private subscript(text key: SettingKey) -> String? {
        if case .text(let text)? = values[key]?.value { text } else { nil }
    }

    /// - Throws: `SettingsError` `.usage` that names the flag and the key where there is no value.
    package func text(_ key: SettingKey) throws(SettingsError) -> String {
        guard let text = self[text: key] else { throw Self.needed(key) }
        return text
    }

    package func optionalText(_ key: SettingKey) -> String? { self[text: key] }

    /// The program that scores texts, if there is one.
    package func scoring() throws(SettingsError) -> ScoringProgram.Options? {
        guard let command = optionalText(.objectiveCommand) else { return nil }
        return ScoringProgram.Options(command: command, timeoutSeconds: try number(.objectiveTimeout))
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
    package var annotated: String {
        var lines: [String] = []
        var section = ""
        for key in SettingKey.allCases {
            guard let entry = values[key] else { continue }
            if key.section != section {
                section = key.section
                lines += ["", "[\(section)]"]
            }
            let assignment = "\(key.name) = \(entry.value.toml)"
            let padding = String(repeating: " ", count: max(1, 44 - assignment.count))
            lines.append("\(assignment)\(padding)# \(entry.source)")
        }
        return lines.joined(separator: "\n").trimmingCharacters(in: .newlines) + "\n"
    }

    // MARK: Values

    private static func value(of texts: [String], for key: SettingKey) throws(SettingsError) -> SettingValue {
        let source = SettingSource.flag(key.flag)
        let last = texts.last ?? ""
        switch key.valueType {
        case .text, .oneOf, .size: return .text(last)
        case .integer:
            if key == .dampedComponents, last == "none" { return .integer(0) }
            guard let integer = Int(last) else { throw .wrong(source, key, "\"\(last)\" is no whole number") }
            return .integer(integer)
        case .number:
            guard let number = Double(last), number.isFinite else { throw .wrong(source, key, "\"\(last)\" is no number") }
            return .number(number)
        case .texts: return .texts(texts.flatMap { $0.split(separator: ",").map(String.init) })
        case .table:
            var table: [String: String] = [:]
            for text in texts {
                guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
                    throw .wrong(source, key, "\"\(text)\" must be label=word, for instance '1= great'")
                }
                let label = String(text[..<equals])
                guard table.updateValue(String(text[text.index(after: equals)...]), forKey: label) == nil else {
                    throw .wrong(source, key, "the label \"\(label)\" is given twice")
                }
            }
            return .table(table)
        }
    }

    private static func check(_ value: SettingValue, for key: SettingKey, _ source: SettingSource) throws(SettingsError) {
        switch (key.valueType, value) {
        case (.oneOf(let words), .text(let text)) where !words.contains(text):
            let hint = nearestWord(to: text, in: words).map { "; did you mean \"\($0)\"?" } ?? ""
            throw .wrong(source, key, "\"\(text)\" is none of \(words.joined(separator: ", "))\(hint)")
        case (.integer(let range), .integer(let integer)) where !range.contains(integer):
            throw .wrong(source, key, "\(integer) is not within \(range.lowerBound) … \(range.upperBound)")
        case (.number(let range), .number(let number)) where !range.contains(number):
            throw .wrong(source, key, "\(number) is not within \(range.lowerBound) … \(range.upperBound)")
        case (.size, .text(let text)) where ByteSize(text) == nil:
            throw .wrong(source, key, "\"\(text)\" is no size; say 512MB or 2GB, for instance")
        case (.text, .text("")): throw .wrong(source, key, "must not be empty")
        default: return
        }
    }
}
