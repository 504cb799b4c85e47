/// The table of a safetensors file: u64 header length, JSON header, data. Every promise of the format is checked before any data is read:
/// ranges lie in the file, agree with shape and type, do not overlap and leave no hole.
package struct SafetensorsFile: Sendable {
    package enum Limits {
        /// The limit of the reference implementation.
        package static let headerBytesMax = 100_000_000
        package static let dimensionsMax = 8
    }

    package struct Tensor: Sendable {
        package let dimensions: [Int]
        /// The type's name in the file.
        package let typeName: String
        /// The element type; nil if values of this type can't be read.
        package var type: ElementType? { SafetensorsFile.types[typeName] }
        /// Offset in bytes from the start of the file.
        package let offset: Int
    }

    package let file: MappedFile
    package let tensors: [String: Tensor]

    package init(path: String) throws(ModelError) {
        let file = try MappedFile(path: path)
        self.file = file
        defer { withExtendedLifetime(file) {} }
        // Checked only if it can't be safetensors: a header's length may look like another format's magic number.
        if file.count <= 8 || file.bytes[8] != UInt8(ascii: "{") { try file.refuseForeignFormat(keepsName: true) }
        let cut = "the file is cut short or damaged: obtain it again"
        guard file.count >= 8 else {
            throw ModelError(.malformed, file: path, "is \(file.count) bytes long, too short for a safetensors file", remedy: cut)
        }
        let headerLength = UInt64(littleEndian: file.bytes.loadUnaligned(as: UInt64.self))
        guard headerLength <= UInt64(Limits.headerBytesMax) else {
            throw ModelError(
                .malformed, file: path, "says that its header has \(headerLength) bytes; at most \(Limits.headerBytesMax) are accepted",
                remedy: "is it a safetensors file?")
        }
        guard Int(headerLength) <= file.count - 8 else {
            throw ModelError(
                .malformed, file: path, "ends within its header (\(file.count) bytes, the header needs \(headerLength + 8))", remedy: cut)
        }
        let dataStart = 8 + Int(headerLength)
        let header = try JSON(UnsafeRawBufferPointer(rebasing: file.bytes[8..<dataStart]), file: path)
        guard let members = header.members else { throw ModelError(.malformed, file: path, "has a header that is no JSON object") }

        let dataCount = file.count - dataStart
        var tensors: [String: Tensor] = [:]
        var ranges: [(begin: Int, end: Int, name: String)] = []
        for member in members where member.key != "__metadata__" {
            let name = member.key
            func wrong(_ code: ModelError.Code, _ problem: String, _ remedy: String? = nil) -> ModelError {
                ModelError(code, file: path, subject: name.isEmpty ? "\"\"" : name, problem, remedy: remedy)
            }
            // Names must be printable ASCII, so that comparing names means comparing bytes.
            guard !name.isEmpty, name.utf8.allSatisfy({ (0x20..<0x7f).contains($0) }) else {
                throw wrong(.malformed, "is no name of printable ASCII characters")
            }
            guard let typeName = member.value["dtype"]?.string, let sizes = member.value["shape"]?.array,
                let offsets = member.value["data_offsets"]?.array
            else { throw wrong(.malformed, "lacks its dtype, shape or data_offsets") }
            guard let bits = Self.bits[typeName] else {
                throw wrong(.malformed, "has the dtype \(typeName), which safetensors does not know")
            }
            guard sizes.count <= Limits.dimensionsMax else { throw wrong(.malformed, "has \(sizes.count) dimensions") }
            var dimensions: [Int] = []
            var count = 1
            for size in sizes {
                guard let size = size.integer, size >= 0 else { throw wrong(.malformed, "has a dimension that is no count") }
                let (product, overflow) = count.multipliedReportingOverflow(by: size)
                guard !overflow else { throw wrong(.malformed, "has more elements than can be counted") }
                count = product
                dimensions.append(size)
            }
            let (bitCount, isTooLong) = count.multipliedReportingOverflow(by: bits)
            let byteCount = bitCount / 8
            guard !isTooLong, bitCount % 8 == 0 else { throw wrong(.malformed, "has more bytes than can be counted") }
            guard offsets.count == 2, let begin = offsets[0].integer, let end = offsets[1].integer, begin >= 0, end >= begin else {
                throw wrong(.malformed, "has data_offsets that are not [begin, end]")
            }
            guard end - begin == byteCount else {
                throw wrong(.malformed, "takes \(end - begin) bytes, but its shape and dtype take \(byteCount)")
            }
            guard end <= dataCount else { throw wrong(.malformed, "ends at byte \(end) of the data, but the file has \(dataCount)", cut) }
            ranges.append((begin, end, name))
            tensors[name] = Tensor(dimensions: dimensions, typeName: typeName, offset: dataStart + begin)
        }
        ranges.sort { ($0.begin, $0.end) < ($1.begin, $1.end) }
        var covered = 0
        for range in ranges {
            guard range.begin == covered else {
                throw ModelError(
                    .malformed, file: path, subject: range.name,
                    range.begin < covered ? "overlaps another tensor's data" : "leaves \(range.begin - covered) unused bytes before it")
            }
            covered = range.end
        }
        guard covered == dataCount else {
            throw ModelError(.malformed, file: path, "has \(dataCount - covered) bytes after its last tensor")
        }
        self.tensors = tensors
    }

    /// Bits per element of all the format's dtypes.
    private static let bits = [
        "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "U16": 16, "I16": 16, "F16": 16,
        "BF16": 16,
        "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    ]

    /// The dtypes that can be read.
    package static let types: [String: ElementType] = ["F32": .f32, "F16": .f16, "BF16": .bf16, "F8_E4M3": .f8E4M3, "F8_E5M2": .f8E5M2]
}
