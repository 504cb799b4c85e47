import COpenBLAS
import Glibc
import Kernels

/// The gradient of the adapter at `final` for losses over the whole vocabulary.
extension ForwardPass {
    /// Computes log p(target) and the gradient Uᵀ·∂(−log p(target))/∂n = (EU)ᵀ·(p − onehot) for each row of the layout `reads`. The final
    /// states must be in `normed`.
    ///
    /// - Parameters:
    ///   - targets: one token per row.
    ///   - headOutputs: EU, vocabulary × `count`.
    ///   - logProbabilities: receives one number per row.
    ///   - gradients: receives `count` numbers per row.
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
                replaceLogitsByGradient(row, target: target)
            }
            cblas_sgemm(
                CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(rows), blasint(count), blasint(vocabulary), 1, p, blasint(vocabulary),
                headOutputs, blasint(count), 0, gradients + start * count, blasint(count))
        }
    }
}
