import FoundationEssentials

/// A message as one frame: version, kind, body (docs/reference/protocol.md). Messages of every round are packed by hand. Messages that come once for
/// each connection are JSON.
public enum MessageCoding {
    /// Version 2 has ledger chunks of any size with tickets, numbered heartbeats, base manifests named by their hash, and newcomers that prove with
    /// a fresh nonce that they hold the parameters. Version 3 has the noise and the movement in evaluations. Both sides must have the same version.
    public static let version: UInt8 = 3
    /// Bytes of version and kind.
    public static let headerBytes = 2
    /// The form in which a commit carries its opening.
    enum OpeningForm: UInt8 {
        case none = 0
        /// The shares are spelt out.
        case explicit
        /// The committed round's machines continue with the same number of samples each, from where they were. Nearly every commit needs no more, and
        /// it takes one byte instead of five for each machine.
        case continued
    }
}

extension Message {
    public var kind: Kind {
        switch self {
        case .hello: .hello
        case .base: .base
        case .fetch: .fetch
        case .contribution: .contribution
        case .heartbeat: .heartbeat
        case .digestReport: .digestReport
        case .evaluation: .evaluation
        case .status: .status
        case .goodbye: .goodbye
        case .baseDigest: .baseDigest
        case .basePart: .basePart
        case .baseFetch: .baseFetch
        case .welcome: .welcome
        case .refuse: .refuse
        case .commit: .commit
        case .open: .open
        case .chunk: .chunk
        case .pong: .pong
        case .digestRequest: .digestRequest
        case .rebuild: .rebuild
        case .finished: .finished
        }
    }

