/// The ledger's bytes (docs/reference/ledger.md): a header, then records. Each record continues the hash chain.
public enum LedgerFormat {
    public static let magic: [UInt8] = Array("ONEBYTE\n".utf8)
    /// Format of new ledgers. Format 2 added signatures. Format 3 added restorations, rewinds after the end, and the noise and movement in
    /// validations. Format 4 added the precision in admissions. A ledger of an earlier format is read, and resumed in its own format.
    public static let version: UInt32 = 4
    /// The oldest format that this version reads.
    public static let oldestVersion: UInt32 = 1
    /// Magic, version, the spec's SHA-256, CRC-32C.
    public static let headerBytes = 8 + 4 + Digest.byteCount + 4
    /// Bytes of a record's payload length and kind.
    static let prefixBytes = 5
    /// Bytes of the chain's first 8 bytes and the CRC-32C.
    static let suffixBytes = 12
    /// Bytes that a record has in addition to its payload.
    public static let recordOverheadBytes = prefixBytes + suffixBytes

    /// Returns the payload of a whole record.
    static func payload(of record: [UInt8]) -> [UInt8] { Array(record.dropFirst(prefixBytes).dropLast(suffixBytes)) }

    /// Returns the header of a ledger whose spec has this digest.
    public static func header(specDigest: Digest, version: UInt32 = version) -> [UInt8] {
        var writer = ByteWriter(capacity: headerBytes)
        writer.write(magic)
        writer.write(fixed: version)
        writer.write(specDigest.bytes)
        writer.write(fixed: CRC32C.checksum(writer.bytes))
        return writer.bytes
    }

    /// Returns the format and the spec's digest from a header of `headerBytes` bytes.
    static func read(header: ArraySlice<UInt8>) throws(LedgerError) -> (version: UInt32, specDigest: Digest) {
        do {
            var reader = ByteReader(header)
            guard Array(try reader.take(magic.count, "magic")) == magic else { throw LedgerError.notALedger }
            let found: UInt32 = try reader.fixed("version")
            guard (oldestVersion...version).contains(found) else { throw LedgerError.version(found) }
            let digest = try reader.digest("spec digest")
            guard checksum(header.prefix(headerBytes - 4)) == (try reader.fixed("CRC")) else { throw LedgerError.damagedHeader }
            return (found, digest)
        } catch let error as LedgerError {
            throw error
        } catch {
            throw .damagedHeader
        }
    }

    static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 { bytes.withUnsafeBytes { CRC32C.checksum($0) } }

    /// Returns the position before the first record.
    public static func start(header: [UInt8]) -> LedgerPosition {
        LedgerPosition(records: 0, offset: UInt64(header.count), chain: Digest.sha256(header))
    }
}

extension LedgerPosition {
    /// Returns the position after a record of this kind and payload: chain' = SHA-256(chain ‖ kind ‖ payload).
    public func advanced(kind: UInt8, payload: [UInt8]) -> LedgerPosition {
        var hash = SHA256()
        hash.update(chain.bytes)
        withUnsafeBytes(of: kind) { hash.update($0) }
        hash.update(payload)
        return LedgerPosition(
            records: records + 1, offset: offset + UInt64(payload.count + LedgerFormat.recordOverheadBytes), chain: hash.finalize())
    }

    /// The part of the chain that a record carries. It is enough to notice any accident. For a proof against an adversary, compare whole chains.
    public var shortChain: UInt64 { chain.bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) } }

    /// Returns the bytes of the record that follows this position, and the position after it.
    public func appending(_ record: LedgerRecord) -> (bytes: [UInt8], position: LedgerPosition) {
        appending(kind: record.kind.rawValue, payload: record.payload())
    }

    func appending(kind: UInt8, payload: [UInt8]) -> (bytes: [UInt8], position: LedgerPosition) {
        let next = advanced(kind: kind, payload: payload)
        var writer = ByteWriter(capacity: payload.count + LedgerFormat.recordOverheadBytes)
        writer.write(fixed: UInt32(payload.count))
        writer.write(kind)
        writer.write(payload)
        writer.write(fixed: next.shortChain)
        writer.write(fixed: CRC32C.checksum(writer.bytes))
        return (writer.bytes, next)
    }
}

