/// A message between a coordinator and a worker, in one frame (docs/reference/protocol.md).
public enum Message: Hashable, Sendable {
    // Worker → coordinator
    case hello(Hello)
    /// The worker's proof of its base model: the whole manifest. Our workers send `baseDigest` instead, which is shorter.
    case base(BaseManifest)
    /// Asks for the ledger's bytes from an offset on.
    case fetch(LedgerFetch)
    case contribution(WireContribution)
    case heartbeat(Heartbeat)
    case digestReport(DigestReport)
    case evaluation(EvaluationReport)
    case status(WorkerStatus)
    case goodbye(Goodbye)
    /// Names the worker's base manifest. The coordinator asks for its bytes if it does not know them.
    case baseDigest(BaseDigest)
    /// The piece of the worker's base manifest that was asked for.
    case basePart(BasePart)

    // Coordinator → worker
    case welcome(Welcome)
    case refuse(Refusal)
    /// A ledger record that is on disk, and the opening of the next round, if there is one.
    case commit(Commit)
    /// A round's opening alone: the first one, or a repetition for a worker that has missed it.
    case open(Opening)
    case chunk(LedgerChunk)
    case pong(Pong)
    /// Asks for the digest of the parameters after this many records. With a nonce it also asks for a proof that the worker holds them and the base.
    case digestRequest(position: UInt64, nonce: ProofNonce? = nil)
    /// Tells a worker that its parameters are wrong: build them again from base and ledger. The session's first such order is 1.
    case rebuild(order: UInt32)
    /// The coordinator ends here. The worker should say goodbye.
    case finished(RunFinish)
    /// Asks for a piece of the worker's base manifest.
    case baseFetch(BaseFetch)

    public enum Kind: UInt8, Sendable, CaseIterable {
        case hello = 1, base, fetch, contribution, heartbeat, digestReport, evaluation, status, goodbye, baseDigest, basePart
        case welcome = 65, refuse, commit, open, chunk, pong, digestRequest, rebuild, finished, baseFetch
    }

    /// Returns whether a frame says that it is of this kind. The frame may still be damaged.
    static func hasKind(_ kind: Kind, _ frame: [UInt8]) -> Bool { frame.count >= MessageCoding.headerBytes && frame[1] == kind.rawValue }
}

/// The first message of a connection: "here I am". It is repeated when the coordinator does not know the peer. JSON.
public struct Hello: Hashable, Sendable, Codable {
    public var session: SessionToken
    /// The worker's name in every display, such as its host name.
    public var name: String
    public var trains: Bool
    public var evaluates: Bool
    /// The program's version.
    public var software: String
    /// SHA-256 of the run spec that the worker's user expects; nil: any run will do.
    public var expectedSpec: Digest?
    /// Number of ledger records that this session already holds; 0 at first.
    public var records: UInt64
    /// The CURVE public key in 64 hexadecimal digits, or nil. The coordinator accepts only the key that the connection proved.
    public var publicKey: String?
    /// The key with which the worker countersigns its digests; nil if it does not.
    public var signingKey: SignerKey?
    /// The precision in which the worker computes its bytes; nil from workers that do not say it.
    public var precision: ComputePrecision?

    public init(
        session: SessionToken, name: String, trains: Bool, evaluates: Bool, software: String, expectedSpec: Digest? = nil,
        records: UInt64 = 0, publicKey: String? = nil, signingKey: SignerKey? = nil, precision: ComputePrecision? = nil
    ) {
        self.signingKey = signingKey
        self.precision = precision
        self.session = session
        self.name = name
        self.trains = trains
        self.evaluates = evaluates
        self.software = software
        self.expectedSpec = expectedSpec
        self.records = records
        self.publicKey = publicKey
    }
}

/// The answer to a hello: "here is the run". JSON.
public struct Welcome: Hashable, Sendable, Codable {
    public var specDigest: Digest
    /// The session of the worker that this answers. So a late welcome to an earlier process is not believed.
    public var session: SessionToken
    public var ledgerRecords: UInt64
    public var ledgerBytes: UInt64
    public var heartbeatSeconds: Double
    public var heartbeatTimeoutSeconds: Double
    /// The key with which the coordinator signs the ledger. It then also accepts countersignatures. Nil if it does neither.
    public var signer: SignerKey?
    /// SHA-256 of the payload of the run's base manifest, if the ledger holds one. A worker with the same base need not download it.
    public var baseDigest: Digest?
    /// The coordinator's clock, in seconds since 1970.
    public var unixSeconds: UInt64?

