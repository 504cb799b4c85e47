/// A worker as the coordinator sees it: a session behind a connection.
struct CoordinatorPeer: Sendable {
    let id: PeerID
    let hello: Hello
    let tag: UInt32
    var session: SessionToken { hello.session }
    /// Its number, from the moment its admission is appended.
    var machine: MachineID?
    /// Its admission is on disk.
    var isAdmitted = false
    /// What it says its base is.
    var announcedBase: BaseDigest?
    /// Its base is the run's.
    var hasBase = false
    /// To its training examples, before it has a number.
    var data: DataCommitment?
    /// Its parameters were the others' when they were last compared.
    var isProven = false
    /// It was told to build its parameters from the base since it last took part: a report of theirs is a replay's. A newcomer's is
    /// not, for it may have begun with a snapshot.
    var hasReplayed = false
    /// It has the ledger up to the tip, and is told of each new record.
    var isFollowing = false
    /// A piece of the ledger is being read for it: a peer that asks without end gets one piece at a time.
    var isReading = false
    var flow = PeerFlow()
    var lastHeard: Timestamp
    var lastStatus: Timestamp?
    /// Comparisons in which its parameters differed since they last agreed.
    var strikes = 0
    /// Orders to rebuild that this session was given.
    var rebuilds: UInt32 = 0
    /// Ledger records behind its newest evaluation.
    var lastEvaluation: UInt64 = 0

    init(id: PeerID, hello: Hello, lastHeard: Timestamp) {
        self.id = id
        self.hello = hello
        self.lastHeard = lastHeard
        tag = hello.session.fingerprint.tag
    }

    var isActive: Bool { isAdmitted && isProven }

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
    /// What is still waited for.
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

/// What came for a round that is not open yet.
struct EarlyContribution: Sendable {
    let sent: WireContribution
    /// Since the same machine's answer before, or since the round before was opened.
    let seconds: Double
}

/// A comparison of parameters in progress.
struct DigestCheck: Sendable {
    let position: LedgerPosition
    let round: RoundNumber
    let startedAt: Timestamp
    /// Who was asked and is still there.
    var waiting: Set<PeerID>
    var reports: [PeerID: Digest] = [:]
    /// Asked of all where somebody is new; nil: the digest alone was.
    var nonce: ProofNonce?
    var proofs: [PeerID: Digest] = [:]
    /// Since when the parameters are others; nil while they are these.
    var supersededAt: Timestamp?
    /// What came with the reports, unchecked.
    var signatures: [PeerID: Signature] = [:]
}
