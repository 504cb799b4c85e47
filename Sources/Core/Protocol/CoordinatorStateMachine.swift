/// The coordinator's decisions (docs/reference/protocol.md): admits machines, opens and commits rounds, compares digests, ends the run. It has no
/// socket, no clock and no file. Of the ledger it keeps only a summary, which grows with machines and with the gaps in their samples, not with
/// rounds.
///
/// Two rules hold everywhere. A record is announced only when it is on disk. And a peer gets everything that it has missed again after its next
/// heartbeat, so any message may be lost, late or doubled.
public struct CoordinatorStateMachine: Sendable {
    /// The run's state between start and end.
    enum Phase: Hashable, Sendable {
        case running
        /// All rounds are committed. The last digests and evaluations are waited for.
        case closing(since: Timestamp)
        /// The end record is written, or the operator stopped the run. Goodbyes are waited for.
        case leaving(RunFinish, since: Timestamp)
        case done
    }

    /// A record that is folded into the summary but is not known to be on disk.
    struct PendingRecord: Sendable {
        let index: UInt64
        let record: LedgerRecord
        let bytes: [UInt8]
        /// The position after the record.
        let position: LedgerPosition
        /// The notice to give once the record is on disk.
        let notice: CoordinatorNotice?
    }

    /// Signs the ledger; nil: nobody signs it.
    let notary: (any Notary)?
    /// Summary of the ledger, including the records that are being appended.
    public internal(set) var ledger: LedgerSummary
    var pending: [PendingRecord] = []
    /// Whether an append is asked for and not answered.
    var isAppending = false
    var retryAppendAt: Timestamp?
    /// Whether the disk did not take the last append.
    public internal(set) var isStalled = false
    /// Number of records that are on disk.
    public internal(set) var durableRecords: UInt64
    /// Number of the ledger's bytes that are on disk.
    public internal(set) var durableBytes: UInt64
    /// The position after the last record that is on disk.
    public internal(set) var durablePosition: LedgerPosition

    var peers: [PeerID: CoordinatorPeer] = [:]
    /// The peer of each session, so that a hello among ten thousand is answered as fast as the first.
    var sessions: [SessionToken: PeerID] = [:]
    /// Bytes of chunks on their way to peers that are not admitted.
    var strangers = StrangersBudget()
    var tickets: ChunkTickets
    /// Digest of the run's base manifest.
    var baseDigest: Digest?
    var upload: BaseUpload?
    /// Whether a peer has announced a base model that is not known.
    var isUploadWanted = false
    /// Whether a peer may wait for its number: one has proved its parameters since the last time that none waited. It saves a look at every peer at
    /// every event.
    var mayHaveNewcomers = false
    var phase: Phase = .running
    /// Whether rounds have begun since this process started.
    var hasBegun = false
    /// The time since which the ledger's machines without a connection are waited for. After the heartbeat timeout they depart.
    var detachedSince: Timestamp
    var lastTick: Timestamp

    var round: OpenRound?
    /// The next sample to share out for each machine, if it is above what is committed.
    var cursors: [MachineID: UInt64] = [:]
    /// Shares of recent rounds that were not answered in time, by round. Late bytes must match one of them.
    var missed: [RoundNumber: [MachineID: Opening.Share]] = [:]
    /// Bytes for earlier rounds, as they came. They are kept until a round closes.
    var late: [WireContribution] = []
    /// Bytes of machines that are ahead, by round. They are kept until the round is opened.
    var early: [RoundNumber: [MachineID: EarlyContribution]] = [:]
    /// The time at which each machine last sent bytes for a new share.
    var lastAnswer: [MachineID: Timestamp] = [:]
    /// Machines that said goodbye while the open round held their bytes. They depart when the round is written.
    var leavers: Set<MachineID> = []
    var byteHealth: [MachineID: ByteHealth] = [:]
    /// Machines of a private run whose last bytes had no value: their budgets are spent.
    var spent: Set<MachineID> = []
    /// Whether the run ends because no machine gives a value any more.
    var areBudgetsSpent = false
    /// Seconds that each recent share took, the newest last: since its opening, or, if a machine is ahead, since the machine's answer before.
    var answerSeconds: [Double] = []

