import ArgumentParser
import Core
import Foundation
import Logging
import Relay
import Transport

struct RelayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "relay",
        abstract: "Stand between a site's workers and the coordinator: one far link carries each commit once for all of them.",
        discussion: joined(
            """
            Give it the coordinator's join string; it prints one of its own for the site's workers:

              onebyte keygen site.key
              onebyte relay --coordinator 'tcp://coordinator:5151?key=…' \\
                --listen tcp://0.0.0.0:5151 --key site.key
              onebyte worker --coordinator 'tcp://relay:5151?key=…' …

            Where the coordinator has a list of keys, the relay's is in it; the workers' are with the relay:

              onebyte relay --coordinator 'tcp://coordinator:5151?key=…' \\
                --listen tcp://0.0.0.0:5151 --key site.key --allow workers.pub

            By files, as with a coordinator:

              onebyte relay --coordinator-file far/join --join-file near/join …
              onebyte worker --join-file near/join …

            It needs no model, no data and no disk, and listens once the coordinator answers. It may be stopped and
            started at any time: workers that are without it for no longer than the run's heartbeat timeout (10 s)
            keep their machine numbers, and get new ones after that. It ends with the run, or when the coordinator
            was silent for --patience seconds.
            """))

    @Option(help: ArgumentHelp("The coordinator's address, or the join string that it prints.", valueName: "address"))
    var coordinator: String?
    @Option(help: ArgumentHelp("Wait for the coordinator's join string in this file.", valueName: "file")) var coordinatorFile: String?
    @Option(help: ArgumentHelp("Where workers connect.", valueName: "address")) var listen = "tcp://127.0.0.1:\(Address.defaultPort)"
    @Option(
        help: ArgumentHelp(
            "This relay's secret key (onebyte keygen): workers' connections are encrypted, and a coordinator with a list of keys knows it by this one.",
            valueName: "file"))
    var key: String?
    @Option(help: ArgumentHelp("Public keys of the workers that may connect.", valueName: "file")) var allow: String?
    @Flag(help: "Listen beyond this host without encryption: anybody there can join and listen in.") var insecure = false
    @Option(
        help: ArgumentHelp(
            "Write the relay's join string here when it listens, and take it away at the end; workers wait for it with the same flag.",
            valueName: "file"))
    var joinFile: String?
    @Option(help: ArgumentHelp("The name or address of this host that workers are told to call. (default: chosen)", valueName: "host"))
    var advertise: String?
    @Option(help: ArgumentHelp("Give up when the coordinator was silent for so long.", valueName: "seconds")) var patience = 600.0
    @OptionGroup(title: "Logs") var logs: LogOptions

    func validate() throws {
        if (coordinator == nil) == (coordinatorFile == nil) {
            throw ValidationError("give either --coordinator, the coordinator's join string, or --coordinator-file, a file that holds it")
        }
        if allow != nil, key == nil { throw ValidationError("--allow needs --key: without encryption nobody can prove who they are") }
        guard patience > 0, patience.isFinite else { throw ValidationError("--patience must be above 0") }
    }

    func run() async throws {
        logs.bootstrap()
        let logger = Logger(label: "relay")
        let keys = try key.map { try KeyPair(contentsOf: $0) }
        let access: AccessControl =
            if let keys, let allow { .listed(keys, try PublicKey.list(contentsOf: allow)) } else if let keys { .encrypted(keys) } else { .open }
        let near = ZeroMQServer(address: try Address(listen), access: access, insecure: insecure)
        let join = try await joinString(logger)
        let announcer = JoinAnnouncer(advertised: advertise, file: joinFile.map { JoinFile($0) })
        defer { announcer.end() }
        let process = RelayProcess(
            configuration: .init(
                near: near, far: ZeroMQClient(join, keys: keys), run: join.run, base: join.base, patienceSeconds: patience,
                onProgress: { Self.log($0, to: logger, join, announcer) }))
        // A coordinator that was restarted may have another address.
        let moves = Task { [coordinatorFile] in
            guard let coordinatorFile else { return }
            for await moved in JoinFile(coordinatorFile).changes(after: join) {
                logger.info("the coordinator is at \(moved.address) now")
                process.reconnect(to: moved)
            }
        }
        defer { moves.cancel() }
        let (outcome, stop) = try await stoppingOnSignals(onStop: { process.requestStop() }) { try await process.run() }
        logger.info(
            "far link: \(outcome.far.sent.total.bytes) bytes up, \(outcome.far.received.total.bytes) down; workers: \(outcome.near.received.total.bytes) up, \(outcome.near.sent.total.bytes) down"
        )
        if outcome.status != .success { throw ProcessFailure(outcome.status, outcome.message) }
        logger.info("\(outcome.message)")
        if stop == .interrupt { throw StopSignal.interrupt }
    }

    private func joinString(_ logger: Logger) async throws -> JoinString {
        guard let coordinatorFile else { return try JoinString(coordinator ?? "") }
        let file = JoinFile(coordinatorFile)
        if file.contents == nil { logger.info("waiting for a coordinator's join string in \(coordinatorFile)") }
        // There is nothing to put in order yet, so signals keep their default action. Trapped here, they would not be trapped again later.
        return try await file.wait(seconds: patience)
    }

    private static func log(_ progress: RelayProgress, to logger: Logger, _ join: JoinString, _ announcer: JoinAnnouncer) {
        switch progress {
        case .listening(let endpoint, let key):
            // Workers check that the run and its base are those of the coordinator, as if they had its own join string.
            standardError.write(
                announcer.announce(endpoint) { host in
                    guard let address = try? Address(endpoint), let place = try? host.map({ try address.at(host: $0) }) ?? address else { return nil }
                    return JoinString(address: place, serverKey: key, run: join.run, base: join.base)
                })
        case .warning, .notice(.warning), .notice(.silent): logger.warning("\(progress)")
        case .notice(.workerCame), .notice(.workerLeft), .notice(.answered), .connection: logger.info("\(progress)")
        }
    }
}