    /// Returns the frame of this message.
    public func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(MessageCoding.version)
        writer.write(kind.rawValue)
        switch self {
        case .hello(let body): writer.write(json: body)
        case .welcome(let body): writer.write(json: body)
        case .refuse(let body): writer.write(json: body)
        case .goodbye(let body): writer.write(json: body)
        case .finished(let body): writer.write(json: body)
        case .base(let manifest): manifest.write(to: &writer)
        case .fetch(let fetch):
            writer.write(varint: fetch.offset)
            writer.write(varint: UInt64(max(fetch.count, 0)))
            writer.write(fixed: fetch.ticket)
        case .baseDigest(let body):
            writer.write(varint: UInt64(max(body.bytes, 0)))
            writer.write(body.digest.bytes)
        case .basePart(let body):
            writer.write(varint: UInt64(max(body.offset, 0)))
            writer.write(body.bytes)
        case .baseFetch(let body):
            writer.write(varint: UInt64(max(body.offset, 0)))
            writer.write(varint: UInt64(max(body.count, 0)))
        case .contribution(let body):
            writer.write(varint: body.contribution.machine.rawValue)
            writer.write(varint: body.round)
            writer.write(body.scaleExponent)
            writer.write(varint: body.contribution.firstSample)
            writer.write(signed: body.contribution.bytes)
        case .heartbeat(let body):
            writer.write(fixed: body.session)
            writer.write(varint: body.records)
            writer.write(varint: body.sequence)
            writer.write(varint: body.roundTripMilliseconds)
            writer.write(optional: body.share?.round)
            if let share = body.share { writer.write(varint: share.firstSample) }
        case .pong(let body):
            writer.write(body.standing.rawValue)
            writer.write(varint: body.records)
            writer.write(optional: body.awaited)
            writer.write(varint: body.echo)
        case .digestReport(let body):
            writer.write(varint: body.position)
            writer.write(varint: body.round)
            writer.write(body.digest.bytes)
            writer.write(fixed: body.chain)
            writer.write(varint: body.rebuilds)
            writer.write(body.unchangedPercent ?? .max)
            writer.write((body.signature == nil ? 0 : 1) | (body.proof == nil ? 0 : 2) | (body.data == nil ? 0 : 4) as UInt8)
            if let signature = body.signature { writer.write(signature.bytes) }
            if let proof = body.proof {
                writer.write(proof.nonce.bytes)
                writer.write(proof.answer.bytes)
            }
            if let data = body.data { writer.write(data) }
        case .evaluation(let body):
            writer.write(varint: body.round)
            writer.write(varint: body.examples)
            for value in [body.loss, body.accuracy, body.bestThresholdAccuracy, body.auc, body.seconds] { writer.write(value) }
            writer.write(varint: body.position)
            writer.write((body.validation == nil ? 0 : 1) as UInt8)
            if let validation = body.validation {
                writer.write(varint: validation.examples)
                writer.write(validation.loss)
                writer.write(validation.accuracy)
                writer.write(validation.noise)
            }
            for value in [body.moved, body.gain, body.gainError] { writer.write(value) }
        case .status(let body):
            writer.write(body.phase.rawValue)
            for value in [body.progress, body.trainingLoss, body.samplesPerSecond] { writer.write(value) }
            writer.write(varint: body.applied)
        case .commit(let commit): commit.write(to: &writer)
        case .open(let opening): opening.write(to: &writer)
        case .chunk(let chunk):
            writer.write(varint: chunk.offset)
            writer.write(varint: chunk.total)
            writer.write(fixed: chunk.ticket)
            writer.write(chunk.bytes)
        case .digestRequest(let position, let nonce):
            writer.write(varint: position)
            if let nonce { writer.write(nonce.bytes) }
        case .rebuild(let order): writer.write(varint: order)
        }
        return writer.bytes
    }

    /// Decodes a frame. Any bytes give either a message or an error, and never take more memory than the bytes themselves ask for.
    public init(decoding frame: [UInt8]) throws(WireError) {
        guard frame.count <= ProtocolLimits.frameBytes else {
            throw .tooLong(bytes: frame.count, limit: ProtocolLimits.frameBytes)
        }
        guard !frame.isEmpty else { throw .empty }
        var reader = ByteReader(frame)
        let version = try reader.byte("version")
        guard version == MessageCoding.version else { throw .version(version) }
        let kindByte = try reader.byte("kind")
        guard let kind = Kind(rawValue: kindByte) else { throw .unknownKind(kindByte) }
        switch kind {
        case .hello:
            // It comes from a peer that nobody knows yet, so it must be short.
            guard reader.remaining <= ProtocolLimits.helloBytes else {
                throw .tooLong(bytes: reader.remaining, limit: ProtocolLimits.helloBytes)
            }
            let hello: Hello = try reader.json("hello")
            guard hello.name.utf8.count <= ProtocolLimits.nameBytes, hello.software.utf8.count <= ProtocolLimits.nameBytes,
                (hello.publicKey?.utf8.count ?? 0) <= ProtocolLimits.publicKeyBytes
            else { throw .invalid(field: "hello", reason: "a name, version or key that is too long") }
            self = .hello(hello)
        case .welcome: self = .welcome(try reader.json("welcome"))
        case .refuse:
            let refusal: Refusal = try reader.json("refusal")
            guard refusal.details.count <= ProtocolLimits.reportedDifferences else { throw .invalid(field: "refusal", reason: "too many details") }
            for text in [refusal.reason] + refusal.details { try Self.checkLength(text, "refusal") }
            self = .refuse(refusal)
        case .goodbye:
            let goodbye: Goodbye = try reader.json("goodbye")
            try Self.checkLength(goodbye.reason, "goodbye")
            self = .goodbye(goodbye)
        case .finished:
            let finish: RunFinish = try reader.json("finish")
            try Self.checkLength(finish.message, "finish")
            self = .finished(finish)
        case .base: self = .base(try BaseManifest(from: &reader))
        case .fetch:
            self = .fetch(
                LedgerFetch(
                    offset: try reader.varint("offset"), count: try reader.size("count", limit: ProtocolLimits.chunkBytes),
                    ticket: try reader.fixed("ticket")))
        case .baseDigest:
            let bytes = try reader.size("bytes", limit: ProtocolLimits.recordPayloadBytes)
            self = .baseDigest(BaseDigest(digest: try reader.digest("digest"), bytes: bytes))
        case .basePart:
            let offset = try reader.size("offset", limit: ProtocolLimits.recordPayloadBytes)
            self = .basePart(BasePart(offset: offset, bytes: try reader.restOfChunk()))
        case .baseFetch:
            self = .baseFetch(
                BaseFetch(
                    offset: try reader.size("offset", limit: ProtocolLimits.recordPayloadBytes),
                    count: try reader.size("count", limit: ProtocolLimits.chunkBytes)))
        case .contribution: self = .contribution(try WireContribution(from: &reader))
        case .heartbeat:
            let (session, records): (UInt32, UInt64) = (try reader.fixed("session"), try reader.varint("records"))
            let (sequence, roundTrip) = (try reader.varint("sequence"), try reader.varint32("round trip"))
            var share: Heartbeat.Share?
            if let round = try reader.optionalRound("round") {
                share = Heartbeat.Share(round: round, firstSample: try reader.varint32("first sample"))
            }
            self = .heartbeat(
                Heartbeat(session: session, records: records, share: share, sequence: sequence, roundTripMilliseconds: roundTrip))
        case .pong:
            guard let standing = Pong.Standing(rawValue: try reader.byte("standing")) else {
                throw .invalid(field: "standing", reason: "unknown")
            }
            self = .pong(
                Pong(
                    standing: standing, records: try reader.varint("records"),
                    awaited: try reader.optionalRound("awaited round"), echo: try reader.varint("echo")))
        case .digestReport:
            self = .digestReport(try DigestReport(from: &reader))
        case .evaluation:
            self = .evaluation(
                EvaluationReport(
                    round: try reader.varint32("round"), examples: try reader.varint32("examples"),
                    loss: try reader.loss("loss"), accuracy: try reader.part("accuracy"),
                    bestThresholdAccuracy: try reader.part("accuracy at the best threshold"),
                    auc: try reader.part("AUC"), seconds: try reader.amount("seconds"), position: try reader.varint("position"),
                    validation: try reader.flag("validation")
                        ? .init(
                            examples: try reader.varint32("validation examples"), loss: try reader.loss("validation loss"),
                            accuracy: try reader.part("validation accuracy"), noise: try reader.amount("noise")) : nil,
                    moved: try reader.amount("moved"), gain: try reader.loss("gain"), gainError: try reader.amount("error of the gain")))
        case .status:
            guard let phase = WorkerStatus.Phase(rawValue: try reader.byte("phase")) else {
                throw .invalid(field: "phase", reason: "unknown")
            }
            self = .status(
                WorkerStatus(
                    phase: phase, progress: try reader.part("progress"), trainingLoss: try reader.loss("training loss"),
                    samplesPerSecond: try reader.amount("samples per second"), applied: try reader.varint("applied records")))
        case .commit: self = .commit(try Commit(from: &reader))
        case .open: self = .open(try Opening(from: &reader))
        case .chunk:
            let (offset, total) = (try reader.varint("offset"), try reader.varint("total"))
            let ticket: UInt32 = try reader.fixed("ticket")
            self = .chunk(LedgerChunk(offset: offset, ticket: ticket, total: total, bytes: try reader.restOfChunk()))
        case .digestRequest:
            let position = try reader.varint("position")
            self = .digestRequest(position: position, nonce: reader.remaining > 0 ? try ProofNonce(from: &reader) : nil)
        case .rebuild: self = .rebuild(order: try reader.rebuildOrder("order"))
        }
        try reader.end()
    }
}

