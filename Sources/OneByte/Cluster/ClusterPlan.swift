import Coordinator
import Core
import Foundation
import LanguageModel
import Training

/// What `onebyte cluster` is about to do, worked out from its settings before anything is started.
struct ClusterPlan: Sendable {
    let directory: RunDirectory
    private let settings: Settings
    private let spec: RunSpec
    private let model: String
    private let trainFile: String
    private let evalFile: String?
    private let validationFile: String?
    private let generalFile: String?
    private let scoring: ScoringProgram.Options?
    private let workerCount: Int
    private let threads: Int
    private let precision: String
    private let listen: String
    private let isResumed: Bool

    /// - Throws: `SettingsError` for what is missing or wrong, `DataError` where the task can't be told from the data.
    init(_ settings: inout Settings, resuming: String?) throws {
        isResumed = resuming != nil
        model = try settings.text(.model)
        trainFile = try settings.text(.trainFile)
        evalFile = settings.optionalText(.evalFile)
        validationFile = settings.optionalText(.validationFile)
        generalFile = settings.optionalText(.generalFile)
        scoring = try settings.scoring()
        workerCount = try settings.integer(.workers)
        let task = try settings.resolveTask()
        if task.objective == .command, scoring == nil {
            throw SettingsError.usage("the objective is a command's score: give the command with --objective-command '…'")
        }
        if !settings.has(.threads) {
            let share = max(1, Processors.count / workerCount)
            settings.derive(.threads, .integer(share), from: "the cores, shared out")
        }
        if settings.source(.listen) == .standard {
            settings.derive(.listen, .text("tcp://127.0.0.1:0"), from: "any free port of this host")
        }
        if let resuming {
            // A resumed run may have other files, addresses and processes; all else is in its ledger.
            for key in SettingKey.allCases where key.setting.owner != .host {
                guard case .flag(let flag)? = settings.source(key) else { continue }
                throw SettingsError.usage("\(flag) can't be changed by --resume: it is the run's, as \(resuming)/run.toml says; leave it out")
            }
        }
        // Otherwise the first worker would spend the samples of those that are still reading their data.
        if settings.source(.minimumWorkers) == .standard {
            settings.derive(.minimumWorkers, .integer(workerCount), from: "all workers")
        }
        let needed = try settings.integer(.minimumWorkers)
        guard needed <= workerCount else {
            throw SettingsError.usage("the run waits for \(needed) workers (minimum-workers), but there are only \(workerCount); give --workers \(needed)")
        }
        if let resuming {
            settings.derive(.directory, .text(resuming), from: "--resume")
        } else if !settings.has(.directory) {
            settings.derive(.directory, .text("runs/\(Self.timeName())"), from: "the time")
        }
        threads = try settings.integer(.threads)
        precision = try settings.text(.precision)
        listen = try settings.text(.listen)
        directory = RunDirectory(try settings.text(.directory))
        spec = try settings.runSpec(task: task, basisDigest: nil)
        if spec.dampedComponents > 0, settings.publicText == .none {
            throw SettingsError(.usage, "--damped-components \(spec.dampedComponents) needs public text to be made from; leave out --basis-text none, or say --damped-components none")
        }
        if validationFile != nil, evalFile == nil { throw SettingsError(.usage, "--validation-file needs --eval-file, which judges the result") }
        if spec.steering != nil, validationFile == nil {
            throw SettingsError(
                .usage, "--rate-trials, --guard and --patience judge by examples that neither train nor test: give --validation-file (and --eval-file)")
        }
        self.settings = settings
    }

    /// 2026-11-24-031500
    private static func timeName() -> String {
        Date().formatted(
            Date.VerbatimFormatStyle(
                format: "\(year: .defaultDigits)-\(month: .twoDigits)-\(day: .twoDigits)-\(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased))\(minute: .twoDigits)\(second: .twoDigits)",
                timeZone: .gmt, calendar: Calendar(identifier: .gregorian)))
    }

    /// Everything that can be found wrong in seconds, before processes run for minutes: the model opens, names the tensors that
    /// are to be trained, and every line of the data becomes an example.
    func check() throws {
        let source = try openModel(model)
        try source.checkPatterns(spec.train)
        let encoder = try TaskEncoder(task: spec.task, model: source)
        for file in Set([trainFile, evalFile ?? trainFile, validationFile ?? trainFile]).sorted() {
            let records = try DataFile.read(file)
            if file == trainFile, records.count < workerCount {
                throw SettingsError.usage("\(file): \(records.count) examples are too few for \(workerCount) workers; give fewer with --workers")
            }
            for remark in try encoder.encode(records).remarks { standardError.write("note: \(file): \(remark)") }
        }
        // Read after the run only, when an error would cost its report.
        if let generalFile { _ = try TaskEncoder(task: SideEffects.generalTask, model: source).encode(try DataFile.read(generalFile)) }
    }

    func makeDirectory(_ settings: Settings) throws {
        if FileManager.default.fileExists(atPath: directory.ledger), !isResumed {
            throw ProcessFailure(
                .cannotCreate, "\(directory.path) holds a run already; go on with it by --resume \(shellWord(directory.path)), or choose another --directory")
        }
        if isResumed, !FileManager.default.fileExists(atPath: directory.ledger) {
            throw ProcessFailure(.missingInput, "\(directory.path): no run to go on with: there is no ledger in it")
        }
        try directory.create()
        // On going on, too: what was given anew holds until it is given anew.
        try directory.write(settings.annotated, to: directory.configuration)
    }

