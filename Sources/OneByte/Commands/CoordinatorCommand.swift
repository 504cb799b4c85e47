import ArgumentParser
import Coordinator
import Core
import Foundation
import LanguageModel
import Logging
import Signing
import Transport

struct CoordinatorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "coordinator",
        abstract: "Admit machines, open and commit rounds, keep the ledger. Needs no model and no data.",
        discussion: joined(
            """
            A run whose settings are in a file, for workers on this host:

              onebyte coordinator --config run.toml --directory runs/reviews

            For workers elsewhere, encrypted; it prints what they join with:

              onebyte keygen coordinator.key
              onebyte coordinator --config run.toml --directory runs/reviews \\
                --listen tcp://0.0.0.0:5151 --key coordinator.key

            Only workers whose public keys are in a file, one on each line:

              onebyte coordinator --config run.toml --directory runs/reviews \\
                --listen tcp://0.0.0.0:5151 --key coordinator.key --allow workers.pub

            Go on with a run after a stop or a crash: the same directory.

              onebyte coordinator --directory runs/reviews

            On a cluster with a shared file system workers find it by a file:

              onebyte coordinator … --join-file shared/join
              onebyte worker --join-file shared/join …
            """))

    @OptionGroup var config: ConfigFlags
    @OptionGroup(title: "Task") var task: SettingFlags<TaskSettings>
    @OptionGroup(title: "Training") var training: SettingFlags<TrainingSettings>
    @OptionGroup(title: "Protocol") var machines: SettingFlags<MachineSettings>
    @OptionGroup(title: "This host") var place: SettingFlags<PlaceSettings>
    @OptionGroup(title: "Logs") var logs: LogOptions

    @Option(help: ArgumentHelp("The basis that the run needs, from `onebyte prepare`.", valueName: "file")) var basis: String?
    @Option(
        help: ArgumentHelp(
            "Pin the run's base model, so that the first worker does not choose it; none: it does. (default: the run file's model, where it is a path that is here)",
            valueName: "model"))
    var base: String?
    @Option(help: ArgumentHelp("This coordinator's secret key (onebyte keygen): connections are encrypted.", valueName: "file"))
    var key: String?
    @Option(help: ArgumentHelp("Public keys of the workers that may join.", valueName: "file")) var allow: String?
    @Option(
        help: ArgumentHelp(
            "Sign the ledger with this key (onebyte keygen --signing). (default: signing.key in the run directory, made where it is missing)",
            valueName: "file"))
    var signingKey: String?
    @Flag(help: "Listen beyond this host without encryption: anybody there can join and listen in.") var insecure = false
    @Option(
        help: ArgumentHelp(
            "Write the join string here when it listens, and take it away at the end; workers wait for it with the same flag.", valueName: "file"))
    var joinFile: String?
    @Option(help: ArgumentHelp("The name or address of this host that workers are told to call. (default: chosen)", valueName: "host"))
    var advertise: String?
    @Flag(help: "Write every event to standard output, as JSON lines.") var events = false

    func validate() throws {
        if allow != nil, key == nil { throw ValidationError("--allow needs --key: without encryption nobody can prove who they are") }
    }

    func run() async throws {
        var settings = try Settings(
            file: config.config,
            flags: task.settings + training.settings + machines.settings + place.settings)
        if config.printConfig, !settings.has(.directory) {
            _ = try Self.spec(&settings, basisDigest: Digest.sha256([]))
            return standardOutput.writeContents(settings.annotated)
        }
        let directory = RunDirectory(try settings.text(.directory))
        let basis = try basis.map(readWhole)
        let decoded = try basis.map { try RunBasis(decoding: $0) }
        // A directory with a ledger needs no settings. If settings are given too, they must be the same.
        let isNew = !FileManager.default.fileExists(atPath: directory.ledger)
        let isSpecified = config.config != nil || !(task.settings + training.settings + machines.settings).isEmpty
        guard !isNew || isSpecified else {
            throw ProcessFailure(
                .missingInput, "\(directory.path): there is no run to resume; to start one, give its settings: --config RUN.toml, or flags")
        }
        var basisDigest = basis.map { Digest.sha256($0) }
        let ledger = try isNew || !(isSpecified || basis != nil) ? nil : LedgerArchive(directory.ledger).summary
        if let ledger {
            let known = ledger.basis
            if let basisDigest, basisDigest != known {
                throw ProcessFailure(
                    .configuration, "\(directory.path) holds a run with another basis; leave out --basis, or choose another --directory")
            }
            basisDigest = known
        }
        let spec = isNew || isSpecified ? try Self.spec(&settings, basisDigest: basisDigest) : nil
        if let spec, let ledger {
            try spec.check(
                isThatOf: ledger, at: directory.path,
                remedy: "to resume the run in it, leave out the settings: onebyte coordinator --directory \(shellWord(directory.path))")
        }
        if let spec, let found = decoded?.spaces.map(\.components).max(), found != spec.dampedComponents {
            throw ProcessFailure(
                .configuration,
                "the basis has \(found) components and the run wants \(spec.dampedComponents): say --damped-components \(found), or make it again with `onebyte prepare`"
            )
        }
        if config.printConfig { return standardOutput.writeContents(settings.annotated) }
        logs.bootstrap()
        // Connections of leaving and joining workers overlap.
        let effective = try spec ?? LedgerArchive(directory.ledger).summary.spec
        let workers = effective.minimumWorkers
        try OpenFiles.reserve(OpenFiles.base + 2 * workers, for: "\(workers) workers")
        let manifest = try baseManifest(settings)

        let monitor = RunMonitor(RunRecord(of: effective, in: directory))
        let dashboard = try await startDashboard(settings, monitor)
        defer { dashboard?.stop() }
        let (stream, post) = AsyncStream.makeStream(of: CoordinatorDisplay.News.self)
        let server = ZeroMQServer(address: try Address(try settings.text(.listen)), access: try access(), insecure: insecure)
        let process = CoordinatorProcess(
            configuration: .init(
                transport: server,
                runDirectory: directory.path, spec: spec, basis: basis, base: manifest,
                lockHolder: ParentWatch.parent,
                makeNotary: { [signingKey] in try signingKey.map { try SigningKey(contentsOf: $0) } ?? SigningKey.kept(in: $0.signingKey) },
                onProgress: {
                    monitor.take($0)
                    post.yield(.progress($0))
                }))
        let announcer = JoinAnnouncer(advertised: advertise, file: joinFile.map { JoinFile($0) })
        defer { announcer.end() }
        let annotated = spec == nil ? nil : settings.annotated(without: [.directory, .listen])
        let display = Task { [events] in
            await CoordinatorDisplay(
                writesEvents: events, announcer: announcer, monitor: monitor, directory: directory, settings: annotated
            ).show(stream)
        }
        let ticks = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: CoordinatorDisplay.drawInterval)
                post.yield(.tick)
            }
        }
        defer { ticks.cancel() }
        let (outcome, stop) = try await stoppingOnSignals(onStop: { process.requestStop() }) { try await process.run() }
        post.finish()
        await display.value
        // A local cluster writes its own report, which also covers model and data.
        if ParentWatch.parent == nil, FileManager.default.fileExists(atPath: directory.ledger) {
            do {
                let report = try RunReport(ofCoordinator: directory)
                try report.write(to: directory)
                if !events { standardOutput.write(report.text) }
            } catch {
                standardError.write("note: the report could not be written: \(describe(error))")
            }
        }
        if outcome.status != .success { throw ProcessFailure(outcome.status, outcome.finish.message) }
        if stop == .interrupt { throw StopSignal.interrupt }
    }

    private static func spec(_ settings: inout Settings, basisDigest: Digest?) throws -> RunSpec {
        let task = try settings.resolveTask()
        try settings.derivePrivacy(examples: nil, workers: nil)
        let spec = try settings.runSpec(task: task, basisDigest: basisDigest)
        if spec.dampedComponents > 0, basisDigest == nil {
            throw SettingsError.usage(
                "--damped-components \(spec.dampedComponents) needs --basis, which `onebyte prepare` makes; or say --damped-components none")
        }
        if spec.trainsAdapters, basisDigest == nil {
            throw SettingsError.usage("adapters need --basis, which `onebyte prepare --config RUN.toml --output basis` makes where the model is")
        }
        return spec
    }

    private func startDashboard(_ settings: Settings, _ monitor: RunMonitor) async throws -> Dashboard? {
        guard let text = settings.optionalText(.dashboard) else { return nil }
        let source = DashboardSource(
            status: { monitor.status }, history: { monitor.history },
            unreadiness: {
                guard monitor.isListening else { return "the coordinator does not listen yet" }
                return monitor.progress.hold?.what.reason == .ledger ? "the disk does not take the ledger" : nil
            })
        return try await Dashboard.start(at: text, source, Logger(label: "coordinator"))
    }

    /// Returns the manifest of the model that is to be the run's base, if the model is here.
    private func baseManifest(_ settings: Settings) throws -> BaseManifest? {
        let known = settings.optionalText(.model).flatMap { FileManager.default.fileExists(atPath: $0) ? $0 : nil }
        guard let model = base ?? known, base != "none" else { return nil }
        return try openModel(model).baseManifest(threads: Processors.count)
    }

    private func access() throws -> AccessControl {
        guard let key else { return .open }
        let keys = try KeyPair(contentsOf: key)
        guard let allow else { return .encrypted(keys) }
        return .listed(keys, try PublicKey.list(contentsOf: allow))
    }
}
