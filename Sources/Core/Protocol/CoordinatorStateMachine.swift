/// The coordinator's brain (docs/reference/protocol.md): admits machines, opens and commits rounds, compares digests, ends the run. No
/// socket, no clock, no file, and of the ledger only a summary, which grows with machines and with the gaps in their samples, not with
/// rounds.
///
/// Two rules hold everywhere. A record is announced only when it is on disk. And whatever a peer has missed it gets again by
/// its next heartbeat, so any message may be lost, late or doubled.
public struct CoordinatorStateMachine: Sendable {
    /// Where the run is between start and end.
    enum Phase: Hashable, Sendable {
        case running
        /// All rounds are committed; the last digests and evaluations are waited for.
        case closing(since: Timestamp)
        /// The end record is written, or the operator stopped it: goodbyes are waited for.
        case leaving(RunFinish, since: Timestamp)
        case done
    }

    /// A record that is folded into the summary but not known to be on disk.
    struct PendingRecord: Sendable {
        let index: UInt64
        let record: LedgerRecord
        let bytes: [UInt8]
        /// After it.
        let position: LedgerPosition
        /// For people, once it is on disk.
        let notice: CoordinatorNotice?
    }

    /// Signs the ledger; nil where nobody does.
    let notary: (any Notary)?
    /// Of the ledger with what is being appended.
    public internal(set) var ledger: LedgerSummary
    var pending: [PendingRecord] = []
    /// An append is asked for and not answered.
    var isAppending = false
    var retryAppendAt: Timestamp?
    /// The disk did not take the last append.
    public internal(set) var isStalled = false
    public internal(set) var durableRecords: UInt64
    public internal(set) var durableBytes: UInt64
    /// After the last record that is on disk.
    public internal(set) var durablePosition: LedgerPosition

    var peers: [PeerID: CoordinatorPeer] = [:]
    /// Who holds a session, so that a hello among ten thousand is answered as fast as the first.
    var sessions: [SessionToken: PeerID] = [:]
    /// Chunks under way to peers that are not admitted.
    var strangersBytes = 0
    /// Tickets of chunks are made from it; drawn by the shell.
    let secret: UInt64
    var tickets: UInt64 = 0
    /// Of the run's base manifest.
    var baseDigest: Digest?
    var upload: BaseUpload?
    /// A peer has announced a base that is not known.
    var isUploadWanted = false
    /// A peer has proved its parameters since it was last known that none waits for its number: so that not every event looks at every
    /// peer.
    var mayHaveNewcomers = false
    var phase: Phase = .running
    /// Rounds have begun since this process started.
    var hasBegun = false
    /// Machines of the ledger without a connection since this time.
    var detachedSince: Timestamp
    var lastTick: Timestamp

    var round: OpenRound?
    /// The next sample to share out, where it is above what is committed.
    var cursors: [MachineID: UInt64] = [:]
    /// Shares of recent rounds that were not answered in time, by round: late bytes must match one.
    var missed: [RoundNumber: [MachineID: Opening.Share]] = [:]
    /// Bytes for earlier rounds, as they came, until a round closes.
    var late: [WireContribution] = []
    /// Bytes of machines that are ahead, by round, until it is opened.
    var early: [RoundNumber: [MachineID: EarlyContribution]] = [:]
    /// When each machine last gave bytes for a new share.
    var lastAnswer: [MachineID: Timestamp] = [:]
    /// Machines that said goodbye while the open round holds their bytes: they depart when it is written.
    var leavers: Set<MachineID> = []
    var byteHealth: [MachineID: ByteHealth] = [:]
    /// Seconds that a share took, the newest last: from its opening, or where a machine is ahead from its answer before.
    var answerSeconds: [Double] = []

    var check: DigestCheck?
    var lastScheduledCheck: Timestamp?
    /// Parameters that are taken for right, the newest last.
    var references: [DigestReference] = []
    /// Someone waits for a comparison that was not possible when it asked.
    var wantsCheck = false
    var lastWaiting: Int?
    /// The operator knows that the steps vanish.
    var hasSaidVanishing = false
    /// That a tensor has moved by more than half of its norm was said.
    var hasSaidMoved = false
    /// The operator knows that going back does not help.
    var hasSaidHelpless = false
    /// The operator knows that nobody judges the trials.
    var hasSaidUnjudged = false
    /// Shares that a machine has missed in a row, and the round from which on it is given one again.
    var missedShares: [MachineID: (count: Int, until: RoundNumber)] = [:]
    /// Machines whose parameters agreed with the others' after rounds that they gave bytes for, at one comparison and at two.
    var agreedOnce: Set<MachineID> = []
    var established: Set<MachineID> = []
    /// Makes the nonces of newcomers' proofs.
    let nonceSecret: [UInt8]
    var noncesMade: UInt64 = 0
    var lastNewcomerCheck: Timestamp?
    /// The newest admissions, the last one last.
    var admissionTimes: [Timestamp] = []
    /// Evaluators alone hold the first round up since this time; once they have done so for too long it is not waited for them any more.
    var evaluatorsAwaitedSince: Timestamp?
    var givesUpEvaluators = false
    /// Whether machines' bytes point the same way; nil where that can't be told, or nobody asks.
    var agreement: Agreement?
    /// Machines of which the operator knows that they disagree with the others.
    var disagreeing: Set<MachineID> = []
    /// Machines that left because their parameters were out of range, after they had agreed with the others.
    var divergedMachines = 0
    /// What evaluators said of the newest position that they measure, until it is decided.
    var opinions: Opinions?
    /// Evaluators whose last report had no validation loss.
    var judgesWithoutExamples: Set<MachineID> = []
    /// Machines of which the operator knows that they have no sample numbers left.
    var exhausted: Set<MachineID> = []

