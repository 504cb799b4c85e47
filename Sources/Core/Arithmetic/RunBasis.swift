/// The basis of a run: the damped components of every input space of every trained layer, the frozen factors of every adapter, or both. It is data of
/// the run: the spec holds its hash, and the ledger keeps it.
///
/// Encoded form, little-endian: version (UInt16: 1 without adapters, 2 with), number of spaces (UInt16); for each space its name
/// (UInt16 byte count, UTF-8), width n (UInt32), components K (UInt16), then K·n Int16 values, vector after vector. Version 2 goes on with
/// the number of adapters (UInt16, at least 1); for each adapter its place (UInt16 byte count, UTF-8), p, r, m, n (UInt32 each), U: p
/// exponents (Int8) and p·m Int16 values, V: r exponents and r·n values.
public struct RunBasis: Hashable, Sendable {
    static let spacesMax = 4096
    static let adaptersMax = 4096
    static let nameBytesMax = 512
    static let widthMax = 1 << 20
    /// With at most 1024 vectors all sums that make shaped directions stay in Int64.
    public static let componentsMax = 1024

    private enum Version {
        static let componentsAlone: UInt16 = 1
        static let withAdapters: UInt16 = 2
    }

    /// Sorted by the UTF-8 bytes of their names.
    public let spaces: [InputBasis]
    /// Sorted by the UTF-8 bytes of their places.
    public let adapters: [AdapterBasis]

    /// Sorts the parts by their names.
    ///
    /// - Throws: `RunBasisError` if a name occurs twice, or if there are too many parts or one is too large.
    public init(spaces: [InputBasis], adapters: [AdapterBasis] = []) throws(RunBasisError) {
        self.spaces = try Self.sorted(spaces, by: \.space, limit: Self.spacesMax, what: "input spaces")
        self.adapters = try Self.sorted(adapters, by: \.place, limit: Self.adaptersMax, what: "adapters")
        for basis in spaces {
            guard basis.width <= Self.widthMax else { throw .tooMany("width \(basis.width) of \(basis.space)", limit: Self.widthMax) }
            guard basis.components <= Self.componentsMax else {
                throw .tooMany("\(basis.components) components of \(basis.space)", limit: Self.componentsMax)
            }
        }
    }

    private static func sorted<Part>(
        _ parts: [Part], by name: (Part) -> String, limit: Int, what: String
    ) throws(RunBasisError) -> [Part] {
        guard parts.count <= limit else { throw .tooMany("\(parts.count) \(what)", limit: limit) }
        let sorted = parts.sorted { name($0).utf8.lexicographicallyPrecedes(name($1).utf8) }
        for (a, b) in zip(sorted, sorted.dropFirst()) where name(a).utf8.elementsEqual(name(b).utf8) { throw .repeated(space: name(a)) }
        for part in sorted where name(part).utf8.count > nameBytesMax {
            throw .tooMany("\(name(part).utf8.count) bytes in a name", limit: nameBytesMax)
        }
        return sorted
    }

    /// Returns the encoded form.
    public func encoded() -> [UInt8] {
        var writer = LittleEndianWriter()
        writer.append(adapters.isEmpty ? Version.componentsAlone : Version.withAdapters)
        writer.append(UInt16(spaces.count))
        for basis in spaces {
            writer.append(UInt16(basis.space.utf8.count))
            writer.append(bytes: basis.space.utf8)
            writer.append(UInt32(basis.width))
            writer.append(UInt16(basis.components))
            for value in basis.values { writer.append(value) }
        }
        guard !adapters.isEmpty else { return writer.bytes }
        writer.append(UInt16(adapters.count))
        for adapter in adapters {
            let sides = [adapter.outputs, adapter.inputs]
            writer.append(UInt16(adapter.place.utf8.count))
            writer.append(bytes: adapter.place.utf8)
            for side in sides { writer.append(UInt32(side.count)) }
            for side in sides { writer.append(UInt32(side.length)) }
            for side in sides {
                for exponent in side.exponents { writer.append(exponent) }
                for value in side.values { writer.append(value) }
            }
        }
        return writer.bytes
    }

    /// Decodes the encoded form.
    ///
    /// - Throws: `RunBasisError` if the bytes end too early, are malformed, or are not in the only order that is allowed.
    public init(decoding bytes: [UInt8]) throws(RunBasisError) {
        typealias Parts = (spaces: [InputBasis], adapters: [AdapterBasis])
        let result: Result<Parts, RunBasisError> = bytes.withUnsafeBytes { raw in
            do throws(RunBasisError) { return .success(try Self.decode(raw)) } catch { return .failure(error) }
        }
        let parts = try result.get()
        try self.init(spaces: parts.spaces, adapters: parts.adapters)
        // Each basis has exactly one encoding, so equal digests mean equal bases and the other way round. Bytes are compared, because strings are also
        // equal if they spell one text in two ways.
        func areSame(_ a: [String], _ b: [String]) -> Bool { a.elementsEqual(b) { $0.utf8.elementsEqual($1.utf8) } }
        guard areSame(spaces.map(\.space), parts.spaces.map(\.space)), areSame(adapters.map(\.place), parts.adapters.map(\.place)) else {
            throw .malformed("its parts are not in order")
        }
    }

