import ArgumentParser
import Core
import Foundation
import LanguageModel
import Transport

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Check step by step whether this host can take part: network, keys, run, model, data, disk, clock, speed.",
        discussion: joined(
            """
            As a worker, before it is started; name, route, port, keys, version and run are tried in
            this order, and the first that fails says what to do:

              onebyte doctor --coordinator 'tcp://coordinator:5151?key=…' \\
                --model SmolLM2.gguf --train-file my-reviews.jsonl

            As a coordinator, before it is started:

              onebyte doctor --listen tcp://0.0.0.0:5151 --key coordinator.key \\
                --directory runs/reviews

            It ends with 0 where all is well, else with the status that the process itself would end with.
            """))

    @Option(help: ArgumentHelp("The coordinator's join string, as a worker is given it.", valueName: "address")) var coordinator: String?
    @Option(help: ArgumentHelp("A file that holds it.", valueName: "file")) var joinFile: String?
    @Option(help: ArgumentHelp("Where a coordinator is to listen.", valueName: "address")) var listen: String?
    @Option(help: ArgumentHelp("A coordinator's run directory.", valueName: "directory")) var directory: String?
    @Option(help: ArgumentHelp("This side's secret key.", valueName: "file")) var key: String?
    @Flag(help: "The coordinator is to listen beyond this host without keys.") var insecure = false
    @Option(help: ArgumentHelp("The worker's base model.", valueName: "model")) var model: String?
    @Option(help: ArgumentHelp("JSON lines to train on.", valueName: "file")) var trainFile: String?
    @Option(help: ArgumentHelp("JSON lines to measure.", valueName: "file")) var evaluate: String?
    @Option(help: ArgumentHelp("A worker's state directory.", valueName: "directory")) var stateDir: String?
    @Option(help: ArgumentHelp("Where a worker caches its examples.", valueName: "directory")) var cacheDirectory: String?
    @Option(help: ArgumentHelp("To wait for a connection, and for an answer.", valueName: "seconds")) var wait = 10.0
    @OptionGroup var threads: ThreadFlags
    @Option(help: "Findings as text or as JSON.") var format: OutputFormat = .text

    func validate() throws {
        if coordinator != nil, joinFile != nil { throw ValidationError("--coordinator and --join-file say the same; give one of them") }
        guard wait > 0, wait <= 3600 else { throw ValidationError("--wait must be above 0 and at most 3600") }
    }

    func run() throws {
        var findings: [Finding] = []
        if listen != nil || directory != nil {
            findings += CoordinatorChecks(
                listen: listen ?? "tcp://127.0.0.1:\(Address.defaultPort)", key: key, directory: directory ?? ".", insecure: insecure
            ).run()
        }
        if let join = try joinText() {
            var checks = WorkerChecks(join: join, key: listen == nil ? key : nil, model: model, seconds: wait, threads: threads.count)
            try checks.run()
            findings += checks.findings
        } else if let model {
            findings.append(Self.check(model, threads: threads.count))
        }
        if let trainFile { findings.append(HostChecks.data(trainFile, step: "train file")) }
        if let evaluate { findings.append(HostChecks.data(evaluate, step: "held out")) }
        if let stateDir { findings.append(HostChecks.directory(stateDir, step: "state")) }
        if let cacheDirectory { findings.append(HostChecks.directory(cacheDirectory, step: "cache")) }
        if !findings.contains(where: { $0.step == "clock" }) { findings.append(HostChecks.clock(coordinator: nil)) }
        findings.append(HostChecks.kernels())
        show(findings)
        guard let first = findings.first(where: { $0.verdict == .failed }) else { return }
        throw ProcessFailure(first.status ?? .failure, "\(first.step): \(first.text)" + (first.remedy.map { "; \($0)" } ?? ""))
    }

    private func joinText() throws -> String? {
        guard let joinFile else { return coordinator }
        guard let text = JoinFile(joinFile).contents else {
            throw ProcessFailure(.missingInput, "\(joinFile): there is no join string; the coordinator writes it with --join-file when it listens")
        }
        return text
    }

    private static func check(_ model: String, threads: Int) -> Finding {
        do {
            return .ok("model", "\(model) is \(try openModel(model).baseManifest(threads: threads).digest.short)")
        } catch {
            return .failed("model", error, remedy: "--model is a file or a directory on this host, or a name on the model hub")
        }
    }

    private func show(_ findings: [Finding]) {
        switch format {
        case .text: for finding in findings { standardOutput.write(finding.line) }
        case .json: if let text = try? json(findings) { standardOutput.write(text) }
        }
    }
}
