import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

struct PredictCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "predict",
        abstract: "Say what a model makes of each example of a file: labels with their probabilities, or texts.",
        discussion: joined(
            """
            Labels for examples that have none, as JSON lines with what was read:

              onebyte predict unlabelled.jsonl --model SmolLM2.gguf \\
                --ledger runs/reviews > predicted.jsonl

            An exported model, with the task of a run file, from a table:

              onebyte predict new.csv --model exported --config runs/reviews/run.toml

            Completions and chats are written, by the likeliest token each time:

              onebyte predict prompts.jsonl --model SmolLM2.gguf \\
                --ledger runs/e2e --max-tokens 40
            """))

    @Argument(help: ArgumentHelp("JSON lines, CSV or TSV; no label is needed.", valueName: "file")) var file: String
    @OptionGroup var config: ConfigFlags
    @OptionGroup var model: SettingFlags<ModelSettings>
    @OptionGroup var ledger: LedgerFlags
    @OptionGroup var task: SettingFlags<TaskSettings>
    @Option(help: ArgumentHelp("Of texts: stop after so many tokens. (default: 64, or what the run's objective says)", valueName: "number"))
    var maxTokens: Int?
    @Option(name: .shortAndLong, help: ArgumentHelp("Where the lines go. (default: standard output)", valueName: "file")) var output: String?
    @OptionGroup var threads: ThreadFlags

    func validate() throws {
        if let maxTokens, !Writing.maxTokensRange.contains(maxTokens) {
            throw ValidationError("--max-tokens must be within \(RunSpecLimits.text(Writing.maxTokensRange))")
        }
    }

    func run() throws {
        var settings = try Settings(file: config.config, flags: model.settings + task.settings + [.trainFile: [file]])
        for text in settings.otherPlaces([.model]) { standardError.write("note: \(text)") }
        if config.printConfig { return standardOutput.writeContents(settings.annotated) }
        let records = try DataFile.read(file)
        let state = try ModelState.load(model: try settings.text(.model), ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
        let chosen = try TaskChoice(task.settings, hasConfig: config.config != nil).task(&settings, state.ledger)
        let trainable = try TrainableModel(source: state.source, parameters: state.parameters, basis: state.ledger?.basis)
        if chosen.kind == .classification, maxTokens != nil {
            standardError.write("note: --max-tokens does nothing here: labels are chosen, not written")
        }
        let lines = chosen.kind == .classification ? try labels(records, chosen, trainable) : try texts(records, chosen, trainable)
        let all = lines.map { $0 + "\n" }.joined()
        if let output { try writeWhole(Data(all.utf8), to: output) } else { standardOutput.writeContents(all) }
    }

    /// Returns the likeliest label of each record, and the probabilities of all labels.
    private func labels(_ records: [DataRecord], _ task: TaskSpec, _ model: TrainableModel) throws -> [String] {
        let labels = task.labels ?? []
        let first = labels.first?.label ?? ""
        // Neither loss nor accuracy is wanted here, only the scores of the labels' words.
        var task = task
        (task.objective, task.writing) = (nil, nil)
        var encoder = try TaskEncoder(task: task, model: model.source)
        encoder.reading = .predicting
        let data = try encoder.encode(records.map { $0.labelled(first) })
        for remark in data.remarks { standardError.write("note: \(remark)") }
        let cache = try PrefixCache(
            model: model, set: ExampleSet(data.examples, for: model.source.configuration), options: .init(threads: threads.count))
        var meter = Meter("predicting")
        try cache.fill { done, total in meter.show(done, of: total) }
        meter.end()
        let items = try Evaluator(model: model, cache: cache, threads: threads.count).evaluate().items
        guard items.count == records.count else {
            throw ProcessFailure(.internalError, "\(items.count) predictions for \(records.count) examples")
        }
        return zip(records, items).map { record, item in
            guard let predicted = item.predicted, labels.indices.contains(predicted) else {
                return record.line(adding: [.init(key: "predicted", value: .null), .init(key: "probabilities", value: .null)])
            }
            let highest = item.scores[predicted]
            let weights = item.scores.map { exp($0 - highest) }
            let sum = weights.reduce(0, +)
            let probabilities = zip(labels, weights).map { JSON.Member(key: $0.label, value: .number(fixed($1 / sum, 6))) }
            return record.line(adding: [
                .init(key: "predicted", value: .string(labels[predicted].label)), .init(key: "probabilities", value: .object(probabilities)),
            ])
        }
    }

    /// Returns what the model writes after each record's prompt.
    private func texts(_ records: [DataRecord], _ task: TaskSpec, _ model: TrainableModel) throws -> [String] {
        let written = try WrittenTexts(records, task, model.source, maxTokens: maxTokens).write(model, threads: threads.count)
        return zip(records, written).map { record, found in
            record.line(adding: [.init(key: "predicted", value: found.map { .string($0) } ?? .null)])
        }
    }
}

/// The task with which a model is inspected.
struct TaskChoice {
    private let isWhole: Bool

    /// A complete task replaces the ledger's; single settings replace those of the ledger's task.
    init(_ flags: [SettingKey: [String]], hasConfig: Bool) {
        let given = Set(flags.keys)
        isWhole = hasConfig || !given.isSubset(of: [.template, .labels, .maxLength]) || given.isSuperset(of: [.template, .labels])
    }

    func task(_ settings: inout Settings, _ ledger: LedgerArchive?) throws -> TaskSpec {
        if !isWhole, let ledger { return try settings.overriding(ledger.summary.spec.task) }
        let task = try settings.resolveTask()
        if let ledger { Self.noteDifferences(of: task, from: ledger) }
        return task
    }

    /// Says where a whole task that flags or a run file give is another than the one that the model was trained for.
    private static func noteDifferences(of task: TaskSpec, from ledger: LedgerArchive) {
        let held = ledger.summary.spec
        var asked = held
        asked.task = task
        guard asked != held else { return }
        let differences = (try? SpecDifferences(asked: asked, held: held)).map { "\($0)" } ?? "they can't be compared"
        standardError.write("note: the task is the one given here, and the run in \(ledger.path) had another: \(differences)")
    }
}
