/// Checks every record of a ledger against all that came before it.
///
/// `LedgerSummary` refuses a ledger that nobody could resume. The verifier asks for more: each record must be one that a coordinator which obeys the
/// run's rules would have written at that place. It needs no model, so it can't tell whether a byte or a digest is true.
public struct LedgerVerifier: Sendable {
    /// A record that does not follow from the run's rules.
    public struct Finding: Hashable, Sendable, CustomStringConvertible {
        public let index: UInt64
        public let offset: UInt64
        public let reason: String
        public var description: String { "record \(index) at byte \(offset): \(reason)" }
    }

    /// A valid signature in a record, and what it covers.
    public struct Voucher: Hashable, Sendable {
        public let signer: SignerKey
        /// The machine that countersigned; nil for the ledger's own signer.
        public let machine: MachineID?
        /// All records before this one are covered.
        public let records: UInt64
        /// The next round at that place.
        public let round: RoundNumber
        /// Whether the run's end record is covered.
        public let coversEnd: Bool
    }

    /// The findings in the order of the records.
    public private(set) var findings: [Finding] = []
    /// The valid signatures, in the order of the records.
    public private(set) var vouchers: [Voucher] = []
    private let checker: any SignatureChecker
    /// The summary of the records so far.
    public private(set) var summary: LedgerSummary
    /// The positions of all parameters that there were: after the spec, and after each record that changes them.
    private var places: [UInt64: (round: RoundNumber, position: LedgerPosition)]
    /// The keys of machines that may countersign a digest record.
    private var keys: [MachineID: SignerKey] = [:]

    /// Creates a verifier that has read the ledger's first record.
    public init(first entry: LedgerEntry, checker: any SignatureChecker) throws(LedgerError) {
        self.checker = checker
        summary = try LedgerSummary(first: entry)
        places = [entry.position.records: (0, entry.position)]
    }

    /// Checks the next record and folds it in.
    ///
    /// - Throws: `LedgerError` if the record breaks what every reader relies on, so that later records can't be checked.
    public mutating func fold(_ entry: LedgerEntry) throws(LedgerError) {
        let reasons: [String] =
            switch entry.record {
            case .round(let round): faults(of: round)
            case .digest(let digest): faults(of: digest)
            case .retraction(let retraction): faults(of: retraction)
            case .restoration(let restoration): faults(of: restoration)
            case .rewind(let rewind): faults(of: rewind)
            case .validation(let validation): faults(of: validation)
            case .end:
                summary.isTrained
                    ? [] : ["the end of a run that has \(summary.effectiveRounds) of its \(summary.spec.rounds) rounds"]
            case .signature(let signature): faults(of: signature)
            case .witnesses(let witnesses): faults(of: witnesses)
            case .spec, .baseManifest, .basis, .admission, .departure: []
            }
        findings += reasons.map { Finding(index: entry.index, offset: entry.offset, reason: $0) }
        try summary.fold(entry)
        if entry.record.changesParameters { places[entry.position.records] = (summary.nextRound, entry.position) }
        if case .admission(let admission) = entry.record { keys[admission.machine] = admission.signingKey }
    }

    private func faults(of round: RoundRecord) -> [String] {
        let spec = summary.spec
        var faults: [String] = []
        if summary.isTrained { faults.append("round \(round.round), though the run was trained before it") }
        if summary.steering.isSearching, let trial = spec.steering?.trialRounds, summary.effectiveRounds >= trial {
            faults.append("round \(round.round) before the trial of \(trial) rounds was judged")
        }
        let count = round.contributions.reduce(0) { $0 + $1.bytes.count }
        // Besides its own bytes a round may hold the late bytes of as many rounds as the run's staleness.
        let most = spec.samplesPerRound * (1 + spec.staleness)
        if count > most { faults.append("\(count) samples in round \(round.round), at most \(most) were given out") }
        if spec.staleness == 0 {
            for contribution in round.contributions {
                guard let next = summary.machines[contribution.machine]?.nextSample, contribution.samples.lowerBound < next else { continue }
                faults.append("samples of \(contribution.machine) from \(contribution.firstSample) on, though \(next) is its next")
            }
        }
        let valid = round.contributions.reduce(0) { $0 + $1.validCount }
        let step = spec.step(
            roundsInForce: summary.effectiveRounds, rateShift: summary.rateShift, scaleExponent: round.scaleExponent, validBytes: valid)
        // A cosine is not exact: mathematics libraries differ in its last bit, which may change M by one.
        let isRight = spec.schedule == .cosine ? round.step.isNext(to: step) : round.step == step
        if !isRight {
            faults.append(
                "the step \(round.step.multiplier)·2^\(round.step.exponent) of round \(round.round), which is \(step.multiplier)·2^\(step.exponent) by the run's rate, S = \(round.scaleExponent) and \(valid) bytes"
            )
        }
        return faults
    }

