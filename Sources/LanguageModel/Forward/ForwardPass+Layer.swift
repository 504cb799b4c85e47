import COpenBLAS
import Core
import Kernels

/// One Llama layer (RMSNorm, grouped-query attention with rotary positions, SwiGLU) over a packed batch.
extension ForwardPass {
    /// A matrix in a group of matrices that lie one after the other and read the same input.
    private struct Part {
        let slot: Int
        let outputs: Int
        /// The same in bytes, where the pass computes in them.
        let bytes: ByteWeights.Matrix?
    }

    /// Rows of queries in one block from which a matrix product beats a dot product for each score.
    private static let blockedAttentionRows = 32

    /// Carries the batch through a layer. Only the positions that are read leave the last one, so `x` ends in the layout `reads` there.
    ///
    /// - Parameter shared: the input are the sequences' `hidden` rows, the same for all segments, and its norm is not perturbed: what the
    ///   weights make of it is computed once per sequence (layout `sequences`), and each segment adds its rank-one term. Otherwise the
    ///   input is `x` in the layout `segments`.
    func run(_ layer: Int, shared: Bool) throws(ModelError) {
        let last = layer == model.configuration.layerCount - 1
        let h = sizes.hidden
        let rows = shared ? sequenceRows : segmentRows
        let layout: Layout = shared ? .sequences : .segments

        let normed = normed.reserve(rows * h)
        let inputNorm = try norm(.inputNorm, of: layer)
        if shared {
            for sequence in sequences {
                guard let hidden = sequence.hidden else { continue }
                onebyte_rms_norm(hidden, inputNorm, normed + sequence.row * h, sequence.length, h, epsilon)
            }
        } else {
            normalise(x.pointer, inputNorm, slot: slot(layer, .inputNorm), layout: layout, into: normed)
        }
        observer?(layer, .attention, UnsafePointer(normed), h, rows)

        // A pass without directions, or with dense ones, has no differences from clean rows.
        let byteWeights = arithmetic == .int8 && directions?.isRank1 == true ? model.byteLayer(layer) : nil
        func part(_ tensor: LayerTensor, _ outputs: Int) -> Part {
            Part(slot: slot(layer, tensor), outputs: outputs, bytes: byteWeights?[tensor])
        }

        // Keys and values of all rows; queries of all rows, or of those that are read.
        let qw = sizes.query
        let kvw = sizes.keyValue
        let keyParts = [part(.key, kvw), part(.value, kvw)]
        let queryParts = [part(.query, qw)]
        let q: UnsafePointer<Float>
        let qStride: Int
        let kv: UnsafePointer<Float>
        let kvStride: Int
        let queryInput: UnsafePointer<Float>
        if last {
            let out = projections.reserve(rows * 2 * kvw)
            product(normed, h, rows, try matrices([.key, .value], of: layer), keyParts, inputs: h, into: out, 2 * kvw, layout: layout)
            kv = UnsafePointer(out)
            kvStride = 2 * kvw
            let readRows = shared ? sequenceReads : segmentReads
            let read = readNormed.reserve(readRows * h)
            copyReads(normed, into: read, shared: shared)
            let out2 = queries.reserve(readRows * qw)
            product(read, h, readRows, try matrices([.query], of: layer), queryParts, inputs: h, into: out2, qw, layout: shared ? .sequences : .reads)
            q = UnsafePointer(out2)
            qStride = qw
            queryInput = UnsafePointer(read)
        } else {
            let stride = qw + 2 * kvw
            let out = projections.reserve(rows * stride)
            product(normed, h, rows, try matrices([.query, .key, .value], of: layer), queryParts + keyParts, inputs: h, into: out, stride, layout: layout)
            q = UnsafePointer(out)
            qStride = stride
            kv = UnsafePointer(out + qw)
            kvStride = stride
            queryInput = UnsafePointer(normed)
        }

        let outLayout: Layout = last ? .reads : .segments
        let outRows = last ? segmentReads : segmentRows
        let attended = attended.reserve(outRows * qw)
        attend(
            layer, q: q, qStride, kv: kv, kvStride, normed: UnsafePointer(normed), queryInput: queryInput, shared: shared, last: last,
            into: attended)
        observer?(layer, .output, UnsafePointer(attended), qw, outRows)

        // The residual stream where it goes on.
        if shared {
            let x = x.reserve(outRows * h)
            for segment in segments {
                let sequence = sequences[segment.sequence]
                guard let from = sequence.hidden else { continue }
                if last {
                    for (i, position) in sequence.reads.enumerated() {
                        (x + (segment.readRow + i) * h).update(from: from + Int(position) * h, count: h)
                    }
                } else {
                    (x + segment.row * h).update(from: from, count: sequence.length * h)
                }
            }
        } else if last {
            compactReads()
        }
        let x = x.pointer

        product(
            attended, qw, outRows, try matrices([.output], of: layer), [part(.output, h)], inputs: qw, into: x, h,
            accumulate: true, layout: outLayout)
        correct(x, h, outputs: h, from: attended, qw, inputs: qw, slot: slot(layer, .output), layout: outLayout)

        let f = sizes.feedForward
        let middle = self.normed.reserve(outRows * h)
        normalise(x, try norm(.postNorm, of: layer), slot: slot(layer, .postNorm), layout: outLayout, into: middle)
        observer?(layer, .feedForward, UnsafePointer(middle), h, outRows)
        let inner = inner.reserve(outRows * 2 * f)
        let gateSlot = slot(layer, .gate)
        let upSlot = slot(layer, .up)
        product(
            middle, h, outRows, try matrices([.gate, .up], of: layer), [part(.gate, f), part(.up, f)], inputs: h,
            into: inner, 2 * f, layout: outLayout)
        activate(inner, from: middle, gateSlot: gateSlot, upSlot: upSlot, layout: outLayout, rows: outRows)
        observer?(layer, .down, UnsafePointer(inner), 2 * f, outRows)
        product(
            inner, 2 * f, outRows, try matrices([.down], of: layer), [part(.down, h)], inputs: f, into: x, h, accumulate: true,
            layout: outLayout)
        correct(x, h, outputs: h, from: inner, 2 * f, inputs: f, slot: slot(layer, .down), layout: outLayout)
    }

