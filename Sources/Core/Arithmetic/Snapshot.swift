/// The point of a run at which a snapshot was taken.
public struct SnapshotPosition: Hashable, Sendable {
    /// SHA-256 of the canonical run spec, as in the ledger's header.
    public let run: Digest
    /// The first round that the parameters do not contain yet.
    public let nextRound: RoundNumber
    /// Number of ledger records up to and including the last one that the parameters contain; 0: unknown, so no run can resume from the snapshot.
    public let records: UInt64
    /// The ledger's hash chain after those records. If a ledger's chain does not pass through it, the snapshot belongs to another ledger.
    public let chain: Digest

    /// - Parameters:
    ///   - run: the digest of the run's spec.
    ///   - nextRound: the number of the first round that the parameters do not have.
    ///   - ledger: the position of the parameters in the ledger; nil if it is unknown.
    public init(run: Digest, nextRound: RoundNumber, ledger: LedgerPosition?) {
        self.run = run
        self.nextRound = nextRound
        records = ledger?.records ?? 0
        chain = ledger?.chain ?? .sha256([])
    }

    init(run: Digest, nextRound: RoundNumber, records: UInt64, chain: Digest) {
        self.run = run
        self.nextRound = nextRound
        self.records = records
        self.chain = chain
    }
}

/// The reason why a snapshot can't be used.
public enum SnapshotError: Error, Hashable, CustomStringConvertible {
    case truncated
    case damaged
    case unknownFormat
    case otherTensors(String)
    /// The snapshot is of a run with momentum, and rounds were to be applied to it or taken out.
    case noVelocities

    public var description: String {
        switch self {
        case .truncated: "the snapshot ends too early; delete it, and the parameters are rebuilt from the ledger"
        case .damaged: "the snapshot's checksum is wrong; delete it, and the parameters are rebuilt from the ledger"
        case .unknownFormat: "this is no snapshot of a version that this program knows"
        case .otherTensors(let what): "the snapshot is of other tensors: \(what)"
        case .noVelocities: "a snapshot holds no velocities, so a run with momentum can't go on from it; the parameters are rebuilt from the ledger"
        }
    }
}

/// The format of a snapshot, little-endian: magic, run digest (32 bytes), next round (UInt32), ledger records (UInt64), hash chain (32 bytes), number
/// of tensors (UInt32). Each tensor follows with its description, as in the digest, and its k. The end is the SHA-256 of all bytes before.
extension Parameters {
    static let snapshotMagic = Array("1BSNAP02".utf8)

    /// Writes a snapshot piece by piece (the format is above).
    public func writeSnapshot(
        _ position: SnapshotPosition, to write: (UnsafeRawBufferPointer) throws -> Void
    ) rethrows {
        var hash = SHA256()
        func put(_ bytes: UnsafeRawBufferPointer) throws {
            hash.update(bytes)
            try write(bytes)
        }
        var header = LittleEndianWriter()
        header.append(bytes: Self.snapshotMagic)
        header.append(bytes: position.run.bytes)
        header.append(position.nextRound)
        header.append(position.records)
        header.append(bytes: position.chain.bytes)
        header.append(UInt32(tensors.count))
        try header.bytes.withUnsafeBytes(put)
        for index in tensors.indices {
            var description = LittleEndianWriter()
            appendDescription(of: index, to: &description)
            try description.bytes.withUnsafeBytes(put)
            try put(UnsafeRawBufferPointer(storage[index]))
        }
        try hash.finalize().bytes.withUnsafeBytes { try write($0) }
    }

    /// Reads only the position of a snapshot.
    public static func positionOfSnapshot(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) -> SnapshotPosition {
        var reader = LittleEndianReader(bytes)
        return try readHeader(&reader).position
    }