    /// Makes the basis of a new run that needs one; a resumed run has it in its ledger. A file that a failed start left
    /// is not trusted: it may be of other settings.
    ///
    /// - Returns: the seconds that it took.
    func prepareBasis() async throws -> Double {
        guard spec.needsBasis, !isResumed else { return 0 }
        let began = ContinuousClock.now
        let child = ChildProcess(
            name: "prepare",
            arguments: [
                "prepare", "--config", directory.configuration, "--output", directory.basis,
                "--threads", "\(Processors.count)",
            ], log: directory.log(of: "prepare"))
        standardError.write("making the basis from \(settings.publicText)")
        let ending = try await child.run(eachLine: nil)
        guard ending.isSuccess else {
            throw ProcessFailure(ending.status, "the basis could not be made: \(child.lastWords()) (log: \(child.log))")
        }
        return began.duration(to: .now) / .seconds(1)
    }

    var cluster: LocalCluster {
        let directory = directory
        var arguments = ["coordinator", "--config", directory.configuration, "--directory", directory.path, "--listen", listen, "--events"]
        if spec.needsBasis, !isResumed { arguments += ["--basis", directory.basis] }
        let cache =
            settings.optionalText(.cacheDirectory).map { ["--cache-directory", $0] }
            ?? settings.optionalText(.cacheMemory).map { ["--cache-memory", $0] } ?? []
        let judge = scoring.map { ["--objective-command", $0.command, "--objective-timeout", "\($0.timeoutSeconds)"] } ?? []
        let common: @Sendable (String, String) -> [String] = { [model] endpoint, name in
            ["worker", "--coordinator", endpoint, "--model", model, "--name", name] + cache + judge
        }
        return LocalCluster(
            directory: directory,
            coordinator: ChildProcess(name: "coordinator", arguments: arguments, log: directory.log(of: "coordinator")),
            workers: { [trainFile, workerCount, threads, precision] endpoint in
                (1...workerCount).map { number in
                    let name = "worker-\(number)"
                    return ChildProcess(
                        name: name, arguments: common(endpoint, name) + [
                            "--threads", "\(threads)", "--precision", precision, "--train-file", trainFile, "--shard", "\(number)/\(workerCount)",
                        ],
                        log: directory.log(of: name))
                }
            },
            evaluator: { [evalFile, validationFile] endpoint in
                guard let evalFile else { return nil }
                // Its data are usually more than a worker's share, and the run waits for it at the beginning and the end.
                let cores = Processors.count
                return ChildProcess(
                    name: "evaluator", arguments: common(endpoint, "evaluator") + ["--threads", "\(cores)", "--evaluate", evalFile] + (validationFile.map { ["--validate", $0] } ?? []),
                    log: directory.log(of: "evaluator"))
            },
            trainers: workerCount, past: past)
    }

    /// What `metrics.jsonl` tells of the run so far: nothing for a new one.
    var past: RunProgress {
        var progress = RunProgress(rounds: spec.rounds, isScored: scoring != nil)
        guard isResumed, let data = FileManager.default.contents(atPath: directory.metrics) else { return progress }
        for line in data.split(separator: UInt8(ascii: "\n")) {
            // A line that a crash cut short is none.
            if let event = try? JSONDecoder().decode(CoordinatorProgress.self, from: Data(line)) { progress.take(event) }
        }
        return progress
    }

    /// Whether there is nothing left to do, all rounds being in the ledger.
    func isComplete() throws -> Bool { try isResumed && LedgerArchive(directory.ledger).summary.isEnded }

    func report(_ progress: RunProgress, basisSeconds: Double, totalSeconds: Double) throws -> RunReport {
        let archive = try LedgerArchive(directory.ledger)
        let source = try openModel(model)
        let trained = try source.trainedTensors(matching: spec.train, basis: archive.basis).reduce(0) { $0 + $1.shape.count }
        let rounds = Int(archive.history.nextRound)
        let samples = Int(archive.summary.samples)
        // Up as a gradient and down as the mean, 4 bytes a parameter, for each worker in each round.
        let floatBytes = UInt64(rounds) * UInt64(workerCount) * 2 * 4 * UInt64(trained)
        if generalFile != nil { standardError.write("measuring what training did to the model on general text …") }
        let sideEffects = try SideEffects(
            of: archive, on: source, texts: generalFile, threads: Processors.count)
        return RunReport(
            before: progress.first.flatMap { $0.round == 0 ? $0 : nil },
            after: progress.latest.flatMap { $0.round == rounds ? $0 : nil },
            bestRound: archive.summary.steering.best.map { Int($0.round) },
            learningRate: spec.learningRate * exp2(Double(archive.summary.rateShift)),
            hasHeldOut: evalFile != nil,
            contributionBytes: samples,
            wireBytes: progress.wireBytes,
            wireBytesOfRounds: progress.wireBytesOfRounds,
            samples: samples,
            seconds: .init(
                prefixCache: basisSeconds + progress.preparingSeconds, training: progress.trainingSeconds,
                total: progress.earlierSeconds + totalSeconds),
            digest: archive.digest?.digest.description,
            rounds: rounds,
            roundsRewound: rounds - archive.history.rounds.count,
            workers: workerCount,
            seed: Int(spec.seed),
            payloadBytesPerSample: samples > 0 ? 1 : 0,
            wireBytesPerSample: samples > 0 ? Double(progress.wireBytes) / Double(samples) : 0,
            samplesWithoutValue: progress.noValue,
            digestChecks: progress.digestChecks,
            trainedParameters: trained,
            sideEffects: sideEffects,
            floatGradientBytes: floatBytes,
            chain: archive.summary.position.chain.description,
            signer: archive.signer?.description,
            ledger: archive.path,
            ledgerBytes: archive.summary.position.offset,
            model: model,
            outcome: progress.finish?.outcome.rawValue ?? "ended")
    }
}
