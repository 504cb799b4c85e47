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

/// Facts and settings of the matrix library.
public enum MatrixLibrary {
    /// The processor that OpenBLAS takes this one for: it picks its kernels by it, and misjudges some.
    public static var coreName: String { String(cString: openblas_get_corename()) }
    public static var configuration: String { String(cString: openblas_get_config()) }

    /// The threads of a single product. Everything here runs many products side by side instead, so every caller wants 1.
    public static func setThreads(_ count: Int) { openblas_set_num_threads(Int32(clamping: max(count, 1))) }
}