extension Message {
    private static func checkLength(_ text: String, _ field: String) throws(WireError) {
        guard text.utf8.count <= ProtocolLimits.reasonBytes else {
            throw .invalid(field: field, reason: "\(text.utf8.count) bytes of text, the limit is \(ProtocolLimits.reasonBytes)")
        }
    }
}

extension String {
    /// Returns the text, or as much of its beginning as fits into the bytes.
    func limited(toBytes count: Int) -> String {
        // A character that is cut in the middle becomes one of three bytes.
        utf8.count <= count ? self : String(decoding: utf8.prefix(max(0, count - 3)), as: UTF8.self)
    }
}

extension ByteWriter {
    /// Encoding a control message can't fail: it holds no floats but the welcome's heartbeat times, which the spec has checked.
    mutating func write(json body: some Encodable) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        write((try? encoder.encode(body)).map { [UInt8]($0) } ?? [])
    }

    /// Writes 0 for none, otherwise the round plus one.
    mutating func write(optional round: RoundNumber?) { write(varint: round.map { UInt64($0) + 1 } ?? 0) }
}

extension ByteReader {
    mutating func json<Body: Decodable>(_ field: String) throws(WireError) -> Body {
        guard remaining <= ProtocolLimits.jsonBytes else { throw .tooLong(bytes: remaining, limit: ProtocolLimits.jsonBytes) }
        do {
            return try JSONDecoder().decode(Body.self, from: Data(rest()))
        } catch {
            throw .invalid(field: field, reason: decodingReason(error))
        }
    }

