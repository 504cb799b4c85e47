import COpenBLAS
import Glibc
import Kernels

/// The gradient of a mean token loss with respect to the last hidden states. It is the one derivative with a closed form: nothing is
/// propagated back through a layer.
extension ForwardPass {
    package struct HeadGradient {
        /// Mean of −log p(target) at θ.
        package let loss: Double
        /// ∂loss/∂h: one row of the model's width for each position that the example's loss reads.
        package let rows: [Float]
    }

    /// Rows whose logits are in memory at once.
    static let gradientRows = 64

    /// Returns (p − onehot(target))·E / targets for each position that clean segments read. Call `finalNorm` first.
    ///
    /// - Parameters:
    ///   - segments: all clean segments (sign 0) of one example.
    ///   - targets: the token of each read position, segment by segment.
    package func headGradient(of clean: [Int], targets: [UnsafeBufferPointer<Int32>]) -> HeadGradient {
        let h = sizes.embedding
        let vocabulary = model.configuration.vocabularySize
        let count = targets.reduce(0) { $0 + $1.count }
        var gradient = [Float](repeating: 0, count: count * h)
        var loss = 0.0
        guard let head = model.fullHeadPointer, count > 0 else { return HeadGradient(loss: .nan, rows: gradient) }
        gradient.withUnsafeMutableBufferPointer { gradient in
            guard let out = gradient.baseAddress else { return }
            var done = 0
            for (segment, own) in zip(clean, targets) {
                let first = segments[segment].readRow
                for start in stride(from: 0, to: own.count, by: Self.gradientRows) {
                    let rows = min(Self.gradientRows, own.count - start)
                    let p = logits.reserve(rows * vocabulary)
                    headLogits(normed.pointer + (first + start) * h, rows: rows, head: head, into: p)
                    for r in 0..<rows {
                        let row = p + r * vocabulary
                        let target = Int(own[start + r])
                        var largest: Float = 0
                        var sum: Float = 0
                        ob_log_sum_exp_parts(row, vocabulary, &largest, &sum)
                        loss += Double(largest) + log(Double(sum)) - Double(row[target])
                        replaceLogitsByGradient(row, target: target)
                    }
                    cblas_sgemm(
                        CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(rows), blasint(h), blasint(vocabulary), 1 / Float(count), p,
                        blasint(vocabulary), head, blasint(h), 0, out + (done + start) * h, blasint(h))
                }
                done += own.count
            }
        }
        return HeadGradient(loss: loss / Double(count), rows: gradient)
    }

    /// Returns ⟨gradient, h(plus) − h(minus)⟩ over all read positions of an example. `minus` and `plus` are the example's first segments.
    package func difference(from minus: Int, to plus: Int, along gradient: HeadGradient) -> Double {
        let h = sizes.embedding
        let own = difference.reserve(h)
        var sum = 0.0
        var row = 0
        var offset = 0
        gradient.rows.withUnsafeBufferPointer { gradient in
            guard let g = gradient.baseAddress else { return }
            while row * h < gradient.count {
                let up = rows(of: segments[plus + offset], .reads)
                let down = rows(of: segments[minus + offset], .reads)
                for (a, b) in zip(up, down) {
                    // The difference is taken first: the states are a thousand times as large as it.
                    own.update(from: normed.pointer + a * h, count: h)
                    ob_add_scaled(own, normed.pointer + b * h, -1, h)
                    sum += Double(ob_dot(g + row * h, own, h))
                    row += 1
                }
                offset += 1
            }
        }
        return sum
    }
}
