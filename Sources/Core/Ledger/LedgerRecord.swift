/// A record of a ledger (docs/reference/ledger.md).
public enum LedgerRecord: Hashable, Sendable {
    /// The canonical run spec. It is always the first record, and the header holds its SHA-256.
    case spec([UInt8])
    case baseManifest(BaseManifest)
    /// The encoded basis of a run that needs one. The spec holds its SHA-256.
    case basis([UInt8])
    case admission(Admission)
    case departure(Departure)
    case round(RoundRecord)
    case digest(DigestRecord)
    case retraction(Retraction)
    case rewind(Rewind)
    case end(RunEnd)
    case validation(Validation)
    /// Since format 2.
    case signature(LedgerSignature)
    /// Since format 2.
    case witnesses(Witnesses)
    /// Since format 3.
    case restoration(Restoration)

    /// The kind byte of each record.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case spec = 1, baseManifest, basis, admission, departure, round, digest, retraction, rewind, end, validation, signature, witnesses,
            restoration
    }

    public var kind: Kind {
        switch self {
        case .spec: .spec
        case .baseManifest: .baseManifest
        case .basis: .basis
        case .admission: .admission
        case .departure: .departure
        case .round: .round
        case .digest: .digest
        case .retraction: .retraction
        case .rewind: .rewind
        case .end: .end
        case .validation: .validation
        case .signature: .signature
        case .witnesses: .witnesses
        case .restoration: .restoration
        }
    }

    /// The first format whose ledgers may hold this record.
    var sinceFormat: UInt32 {
        switch self {
        case .signature, .witnesses: 2
        case .admission(let admission): admission.precision != nil ? 4 : admission.signingKey == nil ? 1 : 2
        case .restoration: 3
        case .validation(let validation): validation.isPlain ? 1 : 3
        default: 1
        }
    }

    /// Whether the parameters after this record can differ from those before it.
    public var changesParameters: Bool {
        switch kind {
        case .round, .retraction, .restoration, .rewind: true
        default: false
        }
    }
}

/// A machine number was given out.
public struct Admission: Hashable, Sendable {
    public let machine: MachineID
    public let unixSeconds: UInt64
    /// Whether the machine contributes samples.
    public let trains: Bool
    /// Whether the machine evaluates held-out data.
    public let evaluates: Bool
    /// The worker's own name for itself, at most `ProtocolLimits.nameBytes` bytes of UTF-8.
    public let name: String
    /// Tells which session holds the number without revealing the session's secret (`SessionToken.fingerprint`).
    public let session: SessionFingerprint
    /// The worker's CURVE public key as 64 hexadecimal digits in ASCII, or empty.
    public let publicKey: [UInt8]
    /// The key with which the machine countersigns its digests; nil if it does not. Since format 2.
    public let signingKey: SignerKey?
    /// The commitment to the machine's training examples, only with a signing key. Since format 2.
    public let data: DataCommitment?
    /// The precision in which the machine computes its bytes; nil if it does not say. Since format 4.
    public let precision: ComputePrecision?

    public init(
        machine: MachineID, unixSeconds: UInt64, trains: Bool, evaluates: Bool, name: String, session: SessionFingerprint,
        publicKey: [UInt8] = [], signingKey: SignerKey? = nil, data: DataCommitment? = nil, precision: ComputePrecision? = nil
    ) {
        self.precision = precision
        self.signingKey = signingKey
        self.data = signingKey == nil ? nil : data
        self.machine = machine
        self.unixSeconds = unixSeconds
        self.trains = trains
        self.evaluates = evaluates
        self.name = name
        self.session = session
        self.publicKey = publicKey
    }
}

/// A machine no longer takes part, and its number is used up.
public struct Departure: Hashable, Sendable {
    public enum Reason: UInt8, Sendable, CaseIterable, Codable {
        /// It said goodbye.
        case left = 1
        /// Its heartbeats stopped.
        case lost
        /// Its process was replaced by a new session.
        case replaced
        /// Its parameters differed from the others' again and again, or left their range.
        case diverged
        /// An operator evicted it.
        case removed
    }
    public let machine: MachineID
    public let unixSeconds: UInt64
    public let reason: Reason
    public init(machine: MachineID, unixSeconds: UInt64, reason: Reason) {
        self.machine = machine
        self.unixSeconds = unixSeconds
        self.reason = reason
    }
}

