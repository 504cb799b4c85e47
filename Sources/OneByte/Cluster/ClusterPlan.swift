import Coordinator
import Core
import Foundation
import LanguageModel
import Training
import Transport

/// The plan of `onebyte cluster`, worked out from its settings before anything is started.
struct ClusterPlan: Sendable {
    private(set) var directory: RunDirectory
    private var settings: Settings
    private let spec: RunSpec
    /// Whether this program chooses the directory's name.
    private let isNamedByTime: Bool
    /// Which examples the files share, once `check` has read them.
    private(set) var dataUse = DataUse()
    /// Size of the data, once `check` has read them.
    private var shares: [DataUse.Use: RunForecast.Share] = [:]
    /// Number of training examples that were longer than the maximum length.
    private var cutExamples = 0
    /// Some of the training examples, for measuring this machine's speed.
    private var someExamples: [Example] = []
    private static let examplesToMeasure = 512
    private let model: String
    /// Files of examples by their uses.
    private var files: [DataUse.Use: String] = [:]
    /// The parts of the training file that `split` makes. `makeDirectory` writes them.
    private let parts: DataParts?
    private let generalFile: String?
    private let scoring: ScoringProgram.Options?
    private let workerCount: Int
    private let threads: Int
    private let precision: ComputePrecision
    private let listen: String
    private let isResumed: Bool

