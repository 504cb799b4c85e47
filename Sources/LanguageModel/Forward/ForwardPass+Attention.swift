import Core
import Glibc
import Kernels

/// Attention: queries, keys and values, their norms and rotation, and the weighted sums of values.
extension ForwardPass {
    /// Number of queries from which matrix products beat one dot product per score. The break-even is at 12 to 20, and lower where tokens
    /// stand before the queries.
    private static let blockedAttentionRows = 16

    /// A layer's attention where the caller keeps keys and values. Queries and key-value rows are one per token, `stride` floats apart.
    package struct Attention {
        package let layer: Int
        /// Rotated queries.
        package let queries: UnsafePointer<Float>
        /// Rows of rotated keys, each with its values behind them.
        package let keyValues: UnsafePointer<Float>
        package let stride: Int
        /// Rows as wide as the model's queries.
        package let output: UnsafeMutablePointer<Float>
        private let sizes: LayerSizes
        private let form: ob_attention

        fileprivate init(
            layer: Int, queries: UnsafePointer<Float>, keyValues: UnsafePointer<Float>, stride: Int, output: UnsafeMutablePointer<Float>,
            sizes: LayerSizes, form: ob_attention
        ) {
            self.layer = layer
            self.queries = queries
            self.keyValues = keyValues
            self.stride = stride
            self.output = output
            self.sizes = sizes
            self.form = form
        }

        /// Fills a row of `output` with the attention of its query over the first `count` rows of its text's keys and values, which lie one
        /// after the other.
        ///
        /// - Parameter scores: scratch for `count` floats.
        package func attend(row: Int, in kept: UnsafePointer<Float>, count: Int, scores: UnsafeMutablePointer<Float>) {
            let width = sizes.keyValue
            var form = form
            ob_attend(
                queries + row * stride, kept, 2 * width, kept + width, 2 * width, count, &form, scores, output + row * sizes.query)
        }
    }

    /// Queries, keys and values as products leave them, before norms and rotation.
    private struct Projections {
        /// Queries of all rows; in the last layer, of the rows that are read.
        let queries: UnsafeMutablePointer<Float>
        let queryStride: Int
        /// Rows of keys, each with its values behind them.
        let keyValues: UnsafeMutablePointer<Float>
        let keyValueStride: Int
        /// The inputs that the keys and values, and the queries, were computed from.
        let input: UnsafePointer<Float>
        let queryInput: UnsafePointer<Float>
    }

    /// Returns the attention output of a layer: rows as wide as the model's queries, in the layout in which they leave the layer.
    ///
    /// - Parameter input: normalised rows; in the layout `sequences` if `shared`, else in the layout `segments`.
    func attention(_ layer: Int, _ input: UnsafePointer<Float>, shared: Bool) throws(ModelError) -> UnsafePointer<Float> {
        let last = isLast(layer)
        let rows = last ? segmentReads : segmentRows
        let projections = try last ? projectLast(layer, input, shared: shared) : projectAll(layer, input, shared: shared)
        let attended = attended.reserve(rows * sizes.query)
        if keptAttention == nil {
            try attend(layer, projections, shared: shared, last: last, into: attended)
        } else {
            try attendKept(layer, projections, rows: rows, into: attended)
        }
        observer?(layer, .output, UnsafePointer(attended), sizes.query, rows)
        return UnsafePointer(attended)
    }

    private func projectAll(_ layer: Int, _ input: UnsafePointer<Float>, shared: Bool) throws(ModelError) -> Projections {
        let rows = shared ? sequenceRows : segmentRows
        let stride = sizes.query + 2 * sizes.keyValue
        let out = projections.reserve(rows * stride)
        try project([.query, .key, .value], of: layer, input, sizes.hidden, rows, into: out, stride, layout: shared ? .sequences : .segments)
        return Projections(
            queries: out, queryStride: stride, keyValues: out + sizes.query, keyValueStride: stride, input: input, queryInput: input)
    }

