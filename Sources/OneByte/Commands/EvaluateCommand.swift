import ArgumentParser
import Coordinator
import Core
import Foundation
import LanguageModel
import Training

struct EvaluateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate",
        abstract: "Measure a model on data that judge it: base, exported, or base + ledger.",
        discussion: joined(
            """
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

            Each example with its predicted label, the wrong ones first:

              onebyte evaluate held-out.jsonl --model SmolLM2.gguf \\
                --ledger runs/reviews --examples judged.jsonl

            An exported model, with the task of a run file; as JSON:

              onebyte evaluate held-out.jsonl --model exported/ \\
                --config runs/reviews/run.toml --format json
            """))

    @Argument(help: ArgumentHelp("JSON lines, CSV or TSV.", valueName: "file")) var file: String
    @OptionGroup var config: ConfigFlags
    @OptionGroup var model: SettingFlags<ModelSettings>
    @OptionGroup var ledger: LedgerFlags
    @OptionGroup var task: SettingFlags<TaskSettings>
    @OptionGroup var objective: SettingFlags<ObjectiveSettings>
    @Option(help: ArgumentHelp("Write what the command scored here: JSON lines of prompt, text and score.", valueName: "file"))
    var texts: String?
    @Option(
        help: ArgumentHelp(
            "Write each example as a JSON line with its loss and, for a classification, the predicted label and if it is right.", valueName: "file"))
    var examples: String?
    @OptionGroup var threads: ThreadFlags
    @Option(help: "text or json.") var format: OutputFormat = .text

    func run() throws {
        var settings = try Settings(file: config.config, flags: model.settings + task.settings + objective.settings + [.trainFile: [file]])
        for text in settings.otherPlaces([.model]) { standardError.write("note: \(text)") }
        if config.printConfig { return standardOutput.writeContents(settings.annotated) }
        // Data are read first: a broken line then shows at once, while a model takes time to load.
        let records = try DataFile.read(file)
        let state = try ModelState.load(
            model: try settings.text(.model), ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
        let encoder = try TaskEncoder(
            task: try TaskChoice(task.settings, hasConfig: config.config != nil).task(&settings, state.ledger), model: state.source)
        let data = try encoder.encode(records)
        for remark in data.remarks { standardError.write("note: \(remark)") }
        if let path = ledger.ledger { noteOverlaps(RunDirectory(holding: path), encoder, data.examples) }

        let trainable = try TrainableModel(source: state.source, parameters: state.parameters, basis: state.ledger?.basis)
        if encoder.task.objective == .command || !objective.settings.isEmpty || texts != nil {
            guard examples == nil else {
                throw ProcessFailure(
                    .usage, "--examples writes losses and labels, and here a program scores texts; --texts writes the texts with their scores")
            }
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
        if let path = examples { try write(evaluation, of: records, encoder.task, to: path) }
        var measurement = HeldOutScore(evaluation, of: encoder.task, round: state.ledger.map { Int($0.history.nextRound) })
        measurement.confusion = Confusion(evaluation, encoder.task)
        standardOutput.write(
            format == .json ? try json(measurement) : ([measurement.text] + [measurement.confusion?.text].compactMap { $0 }).joined(separator: "\n"))
    }

    /// Writes a line for each record: wrong ones first, then by falling loss, because that is what people look for.
    private func write(_ evaluation: Evaluation, of records: [DataRecord], _ task: TaskSpec, to path: String) throws {
        guard evaluation.items.count == records.count else {
            throw ProcessFailure(
                .badData,
                "\(file): \(records.count - evaluation.items.count) examples have nothing to judge, so lines and results don't match; take these examples out"
            )
        }
        let labels = (task.labels ?? []).map(\.label)
        let judged = zip(records, evaluation.items).map { record, item in
            let predicted = item.predicted.flatMap { labels.indices.contains($0) ? labels[$0] : nil }
            let isRight = item.correct == nil ? item.isRight : item.predicted == item.correct
            var members = [
                JSON.Member(key: "loss", value: item.loss.isFinite ? .number(fixed(item.loss, 6)) : .null),
                .init(key: "right", value: .bool(isRight)),
            ]
            if !labels.isEmpty { members.append(.init(key: "predicted", value: predicted.map { .string($0) } ?? .null)) }
            return (isRight: isRight, loss: item.loss.isNaN ? .infinity : item.loss, line: record.line(adding: members))
        }
        let order = judged.sorted { ($0.isRight ? 1 : 0, -$0.loss) < ($1.isRight ? 1 : 0, -$1.loss) }
        try writeWhole(Data(order.map { $0.line + "\n" }.joined().utf8), to: path)
        standardError.write("\(path): \(grouped(order.count)) examples, the \(grouped(order.count { !$0.isRight })) wrong ones first")
    }

    /// Largest training file that is read again for the comparison. That both are the same file is recognised at any size.
    private static let comparedBytesMax = 64 << 20

    /// Notes if the run was trained or steered by the measured data, as far as its directory tells.
    private func noteOverlaps(_ directory: RunDirectory, _ encoder: TaskEncoder, _ examples: [Example]) {
        func unknown(_ role: DataUse.Use, _ reason: String) {
            standardError.write("note: whether \(file) and the \(role.rawValue) data share examples is not known: \(shortened(reason, to: 300))")
        }
        guard let run = try? directory.readSettings() else {
            return unknown(.training, "there is no run.toml beside the ledger that can be read")
        }
        if run[.trainFile] == nil { unknown(.training, "the run's workers hold them") }
        var use = DataUse()
        use.note(.evaluation, path: file, examples)
        for (role, key) in [(DataUse.Use.training, SettingKey.trainFile), (.validation, .validationFile)] {
            guard case .text(let path)? = run[key]?.0 else { continue }
            if DataUse.isSameFile(file, path) {
                use.note(role, path: path, examples)
                continue
            }
            do {
                try checkSize(of: path)
                if let change = directory.change(of: path, key) {
                    unknown(role, change)
                } else {
                    use.note(role, path: path, try encoder.encode(try DataFile.read(path)).examples)
                }
            } catch {
                unknown(role, describe(error))
            }
        }
        for overlap in use.overlaps where overlap.use == .evaluation { standardError.write("note: \(overlap)") }
    }

    /// Refuses a file of the run that is too large to be read for this comparison alone.
    private func checkSize(of path: String) throws {
        let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
        guard size <= Self.comparedBytesMax else {
            throw ProcessFailure(.usage, "\(path) is larger than \(Self.comparedBytesMax >> 20) MiB and was not read again")
        }
    }

    /// Lets the model write, and the command score the texts.
    private func score(
        _ model: TrainableModel, _ examples: [Example], _ task: TaskSpec, _ scoring: ScoringProgram.Options?, round: Int?
    ) throws {
        guard let writing = task.writing else {
            throw ProcessFailure(
                .usage, "the task's objective is no command's score; leave out --objective-command and --texts, or say --objective command")
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
        // The command is a separate process that a signal to this one does not reach.
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
        let measurement = HeldOutScore(Evaluation(scores: found.map(\.score)), of: task, round: round)
        standardOutput.write(format == .json ? try json(measurement) : measurement.text)
    }

    private struct ScoredText: Encodable {
        let prompt: String
        let text: String
        /// Nil if logits were not finite.
        let score: Double?

        init(_ prompt: String, _ text: String, _ score: Double) {
            (self.prompt, self.text, self.score) = (prompt, text, score.isFinite ? score : nil)
        }
    }
}
