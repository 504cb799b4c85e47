import Core
import Glibc
import Kernels

/// From the final norm's input to logits, and no more of them than a loss reads.
extension ForwardPass {
    /// Bounds the logits that are in memory at once: rows × a slice of the vocabulary.
    private static let logitsAtOnce = 1 << 22

    /// The final norm; afterwards `normed` holds the last hidden states in the layout `reads`.
    ///
    /// - Parameter adapts: whether the model's adapter at `final` is applied, where it has one.
    package func finalNorm(adapts: Bool = true) {
        let out = normed.reserve(segmentReads * sizes.hidden)
        normalise(x.pointer, model.finalNorm.pointer, slot: model.finalNormSlot, layout: .reads, into: out)
        if adapts, let adapter = model.finalAdapter { adaptFinalStates(adapter) }
    }

    /// The logits of some tokens, at the first position that the segment reads.
    package func logits(of segment: Segment, tokens: [Int32], into out: UnsafeMutablePointer<Double>) {
        let h = sizes.hidden
        let state = normed.pointer + segment.readRow * h
        let slot = model.headSlot
        for (i, token) in tokens.enumerated() {
            guard let row = model.headRow(token) else {
                out[i] = .nan
                continue
            }
            var logit = onebyte_dot(state, row, h)
            if let directions, slot >= 0, segment.direction >= 0 {
                let scale = segment.sign * directions.scales[slot]
                if directions.isRank1 {
                    let a = Float(directions.a(slot, segment.direction)[Int(token)])
                    logit += scale * onebyte_dot_i8(state, directions.b(slot, segment.direction), h) * a
                } else {
                    let range = Int(token) * h..<(Int(token) + 1) * h
                    logit += scale * onebyte_dot_i8(state, directions.elements(slot, segment.direction, range, into: denseElements), h)
                }
            }
            out[i] = Double(logit)
        }
    }

    /// `logProbability` and `isLikeliest`: for each row of the layout `reads`, log p(target) under the whole vocabulary, and whether
    /// the target is the token of the highest logit.
    ///
    /// - Parameter targets: one token for each row.
    package func logProbabilities(of targets: UnsafePointer<Int32>) {
        let vocabulary = model.configuration.vocabularySize
        let rows = segmentReads
        guard rows > 0, let head = model.fullHeadPointer else { return }
        let slice = min(vocabulary, max(256, Self.logitsAtOnce / rows))
        let logits = logits.reserve(rows * slice)
        let out = logProbability.reserve(rows)
        let sums = partSums.reserve(2 * rows)  // largest logit so far, and Σ exp(logit − largest)
        for r in 0..<rows {
            sums[2 * r] = -.infinity
            sums[2 * r + 1] = 0
        }
        for first in stride(from: 0, to: vocabulary, by: slice) {
            let count = min(slice, vocabulary - first)
            fillLogits(logits, head: head, tokens: first..<first + count)
            for r in 0..<rows {
                let own = logits + r * count
                var largest: Float = 0
                var sum: Float = 0
                onebyte_log_sum_exp_parts(own, count, &largest, &sum)
                let before = sums[2 * r]
                let now = Double(largest)
                if now > before {
                    sums[2 * r + 1] = sums[2 * r + 1] * exp(before - now) + Double(sum)
                    sums[2 * r] = now
                } else {
                    sums[2 * r + 1] += Double(sum) * exp(now - before)
                }
                let target = Int(targets[r]) - first
                if target >= 0, target < count { out[r] = Double(own[target]) }
            }
        }
        let top = isLikeliest.reserve(rows)
        for r in 0..<rows {
            top[r] = out[r] >= sums[2 * r]
            out[r] -= sums[2 * r] + log(sums[2 * r + 1])
        }
    }