    /// Projects keys and values of all rows, and queries of those that are read.
    private func projectLast(_ layer: Int, _ input: UnsafePointer<Float>, shared: Bool) throws(ModelError) -> Projections {
        let (h, qw, kvw) = (sizes.hidden, sizes.query, sizes.keyValue)
        let rows = shared ? sequenceRows : segmentRows
        let keyValues = projections.reserve(rows * 2 * kvw)
        try project([.key, .value], of: layer, input, h, rows, into: keyValues, 2 * kvw, layout: shared ? .sequences : .segments)
        let readRows = shared ? sequenceReads : segmentReads
        let read = readNormed.reserve(readRows * h)
        copyReads(input, into: read, shared: shared)
        let queries = queries.reserve(readRows * qw)
        try project([.query], of: layer, read, h, readRows, into: queries, qw, layout: shared ? .sequences : .reads)
        return Projections(
            queries: queries, queryStride: qw, keyValues: keyValues, keyValueStride: 2 * kvw, input: input, queryInput: UnsafePointer(read))
    }

    // MARK: Norms and rotation

    /// Normalises and rotates the heads of some rows in place.
    ///
    /// - Parameter textLength: number of tokens of the rows' text; nil if they are of several texts.
    private func finish(
        _ x: UnsafeMutablePointer<Float>, _ stride: Int, _ norm: LayerModule, of layer: Int, _ segment: Segment,
        at positions: UnsafePointer<Int32>, textLength: Int?, rows: Int
    ) throws(ModelError) {
        let isAfter = description.attention.normalisesAfterRotation
        if !isAfter { try normaliseHeads(x, stride, norm, of: layer, segment, rows: rows) }
        let heads = norm == .queryNorm ? sizes.heads : sizes.keyValueHeads
        rotate(x, stride, of: layer, at: positions, textLength: textLength, rows: rows, heads: heads)
        if isAfter { try normaliseHeads(x, stride, norm, of: layer, segment, rows: rows) }
        if norm == .queryNorm, let growth = description.attention.queryGrowth { grow(x, stride, growth, at: positions, rows: rows) }
    }

    private func normaliseHeads(
        _ x: UnsafeMutablePointer<Float>, _ stride: Int, _ module: LayerModule, of layer: Int, _ segment: Segment, rows: Int
    ) throws(ModelError) {
        guard description.attention.queryKeyNorm != .none else { return }
        let width = sizes.shape(module).outputs
        let heads = module == .queryNorm ? sizes.heads : sizes.keyValueHeads
        let own = perturbed(try vectors(module, of: layer), for: segment, width: width)
        let count = description.attention.queryKeyNorm == .perHead ? heads : 1
        for row in 0..<rows { self.norm(x + row * stride, own, into: x + row * stride, count, width: width) }
    }

    private func rotate(
        _ x: UnsafeMutablePointer<Float>, _ stride: Int, of layer: Int, at positions: UnsafePointer<Int32>, textLength: Int?, rows: Int, heads: Int
    ) {
        guard let number = description.layers[layer].rotation, description.rotations.indices.contains(number) else { return }
        let (rotation, table) = (description.rotations[number], model.rotary[number])
        var at = positions
        var first = 0
        if let textLength {
            first = table.firstRow(length: textLength) * table.half
        } else if table.hasLongTexts {
            let own = rotaryRows.reserve(rows)
            for row in 0..<rows { own[row] = positions[row] + Int32(table.firstRow(length: Int(rowTextLengths.pointer[row]))) }
            at = UnsafePointer(own)
        }
        ob_rope(
            x, stride, at, rows, heads, sizes.headDimension, rotation.width, rotation.isInterleaved ? 1 : 0, table.cosine + first,
            table.sine + first)
    }

