import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

struct EvaluateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate",
        abstract: "Measure a model on held-out data: base, exported, or base + ledger.",
        discussion: """
            A fine-tuned model, with the task that its ledger holds:

              onebyte evaluate held-out.jsonl --model SmolLM2.gguf \\
                --ledger runs/reviews

            The same before the first round, and after 100 of them:

              onebyte evaluate held-out.jsonl --model SmolLM2.gguf \\
                --ledger runs/reviews --at-round 0
              onebyte evaluate held-out.jsonl --model SmolLM2.gguf \\
                --ledger runs/reviews --at-round 100

            What a program thinks of the texts that the model writes, and the texts:

              onebyte evaluate prompts.jsonl --model SmolLM2.gguf \\
                --ledger runs/friendlier --objective-command 'python3 score.py' \\
                --texts written.jsonl

            An exported model, with the task of a run file; as JSON:

              onebyte evaluate held-out.jsonl --model exported/ \\
                --config runs/reviews/run.toml --format json
            """)

    @Argument(help: ArgumentHelp("JSON lines.", valueName: "file")) var file: String
    @OptionGroup var config: ConfigFlags
    @OptionGroup var model: SettingFlags<ModelSettings>
    @OptionGroup var ledger: LedgerFlags
    @OptionGroup var task: SettingFlags<TaskSettings>
    @OptionGroup var objective: SettingFlags<ObjectiveSettings>
    @Option(help: ArgumentHelp("Write what the command scored here: JSON lines of prompt, text and score.", valueName: "file"))
    var texts: String?
    @OptionGroup var threads: ThreadFlags
    @Option(help: "text or json.") var format: OutputFormat = .text

    func run() throws {
        var settings = try Settings(file: config.config, flags: model.settings + task.settings + objective.settings + [.trainFile: [file]])
        if config.printConfig { return standardOutput.writeRaw(settings.annotated) }
        // Data first: a broken line shows at once, a model takes its time.
        let records = try DataFile.read(file)
        let state = try ModelState.load(
            model: try settings.text(.model), ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
        // A task that is given whole is another task; anything less is the ledger's with that in place of its own.
        let given = Set(task.settings.keys)
        let isWhole = config.config != nil || !given.isSubset(of: [.template, .labels, .maxLength]) || given.isSuperset(of: [.template, .labels])
        let spec = isWhole ? nil : try state.ledger.map { try settings.overriding($0.summary.spec.task) }
        let encoder = try TaskEncoder(task: try spec ?? settings.resolveTask(), model: state.source)
        let data = try encoder.encode(records)
        for remark in data.remarks { standardError.write("note: \(remark)") }

        let trainable = try TrainableModel(source: state.source, parameters: state.parameters, basis: state.ledger?.basis)
        if encoder.task.objective == .command || !objective.settings.isEmpty || texts != nil {
            return try score(trainable, data.examples, encoder.task, try settings.scoring(), round: state.ledger.map { Int($0.history.nextRound) })
        }
        let set = try ExampleSet(data.examples, for: state.source.configuration)
        let cache = try PrefixCache(model: trainable, set: set, options: .init(threads: threads.count))
        var meter = Meter("evaluating")
        try cache.fill { done, total in meter.show(done, of: total) }
        meter.end()
        let evaluation = try Evaluator(
            model: trainable, cache: cache, threads: threads.count, objective: encoder.task.objective
        ).evaluate()
        let measurement = HeldOutScore(evaluation, round: state.ledger.map { Int($0.history.nextRound) })
        standardOutput.write(format == .json ? try json(measurement) : measurement.text)
    }

    /// Lets the model write, and the command judge.
    private func score(
        _ model: TrainableModel, _ examples: [Example], _ task: TaskSpec, _ scoring: ScoringProgram.Options?, round: Int?
    ) throws {
        guard let writing = task.writing else {
            throw ProcessFailure(.usage, "the task's objective is no command's score; leave out --objective-command and --texts, or say --objective command")
        }
        guard let scoring else {
            throw ProcessFailure(.usage, "the task's objective is a command's score: give the command with --objective-command '…'")
        }
        let program = ScoringProgram(scoring, log: { standardError.write("objective: \($0)") })
        let evaluator = try ScoreEvaluator(
            model: model, examples: examples, writing: writing, tokenizer: try model.source.tokenizer, program: program, threads: threads.count)
        var meter = Meter("evaluating")
        try evaluator.fill { done, total in
            meter.show(done, of: total)
            return true
        }
        meter.end()
        // The command is a process of its own, which a signal for this one does not reach.
        let found = try stoppable { isStopped in
            program.isCancelled = isStopped
            return try evaluator.measure()
        }
        if let texts {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            let lines = try found.map { String(decoding: try encoder.encode(ScoredText($0.prompt, $0.text, $0.score)), as: UTF8.self) + "\n" }
            try writeWhole(Data(lines.joined().utf8), to: texts)
        }
        let measurement = HeldOutScore(Evaluation(scores: found.map(\.score)), round: round)
        standardOutput.write(format == .json ? try json(measurement) : measurement.text)
    }

    private struct ScoredText: Encodable {
        let prompt: String
        let text: String
        /// Absent where the model's numbers broke.
        let score: Double?

        init(_ prompt: String, _ text: String, _ score: Double) { (self.prompt, self.text, self.score) = (prompt, text, score.isFinite ? score : nil) }
    }
}
