import Kernels

/// Products of whole rows in 8-bit integers, for layers in which no direction changes anything.
extension ForwardPass {
    /// Computes y = accumulate·y + x·wᵀ for some of a layer's matrices, which read the same x. Their outputs lie side by side.
    func quantisedProduct(
        _ modules: [LayerModule], of weights: QuantisedLayer, _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int,
        into y: UnsafeMutablePointer<Float>, _ yStride: Int, accumulate: Bool
    ) {
        let quantised = quantise(x, xStride, rows, inputs: sizes.shape(modules[0]).inputs)
        var done = 0
        for module in modules {
            guard var matrix = weights[module] else { continue }
            ob_quantised_product(quantised, rows, &matrix, y + done, yStride, accumulate ? 1 : 0)
            done += matrix.outputs
        }
    }

    /// Computes y = activation(x·gateᵀ)·(x·upᵀ).
    func quantisedGatedProduct(
        of weights: QuantisedLayer, _ x: UnsafePointer<Float>, _ rows: Int, into y: UnsafeMutablePointer<Float>, _ yStride: Int
    ) {
        guard var gate = weights[.gate], var up = weights[.up] else { return }
        let quantised = quantise(x, sizes.hidden, rows, inputs: sizes.hidden)
        ob_quantised_gated_product(description.activation.kernel, quantised, rows, &gate, &up, y, yStride)
    }

    private func quantise(_ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, inputs: Int) -> UnsafeMutablePointer<UInt8> {
        let quantised = quantisedRows.reserve(rows * ob_quantised_row_bytes(inputs))
        ob_quantise_rows(x, xStride, rows, inputs, quantised)
        return quantised
    }
}