    public init(
        specDigest: Digest, session: SessionToken, ledgerRecords: UInt64, ledgerBytes: UInt64, heartbeatSeconds: Double,
        heartbeatTimeoutSeconds: Double, signer: SignerKey? = nil, baseDigest: Digest? = nil, unixSeconds: UInt64? = nil
    ) {
        self.signer = signer
        self.baseDigest = baseDigest
        self.unixSeconds = unixSeconds
        self.specDigest = specDigest
        self.session = session
        self.ledgerRecords = ledgerRecords
        self.ledgerBytes = ledgerBytes
        self.heartbeatSeconds = heartbeatSeconds
        self.heartbeatTimeoutSeconds = heartbeatTimeoutSeconds
    }
}

/// The refusal of a worker, with the reason and the remedy. JSON.
public struct Refusal: Hashable, Sendable, Codable {
    public enum Code: String, Sendable, Codable, CaseIterable {
        /// The worker expects another run.
        case otherRun
        /// The worker's base model differs. `details` names tensors.
        case otherBase
        /// The worker's parameters differ although it has rebuilt them.
        case diverged
        /// There are too many peers.
        case full
        /// The worker broke the protocol.
        case invalid
        /// An operator evicted the worker.
        case removed
    }
    public var code: Code
    public var reason: String
    /// Details such as the differing tensors, at most `ProtocolLimits.reportedDifferences`.
    public var details: [String]
    public init(code: Code, reason: String, details: [String] = []) {
        self.code = code
        self.reason = reason
        self.details = details
    }
}

/// A machine's bytes for one round. It names its round, machine, samples and scale. So a late or repeated contribution can be judged by itself, even
/// by a coordinator that was restarted in between.
public struct WireContribution: Hashable, Sendable {
    public let round: RoundNumber
    /// S, the scale exponent of the bytes.
    public let scaleExponent: Int8
    public let contribution: Contribution
    public init(round: RoundNumber, scaleExponent: Int8, contribution: Contribution) {
        self.round = round
        self.scaleExponent = scaleExponent
        self.contribution = contribution
    }
}

/// The distribution of a round's samples: who tries which samples, in units of 2^S.
public struct Opening: Hashable, Sendable {
    /// The samples that one machine is to try: `count` samples from `firstSample` on.
    public struct Share: Hashable, Sendable {
        public let machine: MachineID
        public let firstSample: SampleNumber
        public let count: UInt32
        public init(machine: MachineID, firstSample: SampleNumber, count: UInt32) {
            self.machine = machine
            self.firstSample = firstSample
            self.count = count
        }
    }
    public let round: RoundNumber
    public let scaleExponent: Int8
    /// In ascending order of machine.
    public let shares: [Share]
    public init(round: RoundNumber, scaleExponent: Int8, shares: [Share]) {
        self.round = round
        self.scaleExponent = scaleExponent
        self.shares = shares
    }
}

/// A durable ledger record, verbatim, and the opening that follows from it.
public struct Commit: Hashable, Sendable {
    /// The record's index in the ledger. It shows a gap at once.
    public let index: UInt64
    /// The record's kind byte and payload as they are in the ledger.
    public let kind: UInt8
    public let payload: [UInt8]
    public let opening: Opening?
    public init(index: UInt64, kind: UInt8, payload: [UInt8], opening: Opening?) {
        self.index = index
        self.kind = kind
        self.payload = payload
        self.opening = opening
    }
}

/// A request for bytes of the ledger from `offset` on.
public struct LedgerFetch: Hashable, Sendable {
    public let offset: UInt64
    /// The largest number of bytes that is wanted: as many as the link carries in a few seconds.
    public let count: Int
    /// The ticket of the last chunk that came, which proves that it came; 0: none.
    public let ticket: UInt32
    public init(offset: UInt64, count: Int = ProtocolLimits.chunkBytes, ticket: UInt32 = 0) {
        self.offset = offset
        self.count = count
        self.ticket = ticket
    }
}

/// Raw bytes of the ledger file.
public struct LedgerChunk: Hashable, Sendable {
    public let offset: UInt64
    /// The next fetch repeats it.
    public let ticket: UInt32
    /// Number of bytes of the whole ledger so far.
    public let total: UInt64
    public let bytes: [UInt8]
    public init(offset: UInt64, ticket: UInt32 = 0, total: UInt64 = 0, bytes: [UInt8]) {
        self.offset = offset
        self.ticket = ticket
        self.total = total
        self.bytes = bytes
    }
}

/// The name of a base manifest: a few bytes instead of tens of thousands.
public struct BaseDigest: Hashable, Sendable {
    /// SHA-256 of the manifest's payload in a ledger.
    public let digest: Digest
    /// The payload's length.
    public let bytes: Int
    public init(digest: Digest, bytes: Int) {
        self.digest = digest
        self.bytes = bytes
    }
}

