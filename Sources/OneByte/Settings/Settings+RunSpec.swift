import Core
import Foundation
import LanguageModel
import Training

extension Settings {
    /// Returns the task. What the settings leave open follows from template and labels, or from the first line of the training file.
    ///
    /// - Throws: `DataError` if the kind has to be found out and the file does not show it; `SettingsError` for a wrong setting.
    package mutating func resolveTask() throws -> TaskSpec {
        if !has(.kind), has(.template), has(.labels) {
            derive(.kind, .text(TaskSpec.Kind.classification.rawValue), from: "since there are a template and labels")
        }
        if !has(.kind) {
            guard let path = optionalText(.trainFile) else {
                throw SettingsError.usage(
                    "the kind of task can't be told without data; give --kind (or task.kind in a run file given with --config)")
            }
            for first in try DataFile.read(path, limit: 1) {
                derive(.kind, .text(try TaskSpec.kind(of: first).rawValue), from: "from the fields of \(path)")
            }
        }
        guard let kind = TaskSpec.Kind(rawValue: try text(.kind)) else {
            throw SettingsError.wrong(source(.kind) ?? .standard, .kind, "unknown")
        }
        if kind == .classification { try checkClassification() }
        let objective = Objective(rawValue: try text(.objective))
        var writing: Writing?
        if objective == .command {
            writing = Writing(maxTokens: try integer(.objectiveMaxTokens), stopsAtNewline: try text(.objectiveStop) == "newline" ? true : nil)
        }
        let q = try number(.generalizedCrossEntropy)
        return TaskSpec(
            kind: kind, template: optionalText(.template), labels: table(.labels).map(Self.ordered),
            maxLength: try integer(.maxLength), objective: objective, writing: writing, generalizedCrossEntropy: q > 0 ? q : nil)
    }

    /// Reports everything that a classification lacks at once, with the labels in its data.
    private func checkClassification() throws(SettingsError) {
        let (lacksTemplate, lacksLabels) = (!has(.template), (table(.labels)?.count ?? 0) < 2)
        guard lacksTemplate || lacksLabels else { return }
        let what = [lacksTemplate ? "a template" : nil, lacksLabels ? "a word for each of two or more labels" : nil].compactMap { $0 }
        var examples = lacksTemplate ? ["\(SettingKey.template.flag) \(shellWord("{\(fieldOfData)} It was"))"] : []
        var known = ""
        if lacksLabels {
            let counts = labelsInData()
            let words = counts.count < 2 ? ["0= terrible", "1= great"] : counts.prefix(Self.labelsShown).map { "\($0.label)= …" }
            examples += words.map { "\(SettingKey.labels.flag) \(shellWord($0))" }
            if let path = optionalText(.trainFile), counts.count > 1 {
                let read = counts.reduce(0) { $0 + $1.count } >= Self.recordsOfLabels ? "the first \(grouped(Self.recordsOfLabels)) examples of " : ""
                let shown =
                    counts.prefix(Self.labelsShown).map { "\($0.label) (\(grouped($0.count)))" } + (counts.count > Self.labelsShown ? ["…"] : [])
                known = "; the labels in \(read)\(path) are \(shown.joined(separator: ", "))"
            }
        }
        throw .usage("a classification needs \(what.joined(separator: " and "))\(known)\nfor instance: \(examples.joined(separator: " "))")
    }

    /// The field of the training data that a template may begin with.
    private var fieldOfData: String {
        let names = optionalText(.trainFile).flatMap { try? DataFile.read($0, limit: 1).first?.names } ?? []
        return names.contains("text") ? "text" : names.first { $0 != "label" } ?? "text"
    }

    private static let labelsShown = 12
    /// Largest number of records that are read only to list their labels.
    private static let recordsOfLabels = 100_000

    /// Returns the labels of the training data with their counts, in the order of classes.
    private func labelsInData() -> [(label: String, count: Int)] {
        guard let path = optionalText(.trainFile), let records = try? DataFile.read(path, limit: Self.recordsOfLabels) else { return [] }
        var counts: [String: Int] = [:]
        for record in records { if let label = record.label { counts[label, default: 0] += 1 } }
        return Self.ordered(counts.mapValues { "\($0)" }).map { ($0.label, counts[$0.label] ?? 0) }
    }