    var effects: [CoordinatorEffect] = []

    /// How it behaves, beside what the spec says.
    enum Tuning {
        static let retryAppendSeconds = 1.0
        /// A link whose heartbeats take longer is thin; digests are then at least so many of those times apart.
        static let thinRoundTripSeconds = 0.1
        static let roundTripsPerCheck = 20.0
        /// Answers that a deadline is estimated from.
        static let answersKept = 64
        static let answersNeeded = 8
        static let shortestDeadlineSeconds = 0.05
        static let referencesKept = 16
        /// A machine that differs for this many comparisons in a row, rebuilding in between, is refused.
        static let strikes = 3
        /// The last evaluations may take long on a slow machine; one that is gone is noticed by its heartbeats.
        static let closingSeconds = 1800.0
        static let leavingSeconds = 3.0
        /// Between two status messages of a peer that are heard.
        static let statusSeconds = 0.2
        /// Between two comparisons for newcomers, once rounds are under way: each costs the others a hash of their parameters.
        static let newcomerCheckSeconds = 1.0
        /// Admissions within a minute, once rounds are under way: each stays in the ledger.
        static let admissionsAMinute = 64
        /// A share that is unanswered for so many times as long as the slowest of the others took is not waited for…
        static let stallFactor = 20.0
        /// …but never before so many heartbeat timeouts, nor before so long while hardly any answers are known: caches fill in the first rounds.
        static let stallTimeouts = 3.0
        static let firstStallSeconds = 300.0
        /// A machine that missed n shares in a row is left out for 2^n rounds, up to this n.
        static let longestExclusion = 10
        /// That evaluators alone may hold the first round up.
        static let evaluatorSeconds = 300.0
        /// That a second evaluator's word about the same parameters is waited for, beside four times what the first one's took.
        static let opinionSeconds = 10.0
        static let longestOpinionSeconds = 600.0
        /// The guard does not go below this power of two of the run's rate.
        static let smallestRateShift = -24
        /// Characters of what a peer has written that are repeated to people: it may be a frame full.
        static let quoted = 300
        /// Parameters that rounds leave as they were, from which on their steps count as vanishing.
        static let vanishingPercent: UInt8 = 99
        /// Without a new lowest validation loss in between.
        static let rewindsInARow = 12
    }

    /// Goes on from a ledger, which may hold nothing but its spec, and all of which is on disk.
    ///
    /// - Parameters:
    ///   - secret: random, so that nobody can say to have received what was never read.
    ///   - notary: signs the ledger at every digest and at its end, and checks what machines countersign.
    ///   - nonceSecret: random bytes that nobody else has, from which newcomers' questions are made.
    public init(ledger: LedgerSummary, secret: UInt64 = 0, notary: (any Notary)? = nil, nonceSecret: [UInt8] = [], at now: Timestamp) {
        self.ledger = ledger
        self.secret = secret
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

    /// Who signs the ledger, where somebody does.
    public var signer: SignerKey? { notary?.publicKey }

    /// Machines that train and take part.
    public var activeTrainers: [MachineID] {
        // What the ledger says of a machine counts, not what its peer says by now.
        peers.values.compactMap { $0.isActive && $0.hello.trains ? $0.machine : nil }
            .filter { ledger.machines[$0]?.admission.trains == true }.sorted()
    }

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

    /// Does whatever has become possible: closes, opens, compares, ends.
    private mutating func advance(at now: Timestamp) {
        goBackIfDue()
        // Before a round closes: where machines work ahead it closes as soon as it is opened, and parameters of which a part is not on
        // disk yet are not compared.
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

    /// In a fixed order, so that the same events have the same effects.
    var followers: [PeerID] { sortedPeers { $0.isFollowing } }

    func sortedPeers(where holds: (CoordinatorPeer) -> Bool) -> [PeerID] {
        peers.values.filter(holds).map(\.id).sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    func peer(of machine: MachineID) -> CoordinatorPeer? { peers.values.first { $0.machine == machine } }

    // MARK: Time

    private mutating func tick(at now: Timestamp) {
        // Where this process itself stood still (stopped, swapped out, a slow disk) the peers' heartbeats wait unread: their
        // silence is ours.
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
        decideOverdueOpinions(at: now)
        warnIfUnjudged()
        concludeCheckIfOverdue(at: now)
        if case .leaving(let finish, let since) = phase,
            (peers.isEmpty && pending.isEmpty) || now.seconds(since: since) > Tuning.leavingSeconds
        {
            phase = .done
            effects.append(.finished(finish))
        }
    }
}
