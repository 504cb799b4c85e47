/// A parsed GGUF file, version 2 or 3: metadata and the table of tensors. The file is not trusted: counts and lengths are checked against
/// the remaining bytes before anything is allocated.
package struct GGUFFile: Sendable {
    package enum Limits {
        package static let metadataEntries = 65_536
        package static let tensors = 65_536
        package static let keyBytes = 65_535
        /// Tokenizers have the largest arrays: a few hundred thousand entries.
        package static let arrayElements = 4_000_000
        package static let arrayDepth = 2
        package static let alignmentMax = 1 << 20
    }

    package enum Value: Sendable {
        case integer(Int64)
        case unsigned(UInt64)
        case float(Double)
        /// Kept apart from `float`, so that 1e-5 is written again as 1e-05 and not as 9.999999747378752e-06.
        case single(Float)
        case bool(Bool)
        /// Raw bytes: a GGUF string should be UTF-8, but the tokens of some files are not.
        case string([UInt8])
        case array([Value])
        case strings(StringTable)
        case integers([Int32])
    }

    package struct Tensor: Sendable {
        /// Dimensions in the file's order, the fastest-running first.
        package let dimensions: [Int]
        package let type: ElementType
        /// Offset in bytes from the start of the file.
        package let offset: Int
        /// The file that holds the data; in a split model, one of its parts.
        package let file: MappedFile
    }

    package let file: MappedFile
    package let metadata: [String: Value]
    package private(set) var tensors: [String: Tensor]

    package var path: String { file.path }

    package init(path: String) throws(ModelError) {
        let file = try MappedFile(path: path)
        self.file = file
        var reader = Reader(file: file)
        let magic = try reader.bytes(4, "the magic")
        guard magic == Array("GGUF".utf8) else {
            try file.refuseForeignFormat()
            if path.hasSuffix(".safetensors") || path.hasSuffix(".json") {
                throw ModelError(.badRequest, file: path, "is one file of a model", remedy: "give the directory that it is in")
            }
            throw ModelError(
                .malformed, file: path, "does not begin with GGUF", remedy: "give a .gguf file, a Hugging Face directory or org/name")
        }
        let version: UInt32 = try reader.integer("the version")
        guard version == 2 || version == 3 else {
            throw ModelError(
                .unsupported, file: path, "has GGUF version \(version); versions 2 and 3 are supported",
                remedy: version == 1 ? "convert it again with a current llama.cpp" : "big-endian files are not supported")
        }
        let tensorCount = try reader.count("the number of tensors", max: Limits.tensors)
        let entryCount = try reader.count("the number of metadata entries", max: Limits.metadataEntries)

        var metadata: [String: Value] = [:]
        for _ in 0..<entryCount {
            let key = try reader.name("a metadata key", max: Limits.keyBytes)
            let type: UInt32 = try reader.integer(key)
            guard metadata.updateValue(try reader.value(type: type, key, depth: 0), forKey: key) == nil else {
                throw ModelError(.malformed, file: path, subject: key, "appears twice in the metadata")
            }
        }
        self.metadata = metadata

        var alignment = 32
        switch metadata["general.alignment"] {
        case nil: break
        case .unsigned(let value)? where value > 0 && value <= UInt64(Limits.alignmentMax) && value & (value - 1) == 0:
            alignment = Int(value)
        default:
            throw ModelError(.malformed, file: path, subject: "general.alignment", "is not a power of two up to \(Limits.alignmentMax)")
        }

        var found: [(name: String, dimensions: [Int], type: ElementType, offset: UInt64)] = []
        for _ in 0..<tensorCount {
            let name = try reader.name("a tensor's name", max: Limits.keyBytes)
            let rank: UInt32 = try reader.integer(name)
            guard (1...4).contains(rank) else {
                throw ModelError(.malformed, file: path, subject: name, "has \(rank) dimensions; 1 to 4 are possible")
            }
            var dimensions: [Int] = []
            for _ in 0..<rank {
                let size: UInt64 = try reader.integer(name)
                guard let size = Int(exactly: size), size > 0 else {
                    throw ModelError(.malformed, file: path, subject: name, "has a dimension of \(size)")
                }
                dimensions.append(size)
            }
            let number: UInt32 = try reader.integer(name)
            guard let type = ElementType.gguf.first(where: { $0.rawValue == number }) else {
                let known = ElementType.gguf.map(\.description).joined(separator: ", ")
                throw ModelError(
                    .unsupported, file: path, subject: name,
                    "is stored as \(Self.otherTypes[number].map { "\($0) (ggml type \(number))" } ?? "ggml type \(number)"), which is not supported",
                    remedy: "take a file of the model with other types, such as Q4_K_M or Q8_0; supported: \(known)")
            }
            found.append((name, dimensions, type, try reader.integer(name)))
        }

        let (padded, overflow) = reader.position.addingReportingOverflow(alignment - 1)
        let dataStart = padded / alignment * alignment
        guard !overflow, dataStart <= file.count || found.isEmpty else {
            throw ModelError(.malformed, file: path, "ends before its tensor data begin", remedy: "the file is cut short: obtain it again")
        }
        var tensors: [String: Tensor] = [:]
        for (name, dimensions, type, offset) in found {
            var count = 1
            for size in dimensions {
                let (product, overflow) = count.multipliedReportingOverflow(by: size)
                guard !overflow else { throw ModelError(.malformed, file: path, subject: name, "has more elements than can be counted") }
                count = product
            }
            guard dimensions[0] % type.blockElements == 0, let byteCount = type.byteCount(of: count) else {
                throw ModelError(
                    .malformed, file: path, subject: name, "has rows of \(dimensions[0]) elements, no whole number of \(type) blocks")
            }
            guard offset % UInt64(alignment) == 0 else {
                throw ModelError(.malformed, file: path, subject: name, "begins at \(offset), which is not a multiple of \(alignment)")
            }
            guard let start = Int(exactly: offset), start <= file.count - dataStart, byteCount <= file.count - dataStart - start else {
                throw ModelError(
                    .malformed, file: path, subject: name,
                    "needs \(byteCount) bytes from \(offset) of the data, but the file has \(max(0, file.count - dataStart))",
                    remedy: "the file is cut short: obtain it again")
            }
            guard tensors.updateValue(Tensor(dimensions: dimensions, type: type, offset: dataStart + start, file: file), forKey: name) == nil else {
                throw ModelError(.malformed, file: path, subject: name, "appears twice in the table of tensors")
            }
        }
        self.tensors = tensors
    }
}

