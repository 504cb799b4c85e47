import ArgumentParser
import Core
import Foundation
import Glibc
import LanguageModel
import Logging
import Signing
import Synchronization
import Training
import Transport
import UnixSignals
import Worker

struct WorkerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker",
        abstract: "Take part in a run: hold the model and private data, send bytes; or measure data that judge the run.",
        discussion: joined(
            """
            Train on data that never leave this host; the coordinator prints its join string:

              onebyte worker --coordinator 'tcp://coordinator:5151?key=…' \\
                --model SmolLM2.gguf --train-file my-reviews.jsonl

            The second of three workers that share one file:

              onebyte worker --coordinator tcp://127.0.0.1:5151 \\
                --model SmolLM2.gguf --train-file reviews.jsonl --shard 2/3

            Only measure, for everybody to see (and with --validate steer the run as well):

              onebyte worker --coordinator tcp://127.0.0.1:5151 \\
                --model SmolLM2.gguf --evaluate held-out.jsonl

            A worker that may be restarted, and one that joins a long run with a peer's snapshot:

              onebyte worker … --state-dir /var/lib/onebyte
              onebyte worker … --bootstrap /mnt/shared/parameters.snapshot

            Where texts are scored by a program (docs/reference/tasks.md), each worker has its own:

              onebyte worker … --objective-command 'python3 score.py'

            Task and settings come from the coordinator. Ctrl-C says goodbye; the run goes on without this worker.
            """))

    @Option(help: ArgumentHelp("The coordinator's address, or the join string that it prints.", valueName: "address"))
    var coordinator: String?
    @Option(help: ArgumentHelp("Wait for the coordinator's join string in this file, which it writes with the same flag.", valueName: "file"))
    var joinFile: String?
    @Option(help: .of(.model)) var model: String
    @Option(help: ArgumentHelp("JSON lines, CSV or TSV to train on.", valueName: SettingKey.trainFile.setting.valueName)) var trainFile: String?
    @Option(help: ArgumentHelp("Only this part of them, such as 2/3.", valueName: "i/n")) var shard: DataShard?
    @Option(help: ArgumentHelp("Examples to measure, not to train on.", valueName: "file")) var evaluate: String?
    @Option(
        name: .customLong("validate"),
        help: ArgumentHelp(
            "With --evaluate: examples that steer the run (its rate, its guard, its end) and judge nothing.", valueName: "file"))
    var validationFile: String?
    @OptionGroup var objective: SettingFlags<ObjectiveSettings>
    @Option(help: ArgumentHelp("What displays call this worker. (default: the host's name)", valueName: "name")) var name: String?
    @Option(help: ArgumentHelp("This worker's secret key, where the coordinator has a list.", valueName: "file")) var key: String?
    @Option(help: ArgumentHelp("Give up when the coordinator was silent for so long.", valueName: "seconds")) var patience = 600.0
    @Option(help: ArgumentHelp("Write the parameters here when the run ends, and at SIGUSR1.", valueName: "file")) var snapshot: String?
    @Option(
        help: ArgumentHelp(
            "Keep snapshots of the parameters here, so that a restart replays only what came since.", valueName: "directory"))
    var stateDir: String?
    @Option(
        help: ArgumentHelp(
            "Begin from this snapshot, which a peer has written (--snapshot, or a file of its --state-dir).", valueName: "file"))
    var bootstrap: String?
    @Option(
        help: ArgumentHelp(
            "Countersign digests with this key (onebyte keygen --signing). (default: one in --state-dir, else a new one)", valueName: "file"))
    var signingKey: String?
    @Option(
        help: ArgumentHelp(
            "The run's basis, where this host has it (`onebyte prepare`): on a thin link it need not be downloaded.", valueName: "file"))
    var basis: String?
    @Option(
        help: ArgumentHelp(
            "Take part in private runs alone, and keep account here of what the examples have revealed. Without the same file in the next run, the budget begins anew. (default: privacy.json in --state-dir)",
            valueName: "file"))
    var privacyAccount: String?
    @Option(
        help: ArgumentHelp(
            "Spend no more than this ε on an example, whatever the run allows, and take part in private runs alone.", valueName: "epsilon"))
    var privacyBudget: Double?
    @Option(help: ArgumentHelp("The δ of --privacy-budget. (default: the run's)", valueName: "delta")) var privacyDelta: Double?
    @Option(help: .of(.dashboard)) var dashboard: String?
    @OptionGroup var processes: SettingFlags<ProcessSettings>
    @OptionGroup var threads: ThreadFlags
    @OptionGroup(title: "Logs") var logs: LogOptions

    func validate() throws {
        guard (coordinator == nil) != (joinFile == nil) else {
            throw ValidationError("a worker is told its coordinator by one of --coordinator and --join-file")
        }
        if trainFile == nil, evaluate == nil {
            throw ValidationError("a worker needs --train-file (to train), --evaluate (to measure), or both")
        }
        if validationFile != nil, evaluate == nil { throw ValidationError("--validate steers what --evaluate judges; give both") }
        if shard != nil, trainFile == nil { throw ValidationError("--shard is a part of --train-file") }
        if privacyDelta != nil, privacyBudget == nil { throw ValidationError("--privacy-delta belongs to --privacy-budget") }
        for (name, value, range) in [
            ("--privacy-budget", privacyBudget, RunSpecLimits.privacyEpsilon), ("--privacy-delta", privacyDelta, RunSpecLimits.privacyDelta),
        ] {
            guard let value, !range.contains(value) else { continue }
            throw ValidationError("\(name) must be within \(RunSpecLimits.text(range))")
        }
        guard patience > 0 else { throw ValidationError("--patience must be above 0") }
    }

    func run() async throws {
        let settings = try Settings(file: nil, flags: objective.settings + processes.settings)
        let cache = try settings.prefixCache()
        let precision = try settings.precision()
        logs.bootstrap()
        try OpenFiles.reserve(OpenFiles.base, for: "a worker")
        MatrixLibrary.setThreads(1)
        let logger = Logger(label: name ?? ProcessInfo.processInfo.hostName)
        BLASCore.logRate(to: logger)
        // Data are read before the worker connects, because a broken line concerns this host alone.
        let training = try trainFile.map { try DataFile.read($0, shard: shard ?? .whole) }
        let heldOut = try evaluate.map { try DataFile.read($0) }
        let steering = try validationFile.map { try DataFile.read($0) }
        let maker = ExampleMaker(logger)
        let signing = try notary()
        logger.info("countersigning digests", metadata: ["key": "\(signing.publicKey)"])
        let accountFile = try openAccount()
        let budget = privacyBudget.map { PrivacyAccount.Budget(epsilon: $0, delta: privacyDelta) }
        let account = accountFile.map { [privacyAccount] file in
            PrivacyAccount(budget: budget, rho: file.rho, isForPrivateRunsAlone: privacyAccount != nil, keep: { try file.keep($0) })
        }
        let configuration = LanguageModelTrainer.Configuration(
            model: model,
            trainingExamples: training.map { maker.training($0, trainFile, accountFile, budget) },
            heldOutExamples: heldOut.map { maker.measured($0, .evaluation, evaluate) },
            validationExamples: steering.map { maker.measured($0, .validation, validationFile) },
            threads: threads.count, precision: precision, cacheMemory: cache.memoryBytes, cacheDirectory: cache.directory,
            onRemark: { logger.notice("\($0)") },
            scoring: try settings.scoring(), onScoringLine: { logger.info("objective: \($0)") },
            dataSecret: signing.dataSecret, privacy: account)
        let called = name ?? ProcessInfo.processInfo.hostName
        let monitor = WorkerMonitor(name: called, trains: training != nil, evaluates: heldOut != nil)
        let source = DashboardSource(
            status: { monitor.status }, history: { monitor.history }, unreadiness: { monitor.unreadiness })
        var page: Dashboard?
        if let dashboard { page = try await Dashboard.start(at: dashboard, source, logger) }
        defer { page?.stop() }
        let join = try await joinString(logger)
        let process = WorkerProcess(
            configuration: .init(
                transport: ZeroMQClient(join, keys: try key.map { try KeyPair(contentsOf: $0) }), expectedRun: join.run.flatMap(Digest.init(hex:)),
                expectedBase: join.base.flatMap(Digest.init(hex:)),
                name: called, trains: training != nil, evaluates: heldOut != nil,
                patienceSeconds: patience, snapshotPath: snapshot, stateDirectory: stateDir, bootstrap: bootstrap, notary: signing,
                basis: try basis.map(readWhole), precision: precision,
                onProgress: {
                    monitor.take($0)
                    Self.log($0, to: logger)
                }, failure: { ProcessFailure($0) },
                makeTrainer: { try LanguageModelTrainer(configuration) }))
        // The handler is installed even without --snapshot, and then only logs; by default the signal would end the process.
        let snapshots = Task { [snapshot] in
            for await _ in await UnixSignalsSequence(trapping: [.sigusr1]) {
                process.requestSnapshot()
                if snapshot == nil { logger.warning("--snapshot FILE says where SIGUSR1 has the parameters written") }
            }
        }
        defer { snapshots.cancel() }
        // A coordinator that was restarted may have another address; its machines keep their numbers.
        let moves = Task { [joinFile] in
            guard let joinFile else { return }
            for await moved in JoinFile(joinFile).changes(after: join) {
                logger.info("the coordinator is at \(moved.address) now")
                process.reconnect(to: moved)
            }
        }
        defer { moves.cancel() }
        let interface = FoundInterface(toward: join.address)
        let (outcome, stop) = try await stoppingOnSignals(onStop: { process.requestStop() }) { try await process.run() }
        if let counter = interface.counter {
            logger.info(
                "\(counter.interface) has carried \(counter.sent) bytes up and \(counter.received) down meanwhile, headers and other programs included"
            )
        }
        if outcome.isComputing {
            // An ordinary exit would destroy objects that the current batch still uses, and wait for it.
            let status = stop == .interrupt && outcome.status == .success ? ExitStatus.interrupted : outcome.status
            if outcome.status == .success { logger.info("\(outcome.message)") } else { standardError.write("error: \(outcome.message)") }
            fflush(nil)
            _exit(status.rawValue)
        }
        if outcome.status != .success { throw ProcessFailure(outcome.status, outcome.message) }
        logger.info("\(outcome.message)")
        if stop == .interrupt { throw StopSignal.interrupt }
    }

    /// Opens the account of a worker that trains; nil without a place for it, for runs that need none.
    ///
    /// - Throws: `ProcessFailure` if the file can't be used.
    private func openAccount() throws -> PrivacyAccountFile? {
        guard trainFile != nil, let path = privacyAccount ?? stateDir.map({ "\($0)/privacy.json" }) else {
            guard privacyBudget == nil else { throw PrivacyError(code: .noAccount, description: "a budget needs a file to keep the account in") }
            return nil
        }
        if privacyAccount == nil { try makeStateDirectory() }
        return try PrivacyAccountFile(path)
    }

    private func makeStateDirectory() throws {
        guard let stateDir else { return }
        try FileManager.default.createDirectory(atPath: stateDir, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    private func notary() throws -> SigningKey {
        if let signingKey { return try SigningKey(contentsOf: signingKey) }
        guard let stateDir else { return SigningKey() }
        try makeStateDirectory()
        return try SigningKey.kept(in: "\(stateDir)/signing.key")
    }

    private func joinString(_ logger: Logger) async throws -> JoinString {
        guard let joinFile else { return try JoinString(coordinator ?? "") }
        let file = JoinFile(joinFile)
        if file.contents == nil { logger.info("waiting for a coordinator's join string in \(joinFile)") }
        // There is nothing to put in order yet, so signals keep their default action. Trapped here, they would not be trapped again later.
        return try await file.wait(seconds: patience)
    }

    private static func log(_ progress: WorkerProgress, to logger: Logger) {
        switch progress {
        case .notice(.privacy(let status)) where status.isSpent: logger.warning("\(progress)")
        case .notice(.applied), .notice(.contributed): logger.debug("\(progress)")
        case .notice(.warning), .warning, .notice(.silent), .notice(.rebuilding): logger.warning("\(progress)")
        default: logger.info("\(progress)")
        }
    }
}

/// Makes examples from a worker's files once the run is known, and says in the log what is remarkable about them.
private final class ExampleMaker: Sendable {
    private let logger: Logger
    private let uses = Mutex(DataUse())

    init(_ logger: Logger) { self.logger = logger }

    func measured(
        _ records: [DataRecord], _ use: DataUse.Use, _ path: String?
    ) -> @Sendable (TaskSpec, ModelSource) throws -> [Example] {
        { task, source in try self.encode(records, use, path, task, source, isPrivate: false).examples }
    }

    /// Training examples: in a private run one for each record, whatever the records hold.
    func training(
        _ records: [DataRecord], _ path: String?, _ account: PrivacyAccountFile?, _ budget: PrivacyAccount.Budget?
    ) -> @Sendable (RunSpec, ModelSource) throws -> [Example?] {
        { spec, source in
            if let privacy = spec.privacy, let account { self.logger.notice("\(account.text(delta: budget?.delta ?? privacy.delta))") }
            let data = try self.encode(records, .training, path, spec.task, source, isPrivate: spec.privacy != nil)
            return spec.privacy == nil ? data.examples : data.ofRecords
        }
    }

    private func encode(
        _ records: [DataRecord], _ use: DataUse.Use, _ path: String?, _ task: TaskSpec, _ source: ModelSource, isPrivate: Bool
    ) throws -> EncodedData {
        do {
            let encoder = try TaskEncoder(task: task, model: source)
            let data = isPrivate ? encoder.encodePrivately(records) : try encoder.encode(records)
            if let remark = data.misfitRemark { logger.warning("\(remark)") }
            for remark in data.remarks { logger.notice("\(remark)") }
            let overlaps = uses.withLock { uses in
                uses.note(use, path: path ?? "", data.examples)
                return uses.overlaps.filter { $0.use == use || $0.with == use }
            }
            for overlap in overlaps { logger.notice("\(overlap)") }
            return data
        } catch let error as DataError {
            throw ProcessFailure(ExitStatus(error), error.description)
        }
    }
}

/// The network interface towards the coordinator, once the name service has resolved its address. Nobody waits for it.
private final class FoundInterface: Sendable {
    private let found = Mutex<InterfaceCounter?>(nil)
    var counter: InterfaceCounter? { found.withLock { $0 } }

    init(toward address: Address) {
        guard let host = address.host else { return }
        Task { [self] in
            _ = try? await onThread(named: "onebyte-route") { [self] in
                guard case .found(let numbers) = NameResolution.resolve(host) else { return }
                let counter = numbers.lazy.compactMap { InterfaceCounter(toward: $0) }.first
                found.withLock { $0 = counter }
            }
        }
    }
}
