/// What a coordinator must know of its ledger, however long the ledger is. It is folded record by record, at the start and with every append. It
/// decides what may follow: a record that breaks a rule of the run is an error at once, not a surprise later.
public struct LedgerSummary: Sendable {
    /// A machine that was admitted and has not departed.
    public struct Machine: Sendable, Hashable {
        public let admission: Admission
        /// The next round at the time of the admission.
        public let admittedBefore: RoundNumber
        /// The machine's samples that are committed.
        var committed = SampleSet()
        /// Number of its bytes in the ledger, one per sample, including void ones.
        public var committedSamples: UInt64 { committed.count }
        /// The first number above all committed samples.
        public var nextSample: UInt64 { committed.end }
    }

    public let spec: RunSpec
    public let specDigest: Digest
    /// Format of the ledger. It decides which records the ledger may hold.
    public let format: UInt32
    /// The position after the last record.
    public private(set) var position: LedgerPosition
    /// The base manifest; nil before its record.
    public private(set) var base: BaseManifest?
    /// SHA-256 of the basis record; nil before that record.
    public private(set) var basis: Digest?
    /// Place, p and r of each adapter that the basis has factors for.
    public private(set) var adapterShapes: [(place: String, rows: Int, columns: Int)] = []
    /// The next number to give. Numbers are given in ascending order, so it is above every number in the ledger.
    public package(set) var nextMachine = MachineID(1)
    /// The machines that were admitted and have not departed.
    public private(set) var machines: [MachineID: Machine] = [:]
    /// The number of the next round.
    public private(set) var nextRound: RoundNumber = 0
    /// For each machine that ever was there, the rounds that hold its bytes: void rounds too, but no retracted bytes.
    private var roundsWithBytes: [MachineID: SampleSet] = [:]
    /// For each machine, the rounds from which its bytes were retracted.
    private var retractedRounds: [MachineID: SampleSet] = [:]
    /// The position after the last record that changed the parameters. It names the present parameters.
    public private(set) var parameters: LedgerPosition
    /// The learning rate is multiplied by 2^rateShift.
    public private(set) var rateShift = 0
    /// Chooses the next round's scale.
    public private(set) var scale: ScaleAdapter
    /// The last comparison.
    public private(set) var lastDigest: DigestRecord?
    /// Number of all bytes committed: one for each sample.
    public private(set) var samples: UInt64 = 0
    /// Whether the ledger has its end record.
    public private(set) var isEnded = false
    /// Rounds that rewinds have made void, as ascending ranges.
    private var voids: [Range<RoundNumber>] = []
    /// Number of records up to and including the last rewind; 0 if there was none.
    public private(set) var rewoundAt: UInt64 = 0
    /// Whether there was a rewind after which no round follows.
    public private(set) var isFinal = false
    /// The state of the run's steering.
    public private(set) var steering: SteeringHistory
    /// The newest positions whose parameters evaluators must measure, with the next round at each.
    public private(set) var measured: [(position: UInt64, round: RoundNumber)] = []
    private static let measuredKept = 4096

    /// Number of rounds in force, that is, all but the void ones.
    public var effectiveRounds: Int { Int(nextRound) - voids.reduce(0) { $0 + $1.count } }
    /// Whether all rounds of the run are there: `spec.rounds` of them are in force, or an earlier end was decided.
    public var isTrained: Bool { isFinal || effectiveRounds >= spec.rounds }

    /// Summarises a ledger that holds nothing but its spec. `spec` must be the one that the position's header names.
    private init(spec: RunSpec, specDigest: Digest, format: UInt32, position: LedgerPosition) {
        self.format = format
        self.spec = spec
        self.specDigest = specDigest
        self.position = position
        parameters = position
        scale = ScaleAdapter(target: spec.targetMagnitude)
        steering = SteeringHistory(spec, format: format)
        measured = [(position.records, 0)]
    }

    /// Creates a summary of a ledger's first record.
    public init(first entry: LedgerEntry) throws(LedgerError) {
        guard case .spec(let bytes) = entry.record, entry.index == 0 else {
            throw .invalidRecord(offset: entry.offset, index: entry.index, reason: "the first record is not a spec")
        }
        do {
            self.init(
                spec: try RunSpec(canonicalBytes: bytes), specDigest: Digest.sha256(bytes), format: entry.format, position: entry.position)
        } catch {
            throw .invalidRecord(offset: entry.offset, index: 0, reason: "\(error)")
        }
    }