    // MARK: Weights

    /// Matrices one after the other: those that the model keeps, which lie so, or made here, where they stay until others are asked for:
    /// no more of them at a time than a product reads, so that it finds them in the cache.
    private func matrices(_ group: [LayerTensor], of layer: Int) throws(ModelError) -> UnsafePointer<Float> {
        if let kept = model.residentLayer(layer) { return UnsafePointer(kept[group[0]]) }
        let out = madeMatrices.reserve(group.reduce(0) { $0 + sizes.count($1) })
        var done = 0
        for tensor in group {
            try model.copyFloats(tensor, of: layer, into: out + done)
            done += sizes.count(tensor)
        }
        return UnsafePointer(out)
    }

    private func norm(_ tensor: LayerTensor, of layer: Int) throws(ModelError) -> UnsafePointer<Float> {
        if let kept = model.residentLayer(layer) { return UnsafePointer(kept[tensor]) }
        let out = madeNorm.reserve(sizes.hidden)
        try model.copyFloats(tensor, of: layer, into: out)
        return UnsafePointer(out)
    }

    // MARK: Rows

    /// The rows of a segment in a layout.
    func rows(of segment: Segment, _ layout: Layout) -> Range<Int> {
        let sequence = sequences[segment.sequence]
        switch layout {
        case .sequences: return sequence.row..<sequence.row + sequence.length
        case .segments: return segment.row..<segment.row + sequence.length
        case .reads: return segment.readRow..<segment.readRow + sequence.reads.count
        }
    }

    /// Rows of the segments with sign 0, which stand behind those of all directions.
    func cleanRows(_ layout: Layout) -> Range<Int> {
        let end = layout == .reads ? segmentReads : segmentRows
        return (groups.last.map { layout == .reads ? $0.minusReads.upperBound : $0.minusRows.upperBound } ?? 0)..<end
    }

