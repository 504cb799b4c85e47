import ArgumentParser
import Coordinator
import Core
import Foundation
import LanguageModel
import Training

struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "Fine-tune on this machine: one coordinator and several workers, each with its own part of the data.",
        discussion: """
            Sentiment, three workers, the last layer, shaped by public text:

              onebyte cluster --model SmolLM2.gguf \\
                --train-file reviews.jsonl --eval-file held-out.jsonl \\
                --template '{text} It was' \\
                --label '0= terrible' --label '1= great' \\
                --train layers.29 --basis-text headlines.txt

            The same from a run file, with another seed and fewer rounds:

              onebyte cluster --config run.toml --seed 2 --rounds 100

            For the score that a program gives to what the model writes:

              onebyte cluster --config run.toml --objective-command 'python3 score.py'

            What would be done, and where each setting comes from:

              onebyte cluster --config run.toml --print-config

            Go on with a run that was stopped:

              onebyte cluster --resume runs/reviews

            Ctrl-C stops all processes in order; nothing that is in the ledger is lost.
            """)

    @OptionGroup var config: ConfigFlags
    @OptionGroup var model: ModelFlags
    @OptionGroup(title: "Task") var task: TaskFlags
    @OptionGroup(title: "Objective") var objective: ObjectiveFlags
    @OptionGroup(title: "Data") var data: DataFlags
    @OptionGroup(title: "Training") var training: TrainingFlags
    @OptionGroup(title: "Protocol") var machines: ProtocolFlags

    @Option(help: ArgumentHelp("Worker processes that train. (default: 3)", valueName: "number")) var workers: String?
    @Option(help: ArgumentHelp("Threads of each process. (default: the cores, shared out)", valueName: "number"))
    var threads: String?
    @Option(help: ArgumentHelp("How each computes its samples: float, or int8, which is faster (docs/research/int8.md). (default: float)", valueName: "numbers"))
    var precision: String?
    @Option(help: ArgumentHelp("Where the coordinator listens. (default: any free port of this host)", valueName: "address"))
    var listen: String?
    @Option(help: ArgumentHelp("Where ledger, logs and report go. (default: runs/<time>)", valueName: "directory"))
    var directory: String?
    @Option(help: ArgumentHelp("Hidden states that a process keeps in memory; more go to files. (default: 2GiB)", valueName: "size"))
    var cacheMemory: String?
    @Option(help: ArgumentHelp("Keep all of the examples' hidden states in files here, for later runs on the same data.", valueName: "directory"))
    var cacheDirectory: String?
    @Option(help: ArgumentHelp("Go on with the run in this directory, with its settings.", valueName: "directory"))
    var resume: String?

    func validate() throws {
        if resume != nil, config.config != nil || directory != nil {
            throw ValidationError("--resume takes the settings of the run in its directory; leave out --config and --directory")
        }
    }

    func run() async throws {
        let began = ContinuousClock.now
        var settings = try Settings(
            file: resume.map { RunDirectory($0).configuration } ?? config.config,
            flags: model.settings + task.settings + objective.settings + data.settings + training.settings + machines.settings
                + list([
                    (.workers, workers), (.threads, threads), (.precision, precision), (.listen, listen), (.directory, directory), (.cacheMemory, cacheMemory),
                    (.cacheDirectory, cacheDirectory),
                ]))
        let plan = try ClusterPlan(&settings, resuming: resume)
        if config.printConfig { return standardOutput.writeRaw(settings.annotated) }
        let directory = plan.directory
        let isComplete = try plan.isComplete()
        if isComplete, FileManager.default.fileExists(atPath: directory.report) {
            return standardOutput.write("The run in \(directory.path) is complete; its report is \(directory.report)")
        }
        try plan.check()
        try plan.makeDirectory(settings)
        standardError.write("run directory: \(directory.path)")
        if isComplete {
            // Nobody has anything left to do: what is missing is the report.
            let past = plan.past
            return try write(try plan.report(past, basisSeconds: 0, totalSeconds: past.presentSeconds), to: directory)
        }
        let run: (progress: RunProgress, basisSeconds: Double)
        do {
            run = try await stoppingOnSignals(onStop: { standardError.write("stopping …") }) {
                let basisSeconds = try await plan.prepareBasis()
                return (progress: try await plan.cluster.run(), basisSeconds: basisSeconds)
            }.result
            // Somebody has stopped the coordinator alone: all is as if the cluster had been stopped.
            if run.progress.finish?.outcome == .stopped { throw StopSignal.terminate }
        } catch let stop as StopSignal {
            if FileManager.default.fileExists(atPath: directory.ledger) {
                standardError.write("the ledger is \(directory.ledger); go on with: onebyte cluster --resume \(shellWord(directory.path))")
            }
            throw stop
        }
        try write(try plan.report(run.progress, basisSeconds: run.basisSeconds, totalSeconds: began.duration(to: .now) / .seconds(1)), to: directory)
    }

    private func write(_ report: RunReport, to directory: RunDirectory) throws {
        try directory.write(json(report) + "\n", to: directory.report)
        try directory.write(report.text + "\n", to: directory.reportText)
        standardOutput.write(report.text)
        standardOutput.write("  report            \(directory.report)")
    }
}

struct DataFlags: ParsableArguments {
    @Option(help: ArgumentHelp("JSON lines to train on; every worker takes its own share.", valueName: "file"))
    var trainFile: String?
    @Option(help: ArgumentHelp("JSON lines that are only measured.", valueName: "file"))
    var evalFile: String?
    @Option(help: ArgumentHelp(
        "JSON lines that steer the run (--rate-trials, --guard, --patience) and judge nothing.", valueName: "file"))
    var validationFile: String?
    @Option(help: ArgumentHelp("Public text for the basis: lines, or JSON lines with a field text (.jsonl).", valueName: "file"))
    var basisText: String?

    @Option(help: ArgumentHelp(
        "JSON lines with a field text, of no task: the report then tells what training did to the model's perplexity on them.", valueName: "file"))
    var generalFile: String?

    var settings: [SettingKey: [String]] {
        list([
            (.trainFile, trainFile), (.evalFile, evalFile), (.validationFile, validationFile), (.basisText, basisText),
            (.generalFile, generalFile),
        ])
    }
}
