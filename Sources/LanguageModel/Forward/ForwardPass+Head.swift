import Core
import Glibc
import Kernels

/// The way from the final norm's input to logits. Only the logits that a loss reads are computed.
extension ForwardPass {
    /// Limit on the logits that are in memory at once: rows × a slice of the vocabulary.
    private static let logitsAtOnce = 1 << 22

    /// Applies the final norm and what stands between it and the head. Afterwards `normed` holds the states that the head reads, in the
    /// layout `reads`.
    ///
    /// - Parameter adapts: whether to apply the model's adapter at `final`, if it has one.
    package func finalNorm(adapts: Bool = true) {
        let h = sizes.hidden
        let rows = segmentReads
        let form = description.head
        let isProjected = description.embedding.projectedWidth != nil
        let out = (isProjected ? branch : normed).reserve(rows * h)
        if form.hasNorm {
            normalise(x.pointer, .finalNorm, .finalNormBias, layout: .reads, rows: rows, into: out)
        } else {
            out.update(from: x.pointer, count: rows * h)
        }
        if isProjected {
            let states = normed.reserve(rows * sizes.embedding)
            project(.projectOut, out, rows, outputs: sizes.embedding, inputs: h, into: states, layout: .reads)
        }
        // The head is linear, so scaling the states scales the logits.
        if form.scale != 1 { scale(normed.pointer, by: form.scale, rows * sizes.embedding) }
        if adapts, let adapter = model.finalAdapter { adaptFinalStates(adapter) }
    }

    /// Computes the logits of some tokens at the first position that the segment reads.
    package func logits(of segment: Segment, tokens: [Int32], into out: UnsafeMutablePointer<Double>) {
        let h = sizes.embedding
        let state = normed.pointer + segment.readRow * h
        let slot = model.headSlot
        for (i, token) in tokens.enumerated() {
            guard var logit = model.headRow(token).map({ ob_dot(state, $0, h) }) else {
                out[i] = .nan
                continue
            }
            if let directions, slot >= 0, segment.direction >= 0 {
                let scale = segment.sign * directions.scales[slot]
                if directions.isRank1 {
                    let a = Float(directions.a(slot, segment.direction)[Int(token)])
                    logit += scale * ob_dot_i8(state, directions.b(slot, segment.direction), h) * a
                } else {
                    let range = Int(token) * h..<(Int(token) + 1) * h
                    logit += scale * ob_dot_i8(state, directions.elements(slot, segment.direction, range, into: denseElements), h)
                }
            }
            out[i] = Double(model.logit(logit + headBias(of: token, segment)))
        }
    }

    /// The head's bias for a token, with the segment's perturbation.
    private func headBias(of token: Int32, _ segment: Segment) -> Float {
        guard let bias = model.headBias else { return 0 }
        let slot = model.slot(.headBias)
        guard let directions, slot >= 0, segment.direction >= 0 else { return bias[Int(token)] }
        return bias[Int(token)] + segment.sign * directions.scales[slot] * Float(directions.vector(slot, segment.direction)[Int(token)])
    }

    /// Fills `logProbability` and `isLikeliest`: for each row of the layout `reads`, log p(target) under the whole vocabulary, and whether
    /// the target has the highest logit.
    ///
    /// - Parameter targets: one token per row.
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
                ob_log_sum_exp_parts(own, count, &largest, &sum)
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

    /// Finds, for each row of the layout `reads`, the token with the highest logit, or the first of several; −1 if a logit is not finite.
    /// Call `finalNorm` first.
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

