import Core
import Kernels

/// Computes y = accumulate·y + x·wᵀ in F32, for `rows` rows of x (`inputs` wide, `xStride` apart) and w (outputs × inputs, as Hugging Face
/// stores a linear layer).
///
/// - Parameter panels: scratch of `ob_product_scratch(inputs)` floats.
package func multiply(
    _ x: UnsafePointer<Float>, xStride: Int, rows: Int, by w: UnsafePointer<Float>, outputs: Int, inputs: Int,
    into y: UnsafeMutablePointer<Float>, yStride: Int, accumulate: Bool = false, panels: UnsafeMutablePointer<Float>
) {
    var matrix = ob_matrix(w, outputs: outputs, inputs: inputs)
    ob_product(x, xStride, rows, rows, &matrix, nil, y, yStride, accumulate ? 1 : 0, panels)
}

extension ob_matrix {
    /// A matrix of outputs × inputs floats, row-major.
    package init(_ floats: UnsafePointer<Float>, outputs: Int, inputs: Int) {
        self.init(
            outputs: outputs, inputs: inputs, stride: 0, floats: floats, fixed: nil, fixed_scale: 0, direction: nil, direction_scale: 0)
    }

    /// The trained tensor at a position of `parameters`, in its integers. A tensor whose largest weight is below 2^−120 counts as zeros,
    /// because 2^−s is then no float.
    package init(_ parameters: Parameters, at position: Int, outputs: Int, inputs: Int) {
        self.init(
            outputs: outputs, inputs: inputs, stride: 0, floats: nil, fixed: parameters.integers(at: position).baseAddress,
            fixed_scale: Float(sign: .plus, exponent: -parameters.exponent(at: position), significand: 1), direction: nil, direction_scale: 0)
    }
}

/// The rank-one terms of a product's rows; they must outlive the product.
package final class RowTerms {
    private let vectors = ScratchBuffer<UnsafePointer<Int8>?>()
    private let scales = ScratchBuffer<Float>()

    /// Makes room for this many rows, none of which has a term yet.
    package func reserve(_ rows: Int) {
        vectors.reserve(rows).update(repeating: nil, count: rows)
        scales.reserve(rows).update(repeating: 0, count: rows)
    }

    /// Sets the terms scale·(x·b)·a for rows of x, `inputs` wide.
    package func set(
        _ rows: Range<Int>, _ x: UnsafePointer<Float>, stride: Int, inputs: Int, a: UnsafePointer<Int8>, b: UnsafePointer<Int8>, scale: Float
    ) {
        ob_dots_i8(x + rows.lowerBound * stride, stride, rows.count, b, inputs, scale, scales.pointer + rows.lowerBound)
        for row in rows { vectors.pointer[row] = a }
    }

    /// The terms; valid until the next `reserve`.
    package var terms: ob_rank1_terms { ob_rank1_terms(a: UnsafePointer(vectors.pointer), scales: UnsafePointer(scales.pointer)) }
}