extension GGUFFile {
    /// Types that are known but can't be read.
    private static let otherTypes: [UInt32: String] = [
        9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32",
        27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 40: "NVFP4",
    ]

    /// Opens a file, or all parts of a split one (`NAME-00001-of-00003.gguf`) when any part is named.
    package static func open(_ path: String) throws(ModelError) -> GGUFFile {
        let file = try GGUFFile(path: path)
        guard let count = try file.integer("split.count"), count > 1 else { return file }
        let ending = "-of-\(digits(count)).gguf"
        guard count <= 10_000, path.hasSuffix(ending), path.utf8.count > ending.utf8.count + 6 else {
            throw ModelError(
                .malformed, file: path, subject: "split.count", "says that the file is one of \(count), but its name does not end in \(ending)",
                remedy: "give the parts the names that they were made with, such as NAME-00001\(ending)")
        }
        let stem = String(path.dropLast(ending.count + 5))
        var whole: GGUFFile?
        for number in 1...count {
            let part = try GGUFFile(path: stem + digits(number) + ending)
            guard whole != nil else {
                whole = part
                continue
            }
            for (name, tensor) in part.tensors where whole?.tensors.updateValue(tensor, forKey: name) != nil {
                throw ModelError(.malformed, file: part.path, subject: name, "is in another part of the model as well")
            }
        }
        return whole ?? file
    }

    private static func digits(_ number: Int) -> String { String(repeating: "0", count: max(0, 5 - String(number).count)) + String(number) }

    private struct Reader {
        let file: MappedFile
        var position = 0

        var remaining: Int { file.count - position }

        func short(_ what: String) -> ModelError {
            ModelError(
                .malformed, file: file.path, subject: what, "lies beyond the end of the file (byte \(position) of \(file.count))",
                remedy: "the file is cut short or damaged: obtain it again")
        }

        mutating func integer<T: FixedWidthInteger>(_ what: String) throws(ModelError) -> T {
            guard remaining >= MemoryLayout<T>.size else { throw short(what) }
            defer { position += MemoryLayout<T>.size }
            return withExtendedLifetime(file) { T(littleEndian: file.bytes.loadUnaligned(fromByteOffset: position, as: T.self)) }
        }

        mutating func bytes(_ count: Int, _ what: String) throws(ModelError) -> [UInt8] {
            guard count <= remaining else { throw short(what) }
            defer { position += count }
            return withExtendedLifetime(file) { Array(file.bytes[position..<position + count]) }
        }

        mutating func count(_ what: String, max: Int) throws(ModelError) -> Int {
            let number: UInt64 = try integer(what)
            guard number <= UInt64(max) else {
                throw ModelError(.malformed, file: file.path, subject: what, "is \(number); at most \(max) are accepted")
            }
            return Int(number)
        }

        mutating func string(_ what: String) throws(ModelError) -> [UInt8] {
            let length: UInt64 = try integer(what)
            guard length <= UInt64(remaining) else { throw short(what) }
            return try bytes(Int(length), what)
        }

