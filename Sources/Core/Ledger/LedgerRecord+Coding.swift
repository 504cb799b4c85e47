extension LedgerRecord {
    /// Returns the record's payload (docs/reference/ledger.md). A round's contributions are sorted, so that the order in which they arrived leaves no
    /// trace.
    public func payload() -> [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .spec(let bytes), .basis(let bytes): return bytes
        case .baseManifest(let manifest): manifest.write(to: &writer)
        case .admission(let admission):
            writer.write(varint: admission.machine.rawValue)
            writer.write(fixed: admission.unixSeconds)
            writer.write(admission.flags)
            writer.write(admission.session.bytes)
            writer.write(text: admission.name)
            writer.write(varint: UInt64(admission.publicKey.count))
            writer.write(admission.publicKey)
            if let key = admission.signingKey { writer.write(key.bytes) }
            if let data = admission.data { writer.write(data) }
        case .departure(let departure):
            writer.write(varint: departure.machine.rawValue)
            writer.write(fixed: departure.unixSeconds)
            writer.write(departure.reason.rawValue)
        case .round(let round):
            writer.write(varint: round.round)
            writer.write(round.scaleExponent)
            writer.write(fixed: round.step.multiplier)
            writer.write(round.step.exponent)
            writer.write(varint: UInt64(round.contributions.count))
            for contribution in round.inOrder {
                writer.write(varint: contribution.machine.rawValue)
                writer.write(varint: contribution.firstSample)
                writer.write(varint: UInt64(contribution.bytes.count))
                writer.write(signed: contribution.bytes)
            }
        case .digest(let digest):
            writer.write(varint: digest.round)
            writer.write(varint: digest.position)
            writer.write(digest.digest.bytes)
            writer.write(varint: UInt64(digest.machines.count))
            for machine in digest.machines.sorted() { writer.write(varint: machine.rawValue) }
        case .retraction(let retraction):
            writer.write(varint: retraction.machine.rawValue)
            writer.write(varint: retraction.rounds.lowerBound)
            writer.write(varint: retraction.rounds.upperBound)
        case .restoration(let restoration):
            writer.write(varint: restoration.machine.rawValue)
            writer.write(varint: restoration.rounds.lowerBound)
            writer.write(varint: restoration.rounds.upperBound)
        case .rewind(let rewind):
            writer.write(varint: rewind.round)
            writer.write(rewind.rateShift)
            writer.write((rewind.isFinal ? 1 : 0) as UInt8)
        case .end(let end): writer.write(fixed: end.unixSeconds)
        case .validation(let validation):
            writer.write(varint: validation.round)
            writer.write(varint: validation.position)
            writer.write(varint: validation.examples)
            writer.write(validation.loss)
            writer.write(validation.accuracy)
            writer.write((validation.isTrialOver ? 1 : 0) as UInt8)
            if !validation.isPlain {
                writer.write(validation.noise)
                writer.write(validation.moved)
            }
        case .signature(let signature):
            writer.write(signature.signer.bytes)
            writer.write(signature.signature.bytes)
        case .witnesses(let witnesses):
            writer.write(varint: UInt64(witnesses.entries.count))
            for entry in witnesses.entries {
                writer.write(varint: entry.machine.rawValue)
                writer.write(entry.signature.bytes)
            }
        }
        return writer.bytes
    }

    /// Decodes a payload. Any bytes give either a record or an error.
    public init(kind: UInt8, payload: [UInt8]) throws(WireError) {
        guard payload.count <= ProtocolLimits.recordPayloadBytes else {
            throw .tooLong(bytes: payload.count, limit: ProtocolLimits.recordPayloadBytes)
        }
        guard let kind = Kind(rawValue: kind) else { throw .unknownKind(kind) }
        var reader = ByteReader(payload)
        switch kind {
        case .spec:
            guard payload.count <= ProtocolLimits.jsonBytes else {
                throw .tooLong(bytes: payload.count, limit: ProtocolLimits.jsonBytes)
            }
            self = .spec(payload)
            return
        case .basis:
            self = .basis(payload)
            return
        case .baseManifest: self = .baseManifest(try BaseManifest(from: &reader))
        case .admission: self = .admission(try Admission(from: &reader))
        case .departure:
            let machine = MachineID(try reader.varint32("machine"))
            let when: UInt64 = try reader.fixed("time")
            guard let reason = Departure.Reason(rawValue: try reader.byte("reason")) else {
                throw .invalid(field: "reason", reason: "unknown")
            }
            self = .departure(Departure(machine: machine, unixSeconds: when, reason: reason))
        case .round: self = .round(try RoundRecord(from: &reader))
        case .digest: self = .digest(try DigestRecord(from: &reader))
        case .retraction, .restoration:
            let machine = MachineID(try reader.varint32("machine"))
            let (lower, upper) = (try reader.varint32("first round"), try reader.varint32("end of the rounds"))
            guard lower <= upper else { throw .invalid(field: "rounds", reason: "\(lower) ..< \(upper)") }
            self =
                kind == .retraction
                ? .retraction(Retraction(machine: machine, rounds: lower..<upper))
                : .restoration(Restoration(machine: machine, rounds: lower..<upper))
        case .rewind:
            self = .rewind(
                Rewind(
                    round: try reader.varint32("round"), rateShift: try reader.signedByte("rate shift"), isFinal: try reader.flag("final")))
        case .validation: self = .validation(try Validation(from: &reader))
        case .end: self = .end(RunEnd(unixSeconds: try reader.fixed("time")))
        case .signature:
            self = .signature(LedgerSignature(signer: try reader.signerKey("signer"), signature: try reader.signature("signature")))
        case .witnesses: self = .witnesses(try Witnesses(from: &reader))
        }
        try reader.end()
    }
}