    /// Returns the rest of a frame that carries a chunk.
    mutating func restOfChunk() throws(WireError) -> [UInt8] {
        guard remaining <= ProtocolLimits.chunkBytes else { throw .tooLong(bytes: remaining, limit: ProtocolLimits.chunkBytes) }
        return Array(rest())
    }

    /// Reads a number of bytes.
    mutating func size(_ field: String, limit: Int) throws(WireError) -> Int { Int(try varint(field, limit: UInt64(limit))) }

    mutating func rebuildOrder(_ field: String) throws(WireError) -> UInt32 {
        UInt32(try varint(field, limit: ProtocolLimits.rebuildOrders))
    }

    mutating func optionalRound(_ field: String) throws(WireError) -> RoundNumber? {
        let value = try varint(field, limit: UInt64(UInt32.max) + 1)
        return value == 0 ? nil : RoundNumber(value - 1)
    }
}

extension DigestReport {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let (position, round) = (try reader.varint("position"), try reader.varint32("round"))
        let (digest, chain) = (try reader.digest("digest"), try reader.fixed("chain", as: UInt64.self))
        let (rebuilds, unchanged) = (try reader.rebuildOrder("rebuilds"), try reader.percent("unchanged part"))
        let flags = try reader.byte("flags")
        guard flags & ~7 == 0 else { throw .invalid(field: "flags", reason: "\(flags) is not known") }
        let signature = flags & 1 != 0 ? try reader.signature("signature") : nil
        let proof: Proof? = flags & 2 != 0 ? Proof(nonce: try ProofNonce(from: &reader), answer: try reader.digest("proof")) : nil
        let data = flags & 4 != 0 ? try reader.dataCommitment("data") : nil
        self.init(
            position: position, round: round, digest: digest, chain: chain, rebuilds: rebuilds, unchangedPercent: unchanged,
            signature: signature, proof: proof, data: data)
    }
}

extension ProofNonce {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        guard let nonce = ProofNonce(bytes: try reader.take(Self.byteCount, "nonce")) else { throw .truncated(field: "nonce") }
        self = nonce
    }
}

extension WireContribution {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let machine = MachineID(try reader.varint32("machine"))
        let round = try reader.varint32("round")
        let scaleExponent = try reader.signedByte("scale exponent")
        let first = try reader.varint32("first sample")
        let count = reader.remaining
        guard count > 0, count <= ProtocolLimits.samplesPerRound, UInt64(first) + UInt64(count) <= UInt64(UInt32.max) else {
            throw .invalid(field: "bytes", reason: "\(count) samples from \(first) on")
        }
        let contribution = Contribution(machine: machine, firstSample: first, bytes: try reader.signed(count, "bytes"))
        self.init(round: round, scaleExponent: scaleExponent, contribution: contribution)
    }
}