    private func copyReads(_ from: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>, shared: Bool) {
        let h = sizes.hidden
        func copy(_ sequence: Sequence, row: Int, readRow: Int) {
            for (i, position) in sequence.reads.enumerated() {
                (out + (readRow + i) * h).update(from: from + (row + Int(position)) * h, count: h)
            }
        }
        if shared {
            for sequence in sequences { copy(sequence, row: sequence.row, readRow: sequence.readRow) }
        } else {
            for segment in segments { copy(sequences[segment.sequence], row: segment.row, readRow: segment.readRow) }
        }
    }

    /// x from the layout `segments` to `reads`, in place: rows only move towards the beginning.
    private func compactReads() {
        let h = sizes.hidden
        let x = x.pointer
        for segment in segments {
            for (i, position) in sequences[segment.sequence].reads.enumerated() {
                let from = segment.row + Int(position)
                let to = segment.readRow + i
                if from != to { (x + to * h).update(from: x + from * h, count: h) }
            }
        }
    }

    // MARK: Norms

    /// RMSNorm; where its weights are trained, each segment with its own w ± εz.
    func normalise(
        _ input: UnsafePointer<Float>, _ weights: UnsafePointer<Float>, slot: Int, layout: Layout, into out: UnsafeMutablePointer<Float>
    ) {
        let h = sizes.hidden
        guard let directions, slot >= 0 else {
            onebyte_rms_norm(input, weights, out, layout == .reads ? segmentReads : segmentRows, h, epsilon)
            return
        }
        let own = weightsPlus.reserve(h)
        for segment in segments {
            let range = rows(of: segment, layout)
            var used = weights
            if segment.direction >= 0 {
                let z = directions.vector(slot, segment.direction)
                onebyte_sum_scaled_i8(weights, z, segment.sign * directions.scales[slot], own, h)
                used = UnsafePointer(own)
            }
            onebyte_rms_norm(input + range.lowerBound * h, used, out + range.lowerBound * h, range.count, h, epsilon)
        }
    }

    // MARK: Linear maps

    /// y = x·wᵀ of matrices that lie one after the other. A dense family's perturbation is in it; that of `rank1` is left to
    /// `correct` and its like, since it costs nothing there.
    private func product(
        _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, _ w: UnsafePointer<Float>, _ parts: [Part], inputs: Int,
        into y: UnsafeMutablePointer<Float>, _ yStride: Int, accumulate: Bool = false, layout: Layout
    ) {
        let total = parts.reduce(0) { $0 + $1.outputs }
        // Rows of the layout `sequences` are shared by all directions: there is no difference yet.
        let matrices = layout == .sequences ? [] : parts.compactMap(\.bytes)
        if matrices.count == parts.count {
            differentialProduct(x, xStride, w, matrices, into: y, yStride, accumulate: accumulate, layout: layout)
            return
        }
        guard let directions, !directions.isRank1, parts.contains(where: { $0.slot >= 0 }) else {
            multiply(x, xStride: xStride, rows: rows, by: w, outputs: total, inputs: inputs, into: y, yStride: yStride, accumulate: accumulate)
            return
        }
        var done = 0
        for part in parts {
            let own = w + done * inputs
            let out = y + done
            done += part.outputs
            guard part.slot >= 0 else {
                multiply(
                    x, xStride: xStride, rows: rows, by: own, outputs: part.outputs, inputs: inputs, into: out, yStride: yStride,
                    accumulate: accumulate)
                continue
            }
            let count = part.outputs * inputs
            let plus = weightsPlus.reserve(count)
            let minus = weightsMinus.reserve(count)
            for group in groups {
                let z = directions.elements(part.slot, group.direction, 0..<count)
                onebyte_two_sided(own, z, directions.scales[part.slot], plus, minus, count)
                for (range, perturbed) in [
                    (layout == .reads ? group.plusReads : group.plusRows, plus), (layout == .reads ? group.minusReads : group.minusRows, minus),
                ] {
                    multiply(
                        x + range.lowerBound * xStride, xStride: xStride, rows: range.count, by: perturbed, outputs: part.outputs,
                        inputs: inputs, into: out + range.lowerBound * yStride, yStride: yStride, accumulate: accumulate)
                }
            }
            let clean = cleanRows(layout)
            multiply(
                x + clean.lowerBound * xStride, xStride: xStride, rows: clean.count, by: own, outputs: part.outputs, inputs: inputs,
                into: out + clean.lowerBound * yStride, yStride: yStride, accumulate: accumulate)
        }
    }