/// The reason why bytes are not a ledger, and where.
public enum LedgerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The bytes do not begin with the magic.
    case notALedger
    /// The format is one that this version does not know.
    case version(UInt32)
    /// The header's CRC-32C is wrong.
    case damagedHeader
    /// The record at `offset` fails a check: its length, CRC-32C or hash chain.
    case damagedRecord(offset: UInt64, index: UInt64, reason: String)
    /// The record is whole, but its content is impossible.
    case invalidRecord(offset: UInt64, index: UInt64, reason: String)

    public var description: String {
        switch self {
        case .notALedger: "not a ledger: it does not begin with the magic bytes ONEBYTE"
        case .version(let version):
            "ledger format \(version), this program reads formats \(LedgerFormat.oldestVersion) to \(LedgerFormat.version); use a newer program"
        case .damagedHeader: "the ledger's header is damaged; take the ledger from another copy"
        case .damagedRecord(let offset, let index, let reason):
            "record \(index) at byte \(offset) is damaged (\(reason)); take the ledger from another copy"
        case .invalidRecord(let offset, let index, let reason): "record \(index) at byte \(offset): \(reason)"
        }
    }
}

/// A record and its place in the ledger.
public struct LedgerEntry: Hashable, Sendable {
    public let record: LedgerRecord
    public let kind: UInt8
    public let payload: [UInt8]
    /// The record's index; the first is 0.
    public let index: UInt64
    /// Format of the ledger.
    public let format: UInt32
    /// Offset of the record's first byte.
    public let offset: UInt64
    /// The position after the record.
    public let position: LedgerPosition
}

/// Decodes a ledger's bytes into records. The bytes may come in pieces of any size, and it needs memory for one record only.
public struct LedgerDecoder: Sendable {
    private var buffer: [UInt8] = []
    private var head = 0
    /// The spec's digest, once the header is read.
    public private(set) var specDigest: Digest?
    private var format: UInt32 = LedgerFormat.oldestVersion
    /// The position after the last record that was returned; nil before the header is read.
    public private(set) var position: LedgerPosition?

    public init() {}

    /// Number of bytes taken in, decoded or not.
    public var received: UInt64 { (position?.offset ?? 0) + UInt64(buffer.count - head) }
    /// Number of bytes that are not a whole record yet.
    public var unread: Int { buffer.count - head }

