import Core
import Glibc
import Transport

/// The thin shell around the coordinator's state machine, on the reactor's thread: frames, letters and ticks in, effects out.
struct CoordinatorShell {
    private var machine: CoordinatorStateMachine
    private var summary: RunningTotals
    private let link: any ServerLink
    private let clock: ProcessClock
    private let disk: Disk
    private let directory: RunDirectory
    private let report: @Sendable (CoordinatorProgress) -> Void
    private var complaints: RateLimit
    private var thinning = WorkerThinning()
    private var finish = RunFinish(outcome: .failed, message: "the coordinator ended without a reason")

    /// Totals of the run that the shell keeps for its outcome.
    private struct RunningTotals {
        var samples: UInt64
        var rounds: RoundNumber
        var digest: Digest?
    }

    static func run(
        _ configuration: CoordinatorProcess.Configuration, _ mailbox: Mailbox<CoordinatorLetter>
    ) throws -> CoordinatorProcess.Outcome {
        let directory = RunDirectory(configuration.runDirectory)
        // Nobody sends a coordinator more at once than a round's bytes or a piece of a manifest. A peer that tries to must not get memory for it.
        let samples = (configuration.spec ?? directory.ledgerSpec)?.samplesPerRound ?? ProtocolLimits.samplesPerRound
        let frameLimit = max(ProtocolLimits.chunkBytes, samples) + ProtocolLimits.frameMarginBytes
        // The address comes first: if a start fails because of it, no ledger is left behind.
        let link = RelayedServerLink(
            try configuration.transport.listen(classify: trafficClass(ofFrame:), frameLimit: frameLimit), frameLimit: frameLimit)
        let clock = ProcessClock()
        let lock = try directory.lock(beginning: configuration.spec != nil, under: configuration.lockHolder)
        defer { withExtendedLifetime(lock) {} }
        let ledger = try directory.openLedger(spec: configuration.spec, basis: configuration.basis, base: configuration.base) { reading in
            configuration.onProgress(CoordinatorProgress(time: Double(clock.now.nanoseconds) / 1e9, event: .reading(reading)))
        }
        let summary = ledger.summary
        let tornTail = ledger.tornTail
        let disk = Disk(answers: mailbox)
        let notary = try configuration.makeNotary?(directory)
        var generator = SystemRandomNumberGenerator()
        let nonceSecret = (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
        var shell = CoordinatorShell(
            machine: CoordinatorStateMachine(
                ledger: summary, secret: UInt64.random(in: 0...(.max)), notary: notary, nonceSecret: nonceSecret, at: clock.now), link: link,
            summary: RunningTotals(samples: summary.samples, rounds: summary.nextRound, digest: summary.lastDigest?.digest), clock: clock,
            disk: disk, directory: directory, report: configuration.onProgress)
        shell.emit(
            .listening(
                .init(
                    endpoint: link.endpoint, serverKey: link.publicKey?.description, run: summary.specDigest,
                    round: summary.nextRound, rounds: summary.spec.rounds, samples: summary.samples, signer: shell.machine.signer,
                    base: summary.base?.digest)))
        if let tornTail {
            shell.emit(
                .warning(
                    "the ledger ended within a record, as after a crash; its last \(tornTail.bytes) bytes, which were never announced, are cut off"))
        }
        // The ledger's file goes to the disk thread for good: nothing here touches it again.
        nonisolated(unsafe) let owned = ledger
        try withThread(named: "onebyte-disk") {
            disk.run(owned, metricsPath: directory.metrics)
        } during: {
            defer { disk.stop() }
            try runReactor(link, mailbox: mailbox, clock: clock) { try shell.handle($0) }
            for worker in shell.thinning.flush() { disk.note(CoordinatorProgress(time: Double(clock.now.nanoseconds) / 1e9, event: .worker(worker))) }
            shell.emit(
                .finished(
                    .init(
                        finish: shell.finish, traffic: link.traffic, samples: shell.summary.samples, digest: shell.summary.digest,
                        chain: shell.machine.durablePosition.chain, signer: shell.machine.signer)))
        }
        return CoordinatorProcess.Outcome(
            finish: shell.finish, status: shell.finish.outcome == .failed ? .failure : .success, traffic: link.traffic,
            samples: shell.summary.samples, rounds: shell.summary.rounds, digest: shell.summary.digest,
            chain: shell.machine.durablePosition.chain, signer: shell.machine.signer)
    }

    private init(
        machine: CoordinatorStateMachine, link: any ServerLink, summary: RunningTotals, clock: ProcessClock, disk: Disk,
        directory: RunDirectory, report: @escaping @Sendable (CoordinatorProgress) -> Void
    ) {
        self.machine = machine
        self.link = link
        self.summary = summary
        self.clock = clock
        self.disk = disk
        self.directory = directory
        self.report = report
        complaints = RateLimit(at: clock.now)
    }

    private mutating func handle(_ event: ReactorEvent<CoordinatorLetter>) throws -> LoopControl {
        switch event {
        case .link(.frame(let frame, let peer, let key)):
            return try feed(Self.read(frame, from: peer, key))
        case .link(.malformed(let error, let peer)):
            return try feed(.malformed(error, from: peer))
        case .link(.connection(let notice)):
            if case .refused = notice { emit(.connection(notice.description)) }
        case .letter(.event(let event)):
            return try feed(event)
        case .letter(.chunk(let chunk, let peer)):
            try link.send(Message.chunk(chunk).encoded(), to: [peer])
        case .letter(.warning(let text)):
            emit(.warning(text))
        case .tick:
            let (requests, unknown) = directory.takeRequests()
            for line in unknown { emit(.warning("\(directory.requests): \"\(line)\" is no request")) }
            for request in requests where try feed(request.event) == .finish { return .finish }
            return try feed(.tick)
        }
        return .continue
    }

    private static func read(_ frame: [UInt8], from peer: PeerID, _ key: PublicKey?) -> CoordinatorEvent {
        do throws(WireError) {
            let message = try Message(decoding: frame)
            guard case .hello(var hello) = message else { return .received(message, from: peer) }
            // A key counts only if the connection has proved it.
            hello.publicKey = key?.description
            return .received(.hello(hello), from: peer)
        } catch {
            return .malformed(error, from: peer)
        }
    }

    private mutating func feed(_ event: CoordinatorEvent) throws -> LoopControl {
        for effect in machine.handle(event, at: clock.now) {
            switch effect {
            case .send(let message, let peers): try link.send(message.encoded(), to: peers)
            case .append(let record, let index): disk.append(record, records: index + 1)
            case .readLedger(let read): disk.read(read)
            case .disconnect(let peer): link.forget(peer)
            case .notice(let notice): note(notice)
            case .finished(let finish):
                self.finish = finish
                return .finish
            }
        }
        return .continue
    }

    private mutating func note(_ notice: CoordinatorNotice) {
        switch notice {
        case .roundCommitted(let round):
            summary.samples += UInt64(round.samples)
            summary.rounds = round.round + 1
        case .digestsAgree(_, let digest, _): summary.digest = digest
        default: break
        }
        emit(CoordinatorProgress.Event(notice, traffic: link.traffic, samples: summary.samples))
    }

    private mutating func emit(_ event: CoordinatorProgress.Event) {
        switch event {
        case .warning, .connection, .refused, .greeted:
            let (passes, heldBack) = complaints.admit(at: clock.now)
            if heldBack > 0 { write(.warning("\(heldBack) more warnings within a second are not shown")) }
            if passes { write(event) }
        default: write(event)
        }
    }

    private mutating func write(_ event: CoordinatorProgress.Event) {
        let progress = CoordinatorProgress(time: Double(clock.now.nanoseconds) / 1e9, event: event)
        report(progress)
        let status: CoordinatorProgress.Worker? =
            switch event {
            case .worker(let worker): thinning.admit(worker, at: progress.time)
            // A worker's last losses come before its departure, because a status tells a reader that a worker is present.
            case .left(let left): thinning.remove(left.machine)
            default: nil
            }
        if let status { disk.note(CoordinatorProgress(time: progress.time, event: .worker(status))) }
        if case .worker = event { return }
        disk.note(progress)
    }
}
