import Core
import Kernels

/// The way from tokens to the first layer's input.
extension ForwardPass {
    /// Embeds every sequence once; `x` then holds them in the layout `sequences`.
    package func embedSequences() throws(ModelError) {
        let rows = embedded.reserve(sequenceRows * sizes.embedding)
        let at = rowPositions.reserve(sequenceRows)
        for sequence in sequences {
            let own = UnsafeBufferPointer(rebasing: sequence.tokens[..<sequence.length])
            try model.copyEmbeddings(own, into: rows + sequence.row * sizes.embedding)
            for i in 0..<sequence.length { at[sequence.row + i] = Int32(i) }
        }
        enter(rows: sequenceRows, layout: .sequences)
    }

    /// Embeds tokens at `rowPositions`, in the order of the rows.
    package func embed(_ tokens: UnsafeBufferPointer<Int32>) throws(ModelError) {
        let rows = embedded.reserve(tokens.count * sizes.embedding)
        try model.copyEmbeddings(tokens, into: rows)
        enter(rows: tokens.count, layout: .sequences)
    }

    /// Embeds every segment with its perturbations.
    func enterFromTokens() throws(ModelError) {
        let width = sizes.embedding
        let rows = embedded.reserve(segmentRows * width)
        let at = rowPositions.reserve(segmentRows)
        for segment in segments {
            let sequence = sequences[segment.sequence]
            let own = UnsafeBufferPointer(rebasing: sequence.tokens[..<sequence.length])
            try model.copyEmbeddings(own, into: rows + segment.row * width)
            for i in own.indices { at[segment.row + i] = Int32(i) }
            for (i, token) in own.enumerated() {
                addDirection(of: segment, row: Int(token), slot: model.embeddingSlot, width: width, to: rows + (segment.row + i) * width)
            }
        }
        enter(rows: segmentRows, layout: .segments)
    }

    /// Adds ±ε times a row of a matrix's direction, if the matrix is trained.
    private func addDirection(of segment: Segment, row: Int, slot: Int, width: Int, to out: UnsafeMutablePointer<Float>) {
        guard let directions, segment.direction >= 0, slot >= 0 else { return }
        let scale = segment.sign * directions.scales[slot]
        if directions.isRank1 {
            let a = Float(directions.a(slot, segment.direction)[row])
            ob_add_scaled_i8(out, directions.b(slot, segment.direction), scale * a, width)
        } else {
            let range = row * width..<(row + 1) * width
            ob_add_scaled_i8(out, directions.elements(slot, segment.direction, range, into: denseElements), scale, width)
        }
    }

    /// Applies what a model does to embeddings before its first layer: scale, projection, learned positions, norm.
    private func enter(rows: Int, layout: Layout) {
        let form = description.embedding
        let h = sizes.hidden
        let x = x.reserve(rows * h)
        if form.scale != 1 { scale(embedded.pointer, by: form.scale, rows * sizes.embedding) }
        if form.projectedWidth == nil {
            x.update(from: embedded.pointer, count: rows * h)
        } else {
            project(.projectIn, embedded.pointer, rows, outputs: h, inputs: sizes.embedding, into: x, layout: layout)
        }
        if form.positionCount != nil { addPositions(rows: rows, layout: layout) }
        if form.hasNorm { normalise(x, .embeddingNorm, .embeddingNormBias, layout: layout, rows: rows, into: x) }
    }

    private func addPositions(rows: Int, layout: Layout) {
        guard let table = model.floats(.positions) else { return }
        let h = sizes.hidden
        let offset = description.embedding.positionOffset
        for row in 0..<rows {
            ob_add_scaled(x.pointer + row * h, table + (Int(rowPositions.pointer[row]) + offset) * h, 1, h)
        }
        let slot = model.slot(.positions)
        guard layout != .sequences, slot >= 0 else { return }
        for segment in segments where segment.direction >= 0 {
            for row in self.rows(of: segment, layout) {
                addDirection(of: segment, row: Int(rowPositions.pointer[row]) + offset, slot: slot, width: h, to: x.pointer + row * h)
            }
        }
    }

    /// Computes y = x·wᵀ for a matrix outside the layers, with every segment's own perturbation.
    package func project(
        _ tensor: ModelTensor, _ x: UnsafePointer<Float>, _ rows: Int, outputs: Int, inputs: Int, into y: UnsafeMutablePointer<Float>, layout: Layout
    ) {
        guard let floats = model.floats(tensor) else { return }
        product(
            ob_matrix(floats, outputs: outputs, inputs: inputs), slot: model.slot(tensor), x, inputs, rows, into: y, outputs, layout: layout)
    }

    func scale(_ x: UnsafeMutablePointer<Float>, by factor: Float, _ count: Int) {
        for i in 0..<count { x[i] *= factor }
    }
}
