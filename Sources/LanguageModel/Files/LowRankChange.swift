import Core

/// The change of a matrix by a LoRA adapter of its files (Hu et al., arXiv 2106.09685): W + B·A, and with magnitudes m (DoRA, Liu et al.,
/// arXiv 2402.09353) m·(W + B·A)/‖W + B·A‖, where the norm is that of each row.
package struct LowRankChange: Sendable {
    let rank: Int
    /// Number of inputs of the matrix.
    let columns: Int
    /// A, rank × columns.
    private let inputs: [Float]
    /// B with the adapter's scale, a row for each row of the file's matrix.
    private let outputs: [Float]
    /// m, one number for each row of the file's matrix; nil for plain LoRA.
    private let magnitudes: [Float]?
    /// Where the file's matrix has the rows of this one.
    private let view: TensorView

    package init(rank: Int, columns: Int, inputs: [Float], outputs: [Float], magnitudes: [Float]?, view: TensorView) {
        self.rank = rank
        self.columns = columns
        self.inputs = inputs
        self.outputs = outputs
        self.magnitudes = magnitudes
        self.view = view
    }

    /// Changes the values of a matrix's row.
    ///
    /// The result decides the base's digest, so it has the same bits on every processor: sums are in double precision, in a fixed order,
    /// and nothing is fused.
    package func apply(to values: UnsafeMutablePointer<Float>, row: Int) {
        let place = view.storedRow(row)
        var sums = (0..<columns).map { Double(values[$0]) }
        for k in 0..<rank {
            let y = Double(outputs[place * rank + k])
            for i in 0..<columns { sums[i] += y * Double(inputs[k * columns + i]) }
        }
        if let magnitudes {
            let length = sums.reduce(0) { $0 + $1 * $1 }.squareRoot()
            let factor = length > 0 ? Double(magnitudes[place]) / length : 0
            for i in 0..<columns { sums[i] *= factor }
        }
        for i in 0..<columns { values[i] = Float(sums[i]) }
    }
}