    /// For each row of the layout `reads` the token of the highest logit, the first of equals; −1 where a logit is not finite. After
    /// `finalNorm`.
    package func likeliestTokens(into out: UnsafeMutablePointer<Int32>) {
        let vocabulary = model.configuration.vocabularySize
        let rows = segmentReads
        guard rows > 0, let head = model.fullHeadPointer else { return }
        let slice = min(vocabulary, max(256, Self.logitsAtOnce / rows))
        let logits = logits.reserve(rows * slice)
        let best = partSums.reserve(rows)
        for r in 0..<rows { (out[r], best[r]) = (0, -.infinity) }
        for first in stride(from: 0, to: vocabulary, by: slice) {
            let count = min(slice, vocabulary - first)
            fillLogits(logits, head: head, tokens: first..<first + count)
            for r in 0..<rows where out[r] >= 0 {
                let (index, value) = Self.largest(logits + r * count, count)
                if !value.isFinite {
                    out[r] = -1
                } else if Double(value) > best[r] {
                    (out[r], best[r]) = (Int32(first + index), Double(value))
                }
            }
        }
    }

    /// The first of the largest; NaN where one of them is.
    package static func largest(_ x: UnsafePointer<Float>, _ count: Int) -> (index: Int, value: Float) {
        typealias Lanes = SIMD16<Float>
        var top = Lanes(repeating: -.infinity)
        var sum = Lanes()
        let whole = count / Lanes.scalarCount * Lanes.scalarCount
        for i in stride(from: 0, to: whole, by: Lanes.scalarCount) {
            let own = UnsafeRawPointer(x + i).loadUnaligned(as: Lanes.self)
            top = top.replacing(with: own, where: own .> top)
            // NaN as soon as one of them is NaN or infinite.
            sum += own * 0
        }
        var largest = top.max()
        var check = sum.sum()
        for i in whole..<count {
            largest = max(largest, x[i])
            check += x[i] * 0
        }
        guard check == 0 else { return (0, .nan) }
        for i in 0..<count where x[i] == largest { return (i, largest) }
        return (0, .nan)
    }

    /// All logits of `rows` (read rows of the batch) at once, vocabulary wide: for generation, and for tests.
    package func allLogits(into out: UnsafeMutablePointer<Float>) {
        guard let head = model.fullHeadPointer else { return }
        fillLogits(out, head: head, tokens: 0..<model.configuration.vocabularySize)
    }

    private func fillLogits(_ logits: UnsafeMutablePointer<Float>, head: UnsafePointer<Float>, tokens: Range<Int>) {
        let h = sizes.hidden
        let count = tokens.count
        let states = normed.pointer
        let slot = model.headSlot
        let own = head + tokens.lowerBound * h
        guard let directions, slot >= 0 else { return product(states, rows: segmentReads, by: own, outputs: count, into: logits) }
        if directions.isRank1 {
            product(states, rows: segmentReads, by: own, outputs: count, into: logits)
            for segment in segments where segment.direction >= 0 {
                let a = directions.a(slot, segment.direction) + tokens.lowerBound
                let b = directions.b(slot, segment.direction)
                for row in rows(of: segment, .reads) {
                    let s = segment.sign * directions.scales[slot] * onebyte_dot_i8(states + row * h, b, h)
                    onebyte_add_scaled_i8(logits + row * count, a, s, count)
                }
            }
            return
        }
        var w = onebyte_matrix(own, outputs: count, inputs: h)
        w.direction_scale = directions.scales[slot]
        let panels = panels.reserve(onebyte_product_scratch(h))
        func part(_ rows: Range<Int>, plus: Int) {
            onebyte_product(states + rows.lowerBound * h, h, rows.count, plus, &w, nil, logits + rows.lowerBound * count, count, 0, panels)
        }
        for group in groups {
            w.direction = directions.elements(
                slot, group.direction, tokens.lowerBound * h..<tokens.upperBound * h, into: denseElements)
            let rows = group.rows(.reads)
            part(rows.all, plus: rows.plus)
        }
        w.direction = nil
        part(cleanRows(.reads), plus: 0)
    }

    /// y = x·wᵀ for rows of hidden states and rows of the head.
    package func product(
        _ x: UnsafePointer<Float>, rows: Int, by w: UnsafePointer<Float>, outputs: Int, into y: UnsafeMutablePointer<Float>
    ) {
        let h = sizes.hidden
        multiply(
            x, xStride: h, rows: rows, by: w, outputs: outputs, inputs: h, into: y, yStride: outputs,
            panels: panels.reserve(onebyte_product_scratch(h)))
    }
}
