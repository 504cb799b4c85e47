import Kernels

/// Products in 8-bit integers.
///
/// A direction changes an activation by less than rounding to 8 bits does, and rounding errors at θ + εz and at θ − εz do not cancel: they
/// would drown g. But both rows lie near the same clean row x₀. The product of x₀ is computed once, in F32, for all directions on an
/// example. The rest, x − x₀, is rounded at a scale of its own, so that the error is a hundredth of the *difference*:
/// xWᵀ ≈ x₀Wᵀ + Q(x − x₀)·Q(W)ᵀ.
extension ForwardPass {
    /// Computes y = (accumulate·y) + x·wᵀ for all rows of a layout in which the sequence of every segment also has a clean segment.
    ///
    /// - Parameters:
    ///   - w: the matrices in F32, one after the other; all read the same x.
    ///   - matrices: the same matrices in 8-bit integers.
    package func differentialProduct(
        _ x: UnsafePointer<Float>, _ xStride: Int, _ w: UnsafePointer<Float>, _ matrices: [Int8Weights.Matrix],
        into y: UnsafeMutablePointer<Float>, _ yStride: Int, accumulate: Bool, layout: Layout
    ) {
        let inputs = matrices[0].inputs
        let outputs = matrices.reduce(0) { $0 + $1.outputs }
        let clean = cleanRows(layout)
        let count = clean.lowerBound
        let cleanProduct = cleanProduct.reserve(clean.count * outputs)
        multiply(
            x + count * xStride, xStride: xStride, rows: clean.count, by: w, outputs: outputs, inputs: inputs, into: cleanProduct,
            yStride: outputs, panels: panels.reserve(ob_product_scratch(inputs)))
        for row in 0..<clean.count {
            let own = y + (count + row) * yStride
            if accumulate {
                ob_add_scaled(own, cleanProduct + row * outputs, 1, outputs)
            } else {
                own.update(from: cleanProduct + row * outputs, count: outputs)
            }
        }

        let bytes = ob_difference_bytes(inputs)
        let quantised = quantisedRows.reserve(count * bytes)
        let scales = quantisedScales.reserve(count)
        let from = cleanPointers.reserve(count)
        var first = Array(repeating: 0, count: sequences.count)
        for segment in segments where segment.direction < 0 { first[segment.sequence] = rows(of: segment, layout).lowerBound }
        for segment in segments where segment.direction >= 0 {
            let own = rows(of: segment, layout)
            for row in own {
                let at = first[segment.sequence] + row - own.lowerBound
                scales[row] = ob_difference_quantise(x + row * xStride, x + at * xStride, inputs, quantised + row * bytes)
                from[row] = UnsafePointer(cleanProduct + (at - count) * outputs)
            }
        }
        var done = 0
        for matrix in matrices {
            matrix.multiply(
                quantised, scales: scales, count: count, from: from, into: y + done, yStride: yStride, accumulate: accumulate)
            for row in 0..<count { from[row] = from[row].map { $0 + matrix.outputs } }
            done += matrix.outputs
        }
    }
}
