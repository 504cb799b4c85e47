import Core
import Kernels

/// One layer over a packed batch, as the model's description has it. This file holds the order of the parts; other files compute them.
extension ForwardPass {
    /// Carries the batch through a layer. Only the positions that are read leave the last layer, so `x` is then in the layout `reads`.
    ///
    /// - Parameter shared: whether the input is the sequences' `hidden` rows, the same for all segments, with an unperturbed norm. The
    ///   products of the weights are then computed once per sequence (layout `sequences`), and each segment adds its rank-one term. If
    ///   false, the input is `x` in the layout `segments`.
    package func run(_ layer: Int, shared: Bool) throws(ModelError) {
        let last = isLast(layer)
        let layout: Layout = last ? .reads : .segments
        let rows = last ? segmentReads : segmentRows

        let input = try attentionInput(layer, shared: shared)
        let attended = try attention(layer, input, shared: shared)
        continueStream(shared: shared, last: last)
        if description.isParallel {
            // Attention and feed-forward layer both read the stream as it came in.
            let middle = try feedForwardInput(layer, layout: layout, rows: rows)
            try add(.output, of: layer, attended, sizes.query, rows, layout: layout)
            try feedForward(layer, middle, rows, layout: layout)
        } else {
            try add(.output, of: layer, attended, sizes.query, rows, layout: layout)
            let middle = try feedForwardInput(layer, layout: layout, rows: rows)
            try feedForward(layer, middle, rows, layout: layout)
        }
    }

    func lastWriter(_ layer: Int) -> LayerModule? {
        guard directions != nil else { return nil }
        return Self.lastWriter(
            description, adapted: LayerModule.matrices.filter { model.adapter(layer, $0) != nil },
            trainsWeights: model.layerSlots[layer].contains { $0 >= 0 })
    }

    /// Returns the module up to which a layer is the same for all directions, if that module adds to the residual stream. Returns nil if directions
    /// differ before it, or by more than an adapter at it.
    ///
    /// - Parameters:
    ///   - adapted: the layer's matrices with an adapter, in the order of `LayerModule.matrices`.
    ///   - trainsWeights: whether tensors of the layer itself are trained.
    static func lastWriter(_ description: ModelDescription, adapted: [LayerModule], trainsWeights: Bool) -> LayerModule? {
        guard !trainsWeights, !description.isParallel else { return nil }
        guard description.norms.isDisjoint(with: [.attentionOutputNorm, .attentionSumNorm, .feedForwardOutputNorm, .feedForwardSumNorm])
        else { return nil }
        if adapted == [.down] { return .down }
        return adapted.first == .output ? .output : nil
    }

    /// Runs a layer in which directions differ only by adapters from `module` on. Everything before `module`, its product, and its adapter's input
    /// are computed once per sequence. Then each segment adds ±ε·U·Z·Vᵀ·x.
    func run(_ layer: Int, sharingUpTo module: LayerModule) throws(ModelError) {
        let last = isLast(layer)
        let layout: Layout = last ? .reads : .segments
        let h = sizes.hidden
        let cleanRows = try withCleanSegments { () throws(ModelError) -> Int in
            let rows = last ? segmentReads : segmentRows
            expand()
            let attended = try attention(layer, try attentionInput(layer, shared: false), shared: false)
            continueStream(shared: false, last: last)
            try add(.output, of: layer, attended, sizes.query, rows, layout: layout)
            if module == .down { try feedForward(layer, try feedForwardInput(layer, layout: layout, rows: rows), rows, layout: layout) }
            return rows
        }
        let clean = branch.reserve(cleanRows * h)
        clean.update(from: self.x.pointer, count: cleanRows * h)
        let rows = last ? segmentReads : segmentRows
        let x = x.reserve(rows * h)
        for segment in segments {
            let sequence = sequences[segment.sequence]
            let from = last ? sequence.readRow : sequence.row
            let own = self.rows(of: segment, layout)
            (x + own.lowerBound * h).update(from: clean + from * h, count: own.count * h)
            perturbCopy(
                module, of: layer, segment, firstRow: from, rows: own.count, to: x + own.lowerBound * h, h, scaledBy: description.residualScale)
        }
        if module == .output { try feedForward(layer, try feedForwardInput(layer, layout: layout, rows: rows), rows, layout: layout) }
    }

    /// Whether only the positions that are read leave the layer.
    func isLast(_ layer: Int) -> Bool { layer == model.configuration.layerCount - 1 && keptAttention == nil }

    // MARK: Parts of a layer

