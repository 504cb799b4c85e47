/// The basis of a shaped run: the damped components of every input space of every trained layer (DESIGN §3 "Shape"). It is
/// data of the run, hashed into its spec and kept in its ledger.
///
/// Encoded form, little-endian: version (UInt16, 1), number of spaces (UInt16); for each space its name (UInt16 byte count,
/// UTF-8), width n (UInt32), components K (UInt16), then K·n Int16 values, vector after vector.
public struct RunBasis: Hashable, Sendable {
    static let encodingVersion: UInt16 = 1
    static let spacesMax = 4096
    static let nameBytesMax = 512
    static let widthMax = 1 << 20
    /// With 1024 vectors all sums of the shaping stay in Int64.
    public static let componentsMax = 1024

    /// In the order of their names' UTF-8 bytes.
    public let spaces: [InputBasis]

    public init(spaces: [InputBasis]) throws(RunBasisError) {
        guard spaces.count <= Self.spacesMax else { throw .tooMany("\(spaces.count) input spaces", limit: Self.spacesMax) }
        self.spaces = spaces.sorted { $0.space.utf8.lexicographicallyPrecedes($1.space.utf8) }
        for (a, b) in zip(self.spaces, self.spaces.dropFirst()) where a.space == b.space {
            throw .repeated(space: a.space)
        }
        for basis in spaces {
            guard basis.width <= Self.widthMax else { throw .tooMany("width \(basis.width) of \(basis.space)", limit: Self.widthMax) }
            guard basis.components <= Self.componentsMax else {
                throw .tooMany("\(basis.components) components of \(basis.space)", limit: Self.componentsMax)
            }
            guard basis.space.utf8.count <= Self.nameBytesMax else {
                throw .tooMany("\(basis.space.utf8.count) bytes in a space's name", limit: Self.nameBytesMax)
            }
        }
    }

    public func encoded() -> [UInt8] {
        var writer = LittleEndianWriter()
        writer.append(Self.encodingVersion)
        writer.append(UInt16(spaces.count))
        for basis in spaces {
            writer.append(UInt16(basis.space.utf8.count))
            writer.append(bytes: basis.space.utf8)
            writer.append(UInt32(basis.width))
            writer.append(UInt16(basis.components))
            for value in basis.values { writer.append(value) }
        }
        return writer.bytes
    }

    public init(decoding bytes: [UInt8]) throws(RunBasisError) {
        let result: Result<[InputBasis], RunBasisError> = bytes.withUnsafeBytes { raw in
            do throws(RunBasisError) { return .success(try Self.decodeSpaces(raw)) } catch { return .failure(error) }
        }
        let spaces = try result.get()
        try self.init(spaces: spaces)
        // One basis has one encoding, so that equal digests and equal bases are the same thing.
        guard self.spaces.map(\.space) == spaces.map(\.space) else { throw .malformed("its spaces are not in order") }
    }

    private static func decodeSpaces(_ bytes: UnsafeRawBufferPointer) throws(RunBasisError) -> [InputBasis] {
        var reader = LittleEndianReader(bytes)
        guard let version = reader.integer(UInt16.self), let count = reader.integer(UInt16.self) else { throw .truncated }
        guard version == encodingVersion else { throw .malformed("version \(version) is unknown; this program knows 1") }
        var spaces: [InputBasis] = []
        for _ in 0..<count {
            guard let nameBytes = reader.integer(UInt16.self), let name = reader.take(Int(nameBytes)),
                let width = reader.integer(UInt32.self), let components = reader.integer(UInt16.self)
            else { throw .truncated }
            guard let space = String(validating: name, as: UTF8.self) else { throw .malformed("a name is not UTF-8") }
            guard width > 0, width <= widthMax, components <= componentsMax else {
                throw .malformed("\(space) has width \(width) and \(components) components")
            }
            let valueCount = Int(width) * Int(components)
            guard let raw = reader.take(2 * valueCount) else { throw .truncated }
            let values = (0..<valueCount).map { Int16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * $0, as: Int16.self)) }
            spaces.append(InputBasis(space: space, width: Int(width), values: values))
        }
        guard reader.remaining == 0 else { throw .malformed("\(reader.remaining) bytes follow its end") }
        return spaces
    }

    /// SHA-256 of the encoded form: what a run spec pins.
    public var digest: Digest { .sha256(encoded()) }

    public subscript(space: String) -> InputBasis? { spaces.first { $0.space == space } }
}

public enum RunBasisError: Error, Hashable, CustomStringConvertible {
    case truncated
    case malformed(String)
    case tooMany(String, limit: Int)
    case repeated(space: String)
    case notFinite(space: String)

    public var description: String {
        switch self {
        case .truncated: "the basis ends too early; fetch it again or make it again"
        case .malformed(let what): "the basis is malformed: \(what); fetch it again or make it again"
        case .tooMany(let what, let limit): "the basis has \(what); at most \(limit) are allowed"
        case .repeated(let space): "the basis has the input space \(space) twice"
        case .notFinite(let space): "the basis of \(space) has a value that does not fit 16 bits with 14 fraction bits"
        }
    }
}

extension InputBasis {
    /// The vectors v_k rounded to 14 fraction bits, ties to even. Each has `width` values of magnitude below 2: they are unit
    /// vectors times at most 1.
    public init(space: String, width: Int, vectors: [[Double]]) throws(RunBasisError) {
        guard width > 0, vectors.allSatisfy({ $0.count == width }) else {
            throw .malformed("a vector of \(space) does not have \(width) values")
        }
        var values: [Int16] = []
        values.reserveCapacity(width * vectors.count)
        for value in vectors.joined() {
            let scaled = (value * Double(1 << InputBasis.fractionBits)).rounded(.toNearestOrEven)
            guard let rounded = Int16(exactly: scaled) else { throw .notFinite(space: space) }
            values.append(rounded)
        }
        self.init(space: space, width: width, values: values)
    }
}
