import COpenBLAS

/// y = accumulate·y + x·wᵀ, in F32: `rows` rows of x (inputs wide, `xStride` apart) times w (outputs × inputs, as
/// Hugging Face stores a linear layer).
@inline(__always)
package func multiply(
    _ x: UnsafePointer<Float>, xStride: Int, rows: Int, by w: UnsafePointer<Float>, outputs: Int, inputs: Int,
    into y: UnsafeMutablePointer<Float>, yStride: Int, accumulate: Bool = false, scale: Float = 1
) {
    guard rows > 0 else { return }
    cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(outputs), blasint(inputs), scale, x, blasint(xStride),
        w, blasint(inputs), accumulate ? 1 : 0, y, blasint(yStride))
}
