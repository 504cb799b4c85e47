/// One life of a worker process: 16 random bytes that it draws when it starts. A process that holds them can take up its machine number again after a
/// lost connection or a coordinator restart, so they are never written to the ledger.
public struct SessionToken: Hashable, Sendable, Codable {
    public static let byteCount = 16
    public let bytes: [UInt8]
    /// Returns nil unless there are exactly 16 bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = bytes
    }

    /// The hash of the token that a ledger may hold.
    public var fingerprint: SessionFingerprint { SessionFingerprint(of: self) }

    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let bytes = [UInt8](hex: text), let token = SessionToken(bytes: bytes) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "not a session token of 32 hexadecimal digits"))
        }
        self = token
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(bytes.hex)
    }
}

/// The first 16 bytes of a session token's SHA-256, as an admission records it.
public struct SessionFingerprint: Hashable, Sendable {
    public static let byteCount = 16
    public let bytes: [UInt8]
    /// Returns nil unless there are exactly 16 bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = bytes
    }

    /// The first 4 bytes, for messages that need no more.
    public var tag: UInt32 { bytes.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) } }

    init(of token: SessionToken) { bytes = Array(Digest.sha256(token.bytes).bytes.prefix(Self.byteCount)) }
}

/// The transport's name for a connection, such as a ROUTER's routing id. A worker keeps one routing id as long as its process lives.
public struct PeerID: Hashable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]
    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public var description: String { bytes.prefix(8).map { $0 }.hex }

    // Each message looks its peer up several times. The array's own hash function would go byte by byte.
    public func hash(into hasher: inout Hasher) { bytes.withUnsafeBytes { hasher.combine(bytes: $0) } }
}

extension Array where Element == UInt8 {
    /// The bytes as hexadecimal text, two lower-case digits for each byte.
    var hex: String {
        let digits = [UInt8]("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    /// Returns nil if `hex` holds anything but pairs of hexadecimal digits.
    init?(hex: String) {
        let nibbles = hex.utf8.map { Character(UnicodeScalar($0)).hexDigitValue }
        guard nibbles.count % 2 == 0 else { return nil }
        self = []
        reserveCapacity(nibbles.count / 2)
        for i in Swift.stride(from: 0, to: nibbles.count, by: 2) {
            guard let high = nibbles[i], let low = nibbles[i + 1] else { return nil }
            append(UInt8(high << 4 | low))
        }
    }
}