    var check: DigestCheck?
    var lastScheduledCheck: Timestamp?
    /// Parameters that are taken to be right, the newest last.
    var references: [DigestReference] = []
    /// Whether a comparison is wanted that was not possible when it was asked for.
    var wantsCheck = false
    var lastWaiting: Int?
    /// Whether the operator was told that the steps vanish.
    var hasReportedVanishing = false
    /// Whether the operator was told that a tensor has moved by more than half of its norm.
    var hasReportedMoved = false
    /// Whether the operator was told that going back does not help.
    var hasReportedHelpless = false
    /// Whether the operator was told that nobody judges the trials.
    var hasReportedUnjudged = false
    /// Number of shares that a machine has missed in a row, and the round from which on it is given a share again.
    var missedShares: [MachineID: (count: Int, until: RoundNumber)] = [:]
    /// Machines that contributed bytes and whose parameters then agreed with the others': at one comparison (`agreedOnce`), at two (`established`).
    var agreedOnce: Set<MachineID> = []
    var established: Set<MachineID> = []
    /// The secret that the nonces of newcomers' proofs are made from.
    let nonceSecret: [UInt8]
    var noncesMade: UInt64 = 0
    var lastNewcomerCheck: Timestamp?
    /// Times of the newest admissions, the last one last.
    var admissionTimes: [Timestamp] = []
    /// The time since which evaluators alone hold up the first round. If that takes too long, they are not waited for any more.
    var evaluatorsAwaitedSince: Timestamp?
    var givesUpEvaluators = false
    /// Compares the directions of machines' bytes; nil if that is impossible or not wanted.
    var agreement: Agreement?
    /// Machines of which the operator was told that they disagree with the others.
    var disagreeing: Set<MachineID> = []
    /// Number of machines that left because their parameters were out of range, after they had agreed with the others.
    var divergedMachines = 0
    /// The evaluators' reports of the newest position that they measure, until they are decided.
    var opinions: Opinions?
    /// Evaluators whose last report had no validation loss.
    var judgesWithoutExamples: Set<MachineID> = []
    /// Machines of which the operator was told that they have no sample numbers left.
    var exhausted: Set<MachineID> = []

    /// The hold that the operator was last told about.
    var lastHold: Hold?
    /// The last retraction, restoration or rewind, and the next round at that time; nil once a later round is committed. Machines rebuild their
    /// parameters before they answer.
    var lastUndoing: (what: Hold.Undoing, round: RoundNumber)?

    var effects: [CoordinatorEffect] = []

    /// Constants of the coordinator's behaviour that are not in the spec.
    enum Tuning {
        static let retryAppendSeconds = 1.0
        /// A link is thin if its heartbeats take longer than this. Two comparisons of digests are then at least `roundTripsPerCheck` such times
        /// apart.
        static let thinRoundTripSeconds = 0.1
        static let roundTripsPerCheck = 20.0
        /// Number of answers that a deadline is estimated from.
        static let answersKept = 64
        static let answersNeeded = 8
        static let shortestDeadlineSeconds = 0.05
        static let referencesKept = 16
        /// A machine that differs in this many comparisons in a row, with a rebuild in between, is refused.
        static let strikes = 3
        /// Seconds to wait at the end. The last evaluations may take long on a slow machine; a machine that is gone is noticed by its heartbeats.
        static let closingSeconds = 1800.0
        static let leavingSeconds = 3.0
        /// Seconds between two comparisons for newcomers, once rounds are under way: each costs the others a hash of their parameters.
        static let newcomerCheckSeconds = 1.0
        /// Admissions within a minute, once rounds are under way: each stays in the ledger.
        static let admissionsPerMinute = 64
        /// A share is given up when it takes this many times as long as the slowest of the others took…
        static let stallFactor = 20.0
        /// …but not before this many heartbeat timeouts, and while hardly any answers are known not before `firstStallSeconds`: caches fill in the
        /// first rounds.
        static let stallTimeouts = 3.0
        static let firstStallSeconds = 300.0
        /// A machine that missed n shares in a row is left out for 2^n rounds. This is the largest n.
        static let exclusionExponentMax = 10
        /// Seconds for which evaluators alone may hold up the first round.
        static let evaluatorSeconds = 300.0
        /// Seconds for which a second evaluator's report of the same parameters is waited for, added to four times what the first evaluation took.
        static let opinionSeconds = 10.0
        static let longestOpinionSeconds = 600.0
        /// The guard does not go below this power of two of the run's rate.
        static let smallestRateShift = -24
        /// Number of characters of a peer's text that are repeated to people. The text may be as long as a frame.
        static let quoted = 300
        /// Seconds that the run stands still before displays show what it waits for.
        static let holdSeconds = 2.0
        /// Multiple of the usual answer time after which an unanswered share is shown.
        static let holdFactor = 4.0
        /// Per cent of the parameters that rounds leave unchanged from which on their steps count as vanishing.
        static let vanishingPercent: UInt8 = 99
        /// Number of rewinds without a new lowest validation loss in between.
        static let rewindsInARow = 12
    }

    /// Resumes from a ledger, all of which is on disk. The ledger may hold nothing but its spec.
    ///
    /// - Parameters:
    ///   - ledger: the ledger's summary.
    ///   - secret: random, so that no peer can claim to have received what it never read.
    ///   - notary: signs the ledger at every digest and at its end, and checks the machines' countersignatures.
    ///   - nonceSecret: random bytes that nobody else has. Newcomers' questions are made from them.
    ///   - now: the present time.
    public init(ledger: LedgerSummary, secret: UInt64 = 0, notary: (any Notary)? = nil, nonceSecret: [UInt8] = [], at now: Timestamp) {
        self.ledger = ledger
        tickets = ChunkTickets(secret: secret)
        self.nonceSecret = nonceSecret
        baseDigest = ledger.base?.digest
        // A ledger of an earlier format has no place for signatures.
        self.notary = ledger.format >= 2 ? notary : nil
        durableRecords = ledger.position.records
        durableBytes = ledger.position.offset
        durablePosition = ledger.position
        detachedSince = now
        lastTick = now
        establish(ledger.lastDigest?.machines ?? [])
        if let last = ledger.lastDigest, last.position == ledger.parameters.records {
            references = [DigestReference(position: last.position, digest: last.digest, supporters: [])]
        }
    }

