/// A question that is asked only once. Its answer can't be known before, nor copied from a ledger.
public struct ProofNonce: Hashable, Sendable {
    public static let byteCount = 16
    public let bytes: [UInt8]

    /// Returns nil unless there are exactly 16 bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }

    /// Makes the question `number` of a coordinator that holds this secret.
    init(secret: [UInt8], number: UInt64) {
        let digest = Digest.sha256(secret + withUnsafeBytes(of: number.littleEndian) { Array($0) })
        bytes = Array(digest.bytes.prefix(Self.byteCount))
    }

    /// Returns the answer: SHA-256 of "onebyte proof 1" and a newline, the nonce, the digest of the parameters, and what `more` adds from the base
    /// model.
    public func proof(of digest: Digest, adding more: (inout SHA256) throws -> Void) rethrows -> Digest {
        var hash = SHA256()
        hash.update(Array("onebyte proof 1\n".utf8))
        hash.update(bytes)
        hash.update(digest.bytes)
        try more(&hash)
        return hash.finalize()
    }

    /// Returns the index, 0 ..< count, of the element that the sample `number` reads: the first 8 bytes of SHA-256(nonce ‖ number as u32),
    /// little-endian, modulo the count.
    public func element(_ number: UInt32, of count: UInt64) -> UInt64 {
        let digest = Digest.sha256(bytes + withUnsafeBytes(of: number.littleEndian) { Array($0) })
        let value = digest.bytes.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return count > 0 ? value % count : 0
    }
}
