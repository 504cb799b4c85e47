import Core

/// A ledger that somebody alters and then makes consistent again, as anybody with the file can: every CRC-32C and the hash chain are recomputed. So
/// only the content of the records can give the forgery away.
public struct ForgedLedger {
    public var records: [LedgerRecord]
    private var format = LedgerFormat.version

    /// - Throws: `LedgerError` if `bytes` are not a ledger.
    public init(_ bytes: [UInt8]) throws {
        var decoder = LedgerDecoder()
        decoder.push(bytes)
        records = []
        while let entry = try decoder.next() {
            records.append(entry.record)
            format = entry.format
        }
    }

    /// The bytes of a ledger with the present records.
    public var bytes: [UInt8] {
        guard case .spec(let spec)? = records.first else { return [] }
        var bytes = LedgerFormat.header(specDigest: .sha256(spec), version: format)
        var position = LedgerFormat.start(header: bytes)
        for record in records {
            let (encoded, next) = position.appending(record)
            bytes += encoded
            position = next
        }
        return bytes
    }

    /// Returns the ledger with one byte of this record's payload changed, as a failing disk or a hex editor may do.
    ///
    /// - Parameter mendsChecksum: whether the record's own CRC-32C is recomputed. The hash chain stays as it was.
    public func damaged(record: Int, at place: Int, mendsChecksum: Bool) -> [UInt8] {
        var bytes = bytes
        let overhead = LedgerFormat.recordOverheadBytes
        var start = LedgerFormat.headerBytes
        for earlier in records[..<record] { start += earlier.payload().count + overhead }
        let end = start + records[record].payload().count + overhead
        bytes[start + 5 + place] ^= 1
        guard mendsChecksum else { return bytes }
        let checksum = bytes[start..<end - 4].withUnsafeBytes { CRC32C.checksum($0) }
        for i in 0..<4 { bytes[end - 4 + i] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(i))) }
        return bytes
    }

    /// Appends a signature over all records.
    public mutating func sign(with notary: any Notary) {
        guard case .spec(let spec)? = records.first else { return }
        var position = LedgerFormat.start(header: LedgerFormat.header(specDigest: .sha256(spec), version: format))
        for record in records { position = position.appending(record).position }
        records.append(.signature(LedgerSignature(signer: notary.publicKey, signature: notary.sign(SignedStatement.history(position)))))
    }

    // MARK: Records

    /// Returns the index of the record of this round.
    public func place(ofRound number: RoundNumber) -> Int? {
        records.firstIndex { record in
            if case .round(let round) = record { round.round == number } else { false }
        }
    }

    /// Replaces this round by another.
    public mutating func alter(round number: RoundNumber, _ change: (RoundRecord) -> RoundRecord) {
        guard let place = place(ofRound: number), case .round(let round) = records[place] else { return }
        records[place] = .round(change(round))
    }

    /// Adds one to the first byte of a round that still has a value afterwards.
    public mutating func alterByte(ofRound number: RoundNumber) {
        alter(round: number) { round in
            var contributions = round.contributions
            guard let first = contributions.first, let q = first.bytes.first else { return round }
            let bytes = [q == 127 ? 126 : q + 1] + first.bytes.dropFirst()
            contributions[0] = Contribution(machine: first.machine, firstSample: first.firstSample, bytes: Array(bytes))
            return RoundRecord(round: round.round, scaleExponent: round.scaleExponent, step: round.step, contributions: contributions)
        }
    }

    /// Replaces each digest record; nil removes it.
    public mutating func mapDigests(_ change: (DigestRecord) -> DigestRecord?) {
        records = records.compactMap { record in
            guard case .digest(let digest) = record else { return record }
            return change(digest).map { .digest($0) }
        }
    }
}