/// A request for `count` bytes of a base manifest's payload from `offset` on.
public struct BaseFetch: Hashable, Sendable {
    public let offset: Int
    public let count: Int
    public init(offset: Int, count: Int) {
        self.offset = offset
        self.count = count
    }
}

/// Bytes of a base manifest's payload.
public struct BasePart: Hashable, Sendable {
    public let offset: Int
    public let bytes: [UInt8]
    public init(offset: Int, bytes: [UInt8]) {
        self.offset = offset
        self.bytes = bytes
    }
}

/// A worker's sign of life, with how far it is.
public struct Heartbeat: Hashable, Sendable {
    /// `SessionFingerprint.tag`. It shows that the worker of a connection was replaced, whatever messages were lost.
    public let session: UInt32
    /// Number of ledger records held.
    public let records: UInt64
    /// The share of the open round that the worker knows of, if any, whether it works on it or has answered it. A round that was opened again has
    /// other shares, so the round's number alone would not tell which opening the worker knows.
    public let share: Share?
    /// The number of this heartbeat in its session. The pong repeats it.
    public let sequence: UInt64
    /// The time that a heartbeat and its pong take at present; 0: unknown.
    public let roundTripMilliseconds: UInt32

    /// The name of a share: its round and its first sample.
    public struct Share: Hashable, Sendable {
        public let round: RoundNumber
        public let firstSample: SampleNumber
        public init(round: RoundNumber, firstSample: SampleNumber) {
            self.round = round
            self.firstSample = firstSample
        }
    }

    public init(session: UInt32, records: UInt64, share: Share?, sequence: UInt64 = 0, roundTripMilliseconds: UInt32 = 0) {
        self.session = session
        self.records = records
        self.share = share
        self.sequence = sequence
        self.roundTripMilliseconds = roundTripMilliseconds
    }
}

/// The coordinator's answer to a heartbeat, with the peer's standing.
public struct Pong: Hashable, Sendable {
    public enum Standing: UInt8, Sendable, CaseIterable {
        /// The peer is unknown and should say hello.
        case unknown
        /// The peer is welcome, but its base manifest is missing.
        case baseMissing
        /// The base is accepted, but a digest report is missing.
        case digestMissing
        /// The peer takes part.
        case active
        /// The base's digest has come. Its manifest is on its way, or will be asked for.
        case basePending
    }
    public let standing: Standing
    /// Number of ledger records on disk.
    public let records: UInt64
    /// The open round whose bytes from this peer are missing, if any.
    public let awaited: RoundNumber?
    /// The number of the heartbeat that this answers. What was sent before that heartbeat has arrived, or never will.
    public let echo: UInt64
    public init(standing: Standing, records: UInt64, awaited: RoundNumber?, echo: UInt64 = 0) {
        self.standing = standing
        self.records = records
        self.awaited = awaited
        self.echo = echo
    }
}

/// The parameters' digest at a ledger position.
public struct DigestReport: Hashable, Sendable {
    /// Number of ledger records folded in.
    public let position: UInt64
    /// The next round.
    public let round: RoundNumber
    public let digest: Digest
    /// The first 8 bytes of the hash chain at `position`, little-endian.
    public let chain: UInt64
    /// The newest `rebuild` order that these parameters follow; 0: none. A report from before an order is not counted against the worker.
    public let rebuilds: UInt32
    /// Per cent of the parameters that the rounds since the digest before have left unchanged; nil if unknown.
    public let unchangedPercent: UInt8?
    /// Signature of `SignedStatement.parameters`; nil if the worker or the coordinator has no key.
    public let signature: Signature?
    /// The request's nonce and the answer to it (`Trainer.proof`); nil if none was asked for.
    public let proof: Proof?

    /// A nonce and the answer to it.
    public struct Proof: Hashable, Sendable {
        public let nonce: ProofNonce
        public let answer: Digest
        public init(nonce: ProofNonce, answer: Digest) {
            self.nonce = nonce
            self.answer = answer
        }
    }

    /// The commitment to the worker's training examples; nil if it trains on none, or does not commit itself.
    public let data: DataCommitment?
    public init(
        position: UInt64, round: RoundNumber, digest: Digest, chain: UInt64, rebuilds: UInt32 = 0, unchangedPercent: UInt8? = nil,
        signature: Signature? = nil, proof: Proof? = nil, data: DataCommitment? = nil
    ) {
        self.data = data
        self.signature = signature
        self.proof = proof
        self.unchangedPercent = unchangedPercent
        self.position = position
        self.round = round
        self.digest = digest
        self.chain = chain
        self.rebuilds = rebuilds
    }
}