extension Opening {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.write(varint: round)
        writer.write(scaleExponent)
        writer.write(varint: UInt64(shares.count))
        for share in shares {
            writer.write(varint: share.machine.rawValue)
            writer.write(varint: share.firstSample)
            writer.write(varint: share.count)
        }
    }

    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let round = try reader.varint32("round")
        let scaleExponent = try reader.signedByte("scale exponent")
        let count = try reader.count("shares", limit: ProtocolLimits.contributionsPerRound, itemBytes: 3)
        var shares: [Share] = []
        shares.reserveCapacity(count)
        for _ in 0..<count {
            let share = Share(
                machine: MachineID(try reader.varint32("machine")), firstSample: try reader.varint32("first sample"),
                count: try reader.varint32("samples"))
            if let last = shares.last, last.machine >= share.machine {
                throw .invalid(field: "shares", reason: "not ascending by machine")
            }
            try share.check()
            shares.append(share)
        }
        self.init(round: round, scaleExponent: scaleExponent, shares: shares)
    }

    /// Returns the opening that follows a commit of `record` if every machine continues with the same number of samples. Returns nil if a machine is
    /// in the record twice (it sent late bytes too) or has no numbers left.
    static func continuing(_ record: RoundRecord, scaleExponent: Int8) -> Opening? {
        guard record.round < .max else { return nil }
        var shares: [Share] = []
        for contribution in record.inOrder {
            guard contribution.samples.upperBound <= UInt64(UInt32.max), shares.last?.machine != contribution.machine else {
                return nil
            }
            let share = Share(
                machine: contribution.machine, firstSample: SampleNumber(contribution.samples.upperBound),
                count: UInt32(contribution.bytes.count))
            guard (try? share.check()) != nil else { return nil }
            shares.append(share)
        }
        return Opening(round: record.round + 1, scaleExponent: scaleExponent, shares: shares)
    }
}

extension Opening.Share {
    fileprivate func check() throws(WireError) {
        guard count > 0, count <= ProtocolLimits.samplesPerRound, UInt64(firstSample) + UInt64(count) <= UInt64(UInt32.max) else {
            throw .invalid(field: "share", reason: "\(count) samples from \(firstSample) on")
        }
    }
}

extension Commit {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.write(varint: index)
        if let opening {
            if opening == Commit.continuation(kind: kind, payload: payload, scaleExponent: opening.scaleExponent) {
                writer.write(MessageCoding.OpeningForm.continued.rawValue)
                writer.write(opening.scaleExponent)
            } else {
                writer.write(MessageCoding.OpeningForm.explicit.rawValue)
                opening.write(to: &writer)
            }
        } else {
            writer.write(MessageCoding.OpeningForm.none.rawValue)
        }
        writer.write(kind)
        writer.write(payload)
    }

    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let index = try reader.varint("record index", limit: ProtocolLimits.ledgerRecords)
        guard let form = MessageCoding.OpeningForm(rawValue: try reader.byte("opening form")) else {
            throw .invalid(field: "opening form", reason: "unknown")
        }
        var opening: Opening?
        var continuedScale: Int8?
        switch form {
        case .none: break
        case .explicit: opening = try Opening(from: &reader)
        case .continued: continuedScale = try reader.signedByte("scale exponent")
        }
        let kind = try reader.byte("record kind")
        guard reader.remaining <= ProtocolLimits.recordPayloadBytes else {
            throw .tooLong(bytes: reader.remaining, limit: ProtocolLimits.recordPayloadBytes)
        }
        let payload = Array(reader.rest())
        if let continuedScale {
            opening = Commit.continuation(kind: kind, payload: payload, scaleExponent: continuedScale)
            guard opening != nil else { throw .invalid(field: "opening form", reason: "the record can't be continued") }
        }
        self.init(index: index, kind: kind, payload: payload, opening: opening)
    }

    private static func continuation(kind: UInt8, payload: [UInt8], scaleExponent: Int8) -> Opening? {
        guard kind == LedgerRecord.Kind.round.rawValue,
            case .round(let record)? = try? LedgerRecord(kind: kind, payload: payload)
        else { return nil }
        return Opening.continuing(record, scaleExponent: scaleExponent)
    }
}