    private static func readHeader(
        _ reader: inout LittleEndianReader
    ) throws(SnapshotError) -> (position: SnapshotPosition, tensorCount: Int) {
        guard let magic = reader.take(snapshotMagic.count) else { throw .truncated }
        guard magic.elementsEqual(snapshotMagic) else { throw .unknownFormat }
        guard let raw = reader.take(Digest.byteCount), let run = Digest(bytes: raw),
            let nextRound = reader.integer(RoundNumber.self), let records = reader.integer(UInt64.self),
            let rawChain = reader.take(Digest.byteCount), let chain = Digest(bytes: rawChain), let count = reader.integer(UInt32.self)
        else { throw .truncated }
        return (SnapshotPosition(run: run, nextRound: nextRound, records: records, chain: chain), Int(count))
    }

    /// Reads the parameters from a snapshot. All of it is checked before any of it is used. The parameters of a run with momentum can be read and
    /// exported, but no round can be applied to them or taken out, since their velocities and rounds are not known (`SnapshotError.noVelocities`).
    ///
    /// - Parameters:
    ///   - tensors: the tensors that the run trains.
    ///   - bytes: the whole snapshot, such as a mapped file.
    /// - Throws: `SnapshotError`, or `ParameterError` if a tensor can't be trained.
    public convenience init(tensors: [TrainedTensor], snapshot bytes: UnsafeRawBufferPointer) throws {
        let sorted = try Self.checked(tensors)
        guard bytes.count >= Digest.byteCount else { throw SnapshotError.truncated }
        let body = UnsafeRawBufferPointer(rebasing: bytes.dropLast(Digest.byteCount))
        var reader = LittleEndianReader(body)
        let (_, count) = try Self.readHeader(&reader)
        guard Digest.sha256(body).bytes.elementsEqual(bytes.suffix(Digest.byteCount)) else { throw SnapshotError.damaged }
        guard count == sorted.count else {
            throw SnapshotError.otherTensors("it holds \(count) tensors, the run trains \(sorted.count)")
        }
        var exponents: [Int] = []
        var parts: [UnsafeRawBufferPointer] = []
        for tensor in sorted {
            let (exponent, part) = try Self.readTensor(tensor, &reader)
            exponents.append(exponent)
            parts.append(part)
        }
        guard reader.remaining == 0 else { throw SnapshotError.otherTensors("bytes follow the last one") }
        let storage = parts.map { part in
            let integers = Self.allocate(part.count / MemoryLayout<Int32>.stride)
            UnsafeMutableRawBufferPointer(integers).copyMemory(from: part)
            return integers
        }
        self.init(sorted: sorted, exponents: exponents, memory: storage, isReplayable: false)
    }

    private static func readTensor(
        _ tensor: TrainedTensor, _ reader: inout LittleEndianReader
    ) throws(SnapshotError) -> (exponent: Int, integers: UnsafeRawBufferPointer) {
        guard let index = reader.integer(UInt32.self), let nameBytes = reader.integer(UInt32.self),
            let rawName = reader.take(Int(nameBytes)), let dimensionCount = reader.integer(UInt32.self)
        else { throw .truncated }
        let name = String(decoding: rawName, as: UTF8.self)
        guard index == tensor.index, name == tensor.name else {
            throw .otherTensors("it holds \(name), where the run trains \(tensor.name)")
        }
        var dimensions: [UInt64] = []
        for _ in 0..<min(dimensionCount, 3) {
            guard let dimension = reader.integer(UInt64.self) else { throw .truncated }
            dimensions.append(dimension)
        }
        guard dimensions == tensor.shape.dimensions.map(UInt64.init) else {
            throw .otherTensors("\(name) has shape \(dimensions), where the run has \(tensor.shape)")
        }
        guard let exponent = reader.integer(Int32.self),
            let integers = reader.take(tensor.shape.count * MemoryLayout<Int32>.stride)
        else { throw .truncated }
        guard !tensor.isAdapter || exponent == TrainedTensor.adapterExponent else {
            throw .otherTensors("\(name) has the exponent \(exponent), where an adapter has \(TrainedTensor.adapterExponent)")
        }
        return (Int(exponent), integers)
    }
}
