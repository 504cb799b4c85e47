import Core

/// Writes tensors as safetensors files, in shards of a bounded size, as transformers does.
package struct SafetensorsWriter {
    /// `f32`, `f16` or `bf16`.
    package let dataType: ElementType
    /// Largest size of a file in bytes; the default is transformers' limit.
    package var shardBytesMax = 5_000_000_000

    /// Writes model.safetensors, or several files with model.safetensors.index.json. Stops if `progress` returns false.
    package func write(_ tensors: [OutputTensor], to directory: String, progress: (String) -> Bool) throws(ModelError) {
        guard dataType.blockElements == 1 else {
            throw ModelError(.unsupported, file: directory, "\(dataType) can't be written", remedy: "possible: F32, F16, BF16")
        }
        var shards: [[OutputTensor]] = [[]]
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
    func write(_ tensors: [OutputTensor], toFile path: String, progress: (String) -> Bool) throws(ModelError) {
        // transformers refuses files that do not name the framework whose layout they have.
        var members = [JSON.Member(key: "__metadata__", value: ["format": "pt"])]
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.shape.count * dataType.blockBytes
            let shape = tensor.isScalar ? [] : tensor.shape.dimensions.map { JSON.integer($0) }
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
            try file.write(tensor, as: dataType)
        }
        try file.sync()
    }
}
