/// The settings of a worker process.
public struct WorkerConfiguration: Sendable {
    public var session: SessionToken
    public var name: String
    public var trains: Bool
    public var evaluates: Bool
    public var software: String
    /// SHA-256 of the run spec that the user expects; nil: any run will do.
    public var expectedSpec: Digest?
    /// SHA-256 of the base manifest that the user expects (`BaseManifest.digest`).
    public var expectedBase: Digest?
    /// The worker's CURVE public key, 64 hexadecimal digits; nil if it has none.
    public var publicKey: String?
    /// The worker gives up when the coordinator has been silent for this long.
    public var patienceSeconds: Double
    /// Snapshots that this host has. They are not trusted: a snapshot is used only if the run's ledger passes through its hash chain.
    public var snapshots: [SnapshotPosition]
    /// Seconds between two snapshots, which are taken after a digest; nil: no snapshots.
    public var snapshotSeconds: Double?
    /// Countersigns the digests; nil: they are not countersigned.
    public var notary: (any Notary)?
    /// The payload of a basis record that this host has. If it is the run's, it need not come over the link.
    public var basis: [UInt8]?
    /// The precision in which the worker computes its bytes; nil: the ledger does not say it.
    public var precision: ComputePrecision?

    public init(
        session: SessionToken, name: String, trains: Bool, evaluates: Bool, software: String, expectedSpec: Digest? = nil,
        publicKey: String? = nil, patienceSeconds: Double = 600, snapshots: [SnapshotPosition] = [], snapshotSeconds: Double? = nil,
        notary: (any Notary)? = nil, expectedBase: Digest? = nil, basis: [UInt8]? = nil, precision: ComputePrecision? = nil
    ) {
        self.precision = precision
        self.expectedBase = expectedBase
        self.notary = notary
        self.basis = basis
        self.session = session
        self.name = name
        self.trains = trains
        self.evaluates = evaluates
        self.software = software
        self.expectedSpec = expectedSpec
        self.publicKey = publicKey
        self.patienceSeconds = patienceSeconds
        self.snapshots = snapshots
        self.snapshotSeconds = snapshotSeconds
    }
}

/// The worker's decisions (docs/reference/protocol.md): finds the run, proves its base, follows the ledger, tries the samples that it is given. It
/// has no socket, no clock and no model.
///
/// It folds ledger records as soon as they come. The compute thread follows behind with one task at a time and always gets the most useful next one.
/// Work that is no longer wanted is never begun, and many rounds to catch up with go through the kernels together.
public struct WorkerStateMachine: Sendable {
    /// A piece of work that depends on all records before it.
    enum Step: Hashable, Sendable {
        case change(HistoryChange, position: UInt64)
        case digest(LedgerPosition, round: RoundNumber, nonce: ProofNonce? = nil)
        case evaluate(round: RoundNumber, position: UInt64)
    }

    struct Answer: Sendable {
        let sent: WireContribution
        /// The number of the next heartbeat when the answer was last sent. Until that heartbeat is answered, the answer may be on its way and is not
        /// sent twice.
        var heartbeat: UInt64
    }

    enum Tuning {
        static let firstHelloSeconds = 1.0
        static let longestHelloSeconds = 16.0
        /// Used until the coordinator has told its own values.
        static let heartbeatSeconds = 1.0
        static let heartbeatTimeoutSeconds = 10.0
        /// Number of rounds in one `apply`, so that a long catch-up shows its progress.
        static let changesPerApply = 256
        /// Number of records beyond which a worker that is behind counts as catching up.
        static let recordsBehind: UInt64 = 8
        /// Number of damaged ledger chunks in a row before the worker gives up.
        static let damagedChunks = 5
        static let statusSeconds = 1.0
        /// Numbers of answered rounds after which a worker reports its loss at once.
        static let statusRounds: Set<Int> = [4, 8, 16, 24]
        /// Seconds between two reports on a download.
        static let downloadSeconds = 5.0
        /// A base manifest that takes longer than this to come is not fetched before it is known whether this host has the same.
        static let longManifestSeconds = 2.0
        /// A hello that is older than this is repeated on a new connection.
        static let oldHelloSeconds = 2.0
        /// Seconds between two reports on what private bytes have cost.
        static let privacySeconds = 10.0
        /// Seconds between two reports on a catch-up, and seconds after which it may be called hopeless.
        static let catchUpSeconds = 2.0
        static let slowCatchUpSeconds = 20.0
        /// Seconds that the sample in hand may take when the worker is to stop.
        static let stoppingSeconds = 5.0
    }