/// An evaluator's measurement of its held-out examples.
public struct EvaluationReport: Hashable, Sendable {
    /// The measurement is of the parameters before this round is applied.
    public let round: RoundNumber
    /// Number of held-out examples.
    public let examples: UInt32
    /// Mean over the examples.
    public let loss: Double
    /// Fraction of the examples whose most likely label is right; NaN for tasks without labels.
    public let accuracy: Double
    /// Accuracy at the best threshold between two labels, which ignores a bias towards one of them; NaN for other tasks.
    public let bestThresholdAccuracy: Double
    /// Area under the ROC curve of two labels; NaN for other tasks.
    public let auc: Double
    /// Seconds that this evaluation took.
    public let seconds: Double
    /// Number of ledger records that were folded in. The worker's state machine fills it in.
    public var position: UInt64
    /// The scores of the examples that steer the run. They are not those that judge it.
    public let validation: ValidationScore?
    /// Movement of the tensor that has moved most from the base, divided by its norm; NaN if unknown.
    public let moved: Double
    /// Mean gain of the examples since the base, each compared with itself, and its standard error. An example's merit is 1 if it is classified
    /// right at the best threshold, else 0; without labels, minus its loss. NaN if unknown.
    public let gain: Double
    public let gainError: Double

    /// The scores of the examples that steer the run.
    public struct ValidationScore: Hashable, Sendable {
        public let examples: UInt32
        /// Mean over the examples.
        public let loss: Double
        /// NaN for tasks without labels.
        public let accuracy: Double
        /// Standard error of the mean change of the examples' losses since the base; NaN if unknown.
        public let noise: Double
        public init(examples: UInt32, loss: Double, accuracy: Double, noise: Double = .nan) {
            self.noise = WireNumber.amount(noise)
            self.examples = examples
            self.loss = WireNumber.loss(loss)
            self.accuracy = WireNumber.part(accuracy)
        }
    }

    public init(
        round: RoundNumber, examples: UInt32, loss: Double, accuracy: Double, bestThresholdAccuracy: Double, auc: Double,
        seconds: Double, position: UInt64 = 0, validation: ValidationScore? = nil, moved: Double = .nan,
        gain: Double = .nan, gainError: Double = .nan
    ) {
        self.gain = WireNumber.loss(gain)
        self.gainError = WireNumber.amount(gainError)
        self.moved = WireNumber.amount(moved)
        self.position = position
        self.validation = validation
        self.round = round
        self.examples = examples
        self.loss = WireNumber.loss(loss)
        self.accuracy = WireNumber.part(accuracy)
        self.bestThresholdAccuracy = WireNumber.part(bestThresholdAccuracy)
        self.auc = WireNumber.part(auc)
        self.seconds = WireNumber.amount(seconds)
    }
}

/// The present activity of a worker, shown to people. Nothing depends on it.
public struct WorkerStatus: Hashable, Sendable {
    public enum Phase: UInt8, Sendable, CaseIterable {
        case loading, hashing, caching, catchingUp, training, evaluating, waiting
        /// The ledger is being downloaded.
        case fetching
    }
    public let phase: Phase
    /// Progress within the phase, 0…1. While the worker trains or waits, it is the fraction of the prefix cache that is there.
    public let progress: Double
    /// Mean over the samples since the last status; NaN if there were none.
    public let trainingLoss: Double
    public let samplesPerSecond: Double
    /// Number of ledger records applied to the parameters.
    public let applied: UInt64
    public init(phase: Phase, progress: Double, trainingLoss: Double, samplesPerSecond: Double, applied: UInt64) {
        self.phase = phase
        self.progress = WireNumber.progress(progress)
        self.trainingLoss = WireNumber.loss(trainingLoss)
        self.samplesPerSecond = WireNumber.amount(samplesPerSecond)
        self.applied = applied
    }
}

/// The farewell of a worker. JSON.
public struct Goodbye: Hashable, Sendable, Codable {
    public enum Cause: String, Sendable, Codable, CaseIterable {
        /// The worker's parameters have left their range.
        case diverged
    }
    /// The reason of a worker that failed, whatever the failure. Its text may quote private data, so it does not leave the worker's host.
    public static let failure = "this worker can't take part; its own log says why"

    /// The reason, for people.
    public var reason: String
    /// The cause, if the coordinator has to act on it.
    public var cause: Cause?
    public init(reason: String, cause: Cause? = nil) {
        self.reason = reason
        self.cause = cause
    }
}

/// The end of a coordinator, with the reason. JSON.
public struct RunFinish: Hashable, Sendable, Codable {
    public enum Outcome: String, Sendable, Codable, CaseIterable {
        /// All rounds are done and the ledger has its end record.
        case completed
        /// The operator stopped it. Started again with the same run directory, it resumes.
        case stopped
        /// It can't go on; `message` says why.
        case failed
    }
    public var outcome: Outcome
    public var message: String
    public init(outcome: Outcome, message: String) {
        self.outcome = outcome
        self.message = message
    }
}
