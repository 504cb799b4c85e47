internal import Kernels

/// CRC-32C (Castagnoli; RFC 3720 appendix B.4), the checksum of every ledger record.
public enum CRC32C {
    /// Returns the checksum of `bytes` when they follow a part whose checksum is `part`.
    public static func checksum(_ bytes: UnsafeRawBufferPointer, after part: UInt32 = 0) -> UInt32 {
        ob_crc32c(part, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
    }

    public static func checksum(_ bytes: [UInt8], after part: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { checksum($0, after: part) }
    }
}
