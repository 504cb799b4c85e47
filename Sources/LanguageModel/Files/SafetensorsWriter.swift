import Core
import Kernels

/// Writes tensors as safetensors files, in shards of a bounded size, as transformers does.
package struct SafetensorsWriter {
    package struct Tensor {
        package let name: String
        package let shape: TensorShape
        /// Writes the values of some rows; a vector is one row.
        package let copyRows: (Range<Int>, UnsafeMutablePointer<Float>) -> Void
    }

    /// `f32`, `f16` or `bf16`.
    package let dataType: ElementType
    /// Largest size of a file in bytes; the default is transformers' limit.
    package var shardBytesMax = 5_000_000_000

    /// Number of floats that are converted at a time, unless a row is longer.
    private static let chunk = 64 * 1024

    /// Writes model.safetensors, or several files with model.safetensors.index.json. Stops if `progress` returns false.
    package func write(_ tensors: [Tensor], to directory: String, progress: (String) -> Bool) throws(ModelError) {
        guard dataType.blockElements == 1 else {
            throw ModelError(.unsupported, file: directory, "\(dataType) can't be written", remedy: "possible: F32, F16, BF16")
        }
        var shards: [[Tensor]] = [[]]
        var size = 0
        for tensor in tensors.sorted(by: { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }) {
            let bytes = tensor.shape.count * dataType.blockBytes
            if size > 0, size + bytes > shardBytesMax {
                shards.append([])
                size = 0
            }
            shards[shards.count - 1].append(tensor)
            size += bytes
        }
        func fileName(_ shard: Int) -> String {
            func digits(_ n: Int) -> String { String(repeating: "0", count: max(0, 5 - String(n).count)) + String(n) }
            return shards.count == 1 ? "model.safetensors" : "model-\(digits(shard + 1))-of-\(digits(shards.count)).safetensors"
        }
        for (i, shard) in shards.enumerated() { try write(shard, toFile: directory + "/" + fileName(i), progress: progress) }
        guard shards.count > 1 else { return }
        let total = tensors.reduce(0) { $0 + $1.shape.count * dataType.blockBytes }
        let map = shards.enumerated().flatMap { i, shard in shard.map { JSON.Member(key: $0.name, value: .string(fileName(i))) } }
        let index: JSON = ["metadata": ["total_size": .integer(total)], "weight_map": .object(map)]
        let file = try OutputFile(path: directory + "/model.safetensors.index.json")
        try file.write(Array((index.text() + "\n").utf8))
        try file.sync()
    }

    /// Writes one file. Stops if `progress` returns false.
    func write(_ tensors: [Tensor], toFile path: String, progress: (String) -> Bool) throws(ModelError) {
        // transformers refuses files that do not name the framework whose layout they have.
        var members = [JSON.Member(key: "__metadata__", value: ["format": "pt"])]
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.shape.count * dataType.blockBytes
            let shape = tensor.shape.dimensions.map { JSON.integer($0) }
            members.append(
                JSON.Member(
                    key: tensor.name,
                    value: [
                        "dtype": .string(dataType.description), "shape": .array(shape),
                        "data_offsets": [.integer(offset), .integer(end)],
                    ]))
            offset = end
        }
        var header = JSON.object(members).text(indent: 0)
        header += String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
        let file = try OutputFile(path: path)
        var length = UInt64(header.utf8.count).littleEndian
        try withUnsafeBytes(of: &length) { bytes throws(ModelError) in try file.write(bytes) }
        try file.write(Array(header.utf8))

        for tensor in tensors {
            guard progress(tensor.name) else { throw ModelError(.cancelled, file: path, subject: tensor.name, "stopped before it was written") }
            let columns = tensor.shape.dimensions.last ?? 1
            let rows = tensor.shape.count / columns
            let step = max(1, Self.chunk / columns)
            let floats = UnsafeMutablePointer<Float>.allocate(capacity: step * columns)
            let halves = UnsafeMutablePointer<UInt16>.allocate(capacity: step * columns)
            defer {
                floats.deallocate()
                halves.deallocate()
            }
            for row in stride(from: 0, to: rows, by: step) {
                let range = row..<min(rows, row + step)
                let count = range.count * columns
                tensor.copyRows(range, floats)
                switch dataType {
                case .f16: ob_floats_to_f16(floats, halves, count)
                case .bf16: ob_floats_to_bf16(floats, halves, count)
                default: break
                }
                let start = dataType == .f32 ? UnsafeRawPointer(floats) : UnsafeRawPointer(halves)
                try file.write(UnsafeRawBufferPointer(start: start, count: count * dataType.blockBytes))
            }
        }
        try file.sync()
    }
}