    /// y += ± ε(x·b)a for each row of each segment, where `rank1` trains the matrix.
    private func correct(
        _ y: UnsafeMutablePointer<Float>, _ yStride: Int, outputs: Int, from x: UnsafePointer<Float>, _ xStride: Int, inputs: Int, slot: Int,
        layout: Layout
    ) {
        guard let directions, directions.isRank1, slot >= 0 else { return }
        let scale = directions.scales[slot]
        for segment in segments where segment.direction >= 0 {
            let a = directions.a(slot, segment.direction)
            let b = directions.b(slot, segment.direction)
            for row in rows(of: segment, layout) {
                let s = segment.sign * scale * onebyte_dot_i8(x + row * xStride, b, inputs)
                onebyte_add_scaled_i8(y + row * yStride, a, s, outputs)
            }
        }
    }

    /// silu(gate)·up in place of the gates, with the rank-one terms of both.
    private func activate(
        _ inner: UnsafeMutablePointer<Float>, from x: UnsafePointer<Float>, gateSlot: Int, upSlot: Int, layout: Layout, rows count: Int
    ) {
        let f = sizes.feedForward
        let h = sizes.hidden
        guard let directions, directions.isRank1, gateSlot >= 0 || upSlot >= 0 else {
            onebyte_swiglu(inner, inner + f, 2 * f, inner, 2 * f, count, f)
            return
        }
        for segment in segments {
            let d = segment.direction
            for row in rows(of: segment, layout) {
                let gate = inner + row * 2 * f
                var aGate: UnsafePointer<Int8>?
                var aUp: UnsafePointer<Int8>?
                var gateScale: Float = 0
                var upScale: Float = 0
                if d >= 0, gateSlot >= 0 {
                    aGate = directions.a(gateSlot, d)
                    gateScale = segment.sign * directions.scales[gateSlot] * onebyte_dot_i8(x + row * h, directions.b(gateSlot, d), h)
                }
                if d >= 0, upSlot >= 0 {
                    aUp = directions.a(upSlot, d)
                    upScale = segment.sign * directions.scales[upSlot] * onebyte_dot_i8(x + row * h, directions.b(upSlot, d), h)
                }
                onebyte_swiglu_rank1(gate, aGate, gateScale, gate + f, aUp, upScale, gate, f)
            }
        }
    }

    // MARK: Attention

