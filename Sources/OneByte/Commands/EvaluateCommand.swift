import ArgumentParser
import Core
import LanguageModel

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

            An exported model, with the task of a run file; as JSON:

              onebyte evaluate held-out.jsonl --model exported/ \\
                --config runs/reviews/run.toml --format json
            """)

    @Argument(help: ArgumentHelp("JSON lines.", valueName: "file")) var file: String
    @OptionGroup var config: ConfigFlags
    @OptionGroup var model: ModelFlags
    @OptionGroup var ledger: LedgerFlags
    @OptionGroup var task: TaskFlags
    @OptionGroup var threads: ThreadFlags
    @Option(help: "text or json.") var format: OutputFormat = .text

    func run() throws {
        var settings = try Settings(file: config.config, flags: model.settings + task.settings + [.trainFile: [file]])
        if config.printConfig { return standardOutput.writeRaw(settings.annotated) }
        // Data first: a broken line shows at once, a model takes its time.
        let records = try DataFile.read(file)
        let state = try ModelState.load(
            model: try settings.text(.model), ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
        let isTaskGiven = config.config != nil || !task.settings.isEmpty
        let spec = isTaskGiven ? nil : state.ledger?.summary.spec.task
        let encoder = try TaskEncoder(task: try spec ?? settings.resolveTask(), model: state.source)
        let data = try encoder.encode(records)
        for remark in data.remarks { standardError.write("note: \(remark)") }

        MatrixLibrary.setThreads(1)
        let trainable = try TrainableModel(source: state.source, parameters: state.parameters, threads: threads.count)
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
}
