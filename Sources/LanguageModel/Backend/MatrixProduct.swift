import Core
import Kernels

/// y = accumulate·y + x·wᵀ, in F32: `rows` rows of x (inputs wide, `xStride` apart) times w (outputs × inputs, as
/// Hugging Face stores a linear layer).
///
/// - Parameter panels: `ob_product_scratch(inputs)` floats.
package func multiply(
    _ x: UnsafePointer<Float>, xStride: Int, rows: Int, by w: UnsafePointer<Float>, outputs: Int, inputs: Int,
    into y: UnsafeMutablePointer<Float>, yStride: Int, accumulate: Bool = false, panels: UnsafeMutablePointer<Float>
) {
    var matrix = ob_matrix(w, outputs: outputs, inputs: inputs)
    ob_product(x, xStride, rows, rows, &matrix, nil, y, yStride, accumulate ? 1 : 0, panels)
}

extension ob_matrix {
    /// outputs × inputs floats, row-major.
    package init(_ floats: UnsafePointer<Float>, outputs: Int, inputs: Int) {
        self.init(
            outputs: outputs, inputs: inputs, stride: 0, floats: floats, fixed: nil, fixed_scale: 0, direction: nil, direction_scale: 0)
    }

    /// The trained tensor at a position of `parameters`, as its integers are. One whose largest weight is below 2^−120, so that 2^−s is no float,
    /// counts as zeros.
    package init(_ parameters: Parameters, at position: Int, outputs: Int, inputs: Int) {
        self.init(
            outputs: outputs, inputs: inputs, stride: 0, floats: nil, fixed: parameters.integers(at: position).baseAddress,
            fixed_scale: Float(sign: .plus, exponent: -parameters.exponent(at: position), significand: 1), direction: nil, direction_scale: 0)
    }
}

/// The rank-one terms of a product's rows, kept as long as the product runs.
package final class RowTerms {
    private let vectors = ScratchBuffer<UnsafePointer<Int8>?>()
    private let scales = ScratchBuffer<Float>()

    /// Terms for so many rows, none of which has one yet.
    package func reserve(_ rows: Int) {
        vectors.reserve(rows).update(repeating: nil, count: rows)
        scales.reserve(rows).update(repeating: 0, count: rows)
    }

    /// scale·(x·b)·a for rows of x, `inputs` wide.
    package func set(
        _ rows: Range<Int>, _ x: UnsafePointer<Float>, stride: Int, inputs: Int, a: UnsafePointer<Int8>, b: UnsafePointer<Int8>, scale: Float
    ) {
        ob_dots_i8(x + rows.lowerBound * stride, stride, rows.count, b, inputs, scale, scales.pointer + rows.lowerBound)
        for row in rows { vectors.pointer[row] = a }
    }

    /// Valid until the next `reserve`.
    package var terms: ob_rank1_terms { ob_rank1_terms(a: UnsafePointer(vectors.pointer), scales: UnsafePointer(scales.pointer)) }
}