    /// Returns the normalised input of attention for all rows: in the layout `sequences` if shared, else in the layout `segments`.
    private func attentionInput(_ layer: Int, shared: Bool) throws(ModelError) -> UnsafePointer<Float> {
        let h = sizes.hidden
        let rows = shared ? sequenceRows : segmentRows
        let normed = normed.reserve(rows * h)
        let hasNorm = description.norms.contains(.inputNorm)
        if shared {
            let vectors = hasNorm ? try vectors(.inputNorm, of: layer) : nil
            for sequence in sequences {
                guard let hidden = sequence.hidden else { continue }
                let own = normed + sequence.row * h
                if let vectors {
                    norm(hidden, vectors, into: own, sequence.length, width: h)
                } else {
                    own.update(from: hidden, count: sequence.length * h)
                }
            }
        } else if hasNorm {
            try normalise(x.pointer, .inputNorm, of: layer, layout: .segments, rows: rows, into: normed)
        } else {
            normed.update(from: x.pointer, count: rows * h)
        }
        observer?(layer, .attention, UnsafePointer(normed), h, rows)
        return UnsafePointer(normed)
    }

    /// Returns the normalised input of the feed-forward layer.
    private func feedForwardInput(_ layer: Int, layout: Layout, rows: Int) throws(ModelError) -> UnsafePointer<Float> {
        let h = sizes.hidden
        let middle = normed.reserve(rows * h)
        let module = description.sharesInputNorm ? LayerModule.inputNorm : .feedForwardNorm
        if description.norms.contains(module) {
            try normalise(x.pointer, module, of: layer, layout: layout, rows: rows, into: middle)
        } else {
            middle.update(from: x.pointer, count: rows * h)
        }
        observer?(layer, .feedForward, UnsafePointer(middle), h, rows)
        return UnsafePointer(middle)
    }

    /// Computes the feed-forward layer and adds its output to the residual stream.
    private func feedForward(_ layer: Int, _ middle: UnsafePointer<Float>, _ rows: Int, layout: Layout) throws(ModelError) {
        let (inner, stride) = try innerStates(layer, middle, rows, layout: layout)
        observer?(layer, .down, inner, stride, rows)
        try add(.down, of: layer, inner, stride, rows, layout: layout)
    }

    /// Multiplies by the output or the down matrix and adds the result to the residual stream, with the norms around it.
    private func add(
        _ module: LayerModule, of layer: Int, _ input: UnsafePointer<Float>, _ inputStride: Int, _ rows: Int, layout: Layout
    ) throws(ModelError) {
        let h = sizes.hidden
        let x = x.pointer
        let outputNorm: LayerModule = module == .output ? .attentionOutputNorm : .feedForwardOutputNorm
        let sumNorm: LayerModule = module == .output ? .attentionSumNorm : .feedForwardSumNorm
        let isNormed = description.norms.contains(outputNorm)
        if isNormed || description.residualScale != 1 {
            let branch = branch.reserve(rows * h)
            try project([module], of: layer, input, inputStride, rows, into: branch, h, layout: layout)
            if isNormed { try normalise(branch, outputNorm, of: layer, layout: layout, rows: rows, into: branch) }
            ob_add_scaled(x, branch, description.residualScale, rows * h)
        } else {
            try project([module], of: layer, input, inputStride, rows, into: x, h, accumulate: true, layout: layout)
        }
        if description.norms.contains(sumNorm) { try normalise(x, sumNorm, of: layer, layout: layout, rows: rows, into: x) }
    }

    // MARK: Rows

    /// Prepares `x`, the residual stream, for the layer's additions. Each segment gets its own copy of shared rows; in the last layer only
    /// the rows that are read stay.
    private func continueStream(shared: Bool, last: Bool) {
        let h = sizes.hidden
        guard shared else {
            if last { compactReads() }
            return
        }
        let x = x.reserve((last ? segmentReads : segmentRows) * h)
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
    }

    /// Returns the rows of a segment in a layout.
    package func rows(of segment: Segment, _ layout: Layout) -> Range<Int> {
        let sequence = sequences[segment.sequence]
        switch layout {
        case .sequences: return sequence.row..<sequence.row + sequence.length
        case .segments: return segment.row..<segment.row + sequence.length
        case .reads: return segment.readRow..<segment.readRow + sequence.reads.count
        }
    }

    /// Returns the rows of the segments with sign 0, which follow those of all directions.
    package func cleanRows(_ layout: Layout) -> Range<Int> {
        let end = layout == .reads ? segmentReads : segmentRows
        return (groups.last.map { layout == .reads ? $0.minusReads.upperBound : $0.minusRows.upperBound } ?? 0)..<end
    }

    func copyReads(_ from: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>, shared: Bool) {
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

    /// Moves x from the layout `segments` to `reads` in place; rows only move towards the beginning.
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
}