    private func grow(
        _ queries: UnsafeMutablePointer<Float>, _ stride: Int, _ growth: ModelDescription.QueryGrowth, at positions: UnsafePointer<Int32>, rows: Int
    ) {
        for row in 0..<rows where Int(positions[row]) >= growth.length {
            let factor = 1 + growth.beta * log(1 + Double(Int(positions[row]) / growth.length))
            scale(queries + row * stride, by: Float(factor), sizes.query)
        }
    }

    // MARK: Weighted sums of values

    /// Attends to rows of one or more texts whose earlier keys and values the caller keeps.
    private func attendKept(_ layer: Int, _ own: Projections, rows: Int, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        let clean = Segment(sequence: 0, direction: -1, sign: 0)
        let at = UnsafePointer(rowPositions.pointer)
        try finish(own.queries, own.queryStride, .queryNorm, of: layer, clean, at: at, textLength: nil, rows: rows)
        try finish(own.keyValues, own.keyValueStride, .keyNorm, of: layer, clean, at: at, textLength: nil, rows: rows)
        keptAttention?(
            Attention(
                layer: layer, queries: UnsafePointer(own.queries), keyValues: UnsafePointer(own.keyValues), stride: own.queryStride, output: out,
                sizes: sizes, form: model.attention(layer)))
    }

    /// Attends segment by segment and normalises and rotates queries, keys and values in place. Shared rows are those of sequences without
    /// directions; each segment gets a copy of them with its rank-one terms.
    private func attend(_ layer: Int, _ own: Projections, shared: Bool, last: Bool, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        let longest = sequences.reduce(0) { max($0, $1.length) }
        let all = positions.reserve(longest)
        for i in 0..<longest { all[i] = Int32(i) }
        var copies = SharedCopies(self, layer: layer, longest: shared ? longest : 0)
        for segment in segments {
            let sequence = sequences[segment.sequence]
            let row = shared ? sequence.row : segment.row
            var keys = own.keyValues + row * own.keyValueStride
            var keyStride = own.keyValueStride
            if shared {
                keys = copies.keyValues(keys, keyStride, of: segment, input: own.input, firstRow: row, rows: sequence.length)
                keyStride = 2 * sizes.keyValue
            }
            try finish(keys, keyStride, .keyNorm, of: layer, segment, at: all, textLength: sequence.textLength, rows: sequence.length)

            let count = last ? sequence.reads.count : sequence.length
            let queryRow = last ? (shared ? sequence.readRow : segment.readRow) : row
            guard let at = last ? sequence.reads.baseAddress : UnsafePointer(all) else { continue }
            var queries = own.queries + queryRow * own.queryStride
            var queryStride = own.queryStride
            if shared {
                queries = copies.queries(queries, queryStride, of: segment, input: own.queryInput, firstRow: queryRow, rows: count)
                queryStride = sizes.query
            }
            try finish(queries, queryStride, .queryNorm, of: layer, segment, at: at, textLength: sequence.textLength, rows: count)
            attend(
                model.attention(layer), queries, queryStride, at: at, count, keys, keyStride,
                into: out + (last ? segment.readRow : segment.row) * sizes.query)
        }
    }

    /// Attends within one segment. Consecutive rows are processed as one block, other rows one by one.
    private func attend(
        _ form: ob_attention, _ queries: UnsafePointer<Float>, _ queryStride: Int, at positions: UnsafePointer<Int32>, _ count: Int,
        _ keys: UnsafePointer<Float>, _ keyStride: Int, into out: UnsafeMutablePointer<Float>
    ) {
        var form = form
        let values = keys + sizes.keyValue
        let first = Int(positions[0])
        if count >= Self.blockedAttentionRows, Int(positions[count - 1]) - first == count - 1 {
            ob_attend_rows(
                queries, queryStride, count, keys, values, keyStride, first, &form,
                panels.reserve(ob_attention_scratch(count, first, sizes.headDimension)), out, sizes.query)
            return
        }
        let scores = scores.reserve(Int(positions[count - 1]) + 1)
        for i in 0..<count {
            ob_attend(
                queries + i * queryStride, keys, keyStride, values, keyStride, Int(positions[i]) + 1, &form, scores, out + i * sizes.query)
        }
    }