extension RoundRecord {
    /// The contributions in the ledger's order. They are nearly always in order already.
    var inOrder: [Contribution] {
        let isInOrder = zip(contributions, contributions.dropFirst()).allSatisfy { !Contribution.precedes($1, $0) }
        return isInOrder ? contributions : contributions.sorted(by: Contribution.precedes)
    }
}

extension Contribution {
    /// Whether `a` comes before `b` in a round of the ledger.
    static func precedes(_ a: Contribution, _ b: Contribution) -> Bool {
        (a.machine, a.firstSample) < (b.machine, b.firstSample)
    }
}

extension RoundRecord {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let round = try reader.varint32("round")
        let scaleExponent = try reader.signedByte("scale exponent")
        let step = StepSize(multiplier: try reader.fixed("multiplier"), exponent: try reader.signedByte("step exponent"))
        guard step.multiplier >= 1 << 15 || step == .zero else {
            throw .invalid(field: "multiplier", reason: "\(step.multiplier) is not normal")
        }
        let count = try reader.count("contributions", limit: ProtocolLimits.contributionsPerRound, itemBytes: 4)
        var contributions: [Contribution] = []
        contributions.reserveCapacity(count)
        var samples = 0
        for _ in 0..<count {
            let machine = MachineID(try reader.varint32("machine"))
            let first = try reader.varint32("first sample")
            let length = try reader.count("samples", limit: ProtocolLimits.samplesPerRound, itemBytes: 1)
            guard length > 0, UInt64(first) + UInt64(length) <= UInt64(UInt32.max) else {
                throw .invalid(field: "samples", reason: "\(length) samples from \(first) on")
            }
            samples += length
            guard samples <= ProtocolLimits.samplesPerRound else {
                throw .invalid(field: "samples", reason: "above \(ProtocolLimits.samplesPerRound) in one round")
            }
            if let last = contributions.last {
                let lastEnd = UInt64(last.firstSample) + UInt64(last.bytes.count)
                guard last.machine < machine || (last.machine == machine && lastEnd <= UInt64(first)) else {
                    throw .invalid(field: "contributions", reason: "not in order, or they overlap")
                }
            }
            contributions.append(Contribution(machine: machine, firstSample: first, bytes: try reader.signed(length, "bytes")))
        }
        self.init(round: round, scaleExponent: scaleExponent, step: step, contributions: contributions)
    }
}

extension DigestRecord {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let round = try reader.varint32("round")
        let position = try reader.varint("position")
        let digest = try reader.digest("digest")
        let count = try reader.count("machines", limit: ProtocolLimits.machinesPerDigest, itemBytes: 1)
        var machines: [MachineID] = []
        for _ in 0..<count {
            let machine = MachineID(try reader.varint32("machine"))
            if let last = machines.last, last >= machine { throw .invalid(field: "machines", reason: "not ascending") }
            machines.append(machine)
        }
        self.init(round: round, position: position, digest: digest, machines: machines)
    }
}