    /// Folds the next record in.
    public mutating func fold(_ entry: LedgerEntry) throws(LedgerError) {
        do {
            try fold(entry.record, position: entry.position)
        } catch {
            throw .invalidRecord(offset: entry.offset, index: entry.index, reason: error.reason)
        }
    }

    /// Folds in a record that is to be appended, and returns its bytes.
    package mutating func append(_ record: LedgerRecord) throws(RuleBroken) -> [UInt8] {
        let (bytes, next) = position.appending(record)
        try fold(record, position: next)
        return bytes
    }

    /// Whether a retraction of the machine's bytes from these rounds would take anything out.
    public func holdsBytes(of machine: MachineID, in rounds: Range<RoundNumber>) -> Bool {
        roundsWithBytes[machine]?.overlaps(UInt64(rounds.lowerBound)..<UInt64(rounds.upperBound)) ?? false
    }

    /// Whether a restoration of the machine's bytes of these rounds would put anything back.
    public func holdsRetracted(of machine: MachineID, in rounds: Range<RoundNumber>) -> Bool {
        retractedRounds[machine]?.overlaps(UInt64(rounds.lowerBound)..<UInt64(rounds.upperBound)) ?? false
    }

    package struct RuleBroken: Error { package let reason: String }

    private mutating func fold(_ record: LedgerRecord, position next: LedgerPosition) throws(RuleBroken) {
        if isEnded {
            // After the end of a run, contributions can still be retracted, and the ledger can be signed. Since format 3, contributions can also be
            // restored, and a rewind takes the end back.
            switch record {
            case .retraction, .restoration, .signature: break
            case .rewind(let rewind) where format >= 3 && !rewind.isFinal: break
            default: throw RuleBroken(reason: "no record of this kind may follow the end of the run")
            }
        }
        guard record.sinceFormat <= format else {
            throw RuleBroken(reason: "\(record.kind) of format \(record.sinceFormat) in a ledger of format \(format)")
        }
        switch record {
        case .spec: throw RuleBroken(reason: "a second spec")
        case .baseManifest(let manifest):
            guard base == nil, nextRound == 0 else { throw RuleBroken(reason: "a second base manifest, or one behind a round") }
            base = manifest
        case .basis(let bytes):
            let digest = Digest.sha256(bytes)
            guard basis == nil, digest == spec.basisDigest else {
                throw RuleBroken(reason: "a basis that is not the spec's, or a second one")
            }
            basis = digest
            if spec.trainsAdapters, let decoded = try? RunBasis(decoding: bytes) {
                adapterShapes = decoded.adapters.map { ($0.place, $0.outputs.count, $0.inputs.count) }
            }
        case .admission(let admission):
            guard admission.machine >= nextMachine, admission.machine.rawValue < .max else {
                throw RuleBroken(reason: "\(admission.machine) is given out again")
            }
            machines[admission.machine] = Machine(admission: admission, admittedBefore: nextRound)
            nextMachine = MachineID(admission.machine.rawValue + 1)
        case .departure(let departure):
            guard machines.removeValue(forKey: departure.machine) != nil else {
                throw RuleBroken(reason: "\(departure.machine) departs but is not there")
            }
        case .round(let round): try fold(round)
        case .digest(let digest):
            guard digest.round <= nextRound, digest.position <= position.records else {
                throw RuleBroken(reason: "a digest of round \(digest.round), the next round is \(nextRound)")
            }
            lastDigest = digest
        case .retraction(let retraction):
            guard retraction.rounds.upperBound <= nextRound else { throw RuleBroken(reason: "a retraction of rounds to come") }
            move(retraction.rounds, of: retraction.machine, from: \.roundsWithBytes, to: \.retractedRounds)
        case .restoration(let restoration):
            guard restoration.rounds.upperBound <= nextRound else { throw RuleBroken(reason: "a restoration of rounds to come") }
            move(restoration.rounds, of: restoration.machine, from: \.retractedRounds, to: \.roundsWithBytes)
        case .rewind(let rewind):
            guard rewind.round <= nextRound else { throw RuleBroken(reason: "a rewind to a round to come") }
            guard rateShift.magnitude + UInt(rewind.rateShift.magnitude) <= Self.rateShiftLimit else {
                throw RuleBroken(reason: "a learning rate that is shifted by more than \(Self.rateShiftLimit) octaves")
            }
            rateShift += Int(rewind.rateShift)
            makeVoid(from: rewind.round)
            rewoundAt = next.records
            isFinal = (isFinal && !isEnded) || rewind.isFinal
            isEnded = false
            steering.fold(rewind)
        case .validation(let validation):
            guard validation.round <= nextRound, validation.position <= position.records else {
                throw RuleBroken(reason: "a validation of round \(validation.round), the next round is \(nextRound)")
            }
            steering.fold(validation, rateShift: rateShift)
        case .end: isEnded = true
        case .witnesses:
            guard lastDigest != nil else { throw RuleBroken(reason: "witnesses, but no digest before them") }
        case .signature: break
        }
        position = next
        if record.changesParameters {
            parameters = next
            if isMeasured(after: record) { remember(next) }
        }
    }

