import Core
import Kernels

/// An adapter in the form that other programs take: a change of a matrix, W + B·A with A = C·Vᵀ. On a matrix of a layer, B is U. At `final` the
/// matrix is the head, E + (E·U)·(C·Vᵀ), where E are the head's rows (vocabulary × width). The change has rank p, the adapter's number of outputs.
public struct AdapterChange {
    /// The model's name of the matrix that changes.
    public let name: String
    /// Whether it is the head.
    public let isHead: Bool
    /// The rank p.
    public let rank: Int
    /// Shape of the matrix, m×n.
    let rows, columns: Int
    private let matrix: StoredTensor
    /// C·Vᵀ, p×n: `lora_A` of a LoRA adapter (Hu et al., arXiv 2106.09685).
    private let inputs: [Float]
    /// U: p vectors.
    private let outputs: FixedPointVectors
    private let outputValues: [Float]

    /// Returns the changes of all adapters among the parameters.
    ///
    /// - Throws: `ModelError` if the basis lacks an adapter or has it in another shape.
    public static func all(source: ModelSource, parameters: Parameters, basis: RunBasis?) throws(ModelError) -> [AdapterChange] {
        var changes: [AdapterChange] = []
        for (slot, tensor) in parameters.tensors.enumerated() {
            guard let place = tensor.place else { continue }
            let isHead = place == .final
            guard let factors = basis?.adapter(at: place.name), factors.shape == tensor.shape,
                let matrix = source.stored[isHead ? source.headName : place.name], matrix.columns == factors.inputs.length,
                isHead || matrix.rows == factors.outputs.length
            else {
                throw ModelError(
                    .badRequest, file: source.path, subject: tensor.name, "the basis does not hold the factors of this adapter",
                    remedy: "give the ledger that the run was made with")
            }
            let name = isHead ? source.configuration.description.names.name(.head) : place.name
            changes.append(AdapterChange(name: name, isHead: isHead, matrix: matrix, factors: factors, parameters: parameters, slot: slot))
        }
        return changes
    }

    private init(name: String, isHead: Bool, matrix: StoredTensor, factors: AdapterBasis, parameters: Parameters, slot: Int) {
        self.name = name
        self.isHead = isHead
        self.matrix = matrix
        rows = matrix.rows
        columns = matrix.columns
        rank = factors.outputs.count
        outputs = factors.outputs
        outputValues = factors.outputs.floats()
        let v = factors.inputs.floats()
        let (p, r, n) = (factors.outputs.count, factors.inputs.count, matrix.columns)
        var coordinates = [Float](repeating: 0, count: p * r)
        coordinates.withUnsafeMutableBufferPointer { buffer in
            if let base = buffer.baseAddress { parameters.copyFloats(at: slot, elements: 0..<buffer.count, into: base) }
        }
        var product = [Float](repeating: 0, count: p * n)
        for i in 0..<p {
            for k in 0..<n {
                let sum = (0..<r).reduce(0.0) { $0 + Double(coordinates[i * r + $1]) * Double(v[$1 * n + k]) }
                product[i * n + k] = Float(sum)
            }
        }
        inputs = product
    }

    /// Name of the matrix without `.weight`.
    private var module: String { String(name.dropLast(".weight".count)) }

    /// Copies the matrix's rows with the adapter merged in, row-major.
    ///
    /// - Parameter trained: writes the matrix's elements, if the run trained the matrix too; nil takes the base's.
    func copyMergedRows(_ rows: Range<Int>, of trained: ModelExporter.Values?, into out: UnsafeMutablePointer<Float>) {
        if let trained { trained(rows.lowerBound * columns..<rows.upperBound * columns, out) } else { matrix.copyFloats(rows: rows, into: out) }
        for (i, row) in rows.enumerated() {
            let weights = out + i * columns
            // All coefficients are computed first, because each one reads the row as it was.
            for (k, y) in coefficients(of: row, weights).enumerated() {
                inputs.withUnsafeBufferPointer { if let base = $0.baseAddress { ob_add_scaled(weights, base + k * columns, y, columns) } }
            }
        }
    }