    /// Attention of each segment: its queries, keys and values with their rank-one terms, rotated, in scratch of one segment.
    private func attend(
        _ layer: Int, q: UnsafePointer<Float>, _ qStride: Int, kv: UnsafePointer<Float>, _ kvStride: Int, normed: UnsafePointer<Float>,
        queryInput: UnsafePointer<Float>, shared: Bool, last: Bool, into out: UnsafeMutablePointer<Float>
    ) {
        let h = sizes.hidden
        let qw = sizes.query
        let kvw = sizes.keyValue
        let dimension = sizes.headDimension
        let longest = sequences.reduce(0) { max($0, $1.length) }
        let keys = segmentKeys.reserve(longest * 2 * kvw)
        let ownQueries = segmentQueries.reserve(longest * qw)
        let scores = scores.reserve(longest * longest)
        let all = positions.reserve(longest)
        for i in 0..<longest { all[i] = Int32(i) }
        let scale = 1 / Float(dimension).squareRoot()
        let rotary = model.rotary
        let rank1 = directions.flatMap { $0.isRank1 ? $0 : nil }
        // x·b of the keys and values of shared rows, kept from a segment with + for the one with − on the same rows.
        let dots = rowScales.reserve(2 * longest)
        var dotsOf = (direction: -1, sequence: -1)

        for segment in segments {
            let sequence = sequences[segment.sequence]
            let n = sequence.length
            let row = shared ? sequence.row : segment.row
            let d = segment.direction

            let dotsKnown = shared && dotsOf == (d, segment.sequence)
            dotsOf = (d, segment.sequence)

            /// A copy of rows of `from`, with the rank-one term of `slot` where there is one. `dots`: where x·b is kept.
            func copy(
                _ from: UnsafePointer<Float>, _ fromStride: Int, slot: Int, input: UnsafePointer<Float>, rows: Int, width: Int,
                into to: UnsafeMutablePointer<Float>, _ toStride: Int, dots: UnsafeMutablePointer<Float>? = nil
            ) {
                if let rank1, d >= 0, slot >= 0 {
                    let a = rank1.a(slot, d)
                    let b = rank1.b(slot, d)
                    let epsilon = segment.sign * rank1.scales[slot]
                    for r in 0..<rows {
                        let dot = dotsKnown ? dots?[r] : nil
                        let s = dot ?? onebyte_dot_i8(input + r * h, b, h)
                        dots?[r] = s
                        onebyte_sum_scaled_i8(from + r * fromStride, a, epsilon * s, to + r * toStride, width)
                    }
                } else {
                    for r in 0..<rows { (to + r * toStride).update(from: from + r * fromStride, count: width) }
                }
            }
            let input = normed + row * h
            let ownKV = kv + row * kvStride
            copy(ownKV, kvStride, slot: slot(layer, .key), input: input, rows: n, width: kvw, into: keys, 2 * kvw, dots: dots)
            copy(
                ownKV + kvw, kvStride, slot: slot(layer, .value), input: input, rows: n, width: kvw, into: keys + kvw, 2 * kvw,
                dots: dots + longest)
            onebyte_rope(keys, 2 * kvw, all, n, sizes.keyValueHeads, dimension, rotary.cosine, rotary.sine)

            let queryCount = last ? sequence.reads.count : n
            let queryRow = last ? (shared ? sequence.readRow : segment.readRow) : row
            guard let at = last ? sequence.reads.baseAddress : UnsafePointer(all) else { continue }
            copy(
                q + queryRow * qStride, qStride, slot: slot(layer, .query), input: queryInput + queryRow * h, rows: queryCount, width: qw,
                into: ownQueries, qw)
            onebyte_rope(ownQueries, qw, at, queryCount, sizes.heads, dimension, rotary.cosine, rotary.sine)

            let to = out + (last ? segment.readRow : segment.row) * qw
            let contiguous = Int(at[queryCount - 1] - at[0]) == queryCount - 1
            if queryCount >= Self.blockedAttentionRows, contiguous {
                let shared = sizes.heads / sizes.keyValueHeads
                for head in 0..<sizes.heads {
                    let key = keys + head / shared * dimension
                    cblas_sgemm(
                        CblasRowMajor, CblasNoTrans, CblasTrans, blasint(queryCount), blasint(n), blasint(dimension), scale,
                        ownQueries + head * dimension, blasint(qw), key, blasint(2 * kvw), 0, scores, blasint(n))
                    onebyte_causal_softmax(scores, n, queryCount, Int(at[0]) + 1, n)
                    cblas_sgemm(
                        CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(queryCount), blasint(dimension), blasint(n), 1, scores,
                        blasint(n), key + kvw, blasint(2 * kvw), 0, to + head * dimension, blasint(qw))
                }
            } else {
                for i in 0..<queryCount {
                    onebyte_attend(
                        ownQueries + i * qw, keys, 2 * kvw, keys + kvw, 2 * kvw, Int(at[i]) + 1, sizes.heads, sizes.keyValueHeads, dimension,
                        scale, scores, to + i * qw)
                }
            }
        }
    }
}
