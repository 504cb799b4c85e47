import COpenBLAS
import LanguageModel

/// Sums Σ x·xᵀ and Σ x over rows of one width.
final class SecondMoment {
    let width: Int
    /// Number of rows added.
    private(set) var count = 0
    /// Σ x·xᵀ, width × width, row-major; only the upper triangle is filled.
    let sum: ScratchBuffer<Double>
    private let rowSum: ScratchBuffer<Double>
    private let rows = ScratchBuffer<Double>()

    init(width: Int) {
        self.width = width
        sum = ScratchBuffer(capacity: width * width)
        sum.pointer.update(repeating: 0, count: width * width)
        rowSum = ScratchBuffer(capacity: width)
        rowSum.pointer.update(repeating: 0, count: width)
    }

    func add(_ x: UnsafePointer<Float>, stride: Int, rows count: Int) {
        guard count > 0 else { return }
        self.count += count
        let wide = rows.reserve(count * width)
        for r in 0..<count {
            for i in 0..<width { wide[r * width + i] = Double(x[r * stride + i]) }
            for i in 0..<width { rowSum.pointer[i] += wide[r * width + i] }
        }
        cblas_dsyrk(
            CblasRowMajor, CblasUpper, CblasTrans, blasint(width), blasint(count), 1, wide, blasint(width), 1, sum.pointer,
            blasint(width))
    }

    /// Adds the rows of another second moment.
    func add(_ other: SecondMoment) {
        count += other.count
        for i in 0..<width * width { sum.pointer[i] += other.sum.pointer[i] }
        for i in 0..<width { rowSum.pointer[i] += other.rowSum.pointer[i] }
    }

    /// Returns the mean of x·xᵀ.
    func mean() -> SymmetricMatrix {
        let matrix = SymmetricMatrix(size: width)
        for i in 0..<width * width { matrix.upper.pointer[i] = sum.pointer[i] / Double(max(count, 1)) }
        return matrix
    }

    /// Returns the mean of (x − mean)·(x − mean)ᵀ.
    func covariance() -> SymmetricMatrix {
        let matrix = mean()
        let n = Double(max(count, 1))
        for i in 0..<width {
            for j in i..<width { matrix.upper.pointer[i * width + j] -= rowSum.pointer[i] / n * (rowSum.pointer[j] / n) }
        }
        return matrix
    }
}

/// A symmetric matrix, row-major; only the upper triangle is used.
final class SymmetricMatrix {
    let size: Int
    let upper: ScratchBuffer<Double>

    init(size: Int) {
        self.size = size
        upper = ScratchBuffer(capacity: size * size)
        upper.pointer.update(repeating: 0, count: size * size)
    }

    subscript(i: Int, j: Int) -> Double {
        get { upper.pointer[min(i, j) * size + max(i, j)] }
        set { upper.pointer[min(i, j) * size + max(i, j)] = newValue }
    }

    var trace: Double { (0..<size).reduce(0) { $0 + self[$1, $1] } }

    func eigen(_ what: String) throws(TrainingError) -> SymmetricEigen { try SymmetricEigen(of: upper, size: size, what: what) }
}

/// The Cholesky factor L of a positive definite matrix F = L·Lᵀ.
struct CholeskyFactor {
    private let size: Int
    /// L: the row-major upper triangle, which is the lower triangle of a column-major matrix.
    private let factor: ScratchBuffer<Double>

    /// - Throws: `TrainingError` if the matrix is not positive definite.
    init(_ matrix: SymmetricMatrix, what: String) throws(TrainingError) {
        size = matrix.size
        factor = ScratchBuffer(capacity: size * size)
        factor.pointer.update(from: matrix.upper.pointer, count: size * size)
        var n = blasint(size)
        var info: blasint = 0
        dpotrf_("L", &n, factor.pointer, &n, &info)
        guard info == 0 else { throw TrainingError(.numerical, "\(what) is not positive definite (LAPACK says \(info))") }
    }

    /// Returns L⁻¹·x.
    func solveLower(_ x: [Double]) -> [Double] { solve(x, CblasNoTrans) }

    /// Returns L⁻ᵀ·x.
    func solveUpper(_ x: [Double]) -> [Double] { solve(x, CblasTrans) }

    /// Returns F⁻¹·x.
    func solve(_ x: [Double]) -> [Double] { solveUpper(solveLower(x)) }

    private func solve(_ x: [Double], _ transposed: CBLAS_TRANSPOSE) -> [Double] {
        var x = x
        cblas_dtrsv(
            CblasColMajor, CblasLower, transposed, CblasNonUnit, blasint(size), factor.pointer, blasint(size), &x, 1)
        return x
    }
}

/// The eigenvalues of a symmetric matrix, the largest first, and its eigenvectors.
struct SymmetricEigen {
    /// Eigenvalues, descending.
    let values: [Double]
    private let vectors: ScratchBuffer<Double>

    /// - Parameters:
    ///   - upper: size × size, row-major; only the upper triangle is read.
    ///   - what: name of the matrix for the error if no eigenvalues are found.
    init(of upper: ScratchBuffer<Double>, size n: Int, what: String) throws(TrainingError) {
        vectors = ScratchBuffer(capacity: n * n)
        vectors.pointer.update(from: upper.pointer, count: n * n)
        var values = Array(repeating: 0.0, count: n)
        var size = blasint(n)
        var info: blasint = 0
        // The row-major upper triangle is the column-major lower one. The first call asks for the sizes of the work space.
        var workSize: blasint = -1
        var integerSize: blasint = -1
        var work = [0.0]
        var integers: [blasint] = [0]
        dsyevd_("V", "L", &size, vectors.pointer, &size, &values, &work, &workSize, &integers, &integerSize, &info)
        workSize = blasint(work[0])
        integerSize = integers[0]
        work = Array(repeating: 0, count: max(Int(workSize), 1))
        integers = Array(repeating: 0, count: max(Int(integerSize), 1))
        dsyevd_("V", "L", &size, vectors.pointer, &size, &values, &work, &workSize, &integers, &integerSize, &info)
        guard info == 0 else { throw TrainingError(.numerical, "no eigenvalues of \(what) were found (LAPACK says \(info))") }
        self.values = values.reversed()
    }

    /// Returns the eigenvector of `values[k]`, of length 1. Its largest entry is positive, so that every eigenvalue routine gives the same
    /// vector.
    func vector(_ k: Int) -> [Double] {
        // The vectors are stored one after the other, in ascending order of their values.
        let n = values.count
        let vector = UnsafeBufferPointer(start: vectors.pointer + (n - 1 - k) * n, count: n)
        let largest = vector.reduce(0.0) { abs($1) > abs($0) ? $1 : $0 }
        return vector.map { largest < 0 ? -$0 : $0 }
    }
}