    /// Copies some rows of B, rows × p: `lora_B`.
    private func copyOutputs(_ rows: Range<Int>, into out: UnsafeMutablePointer<Float>) {
        let buffer = ScratchBuffer<Float>(capacity: isHead ? rows.count * columns : 1)
        if isHead { matrix.copyFloats(rows: rows, into: buffer.pointer) }
        for (i, row) in rows.enumerated() {
            for (k, y) in coefficients(of: row, buffer.pointer + (isHead ? i * columns : 0)).enumerated() { out[i * rank + k] = y }
        }
    }

    /// Copies some rows of C·Vᵀ, rows × n: `lora_A`.
    private func copyInputs(_ rows: Range<Int>, into out: UnsafeMutablePointer<Float>) {
        for (i, value) in inputs[rows.lowerBound * columns..<rows.upperBound * columns].enumerated() { out[i] = value }
    }

    /// Computes a row of B.
    private func coefficients(of row: Int, _ weights: UnsafePointer<Float>) -> [Float] {
        guard isHead else { return (0..<rank).map { outputValues[$0 * outputs.length + row] } }
        return outputValues.withUnsafeBufferPointer { u in
            guard let base = u.baseAddress else { return [] }
            return (0..<rank).map { ob_dot(weights, base + $0 * columns, columns) }
        }
    }

    /// Writes a LoRA adapter in the form that `peft` loads: adapter_config.json and adapter_model.safetensors. The base is not written.
    ///
    /// - Throws: `ModelError` for a matrix that is not a module of its own in transformers.
    static func writeLoRA(
        _ changes: [AdapterChange], of source: ModelSource, to directory: String, dataType: ElementType
    ) throws(ModelError) {
        let names = source.configuration.description.names
        let whole = Set(names.modules.values.filter { $0.part == nil }.map(\.name))
        if let part = changes.first(where: { change in !change.isHead && !whole.contains { change.module.hasSuffix("." + $0) } }) {
            throw ModelError(
                .unsupported, file: source.path, subject: part.name,
                "is a part of a larger matrix in transformers, and a LoRA adapter can't change only a part",
                remedy: "write the merged model")
        }
        let ranks = JSON.object(changes.map { JSON.Member(key: $0.module, value: .integer($0.rank)) })
        let rank = JSON.integer(changes.map(\.rank).max() ?? 1)
        let configuration: JSON = [
            "alpha_pattern": ranks, "base_model_name_or_path": .string(source.reference), "bias": "none",
            "fan_in_fan_out": .bool(names.isTransposed && changes.contains { !$0.isHead }), "inference_mode": true, "init_lora_weights": true,
            "lora_alpha": rank, "lora_dropout": .number("0.0"), "modules_to_save": .null, "peft_type": "LORA", "r": rank, "rank_pattern": ranks,
            "target_modules": .array(changes.map { .string($0.module) }), "task_type": "CAUSAL_LM",
        ]
        let file = try OutputFile(path: directory + "/adapter_config.json")
        try file.write(Array((configuration.text() + "\n").utf8))
        try file.sync()
        let tensors = changes.flatMap { change -> [OutputTensor] in
            let prefix = "base_model.model.\(change.module)."
            return [
                .init(name: prefix + "lora_A.weight", shape: .matrix(rows: change.rank, columns: change.columns)) { change.copyInputs($0, into: $1) },
                .init(name: prefix + "lora_B.weight", shape: .matrix(rows: change.rows, columns: change.rank)) { change.copyOutputs($0, into: $1) },
            ]
        }
        try SafetensorsWriter(dataType: dataType).write(tensors, toFile: directory + "/adapter_model.safetensors", progress: { _ in true })
    }
}