extension Admission {
    /// 1: trains, 2: evaluates, 4: says its precision, 8: samples in `int8`, 16: hidden states in `int8`.
    fileprivate var flags: UInt8 {
        var flags: UInt8 = (trains ? 1 : 0) | (evaluates ? 2 : 0)
        if let precision { flags |= 4 | (precision.samples == .int8 ? 8 : 0) | (precision.hiddenStates == .int8 ? 16 : 0) }
        return flags
    }

    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let machine = MachineID(try reader.varint32("machine"))
        let when: UInt64 = try reader.fixed("time")
        let flags = try reader.byte("flags")
        guard flags & ~31 == 0, flags & 4 != 0 || flags & 24 == 0 else { throw .invalid(field: "flags", reason: "\(flags) is not known") }
        var precision: ComputePrecision?
        if flags & 4 != 0 {
            precision = ComputePrecision(samples: flags & 8 != 0 ? .int8 : .float, hiddenStates: flags & 16 != 0 ? .int8 : .float)
        }
        guard let session = SessionFingerprint(bytes: Array(try reader.take(SessionFingerprint.byteCount, "session"))) else {
            throw .truncated(field: "session")
        }
        let name = try reader.text("name", limit: ProtocolLimits.nameBytes)
        let keyLength = try reader.count("public key", limit: ProtocolLimits.publicKeyBytes, itemBytes: 1)
        let publicKey = Array(try reader.take(keyLength, "public key"))
        let signingKey = reader.remaining > 0 ? try reader.signerKey("signing key") : nil
        let data = reader.remaining > 0 ? try reader.dataCommitment("data") : nil
        self.init(
            machine: machine, unixSeconds: when, trains: flags & 1 != 0, evaluates: flags & 2 != 0, name: name,
            session: session, publicKey: publicKey, signingKey: signingKey, data: data, precision: precision)
    }
}

extension Validation {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let (round, position) = (try reader.varint32("round"), try reader.varint("position"))
        let examples = try reader.varint32("examples")
        let (loss, accuracy) = (try reader.double("loss"), try reader.double("accuracy"))
        let isTrialOver = try reader.flag("end of a trial")
        var (noise, moved) = (Double.nan, Double.nan)
        // Each record has one encoding: either both numbers follow, or none if neither is known.
        if reader.remaining > 0 {
            (noise, moved) = (try reader.amount("noise"), try reader.amount("movement"))
            guard !noise.isNaN || !moved.isNaN else {
                throw .invalid(field: "noise", reason: "both noise and movement are NaN, so they must be left out")
            }
        }
        self.init(
            round: round, position: position, examples: examples, loss: loss, accuracy: accuracy, isTrialOver: isTrialOver, noise: noise,
            moved: moved)
    }
}

extension Witnesses {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let count = try reader.count("witnesses", limit: ProtocolLimits.machinesPerDigest, itemBytes: 1 + Signature.byteCount)
        var entries: [Entry] = []
        for _ in 0..<count {
            let machine = MachineID(try reader.varint32("machine"))
            if let last = entries.last, last.machine >= machine { throw .invalid(field: "machines", reason: "not ascending") }
            entries.append(Entry(machine: machine, signature: try reader.signature("signature")))
        }
        self.init(entries)
    }
}

extension BaseManifest {
    func write(to writer: inout ByteWriter) {
        writer.write(varint: UInt64(entries.count))
        for entry in entries {
            writer.write(text: entry.name)
            writer.write(UInt8(entry.shape.dimensions.count))
            for dimension in entry.shape.dimensions { writer.write(varint: UInt64(dimension)) }
            writer.write(entry.digest.bytes)
        }
    }

    init(from reader: inout ByteReader) throws(WireError) {
        let count = try reader.count("tensors", limit: ProtocolLimits.manifestEntries, itemBytes: 35)
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        for _ in 0..<count {
            let name = try reader.text("tensor name", limit: ProtocolLimits.nameBytes)
            if let last = entries.last, !last.name.utf8.lexicographicallyPrecedes(name.utf8) {
                throw .invalid(field: "tensor name", reason: "\(name) is not in order")
            }
            let dimensionLimit = UInt64(Int32.max)
            let shape: TensorShape
            switch try reader.byte("dimensions") {
            case 1: shape = .vector(Int(try reader.varint("dimension", limit: dimensionLimit)))
            case 2:
                let rows = Int(try reader.varint("dimension", limit: dimensionLimit))
                shape = .matrix(rows: rows, columns: Int(try reader.varint("dimension", limit: dimensionLimit)))
            case let other: throw .invalid(field: "dimensions", reason: "\(other), a tensor has 1 or 2")
            }
            entries.append(Entry(name: name, shape: shape, digest: try reader.digest("tensor digest")))
        }
        self.init(sorted: entries)
    }
}