    /// Takes in the next bytes. `next` then returns their records.
    public mutating func push(_ bytes: some Collection<UInt8>) {
        if head > 0 {
            buffer.removeFirst(head)
            head = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// Forgets bytes that are not a whole record, so that the next push begins at `position`.
    public mutating func dropUnread() { head = buffer.count }

    /// Kind and payload size of the record that the unread bytes begin; nil if they are too few or no record.
    var nextRecord: (kind: UInt8, payloadBytes: Int)? {
        guard position != nil, unread >= LedgerFormat.prefixBytes, let length = LedgerFraming.length(buffer[head...]) else { return nil }
        return (buffer[head + 4], length - LedgerFormat.recordOverheadBytes)
    }

    /// Takes a record that came alone, as in a commit, in place of the bytes that would follow.
    public mutating func append(kind: UInt8, payload: [UInt8]) throws(LedgerError) -> LedgerEntry? {
        guard let position else { return nil }
        dropUnread()
        let next = position.advanced(kind: kind, payload: payload)
        let record = try record(kind: kind, payload: payload, at: position)
        self.position = next
        return LedgerEntry(
            record: record, kind: kind, payload: payload, index: position.records, format: format, offset: position.offset, position: next)
    }

    private func record(kind: UInt8, payload: [UInt8], at position: LedgerPosition) throws(LedgerError) -> LedgerRecord {
        let record: LedgerRecord
        do {
            record = try LedgerRecord(kind: kind, payload: payload)
        } catch {
            throw .invalidRecord(offset: position.offset, index: position.records, reason: "\(error)")
        }
        guard record.sinceFormat <= format else {
            throw .invalidRecord(
                offset: position.offset, index: position.records,
                reason: "\(record.kind) of format \(record.sinceFormat) in a ledger of format \(format)")
        }
        return record
    }

    /// Returns the next record, or nil until more bytes come.
    public mutating func next() throws(LedgerError) -> LedgerEntry? {
        guard let position else {
            guard unread >= LedgerFormat.headerBytes else {
                // A file of another kind is refused at once and not taken for an unfinished ledger.
                guard buffer[head...].starts(with: LedgerFormat.magic.prefix(unread)) else { throw .notALedger }
                return nil
            }
            let header = buffer[head..<head + LedgerFormat.headerBytes]
            (format, specDigest) = try LedgerFormat.read(header: header)
            self.position = LedgerFormat.start(header: Array(header))
            head += LedgerFormat.headerBytes
            return try next()
        }
        switch LedgerFraming.parse(buffer[head...], after: position) {
        case .incomplete: return nil
        case .damaged(let reason): throw .damagedRecord(offset: position.offset, index: position.records, reason: reason)
        case .record(let kind, let payload, let next):
            let record = try record(kind: kind, payload: payload, at: position)
            if position.records == 0 {
                guard case .spec(let bytes) = record, Digest.sha256(bytes) == specDigest else {
                    throw .invalidRecord(offset: position.offset, index: 0, reason: "not the spec that the header names")
                }
            }
            head += Int(next.offset - position.offset)
            self.position = next
            return LedgerEntry(
                record: record, kind: kind, payload: payload, index: position.records, format: format, offset: position.offset, position: next)
        }
    }
}

/// The frame of one record, and its check.
enum LedgerFraming {
    enum Outcome {
        /// The bytes so far are the beginning of a record.
        case incomplete
        case damaged(String)
        case record(kind: UInt8, payload: [UInt8], next: LedgerPosition)
    }

    static func parse(_ bytes: ArraySlice<UInt8>, after position: LedgerPosition) -> Outcome {
        guard bytes.count >= LedgerFormat.prefixBytes else { return .incomplete }
        switch length(bytes) {
        case nil: return .damaged("length or kind")
        case let length? where bytes.count < length: return .incomplete
        case let length?:
            guard checked(bytes.prefix(length)) else { return .damaged("CRC-32C") }
            let body = bytes.dropFirst(LedgerFormat.prefixBytes)
            let payload = Array(body.prefix(length - LedgerFormat.recordOverheadBytes))
            let kind = bytes[bytes.startIndex + 4]
            let next = position.advanced(kind: kind, payload: payload)
            let chain = bytes.dropFirst(length - LedgerFormat.suffixBytes).prefix(8)
            guard chain.elementsEqual(next.chain.bytes.prefix(8)) else { return .damaged("hash chain") }
            return .record(kind: kind, payload: payload, next: next)
        }
    }

    /// Returns the length of the whole record that begins with these bytes, or nil if no record begins like this.
    static func length(_ bytes: ArraySlice<UInt8>) -> Int? {
        let start = bytes.startIndex
        let payload = (0..<4).reversed().reduce(0) { $0 << 8 | Int(bytes[start + $1]) }
        guard payload <= ProtocolLimits.recordPayloadBytes, LedgerRecord.Kind(rawValue: bytes[start + 4]) != nil else {
            return nil
        }
        return payload + LedgerFormat.recordOverheadBytes
    }

    /// Whether the last four bytes are the CRC-32C of those before.
    static func checked(_ record: ArraySlice<UInt8>) -> Bool {
        let stored = record.suffix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        return LedgerFormat.checksum(record.dropLast(4)) == stored
    }
}

extension LedgerFormat {
    /// Whether a whole record with a correct CRC-32C begins anywhere in `bytes`. After a record that fails its check this tells damage from the torn
    /// end of an interrupted append. After damage valid data follow, so nothing may be cut.
    public static func holdsRecord(_ bytes: ArraySlice<UInt8>) -> Bool {
        var at = bytes.startIndex
        while bytes.endIndex - at >= recordOverheadBytes {
            let tail = bytes[at...]
            if let length = LedgerFraming.length(tail), length <= tail.count, LedgerFraming.checked(tail.prefix(length)) {
                return true
            }
            at += 1
        }
        return false
    }
}