/// The result of a comparison of the machines' parameters.
public struct DigestRecord: Hashable, Sendable {
    /// The digest is of the parameters before this round is applied.
    public let round: RoundNumber
    /// Number of ledger records that had been folded in.
    public let position: UInt64
    public let digest: Digest
    /// The machines that reported this digest, in ascending order.
    public let machines: [MachineID]
    public init(round: RoundNumber, position: UInt64, digest: Digest, machines: [MachineID]) {
        self.round = round
        self.position = position
        self.digest = digest
        self.machines = machines
    }
}

/// One machine's contributions to the rounds `rounds` that are in the ledger so far are taken out, exactly.
public struct Retraction: Hashable, Sendable {
    public let machine: MachineID
    /// The rounds from which the contributions are taken out.
    public let rounds: Range<RoundNumber>
    public init(machine: MachineID, rounds: Range<RoundNumber>) {
        self.machine = machine
        self.rounds = rounds
    }
}

/// Puts back, exactly, what retractions so far have taken out of one machine's contributions to `rounds`.
public struct Restoration: Hashable, Sendable {
    public let machine: MachineID
    public let rounds: Range<RoundNumber>
    public init(machine: MachineID, rounds: Range<RoundNumber>) {
        self.machine = machine
        self.rounds = rounds
    }
}

/// All rounds from `round` on that are in the ledger so far are void. Their numbers are not used again.
public struct Rewind: Hashable, Sendable {
    /// The first round that becomes void.
    public let round: RoundNumber
    /// From here on the learning rate is multiplied by 2^rateShift. Only the coordinator uses it: each round records its own step.
    public let rateShift: Int8
    /// Whether no round follows: the run is trained.
    public let isFinal: Bool
    public init(round: RoundNumber, rateShift: Int8, isFinal: Bool = false) {
        self.round = round
        self.rateShift = rateShift
        self.isFinal = isFinal
    }
}

/// An evaluator's measurement of its validation examples, which steers the run. It changes no parameters.
public struct Validation: Hashable, Sendable {
    /// The measurement is of the parameters before this round.
    public let round: RoundNumber
    /// Number of ledger records that had been folded in.
    public let position: UInt64
    /// Number of validation examples.
    public let examples: UInt32
    /// Mean over the examples; may be infinite or NaN.
    public let loss: Double
    /// NaN for tasks without labels.
    public let accuracy: Double
    /// Whether it judges the trial that ends here.
    public let isTrialOver: Bool
    /// Standard error of the mean change of the examples' losses since the base; NaN if unknown. Since format 3.
    public let noise: Double
    /// Movement of the tensor that has moved most, divided by its norm; for an adapter, by the norm of the state that it is added to. NaN if
    /// unknown. Since format 3.
    public let moved: Double
    /// Whether it has neither noise nor movement, as before format 3.
    var isPlain: Bool { noise.isNaN && moved.isNaN }

    public init(
        round: RoundNumber, position: UInt64, examples: UInt32, loss: Double, accuracy: Double, isTrialOver: Bool = false, noise: Double = .nan,
        moved: Double = .nan
    ) {
        self.noise = noise
        self.moved = moved
        self.round = round
        self.position = position
        self.examples = examples
        self.loss = loss
        self.accuracy = accuracy
        self.isTrialOver = isTrialOver
    }

    // The comparison is by bits, so that a NaN equals itself.
    public static func == (a: Validation, b: Validation) -> Bool {
        (a.round, a.position, a.examples, a.loss.bitPattern, a.accuracy.bitPattern) == (
            b.round, b.position, b.examples, b.loss.bitPattern, b.accuracy.bitPattern
        )
            && a.isTrialOver == b.isTrialOver && (a.noise.bitPattern, a.moved.bitPattern) == (b.noise.bitPattern, b.moved.bitPattern)
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(round)
        hasher.combine(position)
        hasher.combine(loss.bitPattern)
    }
}

/// The run is complete. Only retractions and signatures may follow.
public struct RunEnd: Hashable, Sendable {
    public let unixSeconds: UInt64
    public init(unixSeconds: UInt64) { self.unixSeconds = unixSeconds }
}

/// A position in a ledger.
public struct LedgerPosition: Hashable, Sendable {
    /// Number of records before it, which is the next record's index.
    public var records: UInt64
    /// Number of bytes before it, the header included. The next record begins here.
    public var offset: UInt64
    /// The hash chain after those records.
    public var chain: Digest
    public init(records: UInt64, offset: UInt64, chain: Digest) {
        self.records = records
        self.offset = offset
        self.chain = chain
    }
}
