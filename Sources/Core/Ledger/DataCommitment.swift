/// The examples that a machine trains on, to which it commits itself before its first byte. The commitment reveals nothing of them.
///
/// It is the root of a Merkle tree (as in RFC 6962) over the examples in their order. A leaf is SHA-256(0 ‖ salt ‖ example) and a node is
/// SHA-256(1 ‖ left ‖ right). Of n > 1 leaves the left part has the largest power of two below n. Each leaf has its own salt, made from a secret,
/// for two reasons: nobody can guess an example and check the guess, and single examples can be opened.
public struct DataCommitment: Hashable, Sendable {
    public static let saltBytes = 16
    /// The root of the Merkle tree.
    public let root: Digest
    /// Number of examples.
    public let count: UInt32

    public init(root: Digest, count: UInt32) {
        self.root = root
        self.count = count
    }

    /// - Parameters:
    ///   - examples: the encoded examples.
    ///   - secret: the salts follow from it (see `salt`).
    public init(examples: [[UInt8]], secret: [UInt8]) {
        count = UInt32(clamping: examples.count)
        root = Self.root(of: examples.enumerated().map { Self.leaf($0.element, salt: Self.salt(UInt32(clamping: $0.offset), secret: secret)) }[...])
    }

    /// Returns the salt of an example: the first 16 bytes of SHA-256(secret ‖ number as u32).
    public static func salt(_ number: UInt32, secret: [UInt8]) -> [UInt8] {
        Array(Digest.sha256(secret + withUnsafeBytes(of: number.littleEndian) { Array($0) }).bytes.prefix(saltBytes))
    }

    /// Returns the leaf of an example: SHA-256(0 ‖ salt ‖ example).
    public static func leaf(_ example: [UInt8], salt: [UInt8]) -> Digest { Digest.sha256([0] + salt + example) }

    /// Returns the root of these leaves; SHA-256 of nothing if there are none.
    private static func root(of leaves: ArraySlice<Digest>) -> Digest {
        guard leaves.count > 1 else { return leaves.first ?? Digest.sha256([]) }
        let left = 1 << (Int.bitWidth - 1 - (leaves.count - 1).leadingZeroBitCount)
        let middle = leaves.startIndex + left
        return Digest.sha256([1] + root(of: leaves[..<middle]).bytes + root(of: leaves[middle...]).bytes)
    }
}

extension ByteWriter {
    mutating func write(_ commitment: DataCommitment) {
        write(commitment.root.bytes)
        write(varint: commitment.count)
    }
}

extension ByteReader {
    mutating func dataCommitment(_ field: String) throws(WireError) -> DataCommitment {
        DataCommitment(root: try digest(field), count: try varint32(field))
    }
}
