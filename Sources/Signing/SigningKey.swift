import CSodium
import Core

/// An Ed25519 key (RFC 8032), made by libsodium. It never prints its secret.
public struct SigningKey: Notary, CustomStringConvertible, CustomReflectable {
    /// Number of bytes of the secret seed. The key follows from the seed.
    public static let seedBytes = 32
    public let publicKey: SignerKey
    /// Seed and public key, in libsodium's form.
    private let secret: [UInt8]

    public var description: String { "signing key with the public key \(publicKey)" }
    public var customMirror: Mirror { Mirror(self, children: ["publicKey": publicKey]) }

    /// Creates a new key from the operating system's random bytes.
    public init() {
        Sodium.start()
        var seed = [UInt8](repeating: 0, count: Self.seedBytes)
        randombytes_buf(&seed, seed.count)
        self.init(checked: seed)
    }

    /// Creates the key of a secret seed. Returns nil unless the seed has 32 bytes.
    public init?(seed: [UInt8]) {
        guard seed.count == Self.seedBytes else { return nil }
        Sodium.start()
        self.init(checked: seed)
    }

    private init(checked seed: [UInt8]) {
        var key = [UInt8](repeating: 0, count: SignerKey.byteCount)
        var secret = [UInt8](repeating: 0, count: Int(crypto_sign_SECRETKEYBYTES))
        crypto_sign_seed_keypair(&key, &secret, seed)
        self.secret = secret
        guard let publicKey = SignerKey(bytes: key) else { preconditionFailure("a public key has 32 bytes") }
        self.publicKey = publicKey
    }

    /// A second secret, for commitments to data. The key can't be derived from it.
    public var dataSecret: [UInt8] { Digest.sha256(Array("onebyte data 1\n".utf8) + seed).bytes }

    var seed: [UInt8] { Array(secret.prefix(Self.seedBytes)) }

    /// Signs the message. The same message always gives the same signature.
    public func sign(_ message: [UInt8]) -> Signature {
        var bytes = [UInt8](repeating: 0, count: Signature.byteCount)
        crypto_sign_detached(&bytes, nil, message, UInt64(message.count), secret)
        guard let signature = Signature(bytes: bytes) else { preconditionFailure("a signature has 64 bytes") }
        return signature
    }

    public func isValid(_ signature: Signature, of message: [UInt8], by key: SignerKey) -> Bool {
        Ed25519().isValid(signature, of: message, by: key)
    }
}

/// Checks Ed25519 signatures without holding a key.
public struct Ed25519: SignatureChecker {
    public init() { Sodium.start() }

    public func isValid(_ signature: Signature, of message: [UInt8], by key: SignerKey) -> Bool {
        crypto_sign_verify_detached(signature.bytes, message, UInt64(message.count), key.bytes) == 0
    }
}

private enum Sodium {
    /// Started once for the process. Later calls cost nothing.
    private static let isStarted: Bool = sodium_init() >= 0
    static func start() { precondition(isStarted, "libsodium does not start") }
}
