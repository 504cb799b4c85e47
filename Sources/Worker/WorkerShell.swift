import Core
import Transport

/// The thin shell around the worker's state machine, on the reactor's thread: frames, letters and ticks in, effects out.
struct WorkerShell {
    private var machine: WorkerStateMachine
    private let link: any ClientLink
    private let clock: ProcessClock
    private let compute: ComputeThread
    private let snapshots: SnapshotStore
    private let configuration: WorkerProcess.Configuration
    private var end: (exit: WorkerExit, status: ExitStatus, message: String)?
    private var refusals = 0
    private var firstRefusal: Timestamp?
    private var hasConnected = false
    /// Whether a connection was ended before its handshake was over.
    private var wasCutOff = false
    /// Number of handshakes that fail in a row before it counts as no accident. A coordinator that dies within a handshake looks the same as a wrong
    /// key.
    private static let refusalsMax = 5
    /// …and the least time that they take. Behind a relay that accepts connections for it, a coordinator that is being restarted looks the same too.
    private static let refusalSeconds = 10.0
    /// Seconds that the work in hand may still take when the worker has left.
    private static let leavingSeconds = 0.5

    static func run(
        _ configuration: WorkerProcess.Configuration, _ mailbox: Mailbox<WorkerLetter>
    ) throws -> WorkerProcess.Outcome {
        var generator = SystemRandomNumberGenerator()
        guard let session = SessionToken(bytes: (0..<SessionToken.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) })
        else { throw ProcessFailure(.internalError, "a session token has \(SessionToken.byteCount) bytes") }
        let link = try configuration.transport.connect(classify: trafficClass(ofFrame:))
        let snapshots = try SnapshotStore(directory: configuration.stateDirectory, bootstrap: configuration.bootstrap)
        for warning in snapshots.warnings { configuration.onProgress(.warning(warning)) }
        let compute = ComputeThread(answers: mailbox, snapshots: snapshots, failure: configuration.failure)
        let clock = ProcessClock()
        let machine = WorkerStateMachine(
            WorkerConfiguration(
                session: session, name: configuration.name, trains: configuration.trains, evaluates: configuration.evaluates,
                software: WorkerProcess.software, expectedSpec: configuration.expectedRun,
                publicKey: configuration.transport.publicKey?.description,
                patienceSeconds: configuration.patienceSeconds, snapshots: snapshots.found,
                snapshotSeconds: configuration.stateDirectory == nil ? nil : configuration.snapshotSeconds,
                notary: configuration.notary, expectedBase: configuration.expectedBase,
                basis: configuration.basis ?? snapshots.basis, precision: configuration.precision))
        var shell = WorkerShell(machine: machine, link: link, clock: clock, compute: compute, snapshots: snapshots, configuration: configuration)
        let makeTrainer = configuration.makeTrainer
        let (_, hasEnded) = try withThread(named: "onebyte-compute") {
            compute.run(makeTrainer)
        } during: {
            defer {
                compute.abandon()
                if let path = configuration.snapshotPath, case .completed = shell.end?.exit {
                    compute.writeSnapshot(to: path, at: shell.machine.wholePosition)
                }
                compute.stop()
            }
            if try shell.feed(.started) == .continue {
                try runReactor(link, mailbox: mailbox, clock: clock) { try shell.handle($0) }
            }
        } patience: {
            // The work in hand is no longer wanted, unless the run is complete and its results are still being written.
            if case .completed = shell.end?.exit { nil } else { leavingSeconds }
        }
        for letter in mailbox.takeAll() {
            switch letter {
            case .snapshotWritten(let path): configuration.onProgress(.snapshot(path: path))
            case .snapshotFailed(let failure):
                configuration.onProgress(.warning(Self.snapshotWarning(failure)))
                // A user who asked for a result and has none must not read a success.
                if case .completed(let digest)? = shell.end?.exit {
                    shell.end = (.completed(digest), failure.status, "the run is complete, but \(Self.snapshotWarning(failure))")
                }
            case .warning(let text): configuration.onProgress(.warning(text))
            case .event, .failed, .snapshot, .reconnect: break
            }
        }
        guard let end = shell.end else { throw ProcessFailure(.internalError, "the worker ended without a reason") }
        return WorkerProcess.Outcome(
            exit: end.exit, status: end.status, message: end.message, traffic: link.traffic, isComputing: !hasEnded)
    }

    private init(
        machine: WorkerStateMachine, link: any ClientLink, clock: ProcessClock, compute: ComputeThread, snapshots: SnapshotStore,
        configuration: WorkerProcess.Configuration
    ) {
        self.machine = machine
        self.link = link
        self.clock = clock
        self.compute = compute
        self.snapshots = snapshots
        self.configuration = configuration
    }

    private mutating func handle(_ event: ReactorEvent<WorkerLetter>) throws -> LoopControl {
        switch event {
        case .link(.frame(let frame, _, _)):
            return try feed(Self.read(frame))
        case .link(.malformed(let error, _)):
            return try feed(.malformed(error))
        case .link(.connection(let notice)):
            configuration.onProgress(.connection(notice))
            if note(notice) == .finish { return .finish }
            switch notice {
            case .connected: return try feed(.connection(isUp: true))
            case .lost, .retrying: return try feed(.connection(isUp: false))
            case .refused: break
            }
        case .letter(.event(let event)):
            return try feed(event)
        case .letter(.failed(let failure)):
            return try feed(.failed(failure))
        case .letter(.reconnect(let join)):
            do throws(TransportError) {
                try link.reconnect(to: join)
            } catch {
                configuration.onProgress(.warning("can't go to \(join.address): \(error.message)"))
            }
            return try feed(.connection(isUp: false))
        case .letter(.snapshot):
            if let path = configuration.snapshotPath {
                compute.writeSnapshot(to: path, at: machine.wholePosition)
            } else {
                configuration.onProgress(.warning("no path is set for the parameters, so they are not written"))
            }
        case .letter(.snapshotWritten(let path)): configuration.onProgress(.snapshot(path: path))
        case .letter(.snapshotFailed(let failure)): configuration.onProgress(.warning(Self.snapshotWarning(failure)))
        case .letter(.warning(let text)): configuration.onProgress(.warning(text))
        case .tick:
            return try feed(.tick)
        }
        return .continue
    }

    private static func snapshotWarning(_ failure: ProcessFailure) -> String { "the parameters are not written: \(failure.message)" }

    private static func read(_ frame: [UInt8]) -> WorkerEvent {
        do throws(WireError) {
            return .received(try Message(decoding: frame))
        } catch {
            return .malformed(error)
        }
    }

    private mutating func feed(_ event: WorkerEvent) throws -> LoopControl {
        for effect in machine.handle(event, at: clock.now) {
            switch effect {
            case .send(let message): try link.send(message.encoded())
            case .perform(let task):
                if case .prepare(_, let basis?) = task { snapshots.keep(basis: basis) }
                compute.perform(task)
            case .abandon: compute.abandon()
            case .endTimeBox: compute.endTimeBox()
            case .reconnect: try link.reconnect()
            case .notice(let notice): configuration.onProgress(.notice(notice))
            case .finish(let exit):
                end = (exit, status(of: exit), message(of: exit))
                return .finish
            }
        }
        return .continue
    }

    /// Handles a notice of the connection. A coordinator that never lets this worker in is not worth waiting for.
    private mutating func note(_ notice: ConnectionNotice) -> LoopControl {
        switch notice {
        case .connected:
            refusals = 0
            firstRefusal = nil
            hasConnected = true
        case .refused(let endpoint, let reason, let isFinal):
            refusals += 1
            let first = firstRefusal ?? clock.now
            firstRefusal = first
            let isLasting = refusals >= Self.refusalsMax && clock.now >= first.advanced(bySeconds: Self.refusalSeconds)
            // A worker that was in before has the right key. Its link breaks, and links come back.
            guard isFinal || (!hasConnected && isLasting) else { break }
            let text = "\(endpoint): \(reason); check the join string and this worker's key"
            end = (.failed(ProcessFailure(.refused, text)), .refused, text)
            return .finish
        case .lost: wasCutOff = wasCutOff || !hasConnected
        case .retrying: break
        }
        return .continue
    }

    /// Whether something answers there and never lets the worker in. There is no other sign of a wrong key.
    private var hasWrongKey: Bool { wasCutOff && !hasConnected && link.isEncrypted }

    private func status(of exit: WorkerExit) -> ExitStatus {
        switch exit {
        case .completed, .stopped: .success
        case .coordinatorLost: hasWrongKey ? .refused : .unavailable
        case .failed(let failure): failure.status
        case .refused(let refusal):
            switch refusal.code {
            case .otherRun, .otherBase: .configuration
            case .full: .temporary
            case .diverged, .invalid, .removed: .refused
            }
        }
    }

    private func message(of exit: WorkerExit) -> String {
        switch exit {
        case .completed(let digest):
            "the run is complete" + (digest.map { "; its parameters: \($0)" } ?? "")
                + (machine.chain.map { "; its ledger's chain: \($0)" } ?? "")
        case .stopped: "stopped"
        case .coordinatorLost(let seconds) where hasWrongKey:
            "\(link.endpoint) has ended every connection for \(Int(seconds)) s before it was made; is the key in the join string that coordinator's?"
        case .coordinatorLost(let seconds):
            "no word from the coordinator at \(link.endpoint) for \(Int(seconds)) s; is it running, and can this host reach it?"
        case .failed(let failure): failure.message
        case .refused(let refusal): ([refusal.reason] + refusal.details.map { "  \($0)" }).joined(separator: "\n")
        }
    }
}