    let configuration: WorkerConfiguration
    var isDone = false
    /// The time at which the worker was asked to stop while it tried samples. It waits for those that are finished.
    var stoppingSince: Timestamp?

    // The connection
    var welcome: Welcome?
    var startedAt: Timestamp?
    var lastHeard: Timestamp?
    var lastTick: Timestamp?
    var nextHello: Timestamp?
    var helloAttempts = 0
    var nextHeartbeat: Timestamp?
    var nextStatus: Timestamp?
    /// Number of shares that this session has answered.
    var roundsAnswered = 0
    var saidSilent = false
    var isConnected = true
    var reconnectedAt: Timestamp?
    var pace = LinkPace()
    /// Number of heartbeats sent.
    var heartbeats: UInt64 = 0
    /// The heartbeat whose pong is timed.
    var probe: (sequence: UInt64, sentAt: Timestamp)?
    var saidHello: Timestamp?

    // The ledger
    var decoder = LedgerDecoder()
    var history = EffectiveHistory()
    var spec: RunSpec?
    var runBase: BaseManifest?
    var basis: [UInt8]?
    /// The position after the last record that changes the parameters.
    var parameters: LedgerPosition?
    /// Number of records that the coordinator is known to have.
    var target: UInt64 = 0
    var fetching: (offset: UInt64, count: Int, since: Timestamp)?
    /// Bytes of the ledger that the coordinator is known to have.
    var ledgerBytes: UInt64 = 0
    /// Ticket of the last chunk that came.
    var ticket: UInt32 = 0
    var saidDownload: Timestamp?
    /// The time at which the download was first seen to take long, and the length of the ledger then. The ledger grows meanwhile.
    var downloadBegan: (at: Timestamp, bytes: UInt64)?
    var isDownloadCalledHopeless = false
    var damagedChunks = 0
    var machine: MachineID?
    /// Whether the ledger's end record has come.
    var isRunEnded = false

    // The work
    var base: BaseManifest?
    /// The base's manifest in the ledger's form.
    var manifest: [UInt8] = []
    var manifestDigest: Digest?
    let ownBasisDigest: Digest?
    /// Whether the coordinator has said that this worker's base is the run's. It may have become the run's only after the welcome.
    var isBaseTaken = false
    /// The number of the next heartbeat when the base was last announced.
    var announcedBefore: UInt64 = 0
    var isPrepared = false
    /// The commitment to this worker's training examples.
    var data: DataCommitment?
    var mustReset = false
    /// The newest order to rebuild.
    var rebuilds: UInt32 = 0
    var inHand: WorkerTask?
    var steps: [Step] = []
    /// Largest number of steps since `steps` was last empty, from which the reported progress is computed.
    private var mostSteps = 0
    /// Number of records that the parameters contain.
    var applied: UInt64 = 0
    /// Snapshots of this host that were not tried yet, the newest first.
    var snapshots: [SnapshotPosition]
    /// Snapshots that the ledger passes through.
    var confirmedSnapshots: Set<SnapshotPosition> = []
    var dueSnapshot: (position: LedgerPosition, round: RoundNumber)?
    var lastSnapshot: Timestamp?
    var catchUp: CatchUp?
    var opening: Opening?
    /// Answers that were sent for recent rounds and for those ahead, the newest last.
    var answers: [Answer] = []
    /// The time at which the samples in hand were begun, until a time box has ended them.
    var samplesSince: Timestamp?
    /// Whether the coordinator wants the present parameters' digest.
    var mustProve = true
    var lastDigest: DigestReport?
    /// The nonce of the request that `lastDigest` answers.
    var lastNonce: ProofNonce?
    var lastEvaluation: EvaluationReport?
    /// Reports that were measured before this worker had a number.
    var heldEvaluations: [EvaluationReport] = []
    var progress = 0.0
    /// The fraction of the prefix cache that is there.
    var cached = 1.0
    var lossSum = 0.0
    var lossSamples = 0
    var samplesDone = 0
    var sampleSeconds = 0.0
    var saidPrivacy: Timestamp?
    var saidSpent = false