    /// Returns the classes ordered by label, numerically if all labels are numbers. The order of a TOML table or of flags must not decide
    /// which class is which.
    static func ordered(_ words: [String: String]) -> [LabelWord] {
        let allNumbers = words.keys.allSatisfy { Int($0) != nil }
        return words.map { LabelWord(label: $0.key, word: $0.value) }.sorted { a, b in
            if allNumbers, let x = Int(a.label), let y = Int(b.label), x != y { return x < y }
            return a.label.utf8.lexicographicallyPrecedes(b.label.utf8)
        }
    }

    /// Returns the run's specification.
    ///
    /// - Parameters:
    ///   - task: result of `resolveTask`.
    ///   - basisDigest: digest of the run's basis, if it has one.
    /// - Throws: `SettingsError` for a setting that is missing or wrong.
    package func runSpec(task: TaskSpec, basisDigest: Digest?) throws(SettingsError) -> RunSpec {
        guard let perturbation = PerturbationFamily(rawValue: try text(.perturbation)),
            let schedule = LearningRateSchedule(rawValue: try text(.schedule)), let estimator = EstimatorKind(rawValue: try text(.estimator))
        else { throw SettingsError(.usage, "unknown perturbation, schedule or estimator") }
        let factor = try number(.filterFactor)
        let box = try number(.roundSeconds)
        let shared = try integer(.samplesPerBatch)
        let momentum = try number(.momentum)
        let (trials, tolerance, patience) = (try integer(.rateTrials), try number(.guardTolerance), try integer(.patience))
        let steering = Steering(
            trialRounds: trials > 0 ? trials : nil, guardTolerance: tolerance > 0 ? tolerance : nil, patience: patience > 0 ? patience : nil)
        let spec = RunSpec(
            seed: UInt64(try integer(.seed)),
            train: try texts(.train),
            perturbation: perturbation,
            // A spec without this field means random sampling.
            sampling: try text(.sampling) == DirectionSampling.orthogonal.rawValue ? .orthogonal : nil,
            momentum: momentum > 0 ? momentum : nil,
            dampedComponents: try integer(.dampedComponents),
            basisDigest: basisDigest,
            epsilon: try number(.epsilon),
            learningRate: try number(.learningRate),
            schedule: schedule,
            warmupRounds: try integer(.warmupRounds),
            rounds: try integer(.rounds),
            samplesPerRound: try integer(.samplesPerRound),
            batchSize: try integer(.batchSize),
            targetMagnitude: try integer(.targetMagnitude),
            task: task,
            digestEvery: try integer(.digestEvery),
            evaluateEvery: try integer(.evaluateEvery),
            minimumWorkers: try integer(.minimumWorkers),
            roundDeadlineFactor: try number(.roundDeadlineFactor),
            quorum: try number(.quorum),
            staleness: try integer(.staleness),
            roundSeconds: box > 0 ? box : nil,
            samplesPerBatch: shared > 1 ? shared : nil,
            estimator: estimator == .twoSided ? nil : estimator,
            steering: steering == Steering() ? nil : steering,
            filter: try RoundFilter.Kind(rawValue: text(.filter)).map { RoundFilter(kind: $0, factor: factor) },
            privacy: try privacy(),
            evictsFaultyMachines: try text(.onFaulty) == "evict" ? true : nil,
            heartbeatSeconds: try number(.heartbeat),
            heartbeatTimeoutSeconds: try number(.heartbeatTimeout))
        do throws(RunSpecError) {
            try spec.validate()
        } catch {
            throw inOwnWords(error)
        }
        return spec
    }

    /// Returns an error in a spec in terms of the setting that caused it.
    private func inOwnWords(_ error: RunSpecError) -> SettingsError {
        guard case .field(let field, let rule) = error, let key = SettingKey.allCases.first(where: { $0.setting.owner == .run(field) }) else {
            return SettingsError(.usage, "\(error)")
        }
        return .wrong(source(key) ?? .standard, key, rule.hasPrefix("is ") ? rule : "must be \(rule)")
    }

    /// Returns a ledger's task with the template, label words and longest sequence that flags give.
    package func overriding(_ task: TaskSpec) throws(SettingsError) -> TaskSpec {
        var task = task
        if has(.template) { task.template = optionalText(.template) }
        if let words = table(.labels) { task.labels = Self.ordered(words) }
        if case .flag? = source(.maxLength) { task.maxLength = try integer(.maxLength) }
        return task
    }
}