    /// Copies of shared rows with one segment's rank-one terms.
    private struct SharedCopies {
        private let pass: ForwardPass
        private let layer: Int
        private let keyValues: UnsafeMutablePointer<Float>
        private let queries: UnsafeMutablePointer<Float>
        /// x·b of keys and of values. The segment with + computes them and the segment with − on the same rows uses them again.
        private let dots: UnsafeMutablePointer<Float>
        private let longest: Int
        private var dotsOf = (direction: -1, sequence: -1)

        init(_ pass: ForwardPass, layer: Int, longest: Int) {
            self.pass = pass
            self.layer = layer
            self.longest = longest
            keyValues = pass.segmentKeys.reserve(longest * 2 * pass.sizes.keyValue)
            queries = pass.segmentQueries.reserve(longest * pass.sizes.query)
            dots = pass.rowScales.reserve(2 * longest)
        }

        mutating func keyValues(
            _ from: UnsafePointer<Float>, _ stride: Int, of segment: Segment, input: UnsafePointer<Float>, firstRow: Int, rows: Int
        ) -> UnsafeMutablePointer<Float> {
            let width = pass.sizes.keyValue
            let areKnown = dotsOf == (segment.direction, segment.sequence)
            dotsOf = (segment.direction, segment.sequence)
            copy(
                from, stride, .key, of: segment, input: input, firstRow: firstRow, rows: rows, into: keyValues, 2 * width, dots: dots,
                areKnown: areKnown)
            copy(
                from + width, stride, .value, of: segment, input: input, firstRow: firstRow, rows: rows, into: keyValues + width, 2 * width,
                dots: dots + longest, areKnown: areKnown)
            return keyValues
        }

        func queries(
            _ from: UnsafePointer<Float>, _ stride: Int, of segment: Segment, input: UnsafePointer<Float>, firstRow: Int, rows: Int
        ) -> UnsafeMutablePointer<Float> {
            copy(from, stride, .query, of: segment, input: input, firstRow: firstRow, rows: rows, into: queries, pass.sizes.query)
            return queries
        }

        private func copy(
            _ from: UnsafePointer<Float>, _ fromStride: Int, _ module: LayerModule, of segment: Segment, input: UnsafePointer<Float>,
            firstRow: Int, rows: Int, into to: UnsafeMutablePointer<Float>, _ toStride: Int, dots: UnsafeMutablePointer<Float>? = nil,
            areKnown: Bool = false
        ) {
            let (width, h) = pass.sizes.shape(module)
            let slot = pass.slot(layer, module)
            if let directions = pass.directions, directions.isRank1, segment.direction >= 0, slot >= 0 {
                let a = directions.a(slot, segment.direction)
                let b = directions.b(slot, segment.direction)
                let epsilon = segment.sign * directions.scales[slot]
                for r in 0..<rows {
                    let dot = areKnown ? dots?[r] : nil
                    let s = dot ?? ob_dot_i8(input + (firstRow + r) * h, b, h)
                    dots?[r] = s
                    ob_sum_scaled_i8(from + r * fromStride, a, epsilon * s, to + r * toStride, width)
                }
            } else {
                for r in 0..<rows { (to + r * toStride).update(from: from + r * fromStride, count: width) }
            }
            pass.perturbCopy(module, of: layer, segment, firstRow: firstRow, rows: rows, to: to, toStride)
            let biasSlot = pass.slot(layer, module, isBias: true)
            if biasSlot >= 0 {
                for r in 0..<rows { pass.addDirection(of: segment, slot: biasSlot, width: width, to: to + r * toStride) }
            }
        }
    }
}