    var effects: [WorkerEffect] = []

    public init(_ configuration: WorkerConfiguration) {
        self.configuration = configuration
        ownBasisDigest = configuration.basis.map { .sha256($0) }
        snapshots = configuration.snapshots.sorted { $0.records > $1.records }
    }

    /// The hash chain of the ledger that the worker holds.
    public var chain: Digest? { decoder.position?.chain }

    /// Number of ledger records that the worker holds.
    public var records: UInt64 { decoder.position?.records ?? 0 }

    /// Handles one event. Returns the effects, to be carried out in order.
    public mutating func handle(_ event: WorkerEvent, at now: Timestamp) -> [WorkerEffect] {
        guard !isDone else { return [] }
        switch event {
        case .started:
            startedAt = now
            sayHello(at: now)
        case .received(let message): received(message, at: now)
        case .malformed(let error): effects.append(.notice(.warning("a frame from the coordinator is not understood: \(error)")))
        case .performed(let result): performed(result, at: now)
        // A failure's text may quote a record, a path or what a scoring program said. It stays on this host.
        case .failed(let failure): leave(.failed(failure), saying: Goodbye.failure)
        case .tick: tick(at: now)
        case .connection(let isUp): noteConnection(isUp: isUp, at: now)
        case .progressed(let part): noteProgress(part)
        case .stopRequested: stop(at: now)
        }
        advance(at: now)
        defer { effects = [] }
        return effects
    }

    mutating func send(_ message: Message) { effects.append(.send(message)) }

    mutating func finish(_ exit: WorkerExit) {
        guard !isDone else { return }
        isDone = true
        effects.append(.finish(exit))
    }

    mutating func leave(_ exit: WorkerExit, saying reason: String, _ cause: Goodbye.Cause? = nil) {
        guard !isDone else { return }
        if welcome != nil { send(.goodbye(Goodbye(reason: reason.limited(toBytes: ProtocolLimits.reasonBytes), cause: cause))) }
        finish(exit)
    }

    /// Tells the compute thread to come to an end, since the finished samples of the share count. After a second request the worker leaves at once.
    private mutating func stop(at now: Timestamp) {
        guard case .compute? = inHand, stoppingSince == nil else {
            leave(.stopped, saying: "stopped")
            return
        }
        stoppingSince = now
        effects.append(.abandon)
    }

    // MARK: Time

