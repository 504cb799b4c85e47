internal import Kernels

/// SHA-256 (FIPS 180-4), piece by piece.
public struct SHA256: Sendable {
    private static let blockBytes = 64
    private var state: [UInt32] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    /// What has come since the last whole block: always less than a block.
    private var pending: [UInt8] = []
    private var byteCount: UInt64 = 0

    public init() {}

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        byteCount &+= UInt64(bytes.count)
        var rest = bytes
        if !pending.isEmpty {
            let taken = min(Self.blockBytes - pending.count, rest.count)
            pending.append(contentsOf: rest[..<taken])
            rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
            guard pending.count == Self.blockBytes else { return }
            pending.withUnsafeBufferPointer { ob_sha256_blocks(&state, $0.baseAddress, 1) }
            pending.removeAll(keepingCapacity: true)
        }
        let blocks = rest.count / Self.blockBytes
        if blocks > 0 {
            ob_sha256_blocks(&state, rest.baseAddress?.assumingMemoryBound(to: UInt8.self), blocks)
        }
        pending.append(contentsOf: rest[(blocks * Self.blockBytes)...])
    }

    public mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { update($0) }
    }

    /// The digest of all that has come; this value can go on taking bytes.
    public func finalize() -> Digest {
        var last = self
        var padding: [UInt8] = [0x80]
        padding += [UInt8](repeating: 0, count: (2 * Self.blockBytes - 9 - pending.count) % Self.blockBytes)
        withUnsafeBytes(of: (byteCount &* 8).bigEndian) { padding += $0 }
        last.update(padding)
        let bytes = last.state.flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } }
        guard let digest = Digest(bytes: bytes) else { preconditionFailure("eight words are 32 bytes") }
        return digest
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
