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
        discussion: joined(
            """
            Five settings are enough: the model, the data to train on and to judge by, and for a classification a template
            and a word for each label. All else has a default, which --print-config shows:

              onebyte cluster --model SmolLM2.gguf \\
                --train-file reviews.jsonl --eval-file held-out.jsonl \\
                --template '{text} It was' \\
                --label '0= terrible' --label '1= great'

            The same from a run file, with another seed and fewer rounds:

              onebyte cluster --config run.toml --seed 2 --rounds 100

            For the score that a program gives to what the model writes:

              onebyte cluster --config run.toml --objective-command 'python3 score.py'

            What would be trained, how long it will take, and where each setting comes from:

              onebyte cluster --config run.toml --dry-run
              onebyte cluster --config run.toml --print-config

            Go on with a run that was stopped:

              onebyte cluster --resume runs/reviews

            Ctrl-C stops all processes in order; nothing that is in the ledger is lost.
            """))

    @OptionGroup(title: "Model") var model: SettingFlags<ModelSettings>
    @OptionGroup(title: "Model") var preset: SettingFlags<PresetSettings>
    @OptionGroup var config: ConfigFlags
    @OptionGroup(title: "Task") var task: SettingFlags<TaskSettings>
    @OptionGroup(title: "Task") var objective: SettingFlags<ObjectiveSettings>
    @OptionGroup(title: "Data") var data: SettingFlags<DataSettings>
    @OptionGroup(title: "Data") var publicText: SettingFlags<PublicTextSettings>
    @OptionGroup(title: "Training") var training: SettingFlags<TrainingSettings>
    @OptionGroup(title: "Protocol") var machines: SettingFlags<MachineSettings>
    @OptionGroup(title: "This host") var place: SettingFlags<PlaceSettings>
    @OptionGroup(title: "This host") var workers: SettingFlags<WorkerSettings>
    @OptionGroup(title: "This host") var processes: SettingFlags<ProcessSettings>

    @Option(help: ArgumentHelp("Resume the run in this directory, with its settings.", valueName: "directory"))
    var resume: String?

    @Flag(help: "Print what the run will take (time, bytes, memory; measured for two seconds), and exit.") var dryRun = false

    func validate() throws {
        if resume != nil, config.config != nil || place.settings[.directory] != nil {
            throw ValidationError("--resume takes the settings of the run in its directory; leave out --config and --directory")
        }
    }

    func run() async throws {
        let began = ContinuousClock.now
        // The lock is taken before anything of the run is read, so that nobody else writes it from here on.
        let held = try config.printConfig ? nil : resume.map { try ClusterPlan.lock(resuming: $0) }
        var settings = try Settings(
            file: resume.map { RunDirectory($0).configuration } ?? config.config,
            flags: preset.settings + model.settings + task.settings + objective.settings + data.settings + publicText.settings + training.settings
                + machines.settings + place.settings + workers.settings + processes.settings)
        if resume == nil { for text in settings.otherPlaces() { standardError.write("note: \(text)") } }
        var preparation = try ClusterPlan(&settings, resuming: resume)
        if config.printConfig { return standardOutput.writeContents(settings.annotated) }
        let isComplete = try preparation.isComplete()
        if isComplete, FileManager.default.fileExists(atPath: preparation.directory.report) {
            let flags = SettingKey.allCases.compactMap { if case .flag(let flag)? = settings.source($0) { flag } else { nil } }
            if !flags.isEmpty {
                standardError.write("note: \(flags.joined(separator: ", ")) \(flags.count == 1 ? "has" : "have") no effect: nothing is left to do")
            }
            return standardOutput.write("The run in \(preparation.directory.path) is complete; its report is \(preparation.directory.report)")
        }
        for text in settings.idle() { standardError.write("note: \(text)") }
        let page = try settings.optionalText(.dashboard).map { try DashboardAddress.parse($0) }
        let source = try preparation.check()
        if resume == nil {
            let table = try preparation.forecast(of: source)
            if dryRun { return standardOutput.write(table.text) }
            standardError.write(table.text)
            preparation.secondsOfCachedRound = table.forecast.roundSeconds
        }
        let lock = try preparation.makeDirectory(&settings, held: held)
        defer { withExtendedLifetime(lock) {} }
        let plan = preparation
        let directory = plan.directory
        standardError.write("run directory: \(directory.path)")
        if let page {
            // Only the coordinator knows a port that the system chose. Its log names the port.
            standardError.write("dashboard: \(page.port == 0 ? "its address is in \(directory.log(of: "coordinator"))" : page.url(port: page.port))")
            if let warning = Dashboard.warning(page) { standardError.write("warning: \(warning)") }
        }
        if isComplete {
            // Training is complete; only the report is missing.
            let past = plan.past
            return try write(try plan.report(past, basisSeconds: 0, totalSeconds: past.presentSeconds), to: directory)
        }
        let run: (progress: RunProgress, basisSeconds: Double)
        do {
            run = try await stoppingOnSignals(onStop: { standardError.write("stopping …") }) {
                let basisSeconds = try await plan.prepareBasis()
                return (progress: try await plan.cluster().run(), basisSeconds: basisSeconds)
            }.result
            // Somebody has stopped only the coordinator. This is treated as a stop of the whole cluster.
            if run.progress.finish?.outcome == .stopped { throw StopSignal.terminate }
        } catch let stop as StopSignal {
            if FileManager.default.fileExists(atPath: directory.ledger) {
                standardError.write("the ledger is \(directory.ledger); resume it with: onebyte cluster --resume \(shellWord(directory.path))")
            }
            throw stop
        }
        try write(try plan.report(run.progress, basisSeconds: run.basisSeconds, totalSeconds: began.duration(to: .now) / .seconds(1)), to: directory)
    }

    private func write(_ report: RunReport, to directory: RunDirectory) throws {
        try report.write(to: directory)
        standardOutput.write(report.text)
        standardOutput.write("  report            \(directory.report)")
    }
}
