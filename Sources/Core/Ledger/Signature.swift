/// The public half of a key that signs: Ed25519 (RFC 8032), 32 bytes, written as 64 hexadecimal digits.
public struct SignerKey: Hashable, Sendable, Codable, CustomStringConvertible {
    public static let byteCount = 32
    public let bytes: [UInt8]

    /// Nil unless there are exactly 32 bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }

    /// Nil unless there are exactly 64 hexadecimal digits.
    public init?(hex: String) {
        guard hex.utf8.count == 2 * Self.byteCount, let bytes = [UInt8](hex: hex) else { return nil }
        self.init(bytes: bytes)
    }

    public var description: String { bytes.hex }
    /// The first 12 digits.
    public var short: String { String(description.prefix(12)) }

    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let key = SignerKey(hex: text) else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "not a signing key of 64 hexadecimal digits"))
        }
        self = key
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// An Ed25519 signature: 64 bytes.
public struct Signature: Hashable, Sendable {
    public static let byteCount = 64
    public let bytes: [UInt8]

    /// Nil unless there are exactly 64 bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }
}

/// Tells right Ed25519 signatures from wrong ones. Core does no cryptography with keys itself.
public protocol SignatureChecker: Sendable {
    func isValid(_ signature: Signature, of message: [UInt8], by key: SignerKey) -> Bool
}

/// Holds a key that signs.
public protocol Notary: SignatureChecker {
    var publicKey: SignerKey { get }
    func sign(_ message: [UInt8]) -> Signature
}

/// What is signed, byte by byte (docs/reference/ledger.md). Each begins with words of its own, so that no signature passes for another
/// kind's.
public enum SignedStatement {
    /// The ledger's keeper: these were its first records, and their hash chain.
    public static func history(_ position: LedgerPosition) -> [UInt8] {
        statement("onebyte ledger 1\n", position)
    }

    /// A machine: after these records, with this hash chain, its parameters had this digest.
    public static func parameters(_ digest: Digest, at position: LedgerPosition) -> [UInt8] {
        statement("onebyte witness 1\n", position) + digest.bytes
    }

    private static func statement(_ words: String, _ position: LedgerPosition) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Array(words.utf8))
        writer.write(fixed: position.records)
        writer.write(position.chain.bytes)
        return writer.bytes
    }
}

/// The ledger's keeper vouches for all records before this one.
public struct LedgerSignature: Hashable, Sendable {
    public let signer: SignerKey
    /// Of `SignedStatement.history` at the position before this record.
    public let signature: Signature
    public init(signer: SignerKey, signature: Signature) {
        self.signer = signer
        self.signature = signature
    }
}

/// Machines vouch for the digest record before this one, and so for all that led to it.
public struct Witnesses: Hashable, Sendable {
    public struct Entry: Hashable, Sendable {
        public let machine: MachineID
        /// Of `SignedStatement.parameters`, with the key in the machine's admission.
        public let signature: Signature
        public init(machine: MachineID, signature: Signature) {
            self.machine = machine
            self.signature = signature
        }
    }
    /// Ascending by machine.
    public let entries: [Entry]
    public init(_ entries: [Entry]) { self.entries = entries.sorted { $0.machine < $1.machine } }
}
