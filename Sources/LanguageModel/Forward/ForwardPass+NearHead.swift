import Kernels

/// The likeliest tokens of states near other states whose logits are known.
extension ForwardPass {
    /// Number of clean rows whose logits are in memory at once: few enough to stay in the core's cache while their neighbours read them.
    private static let cleanRowsAtOnce = 8
    /// Allowance for rounding in the bound, as a part of a logit.
    private static let slack: Float = 1e-3

    /// Finds the same tokens as `likeliestTokens`, faster, for rows that each have a clean row nearby. Call `finalNorm` first.
    ///
    /// With h = h₀ + d and the head's mean row ē, h·Eᵢ = h₀·Eᵢ + d·ē + d·(Eᵢ − ē), and the last term lies within ±‖d‖‖Eᵢ − ē‖. Only tokens
    /// that can win by this bound are examined, so a direction costs a few products of vectors in place of the whole head. The head's bias
    /// is the same for both states, and a softcap keeps the order of logits.
    ///
    /// - Parameters:
    ///   - clean: for each perturbed row, counted from 0, the clean row near it. The clean rows follow the perturbed ones, up to the last
    ///     row.
    ///   - geometry: geometry of the head, which must not be trained.
    package func likeliestTokens(near clean: [Int], _ geometry: HeadGeometry, into out: UnsafeMutablePointer<Int32>) {
        guard let head = model.fullHeadPointer, !clean.isEmpty else { return }
        let h = sizes.embedding
        let vocabulary = model.configuration.vocabularySize
        let states = normed.pointer
        let logits = logits.reserve(Self.cleanRowsAtOnce * vocabulary)
        let d = difference.reserve(h)
        let candidates = targetTokens.reserve(vocabulary)
        let bias = model.headBias
        let order = clean.indices.sorted { clean[$0] < clean[$1] }
        var next = 0
        for first in stride(from: clean.count, to: segmentReads, by: Self.cleanRowsAtOnce) {
            let rows = min(Self.cleanRowsAtOnce, segmentReads - first)
            product(states + first * h, rows: rows, by: head, outputs: vocabulary, into: logits)
            if let bias { for row in 0..<rows { ob_add_scaled(logits + row * vocabulary, bias, 1, vocabulary) } }
            let tops = (0..<rows).map { Self.largest(logits + $0 * vocabulary, vocabulary) }
            while next < order.count, clean[order[next]] < first + rows {
                let row = order[next]
                next += 1
                let own = clean[row] - first
                let state = states + row * h
                d.update(from: state, count: h)
                ob_add_scaled(d, states + clean[row] * h, -1, h)
                let radius = ob_dot(d, d, h).squareRoot()
                let top = tops[own]
                guard top.value.isFinite, radius.isFinite else {
                    out[row] = -1
                    continue
                }
                // The winner has at least the logit that the clean winner has here.
                let least = ob_dot(state, head + top.index * h, h) + (bias?[top.index] ?? 0)
                let threshold = least - ob_dot(d, geometry.mean, h) - Self.slack * (1 + abs(least))
                let count = geometry.candidates(logits + own * vocabulary, radius: radius, threshold: threshold, into: candidates)
                var best: (token: Int32, value: Float) = (Int32(top.index), least)
                for i in 0..<count {
                    let token = candidates[i]
                    let value = ob_dot(state, head + Int(token) * h, h) + (bias?[Int(token)] ?? 0)
                    if value > best.value || (value == best.value && token < best.token) { best = (token, value) }
                }
                out[row] = best.value.isFinite ? best.token : -1
            }
        }
    }
}

/// Distances of a frozen head's rows from their mean.
package final class HeadGeometry {
    package let mean: UnsafePointer<Float>
    private let meanRow: ScratchBuffer<Float>
    private let distances: ScratchBuffer<Float>
    private let count: Int

    /// - Parameter head: `count` rows of the model's width.
    package init(head: UnsafePointer<Float>, count: Int, width: Int) {
        self.count = count
        meanRow = ScratchBuffer(capacity: width)
        distances = ScratchBuffer(capacity: count)
        mean = UnsafePointer(meanRow.pointer)
        meanRow.pointer.update(repeating: 0, count: width)
        for i in 0..<count { ob_add_scaled(meanRow.pointer, head + i * width, 1 / Float(count), width) }
        let difference = ScratchBuffer<Float>(capacity: width)
        for i in 0..<count {
            difference.pointer.update(from: head + i * width, count: width)
            ob_add_scaled(difference.pointer, mean, -1, width)
            distances.pointer[i] = ob_dot(difference.pointer, difference.pointer, width).squareRoot()
        }
    }

    /// Finds the tokens whose logit plus radius × distance reaches the threshold.
    ///
    /// - Returns: the number of tokens written to `out`.
    package func candidates(
        _ logits: UnsafePointer<Float>, radius: Float, threshold: Float, into out: UnsafeMutablePointer<Int32>
    ) -> Int {
        typealias Lanes = SIMD16<Float>
        let step = Lanes.scalarCount
        let whole = count / step * step
        let distances = distances.pointer
        var found = 0
        func take(_ range: Range<Int>) {
            for i in range where logits[i] + radius * distances[i] >= threshold {
                out[found] = Int32(i)
                found += 1
            }
        }
        let limit = Lanes(repeating: threshold)
        let scale = Lanes(repeating: radius)
        for i in stride(from: 0, to: whole, by: step) {
            let bound =
                UnsafeRawPointer(logits + i).loadUnaligned(as: Lanes.self)
                + scale * UnsafeRawPointer(distances + i).loadUnaligned(as: Lanes.self)
            if any(bound .>= limit) { take(i..<i + step) }
        }
        take(whole..<count)
        return found
    }
}
