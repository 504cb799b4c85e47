/// One machine's bytes for one round.
public struct Contribution: Hashable, Sendable {
    /// The byte that says 'no value': the loss was not finite. It is committed, counted and shown, but it adds nothing to the update.
    public static let noValue: Int8 = -128

    public let machine: MachineID
    /// bytes[i] belongs to sample `firstSample + i`.
    public let firstSample: SampleNumber
    /// q: one projected gradient for each sample, in units of 2^S.
    public let bytes: [Int8]

    public init(machine: MachineID, firstSample: SampleNumber, bytes: [Int8]) {
        self.machine = machine
        self.firstSample = firstSample
        self.bytes = bytes
    }

    /// Number of bytes that have a value.
    public var validCount: Int { bytes.count { $0 != Self.noValue } }
}

/// A committed round, as every worker applies it and as the ledger keeps it.
public struct RoundRecord: Hashable, Sendable {
    public let round: RoundNumber
    /// S: a byte q stands for the projected gradient q·2^S.
    public let scaleExponent: Int8
    /// (M, E) with M·2^E ≈ lr_t·2^S/n, where n is the number of the round's valid bytes. M ≥ 2^15, or 0 if the round changes nothing.
    public let step: StepSize
    public let contributions: [Contribution]

    public init(round: RoundNumber, scaleExponent: Int8, step: StepSize, contributions: [Contribution]) {
        self.round = round
        self.scaleExponent = scaleExponent
        self.step = step
        self.contributions = contributions
    }
}

/// A step size as the ledger records it: multiplier·2^exponent. The multiplier is at least 2^15; that of `.zero` is 0.
public struct StepSize: Hashable, Sendable {
    public let multiplier: UInt16
    public let exponent: Int8
    /// The step of a round that changes nothing.
    public static let zero = StepSize(multiplier: 0, exponent: 0)

    public init(multiplier: UInt16, exponent: Int8) {
        self.multiplier = multiplier
        self.exponent = exponent
    }
}
