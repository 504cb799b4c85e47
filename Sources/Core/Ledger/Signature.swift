/// The public half of a signing key: Ed25519 (RFC 8032), 32 bytes, written as 64 hexadecimal digits.
public struct SignerKey: Hashable, Sendable, Codable, CustomStringConvertible {
    public static let byteCount = 32
    public let bytes: [UInt8]

    /// Returns nil unless there are exactly 32 bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }

    /// Returns nil unless there are exactly 64 hexadecimal digits.
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

    /// Returns nil unless there are exactly 64 bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }
}

/// Checks Ed25519 signatures. Core itself does no cryptography with keys.
public protocol SignatureChecker: Sendable {
    func isValid(_ signature: Signature, of message: [UInt8], by key: SignerKey) -> Bool
}

/// Holds a signing key.
public protocol Notary: SignatureChecker {
    var publicKey: SignerKey { get }
    func sign(_ message: [UInt8]) -> Signature
}

/// The bytes that are signed (docs/reference/ledger.md). Each statement begins with words of its own, so that a signature of one kind is not valid
/// for another.
public enum SignedStatement {
    /// Returns the statement of the ledger's signer: these were its first records, with this hash chain.
    public static func history(_ position: LedgerPosition) -> [UInt8] {
        statement("onebyte ledger 1\n", position)
    }

    /// Returns the statement of a machine: after these records, with this hash chain, its parameters had this digest.
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

/// The signature of the ledger's signer over all records before this one.
public struct LedgerSignature: Hashable, Sendable {
    public let signer: SignerKey
    /// Signature of `SignedStatement.history` at the position before this record.
    public let signature: Signature
    public init(signer: SignerKey, signature: Signature) {
        self.signer = signer
        self.signature = signature
    }
}

/// The countersignatures of machines on the digest record before this one, and so on everything that led to it.
public struct Witnesses: Hashable, Sendable {
    public struct Entry: Hashable, Sendable {
        public let machine: MachineID
        /// Signature of `SignedStatement.parameters`, with the key in the machine's admission.
        public let signature: Signature
        public init(machine: MachineID, signature: Signature) {
            self.machine = machine
            self.signature = signature
        }
    }
    /// In ascending order of machine.
    public let entries: [Entry]
    public init(_ entries: [Entry]) { self.entries = entries.sorted { $0.machine < $1.machine } }
}