    /// Moves a machine's rounds within the range from one set to another.
    private mutating func move(
        _ rounds: Range<RoundNumber>, of machine: MachineID, from: WritableKeyPath<Self, [MachineID: SampleSet]>,
        to: WritableKeyPath<Self, [MachineID: SampleSet]>
    ) {
        let wanted = UInt64(rounds.lowerBound)..<UInt64(rounds.upperBound)
        let moved = (self[keyPath: from][machine]?.ranges ?? []).map { $0.clamped(to: wanted) }.filter { !$0.isEmpty }
        self[keyPath: from][machine]?.remove(wanted)
        for range in moved { self[keyPath: to][machine, default: SampleSet()].insert(range) }
    }

    /// Whether evaluators measure after this record. They measure the base, every `evaluateEvery` rounds, the end of a trial, and the end.
    private func isMeasured(after record: LedgerRecord) -> Bool {
        if isTrained || effectiveRounds == spec.steering?.trialRounds { return true }
        guard case .round = record else { return false }
        return spec.evaluateEvery > 0 && effectiveRounds % spec.evaluateEvery == 0
    }

    private mutating func remember(_ position: LedgerPosition) {
        if measured.count == Self.measuredKept { measured.removeFirst(Self.measuredKept / 2) }
        measured.append((position.records, nextRound))
    }

    /// Beyond this shift a step is 0, or nothing but noise.
    private static let rateShiftLimit = UInt(1000)

    private mutating func makeVoid(from first: RoundNumber) {
        voids.removeAll { $0.lowerBound >= first }
        // A range that contains or touches `first` is extended to the present end.
        let start = voids.last.flatMap { $0.upperBound >= first ? $0.lowerBound : nil } ?? first
        if start < first { voids.removeLast() }
        if start < nextRound { voids.append(start..<nextRound) }
    }

    private mutating func fold(_ round: RoundRecord) throws(RuleBroken) {
        guard round.round == nextRound, nextRound < .max else {
            throw RuleBroken(reason: "round \(round.round) where round \(nextRound) is next")
        }
        guard base != nil, basis == spec.basisDigest else { throw RuleBroken(reason: "a round before the base and the basis") }
        // The decoder's own limits apply: what is written must be readable.
        let count = round.contributions.reduce(0) { $0 + $1.bytes.count }
        guard round.contributions.count <= ProtocolLimits.contributionsPerRound, count <= ProtocolLimits.samplesPerRound else {
            throw RuleBroken(reason: "\(count) samples in \(round.contributions.count) contributions, more than a round holds")
        }
        // Nothing is changed before everything is checked. Then each machine's samples are changed in place: a copy of them for each contribution
        // would be most of the work of reading a long ledger.
        var places: [Dictionary<MachineID, Machine>.Index] = []
        places.reserveCapacity(round.contributions.count)
        let contributions = round.inOrder
        var last: Contribution?
        for contribution in contributions {
            guard let place = machines.index(forKey: contribution.machine), machines.values[place].admission.trains else {
                throw RuleBroken(reason: "bytes of \(contribution.machine), which does not train or is not there")
            }
            let isRepeated = last.map { $0.machine == contribution.machine && $0.samples.upperBound > contribution.samples.lowerBound }
            guard isRepeated != true, !machines.values[place].committed.overlaps(contribution.samples) else {
                throw RuleBroken(reason: "samples \(contribution.samples) of \(contribution.machine) are committed twice")
            }
            places.append(place)
            last = contribution
        }
        let number = UInt64(round.round)..<UInt64(round.round) + 1
        for (place, contribution) in zip(places, contributions) {
            machines.values[place].committed.insert(contribution.samples)
            roundsWithBytes[contribution.machine, default: SampleSet()].insert(number)
        }
        samples += UInt64(count)
        scale.observe(round)
        if spec.steering != nil { steering.fold(round) }
        nextRound += 1
    }
}
