/// Writes little-endian integers and varints.
struct ByteWriter {
    private(set) var bytes: [UInt8]

    init(capacity: Int = 64) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    mutating func write(_ value: UInt8) { bytes.append(value) }
    mutating func write(_ value: Int8) { bytes.append(UInt8(bitPattern: value)) }

    mutating func write(fixed value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func write(_ value: Double) { write(fixed: value.bitPattern) }

    /// Writes LEB128: seven bits in each byte, low first. The top bit of a byte says that more follow.
    mutating func write(varint value: some UnsignedInteger & FixedWidthInteger) {
        var rest = UInt64(value)
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    mutating func write(_ more: some Collection<UInt8>) { bytes.append(contentsOf: more) }
    mutating func write(signed more: [Int8]) { more.withUnsafeBytes { bytes.append(contentsOf: $0) } }

    /// Writes the length as a varint, then UTF-8.
    mutating func write(text: String) {
        let utf8 = Array(text.utf8)
        write(varint: UInt64(utf8.count))
        write(utf8)
    }
}

/// Reads what `ByteWriter` writes. Every length is checked before a byte is read or a buffer is made.
struct ByteReader {
    private let bytes: ArraySlice<UInt8>
    private var at: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        at = bytes.startIndex
    }

    init(_ bytes: [UInt8]) { self.init(bytes[...]) }

    var remaining: Int { bytes.endIndex - at }

    mutating func take(_ count: Int, _ field: String) throws(WireError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= remaining else { throw .truncated(field: field) }
        defer { at += count }
        return bytes[at..<at + count]
    }

    mutating func rest() -> ArraySlice<UInt8> {
        defer { at = bytes.endIndex }
        return bytes[at...]
    }

    mutating func byte(_ field: String) throws(WireError) -> UInt8 {
        guard at < bytes.endIndex else { throw .truncated(field: field) }
        defer { at += 1 }
        return bytes[at]
    }

    /// Reads 0…100, or 255 for nil.
    mutating func percent(_ field: String) throws(WireError) -> UInt8? {
        switch try byte(field) {
        case .max: return nil
        case let percent where percent <= 100: return percent
        case let other: throw .invalid(field: field, reason: "\(other) per cent")
        }
    }

    /// Reads a byte that is 0 or 1.
    mutating func flag(_ field: String) throws(WireError) -> Bool {
        switch try byte(field) {
        case 0: return false
        case 1: return true
        case let other: throw .invalid(field: field, reason: "\(other), it is 0 or 1")
        }
    }

    mutating func signedByte(_ field: String) throws(WireError) -> Int8 { Int8(bitPattern: try byte(field)) }

    mutating func fixed<T: FixedWidthInteger>(_ field: String, as type: T.Type = T.self) throws(WireError) -> T {
        let slice = try take(MemoryLayout<T>.size, field)
        var value = T.zero
        for byte in slice.reversed() { value = value << 8 | T(truncatingIfNeeded: byte) }
        return value
    }

    mutating func double(_ field: String) throws(WireError) -> Double { Double(bitPattern: try fixed(field)) }

    /// Reads a varint of at most `limit`. It must not be longer than needed, so that each value has one spelling.
    mutating func varint(_ field: String, limit: UInt64 = .max) throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try byte(field)
            let bits = UInt64(byte & 0x7F)
            guard shift < 63 || bits <= 1 else { throw .invalid(field: field, reason: "a varint beyond 64 bits") }
            value |= bits << shift
            if byte & 0x80 == 0 {
                guard byte != 0 || shift == 0 else { throw .invalid(field: field, reason: "a varint longer than it needs to be") }
                guard value <= limit else { throw .invalid(field: field, reason: "\(value) is above the limit \(limit)") }
                return value
            }
            shift += 7
            guard shift <= 63 else { throw .invalid(field: field, reason: "a varint beyond 64 bits") }
        }
    }

    mutating func varint32(_ field: String) throws(WireError) -> UInt32 { UInt32(try varint(field, limit: UInt64(UInt32.max))) }

    /// Reads the number of items that follow, of at least `itemBytes` bytes each. So a count can't ask for more memory than its frame holds.
    mutating func count(_ field: String, limit: Int, itemBytes: Int) throws(WireError) -> Int {
        let count = Int(try varint(field, limit: UInt64(limit)))
        guard count <= remaining / max(itemBytes, 1) else { throw .truncated(field: field) }
        return count
    }

    mutating func signed(_ count: Int, _ field: String) throws(WireError) -> [Int8] {
        let slice = try take(count, field)
        return slice.withUnsafeBytes { Array($0.bindMemory(to: Int8.self)) }
    }

    mutating func text(_ field: String, limit: Int) throws(WireError) -> String {
        let count = try count(field, limit: limit, itemBytes: 1)
        guard let text = String(validating: try take(count, field), as: UTF8.self) else {
            throw .invalid(field: field, reason: "not UTF-8")
        }
        return text
    }

    mutating func digest(_ field: String) throws(WireError) -> Digest {
        let slice = try take(Digest.byteCount, field)
        guard let digest = Digest(bytes: slice) else { throw .truncated(field: field) }
        return digest
    }

    mutating func signerKey(_ field: String) throws(WireError) -> SignerKey {
        guard let key = SignerKey(bytes: try take(SignerKey.byteCount, field)) else { throw .truncated(field: field) }
        return key
    }

    mutating func signature(_ field: String) throws(WireError) -> Signature {
        guard let signature = Signature(bytes: try take(Signature.byteCount, field)) else { throw .truncated(field: field) }
        return signature
    }

    func end() throws(WireError) {
        guard remaining == 0 else { throw .trailing(bytes: remaining) }
    }
}