    /// Returns the first of the largest numbers, or NaN if any number is not finite.
    package static func largest(_ x: UnsafePointer<Float>, _ count: Int) -> (index: Int, value: Float) {
        typealias Lanes = SIMD16<Float>
        var top = Lanes(repeating: -.infinity)
        var sum = Lanes()
        let whole = count / Lanes.scalarCount * Lanes.scalarCount
        for i in stride(from: 0, to: whole, by: Lanes.scalarCount) {
            let own = UnsafeRawPointer(x + i).loadUnaligned(as: Lanes.self)
            top = top.replacing(with: own, where: own .> top)
            // NaN as soon as any number is NaN or infinite.
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

    /// Computes the logits of the whole vocabulary for all rows that are read at once; for generation and tests.
    package func allLogits(into out: UnsafeMutablePointer<Float>) {
        guard let head = model.fullHeadPointer else { return }
        fillLogits(out, head: head, tokens: 0..<model.configuration.vocabularySize)
    }

    /// Computes the logits of every segment for a slice of the vocabulary, with the segment's perturbations.
    private func fillLogits(_ logits: UnsafeMutablePointer<Float>, head: UnsafePointer<Float>, tokens: Range<Int>) {
        let width = sizes.embedding
        let own = head + tokens.lowerBound * width
        let slot = model.headSlot
        if directions == nil || slot < 0 {
            product(normed.pointer, rows: segmentReads, by: own, outputs: tokens.count, into: logits)
        } else {
            fillPerturbed(logits, head: own, slot: slot, tokens: tokens)
        }
        let biasSlot = model.slot(.headBias)
        if let directions, biasSlot >= 0 {
            for segment in segments where segment.direction >= 0 {
                for row in rows(of: segment, .reads) {
                    ob_add_scaled_i8(
                        logits + row * tokens.count, directions.vector(biasSlot, segment.direction) + tokens.lowerBound,
                        segment.sign * directions.scales[biasSlot], tokens.count)
                }
            }
        }
        finishLogits(logits, rows: segmentReads, tokens: tokens)
    }

    /// Turns products of states with the head's rows into logits, by the unperturbed head's bias and softcap.
    package func finishLogits(_ logits: UnsafeMutablePointer<Float>, rows: Int, tokens: Range<Int>) {
        if let bias = model.headBias {
            for row in 0..<rows { ob_add_scaled(logits + row * tokens.count, bias + tokens.lowerBound, 1, tokens.count) }
        }
        if description.head.softcap > 0 { ob_softcap(logits, rows * tokens.count, description.head.softcap) }
    }

    private func fillPerturbed(_ logits: UnsafeMutablePointer<Float>, head own: UnsafePointer<Float>, slot: Int, tokens: Range<Int>) {
        guard let directions else { return }
        let h = sizes.embedding
        let count = tokens.count
        let states = normed.pointer
        if directions.isRank1 {
            product(states, rows: segmentReads, by: own, outputs: count, into: logits)
            for segment in segments where segment.direction >= 0 {
                let a = directions.a(slot, segment.direction) + tokens.lowerBound
                let b = directions.b(slot, segment.direction)
                for row in rows(of: segment, .reads) {
                    let s = segment.sign * directions.scales[slot] * ob_dot_i8(states + row * h, b, h)
                    ob_add_scaled_i8(logits + row * count, a, s, count)
                }
            }
            return
        }
        var w = ob_matrix(own, outputs: count, inputs: h)
        w.direction_scale = directions.scales[slot]
        let panels = panels.reserve(ob_product_scratch(h))
        func part(_ rows: Range<Int>, plus: Int) {
            ob_product(states + rows.lowerBound * h, h, rows.count, plus, &w, nil, logits + rows.lowerBound * count, count, 0, panels)
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

    /// Computes y = x·wᵀ for rows of final states and rows of the head.
    package func product(
        _ x: UnsafePointer<Float>, rows: Int, by w: UnsafePointer<Float>, outputs: Int, into y: UnsafeMutablePointer<Float>
    ) {
        plainProduct(ob_matrix(w, outputs: outputs, inputs: sizes.embedding), x, sizes.embedding, rows, into: y, outputs)
    }

    /// Computes the logits of final states for the whole vocabulary by the unperturbed head.
    func headLogits(_ states: UnsafePointer<Float>, rows: Int, head: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>) {
        let vocabulary = model.configuration.vocabularySize
        product(states, rows: rows, by: head, outputs: vocabulary, into: y)
        finishLogits(y, rows: rows, tokens: 0..<vocabulary)
    }

    /// Replaces a row of logits by the gradient of −log p(target) with respect to the products from which the softcap, if any, made the
    /// logits.
    func replaceLogitsByGradient(_ row: UnsafeMutablePointer<Float>, target: Int) {
        let vocabulary = model.configuration.vocabularySize
        let cap = description.head.softcap
        guard cap > 0 else {
            ob_softmax(row, vocabulary)
            row[target] -= 1
            return
        }
        // d/dy cap·tanh(y/cap) = 1 − (logit/cap)².
        let slopes = capSlopes.reserve(vocabulary)
        for i in 0..<vocabulary { slopes[i] = 1 - (row[i] / cap) * (row[i] / cap) }
        ob_softmax(row, vocabulary)
        row[target] -= 1
        for i in 0..<vocabulary { row[i] *= slopes[i] }
    }
}

extension TrainableModel {
    /// The bias that is added to logits; nil if the head has none.
    package var headBias: UnsafePointer<Float>? { floats(.headBias).map { UnsafePointer($0) } }

    /// Returns the logit for the product of a final state and a row of the head, bias included.
    package func logit(_ product: Float) -> Float {
        let cap = description.head.softcap
        return cap > 0 ? cap * tanh(product / cap) : product
    }

    /// Returns the derivative of a logit with respect to that product.
    package func logitSlope(_ logit: Double) -> Double {
        let cap = Double(description.head.softcap)
        return cap > 0 ? 1 - (logit / cap) * (logit / cap) : 1
    }
}