    private mutating func tick(at now: Timestamp) {
        // If this process itself stood still (stopped, swapped out), the silence is its own fault, as for the coordinator.
        let pause = now.seconds(since: lastTick ?? now)
        lastTick = now
        if pause > max(2 * (welcome?.heartbeatSeconds ?? Tuning.heartbeatSeconds), 10 * ProtocolLimits.tickSeconds) { lastHeard = now }
        if let since = stoppingSince, now.seconds(since: since) > Tuning.stoppingSeconds {
            leave(.stopped, saying: "stopped")
            return
        }
        let silence = now.seconds(since: lastHeard ?? startedAt ?? now)
        if silence > configuration.patienceSeconds {
            finish(.coordinatorLost(seconds: silence))
            return
        }
        let timeout = welcome?.heartbeatTimeoutSeconds ?? Tuning.heartbeatTimeoutSeconds
        if silence > timeout, isRunEnded, steps.isEmpty, inHand == nil {
            // The coordinator has ended, and its farewell was lost.
            finish(.completed(finalDigest))
            return
        }
        if silence > timeout, !saidSilent {
            saidSilent = true
            effects.append(.notice(.silent(seconds: silence)))
        }
        reconnectIfSilent(at: now, silence: silence, timeout: timeout)
        if let hello = nextHello, now >= hello, isConnected { sayHello(at: now) }
        endTimeBox(at: now)
        guard let welcome, isConnected else { return }
        if let fetch = fetching,
            now.seconds(since: fetch.since) > pace.secondsUntilLost(bytes: fetch.count, heartbeatSeconds: welcome.heartbeatSeconds)
        {
            fetching = nil
        }
        if nextHeartbeat.map({ now >= $0 }) ?? true {
            nextHeartbeat = now.advanced(bySeconds: pace.heartbeatSeconds(spec: welcome.heartbeatSeconds, timeout: timeout))
            sendHeartbeat(at: now)
            // The status follows the heartbeat at once, so that both go in one packet.
            if nextStatus.map({ now >= $0 }) ?? true {
                nextStatus = now.advanced(bySeconds: pace.statusSeconds(shortest: Tuning.statusSeconds))
                sendStatus()
            }
        }
    }

    mutating func sayHello(at now: Timestamp) {
        helloAttempts += 1
        saidHello = now
        effects.append(.notice(.greeting(attempt: helloAttempts)))
        send(
            .hello(
                Hello(
                    session: configuration.session, name: configuration.name, trains: configuration.trains,
                    evaluates: configuration.evaluates, software: configuration.software,
                    expectedSpec: configuration.expectedSpec, records: records, publicKey: configuration.publicKey,
                    signingKey: configuration.notary?.publicKey, precision: configuration.trains ? configuration.precision : nil)))
        let pause = min(
            Tuning.longestHelloSeconds, Tuning.firstHelloSeconds * Double(1 << min(helloAttempts - 1, 10)))
        nextHello = now.advanced(bySeconds: pause)
    }

    /// Notes progress. Before the worker is prepared, it is that of the task in hand; later it is that of the prefix cache.
    private mutating func noteProgress(_ part: Double) {
        switch inHand {
        case .hashBase, .prepare: progress = part
        default: cached = part
        }
    }

    mutating func sendStatus() {
        let phase: WorkerStatus.Phase =
            switch inHand {
            case .hashBase: .hashing
            case .prepare: .caching
            // A retraction is one record, but may take many steps.
            case .apply, .reset, .digest, .restore, .snapshot:
                applied + Tuning.recordsBehind < records || steps.count > Int(Tuning.recordsBehind) ? .catchingUp : .training
            case .compute: .training
            case .evaluate: .evaluating
            case nil: isPrepared ? .waiting : isDownloading ? .fetching : .loading
            }
        mostSteps = steps.isEmpty ? 0 : max(mostSteps, steps.count)
        let part =
            switch phase {
            case .catchingUp where applied + Tuning.recordsBehind >= records && mostSteps > 0: 1 - Double(steps.count) / Double(mostSteps)
            case .catchingUp where target > 0: Double(applied) / Double(target)
            case .fetching where ledgerBytes > 0: Double(decoder.received) / Double(ledgerBytes)
            case .training, .waiting: cached
            default: progress
            }
        send(
            .status(
                WorkerStatus(
                    phase: phase, progress: spec?.privacy == nil ? part : Self.coarse(part),
                    trainingLoss: lossSamples > 0 ? lossSum / Double(lossSamples) : .nan,
                    samplesPerSecond: sampleSeconds > 0 ? Double(samplesDone) / sampleSeconds : 0, applied: applied)))
        (lossSum, lossSamples, samplesDone, sampleSeconds) = (0, 0, 0, 0)
    }

    /// Returns progress in whole hundredths, rounded down. The exact part of a cache is a ratio of sums of the examples' lengths.
    private static func coarse(_ part: Double) -> Double { part.isFinite ? (part * 100).rounded(.down) / 100 : part }
}