    var spec: RunSpec { ledger.spec }

    /// The public key that signs the ledger; nil if nobody signs it.
    public var signer: SignerKey? { notary?.publicKey }

    /// Machines that train and take part.
    public var activeTrainers: [MachineID] {
        // The machine's record in the ledger counts, not what its peer says now.
        peers.values.compactMap { $0.isActive && $0.hello.trains ? $0.machine : nil }
            .filter { ledger.machines[$0]?.admission.trains == true }.sorted()
    }

    /// Handles one event. Returns the effects, to be carried out in order.
    public mutating func handle(_ event: CoordinatorEvent, at now: Timestamp) -> [CoordinatorEffect] {
        guard phase != .done else { return [] }
        switch event {
        case .received(let message, let id): received(message, from: id, at: now)
        case .malformed(let error, let id):
            effects.append(.notice(.warning("a frame from \(name(id)) is not understood: \("\(error)".prefix(Tuning.quoted))")))
        case .tick: tick(at: now)
        case .ledgerDurable(let records): durable(records, at: now)
        case .ledgerFailed(let reason): appendFailed(reason, at: now)
        case .ledgerRead(let id): peers[id]?.isReading = false
        case .stopRequested: stop(RunFinish(outcome: .stopped, message: "stopped by its operator"), at: now)
        case .retract(let machine, let rounds): retract(machine, rounds: rounds)
        case .restore(let machine, let rounds): restore(machine, rounds: rounds)
        case .rewind(let round, let rateShift): rewind(to: round, rateShift: rateShift)
        case .remove(let machine): remove(machine, at: now)
        }
        advance(at: now)
        defer { effects = [] }
        return effects
    }

    /// Does everything that has become possible: closes, opens, compares, ends.
    private mutating func advance(at now: Timestamp) {
        goBackIfDue()
        // This comes before a round closes. If machines work ahead, a round closes as soon as it is opened, and parameters are not compared while a
        // part of them is not on disk yet.
        concludeCheckIfComplete(at: now)
        closeRoundIfComplete(at: now)
        departLeavers(at: now)
        admitProven(at: now)
        openRoundAlone(at: now)
        endIfPossible(at: now)
        appendNext()
    }

    func name(_ id: PeerID) -> String {
        guard let peer = peers[id] else { return "an unknown peer" }
        guard let machine = peer.machine else { return peer.hello.name }
        return "\(peer.hello.name) (\(machine))"
    }

    mutating func send(_ message: Message, to id: PeerID) { effects.append(.send(message, to: [id])) }

    /// The order is fixed, so that the same events have the same effects.
    var followers: [PeerID] { sortedPeers { $0.isFollowing } }

    func sortedPeers(where holds: (CoordinatorPeer) -> Bool) -> [PeerID] {
        peers.values.filter(holds).map(\.id).sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    func peer(of machine: MachineID) -> CoordinatorPeer? { peers.values.first { $0.machine == machine } }

    // MARK: Time

    private mutating func tick(at now: Timestamp) {
        // If this process itself stood still (stopped, swapped out, a slow disk), the peers' heartbeats wait unread. Then the silence is our fault,
        // not theirs.
        let pause = now.seconds(since: lastTick)
        lastTick = now
        if pause > max(2 * spec.heartbeatSeconds, 10 * ProtocolLimits.tickSeconds) {
            detachedSince = detachedSince.advanced(bySeconds: pause)
            for id in peers.keys { peers[id]?.lastHeard = now }
        }
        let timeout = spec.heartbeatTimeoutSeconds
        for id in sortedPeers(where: { peer in
            let silence = now.seconds(since: peer.lastHeard)
            return silence > timeout && silence > patienceSeconds(with: peer)
        }) { drop(id, .lost, at: now) }
        continueUpload(at: now)
        if now.seconds(since: detachedSince) > timeout {
            let attached = Set(peers.values.compactMap(\.machine))
            for machine in ledger.machines.keys.sorted() where !attached.contains(machine) && !leavers.contains(machine) {
                depart(machine, .lost, at: now)
            }
        }
        if let retry = retryAppendAt, now >= retry { retryAppendAt = nil }
        closeRoundAtDeadline(at: now)
        closeRoundWithoutStallers(at: now)
        noteEvaluators(at: now)
        decideOpinions(at: now)
        warnIfUnjudged()
        concludeCheckIfOverdue(at: now)
        noteHold(at: now)
        if case .leaving(let finish, let since) = phase,
            (peers.isEmpty && pending.isEmpty) || now.seconds(since: since) > Tuning.leavingSeconds
        {
            phase = .done
            effects.append(.finished(finish))
        }
    }
}
