import Core
import Transport

/// The thin shell around a relay's state machine, on the thread that owns the link to the workers: frames, letters and ticks in, effects out.
struct RelayShell {
    private var machine: RelayStateMachine
    private let configuration: RelayProcess.Configuration
    private let near: NearLink
    private let far: FarLink
    private let clock: ProcessClock
    private var complaints: RateLimit
    private var end: (exit: RelayExit, status: ExitStatus, message: String)?
    /// The coordinator's address, and whether it must prove a key.
    private var coordinator: (endpoint: String, isEncrypted: Bool) = ("the coordinator's address", false)
    private var hasConnected = false
    /// Whether a connection was ended before its handshake was over.
    private var wasCutOff = false

    static func run(_ configuration: RelayProcess.Configuration, _ mailbox: Mailbox<RelayLetter>) throws -> RelayProcess.Outcome {
        let near = try NearLink(configuration.near)
        let clock = ProcessClock()
        let far = FarLink(configuration.far, owner: mailbox)
        var shell = RelayShell(
            machine: RelayStateMachine(
                secret: UInt64.random(in: 0...(.max)), patienceSeconds: configuration.patienceSeconds, at: clock.now),
            configuration: configuration, near: near, far: far, clock: clock)
        try withThread(named: "onebyte-far") {
            far.run(clock: clock)
        } during: {
            defer { far.finish() }
            try runReactor(near, mailbox: mailbox, clock: clock, dueAt: { shell.machine.dueAt }) { try shell.handle($0) }
        }
        guard let end = shell.end else { throw ProcessFailure(.internalError, "the relay ended without a reason") }
        return RelayProcess.Outcome(
            exit: end.exit, status: end.status, message: end.message, far: far.traffic, near: near.traffic,
            ledgerBytes: shell.machine.ledgerBytes)
    }

    private init(
        machine: RelayStateMachine, configuration: RelayProcess.Configuration, near: NearLink, far: FarLink, clock: ProcessClock
    ) {
        self.machine = machine
        self.configuration = configuration
        self.near = near
        self.far = far
        self.clock = clock
        complaints = RateLimit(at: clock.now)
    }

    private mutating func handle(_ event: ReactorEvent<RelayLetter>) throws -> LoopControl {
        switch event {
        case .link(.frame(let frame, let peer, _)): return try feed(.worker(frame, from: peer))
        case .link(.malformed(let error, _)): report(.warning("a frame from a worker is not understood: \(error)"))
        case .link(.connection(let notice)): if case .refused = notice { report(.warning(notice.description)) }
        case .letter(.event(let event)):
            defer { if case .coordinator(let frame) = event { far.take(frame.count) } }
            return try feed(event)
        case .letter(.ready(let endpoint, let isEncrypted)): coordinator = (endpoint, isEncrypted)
        case .letter(.connection(let notice)): return try note(notice)
        case .letter(.malformed(let error)): report(.warning("a frame from the coordinator is not understood: \(error)"))
        case .letter(.move(let join)):
            if let change = change(in: join) {
                end = (.failed(ProcessFailure(.configuration, change)), .configuration, change)
                return .finish
            }
            coordinator.endpoint = join.address.endpoint
            far.reconnect(to: join)
            return try feed(.connection(isUp: false))
        case .letter(.failed(let error)):
            end = (.failed(ProcessFailure(error)), error.status, error.message)
            return .finish
        case .tick: return try feed(.tick)
        }
        return .continue
    }

    /// Reports progress. What peers can cause at will is reported so often and not more: they must not fill a disk with our complaints.
    private mutating func report(_ progress: RelayProgress) {
        switch progress {
        case .warning, .notice(.warning), .notice(.workerCame), .notice(.workerLeft):
            let (passes, heldBack) = complaints.admit(at: clock.now)
            if heldBack > 0 { configuration.onProgress(.warning("\(heldBack) more lines within a second are not shown")) }
            if passes { configuration.onProgress(progress) }
        default: configuration.onProgress(progress)
        }
    }

    /// Returns what a later join string says that the first one did not; nil: it names the same run and base.
    private func change(in join: JoinString) -> String? {
        for (what, old, new) in [("run", configuration.run, join.run), ("base", configuration.base, join.base)] {
            guard let old, let new, old != new else { continue }
            return "the coordinator's join string names another \(what) now (\(new.prefix(8)), not \(old.prefix(8))); start the relay again"
        }
        return nil
    }

    private mutating func feed(_ event: RelayEvent) throws -> LoopControl {
        for effect in machine.handle(event, at: clock.now) {
            switch effect {
            case .toCoordinator(let frame): far.send(frame)
            case .listen(let frameBytes):
                try near.open(frameLimit: frameBytes)
                report(.listening(endpoint: near.endpoint, key: near.publicKey))
            case .toWorkers(let frame, let peers): try near.send(frame, to: peers)
            case .forget(let peer): near.forget(peer)
            case .notice(let notice): report(.notice(notice))
            case .finish(let exit):
                end = (exit, status(of: exit), message(of: exit))
                return .finish
            }
        }
        return .continue
    }

    /// Handles a notice of the far link. A coordinator that never lets this relay in is not worth waiting for.
    private mutating func note(_ notice: ConnectionNotice) throws -> LoopControl {
        report(.connection(notice))
        switch notice {
        case .connected:
            hasConnected = true
            return try feed(.connection(isUp: true))
        case .lost:
            wasCutOff = wasCutOff || !hasConnected
            return try feed(.connection(isUp: false))
        case .retrying: return try feed(.connection(isUp: false))
        case .refused(let endpoint, let reason, let isFinal):
            guard isFinal else { return .continue }
            let text = "\(endpoint): \(reason); check the join string and this relay's key"
            end = (.failed(ProcessFailure(.refused, text)), .refused, text)
            return .finish
        }
    }

    /// Whether something answers there and never lets the relay in. There is no other sign of a wrong key.
    private var hasWrongKey: Bool { wasCutOff && !hasConnected && coordinator.isEncrypted }

    private func status(of exit: RelayExit) -> ExitStatus {
        switch exit {
        case .completed, .stopped: .success
        case .coordinatorLost: hasWrongKey ? .refused : .unavailable
        case .failed(let failure): failure.status
        }
    }

    private func message(of exit: RelayExit) -> String {
        switch exit {
        case .completed: "the run has ended"
        case .stopped: "stopped"
        case .coordinatorLost(let seconds) where hasWrongKey:
            "\(coordinator.endpoint) has ended every connection for \(Int(seconds)) s before it was made; is the key in the join string that coordinator's?"
        case .coordinatorLost(let seconds):
            "no word from the coordinator at \(coordinator.endpoint) for \(Int(seconds)) s; is it running, and can this host reach it?"
        case .failed(let failure): failure.message
        }
    }
}