    private func faults(of digest: DigestRecord) -> [String] {
        var faults = placeFaults("a digest", position: digest.position, round: digest.round)
        if digest.machines.isEmpty { faults.append("a digest that no machine has reported") }
        for machine in digest.machines where summary.machines[machine] == nil {
            faults.append("a digest of \(machine), which \(machine < summary.nextMachine ? "is not there" : "was never admitted")")
        }
        return faults
    }

    private func faults(of retraction: Retraction) -> [String] {
        guard !summary.holdsBytes(of: retraction.machine, in: retraction.rounds) else { return [] }
        return ["a retraction of nothing: \(retraction.machine) has no bytes in rounds \(retraction.rounds)"]
    }

    private func faults(of restoration: Restoration) -> [String] {
        guard !summary.holdsRetracted(of: restoration.machine, in: restoration.rounds) else { return [] }
        return ["a restoration of nothing: no bytes of \(restoration.machine) were retracted from rounds \(restoration.rounds)"]
    }

    private func faults(of rewind: Rewind) -> [String] {
        var faults: [String] = []
        if rewind.round == summary.nextRound, rewind.rateShift == 0, !rewind.isFinal { faults.append("a rewind of nothing") }
        if rewind.isFinal, summary.spec.steering?.patience == nil, summary.spec.privacy == nil {
            faults.append("a last round by patience, which the run has none of")
        }
        return faults
    }

    private func faults(of validation: Validation) -> [String] {
        var faults = placeFaults("a validation", position: validation.position, round: validation.round)
        if summary.spec.steering == nil, summary.format < 3 { faults.append("a validation in a run that is not steered") }
        if !summary.machines.values.contains(where: \.admission.evaluates) { faults.append("a validation, though no machine evaluates") }
        if validation.examples == 0 { faults.append("a validation of no examples") }
        if !validation.accuracy.isNaN, !(0...1).contains(validation.accuracy) {
            faults.append("a validation with the accuracy \(validation.accuracy)")
        }
        if validation.isTrialOver, !summary.steering.isSearching { faults.append("a validation that judges a trial, though none is under way") }
        return faults
    }

    private mutating func faults(of signature: LedgerSignature) -> [String] {
        guard checker.isValid(signature.signature, of: SignedStatement.history(summary.position), by: signature.signer) else {
            return ["a signature of \(signature.signer.short) that is not of the records before it"]
        }
        vouchers.append(
            Voucher(
                signer: signature.signer, machine: nil, records: summary.position.records, round: summary.nextRound, coversEnd: summary.isEnded))
        return []
    }

    private mutating func faults(of witnesses: Witnesses) -> [String] {
        guard let digest = summary.lastDigest, let place = places[digest.position] else { return ["witnesses of no digest"] }
        let statement = SignedStatement.parameters(digest.digest, at: place.position)
        var faults: [String] = []
        for entry in witnesses.entries {
            guard digest.machines.contains(entry.machine), let key = keys[entry.machine] else {
                faults.append("a countersignature of \(entry.machine), which has not reported the digest or has no key")
                continue
            }
            guard checker.isValid(entry.signature, of: statement, by: key) else {
                faults.append("a countersignature of \(entry.machine) that is not of the digest and the records before it")
                continue
            }
            vouchers.append(
                Voucher(signer: key, machine: entry.machine, records: digest.position, round: place.round, coversEnd: false))
        }
        return faults
    }

    /// Returns the faults of a statement about parameters: it must name a position that parameters have had, and the round that was next there.
    private func placeFaults(_ what: String, position: UInt64, round: RoundNumber) -> [String] {
        guard let next = places[position]?.round else { return ["\(what) at position \(position), where no parameters changed"] }
        return next == round ? [] : ["\(what) of round \(round) at position \(position), where round \(next) is next"]
    }
}

extension StepSize {
    /// Whether the two are equal or neighbours: M differs by at most one, where 2^16 of one exponent is 2^15 of the next.
    func isNext(to other: StepSize) -> Bool {
        func place(_ step: StepSize) -> Int { step == .zero ? Int.min / 2 : Int(step.exponent) << 15 + Int(step.multiplier) }
        return abs(place(self) - place(other)) <= 1
    }
}
