import Core

/// Writes a GGUF file, version 3.
package struct GGUFWriter {
    package let metadata: GGUFMetadata
    package let tables: [GGUFTable]
    package let tensors: [OutputTensor]
    /// Type of matrices. Vectors stay F32, as llama.cpp expects them.
    package let dataType: ElementType
    /// Names of matrices that llama.cpp reads only as F32.
    private static let single = ["position_embd.weight"]
    private static let alignment = 32

    package init(metadata: GGUFMetadata, tables: [GGUFTable], tensors: [OutputTensor], dataType: ElementType) {
        self.metadata = metadata
        self.tables = tables
        self.tensors = tensors.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        self.dataType = dataType
    }

    /// Writes the file. Stops if `progress` returns false.
    ///
    /// - Parameter check: called when the file has its full length, but of the data only the tables. What it throws ends the writing before
    ///   the long part.
    package func write(
        to path: String, check: (GGUFFile) throws(ModelError) -> Void, progress: (String) -> Bool
    ) throws(ModelError) {
        let small = tables.map { table in
            OutputTensor(name: table.name, shape: .vector(table.values.count)) { _, out in
                for (i, value) in table.values.enumerated() { out[i] = value }
            }
        }
        let all = small + tensors
        let (header, starts, end) = head(of: all)
        let file = try OutputFile(path: path)
        try file.write(header)
        for (i, tensor) in all.enumerated() {
            if i == small.count { try reserve(file, end, check) }
            guard progress(tensor.name) else { throw ModelError(.cancelled, file: path, subject: tensor.name, "stopped before it was written") }
            try file.write(tensor, as: elementType(of: tensor))
            let next = i + 1 < all.count ? starts[i + 1] : end
            try file.write([UInt8](repeating: 0, count: next - starts[i] - bytes(of: tensor)))
        }
        try file.sync()
    }

    private func reserve(_ file: OutputFile, _ end: Int, _ check: (GGUFFile) throws(ModelError) -> Void) throws(ModelError) {
        try file.setLength(end)
        try check(GGUFFile(path: file.path))
    }

    private func elementType(of tensor: OutputTensor) -> ElementType {
        guard case .matrix(_, let columns) = tensor.shape, !Self.single.contains(tensor.name) else { return .f32 }
        // A row that is no whole number of blocks is stored in halves, as llama.cpp's converter does.
        return columns % dataType.blockElements == 0 ? dataType : .f16
    }

    private func bytes(of tensor: OutputTensor) -> Int { elementType(of: tensor).byteCount(of: tensor.shape.count) ?? 0 }

    private static func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }

    /// Returns everything before the data, padded; the position of each tensor's data in the file; and the file's length.
    private func head(of tensors: [OutputTensor]) -> (bytes: [UInt8], starts: [Int], end: Int) {
        var out = Bytes()
        out.bytes += Array("GGUF".utf8)
        out.integer(UInt32(3))
        out.integer(UInt64(tensors.count))
        out.integer(UInt64(metadata.entries.count))
        for (key, value) in metadata.entries {
            out.string(Array(key.utf8))
            out.value(value)
        }
        var offsets: [Int] = []
        var offset = 0
        for tensor in tensors {
            out.string(Array(tensor.name.utf8))
            let dimensions = tensor.shape.dimensions
            out.integer(UInt32(dimensions.count))
            for size in dimensions.reversed() { out.integer(UInt64(size)) }
            out.integer(UInt32(elementType(of: tensor).rawValue))
            out.integer(UInt64(offset))
            offsets.append(offset)
            offset += Self.aligned(bytes(of: tensor))
        }
        let start = Self.aligned(out.bytes.count)
        out.bytes += [UInt8](repeating: 0, count: start - out.bytes.count)
        return (out.bytes, offsets.map { start + $0 }, start + offset)
    }

    private struct Bytes {
        var bytes: [UInt8] = []

        mutating func integer(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
        }

        mutating func string(_ text: some Collection<UInt8>) {
            integer(UInt64(text.count))
            bytes += text
        }

        /// Writes a value behind the number of its type.
        mutating func value(_ value: GGUFFile.Value) {
            integer(Self.typeNumber(value))
            content(value)
        }

        /// Counts are read as 32-bit integers by llama.cpp.
        private static func typeNumber(_ value: GGUFFile.Value) -> UInt32 {
            switch value {
            case .unsigned(let number): number <= UInt64(UInt32.max) ? 4 : 10
            case .integer: 11
            case .single: 6
            case .float: 12
            case .bool: 7
            case .string: 8
            case .array, .strings, .integers: 9
            }
        }

        private mutating func content(_ value: GGUFFile.Value) {
            switch value {
            case .unsigned(let number): if let small = UInt32(exactly: number) { integer(small) } else { integer(number) }
            case .integer(let number): integer(number)
            case .single(let number): integer(number.bitPattern)
            case .float(let number): integer(number.bitPattern)
            case .bool(let isTrue): bytes.append(isTrue ? 1 : 0)
            case .string(let text): string(text)
            case .strings(let table):
                integer(UInt32(8))
                integer(UInt64(table.count))
                for i in table.indices { string(table[i]) }
            case .integers(let numbers):
                integer(UInt32(5))
                integer(UInt64(numbers.count))
                for number in numbers { integer(number) }
            case .array(let values):
                integer(values.first.map { Self.typeNumber($0) } ?? 4)
                integer(UInt64(values.count))
                for value in values { content(value) }
            }
        }
    }
}
