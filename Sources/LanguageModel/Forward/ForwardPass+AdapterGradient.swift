import COpenBLAS
import Glibc
import Kernels

/// What a loss over the whole vocabulary asks of the adapter at `final`.
extension ForwardPass {
    /// For each row of the layout `reads`, whose final state is in `normed`: log p(target), and Uᵀ·∂(−log p(target))/∂n = (EU)ᵀ·(p − onehot).
    ///
    /// - Parameters:
    ///   - targets: one token for each row.
    ///   - headOutputs: EU, vocabulary × `count`.
    ///   - logProbabilities: takes one number for each row.
    ///   - gradients: takes `count` numbers for each row.
    package func adapterGradients(
        targets: UnsafePointer<Int32>, headOutputs: UnsafePointer<Float>, count: Int, logProbabilities: UnsafeMutablePointer<Double>,
        into gradients: UnsafeMutablePointer<Float>
    ) {
        guard let head = model.fullHeadPointer else { return }
        let vocabulary = model.configuration.vocabularySize
        for start in stride(from: 0, to: segmentReads, by: Self.gradientRows) {
            let rows = min(Self.gradientRows, segmentReads - start)
            let p = logits.reserve(rows * vocabulary)
            headLogits(normed.pointer + start * sizes.embedding, rows: rows, head: head, into: p)
            for r in 0..<rows {
                let row = p + r * vocabulary
                let target = Int(targets[start + r])
                var largest: Float = 0
                var sum: Float = 0
                ob_log_sum_exp_parts(row, vocabulary, &largest, &sum)
                logProbabilities[start + r] = Double(row[target]) - Double(largest) - log(Double(sum))
                becomeGradient(row, target: target)
            }
            cblas_sgemm(
                CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(rows), blasint(count), blasint(vocabulary), 1, p, blasint(vocabulary),
                headOutputs, blasint(count), 0, gradients + start * count, blasint(count))
        }
    }
}
