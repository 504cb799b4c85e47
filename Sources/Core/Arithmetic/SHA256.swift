internal import Kernels

/// SHA-256 (FIPS 180-4), computed piece by piece. It allocates no memory: a ledger has two of these values for each of its records.
public struct SHA256: Sendable {
    private static let blockBytes = 64
    private static let lengthBytes = 8
    private typealias Words = (UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32)
    private typealias Block = (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

    private var state: Words = (
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19
    )
    /// The bytes since the last whole block, in the first `pendingCount` bytes: always less than a block.
    private var pending: Block = (0, 0, 0, 0, 0, 0, 0, 0)
    private var pendingCount = 0
    private var byteCount: UInt64 = 0

    public init() {}

    /// Takes the next bytes of the message.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        byteCount &+= UInt64(bytes.count)
        var rest = bytes
        if pendingCount > 0 {
            let taken = min(Self.blockBytes - pendingCount, rest.count)
            fill(UnsafeRawBufferPointer(rebasing: rest[..<taken]))
            rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
            guard pendingCount == Self.blockBytes else { return }
            compressPending()
        }
        let blocks = rest.count / Self.blockBytes
        if blocks > 0 { Self.compress(&state, rest, blocks) }
        fill(UnsafeRawBufferPointer(rebasing: rest[(blocks * Self.blockBytes)...]))
    }

    public mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { update($0) }
    }

    /// Returns the digest of all bytes so far. This value can take more bytes afterwards.
    public func finalize() -> Digest {
        var last = self
        withUnsafeBytes(of: UInt8(0x80)) { last.fill($0) }
        if last.pendingCount > Self.blockBytes - Self.lengthBytes { last.compressPending() }
        last.pending.7 = (byteCount &* 8).bigEndian
        last.compressPending()
        let bytes = withUnsafeBytes(of: last.state) { words in
            // A word here has the processor's byte order, and in a digest it has the highest byte first.
            (0..<Digest.byteCount).map { i in
                UInt8(truncatingIfNeeded: words.load(fromByteOffset: i & ~3, as: UInt32.self) >> UInt32(24 - 8 * (i & 3)))
            }
        }
        guard let digest = Digest(bytes: bytes) else { preconditionFailure("eight words are 32 bytes") }
        return digest
    }

    /// Appends bytes to the pending ones. There must be room for them.
    private mutating func fill(_ bytes: UnsafeRawBufferPointer) {
        let start = pendingCount
        withUnsafeMutableBytes(of: &pending) { block in
            UnsafeMutableRawBufferPointer(rebasing: block[start...]).copyMemory(from: bytes)
        }
        pendingCount = start + bytes.count
    }

    /// Compresses the pending block, with zeros for the missing bytes, and empties it.
    private mutating func compressPending() {
        let block = pending
        withUnsafeBytes(of: block) { Self.compress(&state, $0, 1) }
        pending = (0, 0, 0, 0, 0, 0, 0, 0)
        pendingCount = 0
    }

    private static func compress(_ state: inout Words, _ bytes: UnsafeRawBufferPointer, _ blocks: Int) {
        withUnsafeMutableBytes(of: &state) {
            ob_sha256_blocks($0.bindMemory(to: UInt32.self).baseAddress, bytes.bindMemory(to: UInt8.self).baseAddress, blocks)
        }
    }
}

extension Digest {
    public static func sha256(_ bytes: [UInt8]) -> Digest {
        bytes.withUnsafeBytes { sha256($0) }
    }

    public static func sha256(_ bytes: UnsafeRawBufferPointer) -> Digest {
        var hash = SHA256()
        hash.update(bytes)
        return hash.finalize()
    }
}