        /// Reads a key or tensor name, which must be printable ASCII, so that comparing names means comparing bytes.
        mutating func name(_ what: String, max: Int) throws(ModelError) -> String {
            let bytes = try string(what)
            guard bytes.count <= max, !bytes.isEmpty, bytes.allSatisfy({ (0x20..<0x7f).contains($0) }) else {
                throw ModelError(.malformed, file: file.path, subject: what, "is empty, too long or not printable ASCII")
            }
            return String(decoding: bytes, as: UTF8.self)
        }

        mutating func value(type: UInt32, _ key: String, depth: Int) throws(ModelError) -> Value {
            switch type {
            case 0: return .unsigned(UInt64(try integer(key) as UInt8))
            case 1: return .integer(Int64(try integer(key) as Int8))
            case 2: return .unsigned(UInt64(try integer(key) as UInt16))
            case 3: return .integer(Int64(try integer(key) as Int16))
            case 4: return .unsigned(UInt64(try integer(key) as UInt32))
            case 5: return .integer(Int64(try integer(key) as Int32))
            case 6: return .single(Float(bitPattern: try integer(key)))
            case 7:
                let byte: UInt8 = try integer(key)
                guard byte <= 1 else { throw ModelError(.malformed, file: file.path, subject: key, "is a Boolean of value \(byte)") }
                return .bool(byte == 1)
            case 8: return .string(try string(key))
            case 9: return try array(key, depth: depth + 1)
            case 10: return .unsigned(try integer(key))
            case 11: return .integer(try integer(key))
            case 12: return .float(Double(bitPattern: try integer(key)))
            default: throw ModelError(.malformed, file: file.path, subject: key, "has the unknown value type \(type)")
            }
        }

        mutating func array(_ key: String, depth: Int) throws(ModelError) -> Value {
            guard depth <= Limits.arrayDepth else {
                throw ModelError(.malformed, file: file.path, subject: key, "is an array nested more than \(Limits.arrayDepth) deep")
            }
            let type: UInt32 = try integer(key)
            let elements = try count(key, max: Limits.arrayElements)
            // Every element takes at least one byte, so a count beyond the end of the file is refused before anything is allocated.
            guard elements <= remaining else { throw short(key) }
            if type == 8 {
                var table = StringTable()
                for _ in 0..<elements { table.append(try string(key)) }
                return .strings(table)
            }
            if type == 5 {
                var integers: [Int32] = []
                for _ in 0..<elements { integers.append(try integer(key)) }
                return .integers(integers)
            }
            var values: [Value] = []
            for _ in 0..<elements { values.append(try value(type: type, key, depth: depth)) }
            return .array(values)
        }
    }

    // MARK: Typed access; a key of another type is an error, a missing one is nil.

    package func integer(_ key: String) throws(ModelError) -> Int? {
        switch metadata[key] {
        case nil: return nil
        case .unsigned(let value)?: if let value = Int(exactly: value) { return value }
        case .integer(let value)?: return Int(value)
        default: break
        }
        throw ModelError(.malformed, file: path, subject: key, "is not an integer")
    }

    package func string(_ key: String) throws(ModelError) -> String? {
        switch metadata[key] {
        case nil: return nil
        case .string(let bytes)?: return String(decoding: bytes, as: UTF8.self)
        default: throw ModelError(.malformed, file: path, subject: key, "is not a string")
        }
    }

    package func bool(_ key: String) throws(ModelError) -> Bool? {
        switch metadata[key] {
        case nil: return nil
        case .bool(let value)?: return value
        default: throw ModelError(.malformed, file: path, subject: key, "is not a Boolean")
        }
    }

    /// Returns a number. A single-precision value becomes the double with the same shortest decimal text: 1e-5 stays 1e-5, as in
    /// config.json.
    package func double(_ key: String) throws(ModelError) -> Double? {
        switch metadata[key] {
        case nil: return nil
        case .float(let value)?: return value
        case .single(let value)?: return Double(value.description) ?? Double(value)
        default: throw ModelError(.malformed, file: path, subject: key, "is not a floating-point number")
        }
    }

    package func strings(_ key: String) throws(ModelError) -> StringTable? {
        switch metadata[key] {
        case nil: return nil
        case .strings(let table)?: return table
        default: throw ModelError(.malformed, file: path, subject: key, "is not an array of strings")
        }
    }

    package func integers(_ key: String) throws(ModelError) -> [Int32]? {
        switch metadata[key] {
        case nil: return nil
        case .integers(let values)?: return values
        default: throw ModelError(.malformed, file: path, subject: key, "is not an array of 32-bit integers")
        }
    }
}