    private static func decode(_ bytes: UnsafeRawBufferPointer) throws(RunBasisError) -> (spaces: [InputBasis], adapters: [AdapterBasis]) {
        var reader = LittleEndianReader(bytes)
        guard let version = reader.integer(UInt16.self) else { throw .truncated }
        guard version == Version.componentsAlone || version == Version.withAdapters else {
            throw .malformed("version \(version) is unknown; this program knows \(Version.componentsAlone) and \(Version.withAdapters)")
        }
        let spaces = try decodeSpaces(&reader)
        let adapters = version == Version.withAdapters ? try decodeAdapters(&reader) : []
        guard reader.remaining == 0 else { throw .malformed("\(reader.remaining) bytes follow its end") }
        return (spaces, adapters)
    }

    private static func decodeSpaces(_ reader: inout LittleEndianReader) throws(RunBasisError) -> [InputBasis] {
        guard let count = reader.integer(UInt16.self) else { throw .truncated }
        var spaces: [InputBasis] = []
        for _ in 0..<count {
            let space = try decodeName(&reader)
            guard let width = reader.integer(UInt32.self), let components = reader.integer(UInt16.self) else { throw .truncated }
            guard width > 0, width <= widthMax, components <= componentsMax else {
                throw .malformed("\(space) has width \(width) and \(components) components")
            }
            let values = try decodeValues(Int(width) * Int(components), &reader)
            spaces.append(InputBasis(space: space, width: Int(width), values: values))
        }
        return spaces
    }

    private static func decodeAdapters(_ reader: inout LittleEndianReader) throws(RunBasisError) -> [AdapterBasis] {
        guard let count = reader.integer(UInt16.self) else { throw .truncated }
        // A basis without adapters must have version 1.
        guard count > 0 else { throw .malformed("version \(Version.withAdapters) without an adapter") }
        var adapters: [AdapterBasis] = []
        for _ in 0..<count {
            let place = try decodeName(&reader)
            var sizes: [Int] = []
            for limit in [AdapterBasis.rankMax, AdapterBasis.rankMax, widthMax, widthMax] {
                guard let size = reader.integer(UInt32.self) else { throw .truncated }
                guard size > 0, size <= limit else { throw .malformed("\(place) has a size of \(size), where 1…\(limit) are allowed") }
                sizes.append(Int(size))
            }
            let outputs = try decodeVectors(sizes[0], length: sizes[2], &reader)
            let inputs = try decodeVectors(sizes[1], length: sizes[3], &reader)
            adapters.append(AdapterBasis(place: place, outputs: outputs, inputs: inputs))
        }
        return adapters
    }

    private static func decodeName(_ reader: inout LittleEndianReader) throws(RunBasisError) -> String {
        guard let byteCount = reader.integer(UInt16.self), let bytes = reader.take(Int(byteCount)) else { throw .truncated }
        guard let name = String(validating: bytes, as: UTF8.self) else { throw .malformed("a name is not UTF-8") }
        return name
    }

    private static func decodeVectors(
        _ count: Int, length: Int, _ reader: inout LittleEndianReader
    ) throws(RunBasisError) -> FixedPointVectors {
        guard let exponents = reader.take(count) else { throw .truncated }
        let values = try decodeValues(count * length, &reader)
        return try FixedPointVectors(length: length, exponents: exponents.map { Int8(bitPattern: $0) }, values: values)
    }

    /// Reads `count` Int16 values. It allocates no more memory than the bytes hold.
    private static func decodeValues(_ count: Int, _ reader: inout LittleEndianReader) throws(RunBasisError) -> [Int16] {
        guard let raw = reader.take(2 * count) else { throw .truncated }
        return (0..<count).map { Int16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * $0, as: Int16.self)) }
    }

    /// SHA-256 of the encoded form, which the run spec fixes.
    public var digest: Digest { .sha256(encoded()) }

    /// The components of the input space with this name.
    public subscript(space: String) -> InputBasis? { spaces.first { $0.space == space } }

    /// Returns the factors of the adapter at the place with this name.
    public func adapter(at place: String) -> AdapterBasis? { adapters.first { $0.place == place } }
}

/// The reason why a basis can't be made or decoded.
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
        case .repeated(let space): "the basis has \(space) twice"
        case .notFinite(let space): "the basis of \(space) has a value that does not fit 16 bits with 14 fraction bits"
        }
    }
}

extension InputBasis {
    /// Rounds the vectors v_k to 14 fraction bits, ties to even. Each has `width` values of magnitude below 2, since it is a unit vector times a
    /// factor of at most 1.
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
