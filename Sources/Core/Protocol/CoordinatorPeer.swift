/// A worker as the coordinator sees it: a session behind a connection.
struct CoordinatorPeer: Sendable {
    let id: PeerID
    /// Copies of a peer are made for every record and every tick. So they share what does not change.
    private let constants: Constants
    var hello: Hello { constants.hello }
    let tag: UInt32
    var session: SessionToken { hello.session }
    /// The peer's machine number, from the moment at which its admission is appended.
    var machine: MachineID?
    /// Whether its admission is on disk.
    var isAdmitted = false
    /// The base model that it says it has.
    var announcedBase: BaseDigest?
    /// Whether its base model is the run's.
    var hasBase = false
    /// The commitment to its training examples, until it has a machine number.
    var data: DataCommitment?
    /// Whether its parameters equalled the others' at the last comparison.
    var isProven = false
    /// Whether it was told to build its parameters from the base since it last took part, so that its report of a digest is that of a replay. A
    /// newcomer's report is not, because the newcomer may have begun with a snapshot.
    var hasReplayed = false
    /// Whether it has the whole ledger. It is then told of each new record.
    var isFollowing = false
    /// Whether a piece of the ledger is being read for it. A peer that asks without pause gets one piece at a time.
    var isReading = false
    var flow = PeerFlow()
    var lastHeard: Timestamp
    var statuses = StatusAllowance()
    /// Number of comparisons in which its parameters differed since they last agreed.
    var strikes = 0
    /// Number of orders to rebuild that this session was given.
    var rebuilds: UInt32 = 0
    /// Number of ledger records at its newest evaluation.
    var lastEvaluation: UInt64 = 0

    init(id: PeerID, hello: Hello, lastHeard: Timestamp) {
        self.id = id
        constants = Constants(hello)
        self.lastHeard = lastHeard
        tag = hello.session.fingerprint.tag
    }

    private final class Constants: Sendable {
        let hello: Hello
        init(_ hello: Hello) { self.hello = hello }
    }

    /// Limits a peer's status messages: a few at once, and then so many per second.
    struct StatusAllowance: Sendable {
        static let atOnce = 8.0
        static let perSecond = 5.0
        private var left = atOnce
        private var last: Timestamp?

        mutating func admit(at now: Timestamp) -> Bool {
            left = min(Self.atOnce, left + Self.perSecond * (last.map { now.seconds(since: $0) } ?? 0))
            last = now
            guard left >= 1 else { return false }
            left -= 1
            return true
        }
    }

    var isActive: Bool { isAdmitted && isProven }

    /// Notes a commit that goes to this peer, unless earlier ones do not get through: the peer then no longer follows.
    ///
    /// - Parameter patience: seconds that commits may take, besides eight round trips.
    /// - Returns: whether the peer is to get the commit.
    mutating func noteCommit(index: UInt64, bytes: Int, at now: Timestamp, patience: Double) -> Bool {
        guard !flow.isClogged(at: now, seconds: patience + 8 * flow.roundTripSeconds) else {
            flow.forgetCommits()
            isFollowing = false
            return false
        }
        flow.noteCommit(index: index, bytes: bytes, at: now)
        return true
    }

    var standing: Pong.Standing {
        if !hasBase { return announcedBase == nil ? .baseMissing : .basePending }
        return isProven ? .active : .digestMissing
    }
}

/// The round whose bytes are being gathered.
struct OpenRound: Sendable {
    let opening: Opening
    let openedAt: Timestamp
    var lastAnsweredAt: Timestamp
    /// The shares that are not answered yet.
    var shares: [MachineID: Opening.Share]
    var answers: [MachineID: Contribution] = [:]

    init(opening: Opening, at now: Timestamp) {
        self.opening = opening
        openedAt = now
        lastAnsweredAt = now
        shares = Dictionary(uniqueKeysWithValues: opening.shares.map { ($0.machine, $0) })
    }

    var answeredSamples: Int { answers.values.reduce(0) { $0 + $1.bytes.count } }
    var sharedSamples: Int { opening.shares.reduce(0) { $0 + Int($1.count) } }
}

/// A contribution to a round that is not open yet.
struct EarlyContribution: Sendable {
    let sent: WireContribution
    /// Seconds since the same machine's answer before, or since the round before was opened.
    let seconds: Double
}

/// A comparison of parameters in progress.
struct DigestCheck: Sendable {
    let position: LedgerPosition
    let round: RoundNumber
    let startedAt: Timestamp
    /// The peers that were asked, are still there and have not answered.
    var waiting: Set<PeerID>
    var reports: [PeerID: Digest] = [:]
    /// The nonce that every peer is asked to answer because somebody is new; nil: only the digest is asked for.
    var nonce: ProofNonce?
    var proofs: [PeerID: Digest] = [:]
    /// The time at which the parameters changed; nil as long as they are the compared ones.
    var supersededAt: Timestamp?
    /// Signatures that came with the reports. They are not checked yet.
    var signatures: [PeerID: Signature] = [:]
}
