import Core
import Kernels

/// The adapter at `final` in the form that other programs take: a change of the head, E + (E·U)·(C·Vᵀ), where E are the head's rows
/// (vocabulary × width). The change has rank p, the adapter's number of outputs.
public struct FinalHeadChange {
    private let head: StoredTensor
    /// Name of the head without `.weight`.
    private let module: String
    /// The rank p, and the model's width.
    public let rank, width: Int
    /// C·Vᵀ, p × width: `lora_A` of a LoRA adapter (Hu et al., arXiv 2106.09685).
    private let inputs: [Float]
    /// U, p × width.
    private let outputs: [Float]

    /// Returns nil if the parameters hold no adapter at `final`.
    public init?(source: ModelSource, parameters: Parameters, basis: RunBasis?) {
        guard let slot = parameters.tensors.firstIndex(where: { $0.place == .final }),
            let factors = basis?.adapter(at: AdapterPlace.finalName), factors.shape == parameters.tensors[slot].shape,
            let head = source.stored[source.headName], head.columns == factors.outputs.length
        else { return nil }
        self.head = head
        module = String(source.configuration.description.names.name(.head).dropLast(".weight".count))
        rank = factors.outputs.count
        width = factors.outputs.length
        outputs = factors.outputs.floats()
        let v = factors.inputs.floats()
        let r = factors.inputs.count
        var coordinates = [Float](repeating: 0, count: rank * r)
        coordinates.withUnsafeMutableBufferPointer { buffer in
            if let base = buffer.baseAddress { parameters.copyFloats(at: slot, elements: 0..<buffer.count, into: base) }
        }
        var product = [Float](repeating: 0, count: rank * width)
        for i in 0..<factors.outputs.count {
            for k in 0..<factors.outputs.length {
                let sum = (0..<r).reduce(0.0) { $0 + Double(coordinates[i * r + $1]) * Double(v[$1 * factors.outputs.length + k]) }
                product[i * factors.outputs.length + k] = Float(sum)
            }
        }
        inputs = product
    }

    /// Copies the head's rows with the adapter merged in, row-major.
    func copyMergedRows(_ rows: Range<Int>, into out: UnsafeMutablePointer<Float>) {
        head.copyFloats(rows: rows, into: out)
        for row in 0..<rows.count {
            let weights = out + row * width
            // All coefficients are computed first, because each one reads the row as it was.
            for (i, y) in coefficients(of: weights).enumerated() {
                inputs.withUnsafeBufferPointer { if let base = $0.baseAddress { ob_add_scaled(weights, base + i * width, y, width) } }
            }
        }
    }

    /// Copies E·U for some rows of the head, rows × p: `lora_B`.
    private func copyHeadOutputs(_ rows: Range<Int>, into out: UnsafeMutablePointer<Float>) {
        let buffer = ScratchBuffer<Float>(capacity: rows.count * width)
        head.copyFloats(rows: rows, into: buffer.pointer)
        for row in 0..<rows.count {
            for (i, y) in coefficients(of: buffer.pointer + row * width).enumerated() { out[row * rank + i] = y }
        }
    }

    /// Copies some rows of C·Vᵀ, rows × width: `lora_A`.
    private func copyInputs(_ rows: Range<Int>, into out: UnsafeMutablePointer<Float>) {
        for (i, value) in inputs[rows.lowerBound * width..<rows.upperBound * width].enumerated() { out[i] = value }
    }

    private func coefficients(of weights: UnsafePointer<Float>) -> [Float] {
        outputs.withUnsafeBufferPointer { u in
            guard let base = u.baseAddress else { return [] }
            return (0..<rank).map { ob_dot(weights, base + $0 * width, width) }
        }
    }

    /// Writes a LoRA adapter for `lm_head` in the form that `peft` loads: adapter_config.json and adapter_model.safetensors. The base is
    /// not written.
    func writeLoRA(baseModel: String, to directory: String, dataType: ElementType) throws(ModelError) {
        let configuration: JSON = [
            "base_model_name_or_path": .string(baseModel), "bias": "none", "fan_in_fan_out": false, "inference_mode": true,
            "init_lora_weights": true, "lora_alpha": .integer(rank), "lora_dropout": .number("0.0"), "modules_to_save": .null,
            "peft_type": "LORA", "r": .integer(rank), "target_modules": [.string(module)], "task_type": "CAUSAL_LM",
        ]
        let file = try OutputFile(path: directory + "/adapter_config.json")
        try file.write(Array((configuration.text() + "\n").utf8))
        try file.sync()
        let prefix = "base_model.model.\(module)."
        try SafetensorsWriter(dataType: dataType).write(
            [
                .init(name: prefix + "lora_A.weight", shape: .matrix(rows: rank, columns: width)) { copyInputs($0, into: $1) },
                .init(name: prefix + "lora_B.weight", shape: .matrix(rows: head.rows, columns: rank)) { copyHeadOutputs($0, into: $1) },
            ], toFile: directory + "/adapter_model.safetensors", progress: { _ in true })
    }
}
