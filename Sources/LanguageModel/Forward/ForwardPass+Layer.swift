import Core
import Kernels

/// One Llama layer (RMSNorm, grouped-query attention with rotary positions, SwiGLU) over a packed batch.
extension ForwardPass {
    /// Queries from which matrix products beat a dot product for each score: 12 to 20, fewer where tokens stand before them.
    private static let blockedAttentionRows = 16
    /// Between rows of the feed-forward's insides: where their length is a multiple of a page, rows would drive each other out of the cache.
    private static let rowPadding = 16

    /// Carries the batch through a layer. Only the positions that are read leave the last one, so `x` ends in the layout `reads` there.
    ///
    /// - Parameter shared: the input are the sequences' `hidden` rows, the same for all segments, and its norm is not perturbed: what the
    ///   weights make of it is computed once per sequence (layout `sequences`), and each segment adds its rank-one term. Otherwise the
    ///   input is `x` in the layout `segments`.
    package func run(_ layer: Int, shared: Bool) throws(ModelError) {
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

        // Keys and values of all rows; queries of all rows, or of those that are read.
        let qw = sizes.query
        let kvw = sizes.keyValue
        let q: UnsafeMutablePointer<Float>
        let qStride: Int
        let kv: UnsafeMutablePointer<Float>
        let kvStride: Int
        let queryInput: UnsafePointer<Float>
        if last {
            let out = projections.reserve(rows * 2 * kvw)
            try project([.key, .value], of: layer, normed, h, rows, into: out, 2 * kvw, layout: layout)
            kv = out
            kvStride = 2 * kvw
            let readRows = shared ? sequenceReads : segmentReads
            let read = readNormed.reserve(readRows * h)
            copyReads(normed, into: read, shared: shared)
            let out2 = queries.reserve(readRows * qw)
            try project([.query], of: layer, read, h, readRows, into: out2, qw, layout: shared ? .sequences : .reads)
            q = out2
            qStride = qw
            queryInput = UnsafePointer(read)
        } else {
            let stride = qw + 2 * kvw
            let out = projections.reserve(rows * stride)
            try project([.query, .key, .value], of: layer, normed, h, rows, into: out, stride, layout: layout)
            q = out
            qStride = stride
            kv = out + qw
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

        try project([.output], of: layer, attended, qw, outRows, into: x, h, accumulate: true, layout: outLayout)

        let f = sizes.feedForward
        let middle = self.normed.reserve(outRows * h)
        normalise(x, try norm(.postNorm, of: layer), slot: slot(layer, .postNorm), layout: outLayout, into: middle)
        observer?(layer, .feedForward, UnsafePointer(middle), h, outRows)
        let inner: UnsafeMutablePointer<Float>
        let stride: Int
        if byteWeights(layer) != nil {
            stride = 2 * f
            inner = self.inner.reserve(outRows * stride)
            try project([.gate, .up], of: layer, middle, h, outRows, into: inner, stride, layout: outLayout)
            activate(inner, of: layer, from: middle, outRows, layout: outLayout)
        } else {
            stride = f + Self.rowPadding
            inner = self.inner.reserve(outRows * stride)
            try feedForward(layer, middle, outRows, into: inner, stride, layout: outLayout)
        }
        observer?(layer, .down, UnsafePointer(inner), stride, outRows)
        try project([.down], of: layer, inner, stride, outRows, into: x, h, accumulate: true, layout: outLayout)
    }

    // MARK: Weights

    /// A matrix as a product is to read it: floats or integers that are kept, or, of a frozen layer that is not, floats made in `made`, which
    /// stay until another matrix is asked for there.
    private func matrix(_ tensor: LayerTensor, of layer: Int, made: ScratchBuffer<Float>) throws(ModelError) -> onebyte_matrix {
        let (outputs, inputs) = sizes.shape(tensor)
        if let kept = model.residentLayer(layer) { return onebyte_matrix(kept[tensor], outputs: outputs, inputs: inputs) }
        let slot = slot(layer, tensor)
        if slot >= 0, let parameters = model.parameters { return onebyte_matrix(parameters, at: slot, outputs: outputs, inputs: inputs) }
        let out = made.reserve(outputs * inputs)
        try model.copyFloats(tensor, of: layer, into: out)
        return onebyte_matrix(out, outputs: outputs, inputs: inputs)
    }

    /// The layer's matrices in bytes where a pass computes with them: one without directions, or with dense ones, has no differences from
    /// clean rows.
    private func byteWeights(_ layer: Int) -> Int8Weights? {
        precision == .int8 && directions?.isRank1 == true ? model.byteLayer(layer) : nil
    }

    private func norm(_ tensor: LayerTensor, of layer: Int) throws(ModelError) -> UnsafePointer<Float> {
        if let kept = model.residentLayer(layer) { return UnsafePointer(kept[tensor]) }
        let out = madeNorm.reserve(sizes.hidden)
        try model.copyFloats(tensor, of: layer, into: out)
        return UnsafePointer(out)
    }

    // MARK: Rows

    /// The rows of a segment in a layout.
    package func rows(of segment: Segment, _ layout: Layout) -> Range<Int> {
        let sequence = sequences[segment.sequence]
        switch layout {
        case .sequences: return sequence.row..<sequence.row + sequence.length
        case .segments: return segment.row..<segment.row + sequence.length
        case .reads: return segment.readRow..<segment.readRow + sequence.reads.count
        }
    }

    /// Rows of the segments with sign 0, which stand behind those of all directions.
    package func cleanRows(_ layout: Layout) -> Range<Int> {
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
    package func normalise(
        _ input: UnsafePointer<Float>, _ weights: UnsafePointer<Float>, slot: Int, layout: Layout, into out: UnsafeMutablePointer<Float>
    ) {
        let h = sizes.hidden
        guard let directions, slot >= 0 else {
            onebyte_rms_norm(input, weights, out, layout == .reads ? segmentReads : segmentRows, h, epsilon)
            return
        }
        let own = perturbedNorm.reserve(h)
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

    /// y = accumulate·y + x·wᵀ of some of a layer's matrices, which read the same x, their outputs side by side, with the perturbations of
    /// every segment; without in the layout `sequences`, whose rows all directions share.
    private func project(
        _ tensors: [LayerTensor], of layer: Int, _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, into y: UnsafeMutablePointer<Float>,
        _ yStride: Int, accumulate: Bool = false, layout: Layout
    ) throws(ModelError) {
        if layout != .sequences, let bytes = byteWeights(layer), let kept = model.residentLayer(layer) {
            differentialProduct(
                x, xStride, kept[tensors[0]], tensors.compactMap { bytes[$0] }, into: y, yStride, accumulate: accumulate, layout: layout)
            var done = 0
            for tensor in tensors where tensor != .gate && tensor != .up {  // theirs are a part of `activate`
                correct(y + done, yStride, tensor, of: layer, from: x, xStride, rows, layout: layout)
                done += sizes.shape(tensor).outputs
            }
            return
        }
        var done = 0
        for tensor in tensors {
            var w = try matrix(tensor, of: layer, made: madeMatrix)
            let slot = slot(layer, tensor)
            let panels = panels.reserve(onebyte_product_scratch(w.inputs))
            func product(_ range: Range<Int>, plus: Int = 0) {
                onebyte_product(
                    x + range.lowerBound * xStride, xStride, range.count, plus, &w, nil, y + done + range.lowerBound * yStride, yStride,
                    accumulate ? 1 : 0, panels)
            }
            if layout != .sequences, setTerms(rowTerms, slot: slot, x, xStride, inputs: w.inputs, layout: layout, rows: rows) {
                var terms = rowTerms.terms
                onebyte_product(x, xStride, rows, rows, &w, &terms, y + done, yStride, accumulate ? 1 : 0, panels)
            } else if let directions, !directions.isRank1, slot >= 0 {
                w.direction_scale = directions.scales[slot]
                for group in groups {
                    w.direction = directions.elements(slot, group.direction, 0..<w.outputs * w.inputs, into: denseElements)
                    let rows = group.rows(layout)
                    product(rows.all, plus: rows.plus)
                }
                w.direction = nil
                product(cleanRows(layout))
            } else {
                product(0..<rows)
            }
            done += w.outputs
        }
    }

    /// silu(x·gateᵀ)·(x·upᵀ) with the perturbations of both.
    private func feedForward(
        _ layer: Int, _ x: UnsafePointer<Float>, _ rows: Int, into y: UnsafeMutablePointer<Float>, _ yStride: Int, layout: Layout
    ) throws(ModelError) {
        var gate = try matrix(.gate, of: layer, made: madeMatrix)
        var up = try matrix(.up, of: layer, made: madeUp)
        let h = sizes.hidden
        let gateSlot = slot(layer, .gate)
        let upSlot = slot(layer, .up)
        let panels = panels.reserve(onebyte_product_scratch(h))
        func product(
            _ range: Range<Int>, plus: Int = 0, _ gateTerms: UnsafePointer<onebyte_rank1_terms>? = nil,
            _ upTerms: UnsafePointer<onebyte_rank1_terms>? = nil
        ) {
            onebyte_swiglu_product(
                x + range.lowerBound * h, h, range.count, plus, &gate, &up, gateTerms, upTerms, y + range.lowerBound * yStride, yStride, panels)
        }
        guard let directions, gateSlot >= 0 || upSlot >= 0 else { return product(0..<rows) }
        if directions.isRank1 {
            setTerms(rowTerms, slot: gateSlot, x, h, inputs: h, layout: layout, rows: rows)
            setTerms(upTerms, slot: upSlot, x, h, inputs: h, layout: layout, rows: rows)
            var (gateTerms, upTerms) = (rowTerms.terms, upTerms.terms)
            return product(0..<rows, &gateTerms, &upTerms)
        }
        let count = gate.outputs * h
        if gateSlot >= 0 { gate.direction_scale = directions.scales[gateSlot] }
        if upSlot >= 0 { up.direction_scale = directions.scales[upSlot] }
        for group in groups {
            gate.direction = gateSlot >= 0 ? directions.elements(gateSlot, group.direction, 0..<count, into: denseElements) : nil
            up.direction = upSlot >= 0 ? directions.elements(upSlot, group.direction, 0..<count, into: denseUpElements) : nil
            let rows = group.rows(layout)
            product(rows.all, plus: rows.plus)
        }
        gate.direction = nil
        up.direction = nil
        product(cleanRows(layout))
    }

    /// ± ε(x·b)a for each row of each segment, where `rank1` trains the matrix; false where no row has such a term.
    @discardableResult
    private func setTerms(
        _ out: RowTerms, slot: Int, _ x: UnsafePointer<Float>, _ xStride: Int, inputs: Int, layout: Layout, rows count: Int
    ) -> Bool {
        out.reserve(count)
        guard let directions, directions.isRank1, slot >= 0 else { return false }
        for segment in segments where segment.direction >= 0 {
            out.set(
                rows(of: segment, layout), x, stride: xStride, inputs: inputs, a: directions.a(slot, segment.direction),
                b: directions.b(slot, segment.direction), scale: segment.sign * directions.scales[slot])
        }
        return true
    }

    /// The same added to a product of differences.
    private func correct(
        _ y: UnsafeMutablePointer<Float>, _ yStride: Int, _ tensor: LayerTensor, of layer: Int, from x: UnsafePointer<Float>, _ xStride: Int,
        _ rows: Int, layout: Layout
    ) {
        let (outputs, inputs) = sizes.shape(tensor)
        guard setTerms(rowTerms, slot: slot(layer, tensor), x, xStride, inputs: inputs, layout: layout, rows: rows) else { return }
        let terms = rowTerms.terms
        for row in 0..<rows {
            if let a = terms.a[row] { onebyte_add_scaled_i8(y + row * yStride, a, terms.scales[row], outputs) }
        }
    }

    /// silu(gate)·up in place of the gates, with the rank-one terms of both: of products of differences.
    private func activate(_ inner: UnsafeMutablePointer<Float>, of layer: Int, from x: UnsafePointer<Float>, _ rows: Int, layout: Layout) {
        let f = sizes.feedForward
        let h = sizes.hidden
        setTerms(rowTerms, slot: slot(layer, .gate), x, h, inputs: h, layout: layout, rows: rows)
        setTerms(upTerms, slot: slot(layer, .up), x, h, inputs: h, layout: layout, rows: rows)
        let (gateTerms, upTerms) = (rowTerms.terms, upTerms.terms)
        for row in 0..<rows {
            let gate = inner + row * 2 * f
            onebyte_swiglu_rank1(gate, gateTerms.a[row], gateTerms.scales[row], gate + f, upTerms.a[row], upTerms.scales[row], gate, f)
        }
    }

    // MARK: Attention

    /// Attention of each segment: its queries, keys and values, rotated where they are.
    ///
    /// - Parameter shared: rows of `q` and `kv` are those of sequences, without directions: each segment gets a copy with its rank-one terms,
    ///   whose x are rows of `normed` and `queryInput`.
    private func attend(
        _ layer: Int, q: UnsafeMutablePointer<Float>, _ qStride: Int, kv: UnsafeMutablePointer<Float>, _ kvStride: Int,
        normed: UnsafePointer<Float>, queryInput: UnsafePointer<Float>, shared: Bool, last: Bool, into out: UnsafeMutablePointer<Float>
    ) {
        let h = sizes.hidden
        let qw = sizes.query
        let kvw = sizes.keyValue
        let dimension = sizes.headDimension
        let longest = sequences.reduce(0) { max($0, $1.length) }
        let copiedKeys = segmentKeys.reserve(shared ? longest * 2 * kvw : 0)
        let copiedQueries = segmentQueries.reserve(shared ? longest * qw : 0)
        let keyStride = shared ? 2 * kvw : kvStride
        let queryStride = shared ? qw : qStride
        let scores = scores.reserve(longest)
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

            let dotsKnown = dotsOf == (d, segment.sequence)
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
            var keys = kv + row * kvStride
            if shared {
                let input = normed + row * h
                copy(keys, kvStride, slot: slot(layer, .key), input: input, rows: n, width: kvw, into: copiedKeys, keyStride, dots: dots)
                copy(
                    keys + kvw, kvStride, slot: slot(layer, .value), input: input, rows: n, width: kvw, into: copiedKeys + kvw, keyStride,
                    dots: dots + longest)
                keys = copiedKeys
            }
            onebyte_rope(keys, keyStride, all, n, sizes.keyValueHeads, dimension, rotary.cosine, rotary.sine)

            let queryCount = last ? sequence.reads.count : n
            let queryRow = last ? (shared ? sequence.readRow : segment.readRow) : row
            guard let at = last ? sequence.reads.baseAddress : UnsafePointer(all) else { continue }
            var queries = q + queryRow * qStride
            if shared {
                copy(
                    queries, qStride, slot: slot(layer, .query), input: queryInput + queryRow * h, rows: queryCount, width: qw,
                    into: copiedQueries, queryStride)
                queries = copiedQueries
            }
            onebyte_rope(queries, queryStride, at, queryCount, sizes.heads, dimension, rotary.cosine, rotary.sine)

            let to = out + (last ? segment.readRow : segment.row) * qw
            let contiguous = Int(at[queryCount - 1] - at[0]) == queryCount - 1
            if queryCount >= Self.blockedAttentionRows, contiguous {
                onebyte_attend_rows(
                    queries, queryStride, queryCount, keys, keys + kvw, keyStride, Int(at[0]), sizes.heads, sizes.keyValueHeads, dimension, scale,
                    panels.reserve(onebyte_attention_scratch(queryCount, Int(at[0]), dimension)), to, qw)
            } else {
                for i in 0..<queryCount {
                    onebyte_attend(
                        queries + i * queryStride, keys, keyStride, keys + kvw, keyStride, Int(at[i]) + 1, sizes.heads, sizes.keyValueHeads, dimension,
                        scale, scores, to + i * qw)
                }
            }
        }
    }
}