    /// - Throws: `SettingsError` for a missing or wrong setting; `DataError` if the data do not show the task.
    init(_ settings: inout Settings, resuming: String?) throws {
        isResumed = resuming != nil
        if let resuming, !settings.has(.model) || !settings.has(.trainFile) {
            throw SettingsError.usage(
                "\(resuming)/run.toml names no \(settings.has(.model) ? "training data" : "model"), as a coordinator's does not; resume it with "
                    + "`onebyte coordinator --directory \(shellWord(resuming))`, or here with --model and --train-file")
        }
        model = try settings.text(.model)
        if let resuming, case .text(let old)? = settings.given(.directory) {
            for (_, key) in Self.fileKeys {
                guard case .file? = settings.source(key), let file = settings.optionalText(key),
                    let here = RunDirectory(resuming).moved(file, from: old)
                else { continue }
                settings.derive(key, .text(here), from: "the run directory was \(old)")
            }
        }
        for (use, key) in Self.fileKeys { files[use] = settings.optionalText(key) }
        let trainFile = try settings.text(.trainFile)
        parts = try Self.split(trainFile, settings)
        for part in parts?.parts ?? [] { files[part.use] = "\(trainFile), \(part.name) part" }
        generalFile = settings.optionalText(.generalFile)
        scoring = try settings.scoring()
        workerCount = try settings.integer(.workers)
        if resuming == nil { try settings.deriveFromModelAndData() }
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
            // A resumed run may have other files, addresses and processes; everything else is in its ledger.
            for key in SettingKey.allCases where key.setting.owner != .host || key == .preset {
                guard case .flag(let flag)? = settings.source(key) else { continue }
                throw SettingsError.usage("\(flag) can't be changed by --resume: it is the run's, as \(resuming)/run.toml says; leave it out")
            }
        }
        // Without this minimum the first worker would use up the samples of those that are still reading their data.
        if settings.source(.minimumWorkers) == .standard {
            settings.derive(.minimumWorkers, .integer(workerCount), from: "all workers")
        }
        let needed = try settings.integer(.minimumWorkers)
        guard needed <= workerCount else {
            throw SettingsError.usage(
                "the run waits for \(needed) workers (minimum-workers), but there are only \(workerCount); give --workers \(needed)")
        }
        isNamedByTime = resuming == nil && !settings.has(.directory)
        if let resuming {
            settings.derive(.directory, .text(resuming), from: "--resume")
        } else if isNamedByTime {
            settings.derive(.directory, .text("runs/\(Self.timeName())"), from: "the time")
        }
        threads = try settings.integer(.threads)
        precision = try settings.precision()
        listen = try settings.text(.listen)
        directory = RunDirectory(try settings.text(.directory))
        if resuming == nil { try settings.derivePrivacy(examples: parts?.parts.first { $0.use == .training }?.records.count, workers: workerCount) }
        spec = try settings.runSpec(task: task, basisDigest: nil)
        if spec.dampedComponents > 0, settings.publicText == .none {
            throw SettingsError(
                .usage,
                "--damped-components \(spec.dampedComponents) needs public text to be made from; leave out --basis-text none, or say --damped-components none"
            )
        }
        if files[.validation] != nil, files[.evaluation] == nil {
            throw SettingsError(.usage, "--validation-file needs --eval-file, which judges the result")
        }
        if spec.steering != nil, files[.validation] == nil {
            throw SettingsError(
                .usage,
                "--rate-trials, --guard and --patience judge by examples that neither train nor test: give --validation-file (and --eval-file)")
        }
        self.settings = settings
    }

    private static let fileKeys = RunDirectory.dataKeys

    /// Splits the training file, if the settings say so.
    private static func split(_ trainFile: String, _ settings: Settings) throws -> DataParts? {
        guard let text = settings.optionalText(.split) else { return nil }
        guard let sizes = SplitParts(argument: text) else {
            throw SettingsError.usage(
                "--split \(text) is not two or three sizes; give them as 80/10/10 (train/validation/test) or 90/10 (train/test)")
        }
        for key in [SettingKey.evalFile, .validationFile] where settings.has(key) {
            throw SettingsError.usage("--split takes the examples to judge by from --train-file; leave out \(key.flag), or --split")
        }
        return try DataParts(of: trainFile, sizes)
    }

    /// Writes the parts of the training file into the run directory. From now on they are the run's files.
    private mutating func writeParts(_ settings: inout Settings) throws {
        guard let parts, let sizes = settings.optionalText(.split) else { return }
        let (folder, source) = ("\(directory.path)/data", "\(sizes) of \(try settings.text(.trainFile))")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for part in parts.parts {
            let path = "\(folder)/\(part.name).jsonl"
            try part.write(to: path)
            files[part.use] = path
        }
        for (use, key) in Self.fileKeys {
            if let path = files[use] { settings.derive(key, .text(path), from: source) }
        }
        settings.remove(.split)
        self.settings = settings
    }

    /// Number of files that this process has open for each child while children are started: the ends of a pipe and the log, each also held
    /// by the library that starts the child.
    private static let filesOfChild = 8

    /// Returns the present time as a name, such as 2026-11-24-031500.
    private static func timeName() -> String {
        Date().formatted(
            Date.VerbatimFormatStyle(
                format:
                    "\(year: .defaultDigits)-\(month: .twoDigits)-\(day: .twoDigits)-\(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased))\(minute: .twoDigits)\(second: .twoDigits)",
                timeZone: .gmt, calendar: Calendar(identifier: .gregorian)))
    }

    /// Checks in seconds what would otherwise fail after minutes of running: the model opens, it has the tensors to be trained, and every
    /// line of the data becomes an example.
    ///
    /// - Returns: the model.
    mutating func check() throws -> ModelSource {
        try OpenFiles.reserve(OpenFiles.base + Self.filesOfChild * (workerCount + 2), for: "\(workerCount) workers")
        if isResumed { try checkData() }
        let source = try openModel(model)
        try source.checkPatterns(spec.train)
        let encoder = try TaskEncoder(task: spec.task, model: source)
        var seen: Set<String> = []
        for (use, _) in Self.fileKeys {
            guard let file = files[use] else { continue }
            let records = try parts?.records(for: use) ?? DataFile.read(file)
            if use == .training, records.count < workerCount {
                throw SettingsError.usage("\(file): \(records.count) examples are too few for \(workerCount) workers; give fewer with --workers")
            }
            let data = try encoder.encode(records)
            if seen.insert(file).inserted { for remark in data.remarks { standardError.write("note: \(file): \(remark)") } }
            dataUse.note(use, path: file, data.examples)
            shares[use] = RunForecast.Share(data.examples)
            if use == .training {
                cutExamples = data.truncated
                let stride = Swift.stride(from: 0, to: data.examples.count, by: data.examples.count / Self.examplesToMeasure + 1)
                someExamples = stride.map { data.examples[$0] }
            }
        }
        for overlap in dataUse.overlaps { standardError.write("note: \(overlap)") }
        // The run reads this file only at its end, when an error would cost the report.
        if let generalFile { _ = try SideEffects.generalExamples(generalFile, source) }
        return source
    }

    /// Refuses to resume the run with other data than those with which it began, unless flags name them.
    ///
    /// - Throws: `ProcessFailure` `.configuration` for a file with other contents.
    private func checkData() throws {
        for (use, key) in Self.fileKeys {
            guard let file = files[use], let change = directory.change(of: file, key) else { continue }
            if case .flag? = settings.source(key) { continue }
            throw ProcessFailure(
                .configuration, "\(change)\nput the old one back; or give it by a flag, to go on with it as it is: \(key.flag) \(shellWord(file))")
        }
    }

    /// Forecasts what the run will take, from about two seconds of measuring on this machine. Call it after `check`.
    ///
    /// - Throws: errors of the model's files.
    func forecast(of source: ModelSource) throws -> ForecastTable {
        let isMeasured = scoring == nil && !someExamples.isEmpty
        let probe =
            try isMeasured
            ? SpeedProbe(spec, source: source, examples: someExamples, precision: precision, threads: threads * workerCount)
            : nil
        let standard = AdapterBasisMaker.Options()
        let outputs = (try? settings.integer(.adapterOutputs)) ?? standard.outputs
        let inputs = (try? settings.integer(.adapterInputs)) ?? standard.inputs
        let finalOutputs = spec.task.kind == .classification ? (spec.task.labels?.count ?? 2) - 1 : outputs
        let isChoice = someExamples.allSatisfy { if case .candidates = $0.objective { true } else { false } }
        let forecast = RunForecast(
            spec: spec, workers: workerCount, training: shares[.training] ?? .init(), validation: shares[.validation] ?? .init(),
            evaluation: shares[.evaluation] ?? .init(), basis: try basisShare(source), needsFullVocabulary: !isChoice,
            speed: probe.map(RunForecast.Speed.init))
        return ForecastTable(
            forecast: forecast, model: source.configuration, modelName: model,
            trained: try TrainableParts(source).tensors(spec.train, (outputs, inputs), finalOutputs: finalOutputs), longest: spec.task.maxLength,
            cut: cutExamples, cacheLimit: settings.optionalText(.cacheMemory).flatMap { ByteSize($0)?.bytes } ?? .max,
            memoryAvailable: availableMemory())
    }

    /// Size of the public text of which the run's basis is still to be made.
    private func basisShare(_ source: ModelSource) throws -> RunForecast.Share {
        guard spec.needsBasis, !isResumed, settings.publicText != .none else { return .init() }
        return RunForecast.Share(try TaskEncoder(task: spec.task, model: source).encodePublicText(settings.publicText.texts()))
    }

    /// Takes the lock of a run that is to be resumed, before anything of it is read.
    static func lock(resuming path: String) throws -> RunLock {
        let directory = RunDirectory(path)
        guard FileManager.default.fileExists(atPath: directory.ledger) else {
            throw ProcessFailure(.missingInput, "\(path): no run to resume: there is no ledger in it")
        }
        guard FileManager.default.fileExists(atPath: directory.configuration) else {
            throw ProcessFailure(
                .missingInput,
                "\(path): there is no run.toml in it, as in coordinators' directories of earlier versions\nresume it with `onebyte coordinator --directory \(shellWord(path))`, and start its workers"
            )
        }
        do { return try directory.acquireLock() } catch { throw ProcessFailure(error, directory: path) }
    }

    /// Makes the run directory, readable by this user alone, and writes the settings into it.
    ///
    /// - Parameters:
    ///   - settings: get the directory's name if this program chooses it.
    ///   - held: the lock of a resumed run.
    /// - Returns: the lock that protects everything written to the directory.
    mutating func makeDirectory(_ settings: inout Settings, held: RunLock?) throws -> RunLock {
        let lock: RunLock
        do throws(ProcessFailure) {
            if let held {
                lock = held
            } else if isNamedByTime {
                (directory, lock) = try RunDirectory.createNew(directory.path)
                settings.derive(.directory, .text(directory.path), from: "the time")
                self.settings = settings
            } else {
                lock = try directory.createAndLock()
            }
            try directory.makeLogs()
            if spec.privacy != nil { try directory.makeAccounts(ofWorkers: workerCount) }
        } catch {
            throw error.status == .cannotCreate ? ProcessFailure(.cannotCreate, "\(error.message), by --directory") : error
        }
        if FileManager.default.fileExists(atPath: directory.ledger), !isResumed {
            throw ProcessFailure(
                .cannotCreate,
                "\(directory.path) holds a run already; resume it with --resume \(shellWord(directory.path)), or choose another --directory")
        }
        if isResumed { try spec(of: try LedgerArchive(directory.ledger).summary) }
        try writeParts(&settings)
        try directory.keepDigests(of: files, isPrivate: spec.privacy != nil)
        // Also when resuming: settings that were given now apply until they are given again.
        try directory.write(settings.annotated, to: directory.configuration)
        return lock
    }

    /// Returns the requested spec with the ledger's basis.
    ///
    /// - Throws: `ProcessFailure` `.configuration` if the ledger's spec differs.
    @discardableResult
    private func spec(of ledger: LedgerSummary) throws -> RunSpec {
        var spec = spec
        spec.basisDigest = ledger.basis
        try spec.check(
            isThatOf: ledger, at: directory.path,
            remedy: "\(directory.configuration) says what was asked for; put back what the run began with, or begin another run in another directory")
        return spec
    }

    /// Returns the SHA-256 of the requested spec. The ledger must have the same before anybody trains.
    private func expectedRun() throws -> Digest {
        var spec = spec
        if isResumed {
            return try LedgerArchive(directory.ledger).summary.specDigest
        } else if spec.needsBasis {
            spec.basisDigest = Digest.sha256(try readWhole(directory.basis))
        }
        return try spec.digest()
    }

    /// Makes the basis of a new run that needs one; a resumed run has it in its ledger. A file left by a failed start is not used, because
    /// it may belong to other settings.
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
        let isLive = standardError.isLive
        let ending = try await child.run { line in
            // The last line is the result, so it is not shown as progress.
            if isLive, line.contains(" left") { standardError.writeRaw("\r\u{1B}[K\(printable(line, onOneLine: true))") }
        }
        if isLive { standardError.writeRaw("\r\u{1B}[K") }
        guard ending.isSuccess else {
            throw ProcessFailure(ending.status, "the basis could not be made: \(child.lastWords()) (log: \(child.log))")
        }
        return began.duration(to: .now) / .seconds(1)
    }

    /// The forecast's seconds of a round, for the estimate of the time left.
    var secondsOfCachedRound: Double?

    func cluster() throws -> LocalCluster {
        let directory = directory
        let expectedRun = try expectedRun()
        var arguments = ["coordinator", "--config", directory.configuration, "--directory", directory.path, "--listen", listen, "--events"]
        // If no other host can connect, the workers started here have the base; hashing it in the coordinator too would only take time.
        if (try? Address(listen))?.isLocal == true { arguments += ["--base", "none"] }
        if spec.needsBasis, !isResumed { arguments += ["--basis", directory.basis] }
        let cache =
            settings.optionalText(.cacheDirectory).map { ["--cache-directory", $0] }
            ?? settings.optionalText(.cacheMemory).map { ["--cache-memory", $0] } ?? []
        let judge = scoring.map { ["--objective-command", $0.command, "--objective-timeout", "\($0.timeoutSeconds)"] } ?? []
        let common: @Sendable (String, String) -> [String] = { [model] endpoint, name in
            ["worker", "--coordinator", endpoint, "--model", model, "--name", name] + cache + judge
        }
        return LocalCluster(
            directory: directory, run: expectedRun,
            coordinator: ChildProcess(name: "coordinator", arguments: arguments, log: directory.log(of: "coordinator")),
            workers: { [files, workerCount, threads, precision, spec] endpoint in
                (1...workerCount).map { number in
                    let name = "worker-\(number)"
                    let account = directory.account(ofWorker: number, of: workerCount)
                    return ChildProcess(
                        name: name,
                        arguments: common(endpoint, name) + [
                            "--threads", "\(threads)", "--precision", precision.samples.rawValue, "--prefix-precision",
                            precision.hiddenStates.rawValue, "--shard", "\(number)/\(workerCount)",
                        ] + (files[.training].map { ["--train-file", $0] } ?? []) + (spec.privacy == nil ? [] : ["--privacy-account", account]),
                        log: directory.log(of: name))
                }
            },
            evaluator: { [files] endpoint in
                guard let evalFile = files[.evaluation] else { return nil }
                // The evaluator's data are usually more than a worker's share, and the run waits for it at the beginning and the end.
                let cores = Processors.count
                return ChildProcess(
                    name: "evaluator",
                    arguments: common(endpoint, "evaluator") + ["--threads", "\(cores)", "--evaluate", evalFile]
                        + (files[.validation].map { ["--validate", $0] } ?? []),
                    log: directory.log(of: "evaluator"))
            },
            trainers: workerCount, past: past)
    }

    /// The run's progress according to `metrics.jsonl`; empty for a new run.
    var past: RunProgress {
        var record = RunRecord(
            RunProgress(
                rounds: spec.rounds, isScored: scoring != nil, measures: MeasuredData(dataUse),
                plan: TimeLeft.Plan(
                    rounds: spec.rounds, trialRounds: spec.steering?.trialRounds, learningRate: spec.learningRate,
                    secondsOfCachedRound: secondsOfCachedRound), privacy: spec.privacyOfRounds))
        guard isResumed else { return record.progress }
        record.read(directory)
        if let remark = record.remark(directory) { standardError.write("note: \(remark)") }
        return record.progress
    }

    /// Returns whether nothing is left to do because all rounds are in the ledger.
    func isComplete() throws -> Bool { try isResumed && LedgerArchive(directory.ledger).summary.isEnded }

    /// Writes after some of the prompts that judge the run, before and after. A report without this is better than none.
    private func writtenScores(_ archive: LedgerArchive, _ source: ModelSource) -> WrittenScores? {
        do {
            guard let file = files[.evaluation] else { return nil }
            let records = try DataFile.read(file, limit: WrittenScores.promptsMost)
            return try WrittenScores(of: archive, on: source, records, threads: Processors.count)
        } catch {
            standardError.write("note: no texts are written for the report: \(describe(error))")
            return nil
        }
    }

    func report(_ progress: RunProgress, basisSeconds: Double, totalSeconds: Double) throws -> RunReport {
        let archive = try LedgerArchive(directory.ledger)
        // The report is made from the ledger. That it belongs to the requested run was checked before, and is checked again here.
        let spec = try spec(of: archive.summary)
        let source = try openModel(model)
        let trained = try source.trainedTensors(matching: spec.train, basis: archive.basis).reduce(0) { $0 + $1.shape.count }
        if generalFile != nil { standardError.write("measuring what training did to the model on general text …") }
        let sideEffects = try SideEffects(
            of: archive, on: source, texts: generalFile, threads: Processors.count)
        return RunReport(
            archive, progress, model: model, trainedParameters: trained, texts: writtenScores(archive, source), sideEffects: sideEffects,
            evaluation: files[.evaluation].map { RunReport.EvaluationData(file: $0, dataUse, task: spec.task) }, basisSeconds: basisSeconds,
            totalSeconds: totalSeconds)
    }
}
