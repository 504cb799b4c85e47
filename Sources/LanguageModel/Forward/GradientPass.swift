import COpenBLAS
import Glibc
import Kernels

/// The gradient of a loss with respect to the adapters of a model's layers, by reverse-mode differentiation (Baydin et al., arXiv 1502.05767).
///
/// Only the input of each layer is kept; the rest is computed again on the way back. So a batch takes the memory of one row of the model's width per
/// position and layer, and the time of about three passes, however many coordinates there are. Matrices that the model does not keep are made
/// one at a time. This works for layers such as llama's; other models use differences of losses.
package final class GradientPass {
    /// Whether layers of this kind can be differentiated here.
    package static func supports(_ d: ModelDescription) -> Bool {
        let attention = d.attention
        return d.norm.kind == .rms && d.norm.hasWeights && d.norms == [.inputNorm, .feedForwardNorm] && !d.isParallel && !d.sharesInputNorm
            && d.biased.isEmpty && d.isGated
            && d.activation == .silu && d.residualScale == 1 && d.head.hasNorm && d.embedding.projectedWidth == nil
            && attention.queryKeyNorm == .none && attention.softcap == 0 && !attention.hasLinearBiases && attention.queryGrowth == nil
    }

    /// The forward pass, with clean segments. Its `normed` holds the states that the head reads.
    package let pass: ForwardPass
    private let model: TrainableModel
    private let sizes: LayerSizes
    private let first: Int
    private let layerInputs: [ScratchBuffer<Float>]
    private let norms = [ScratchBuffer<Float>(capacity: 0), ScratchBuffer<Float>(capacity: 0)]
    private let finalInput = ScratchBuffer<Float>()
    private let adapterStates = ScratchBuffer<Float>()
    private let scratch = Scratch.allCases.map { _ in ScratchBuffer<Float>(capacity: 0) }
    private let allPositions = ScratchBuffer<Int32>()
    private let projected = ScratchBuffer<Float>()
    private let asked = ScratchBuffer<Float>()
    private let product = ScratchBuffer<Float>()

    private enum Scratch: Int, CaseIterable {
        case attentionInput, readInput, keys, values, queries, attended, middle, feedForwardInput, gate, up, inner
        case d, dInner, dInput, dAttended, dQueries, dKeys, dValues, dRead
    }

    /// - Parameter model: has adapters on layers; the first such layer is its entry.
    package init(model: TrainableModel) {
        self.model = model
        sizes = model.sizes
        pass = ForwardPass(model: model)
        let layers = model.configuration.layerCount
        first = if case .layer(let layer) = model.entry { layer } else { layers }
        layerInputs = (0..<max(layers - first, 0)).map { _ in ScratchBuffer<Float>(capacity: 0) }
    }

    private func buffer(_ name: Scratch, _ count: Int) -> UnsafeMutablePointer<Float> { scratch[name.rawValue].reserve(max(count, 1)) }

    // MARK: Up

    /// Computes from the entry up to the states that the head reads.
    package func forward(_ sequences: [ForwardPass.Sequence]) throws(ModelError) {
        let h = sizes.hidden
        pass.begin(directions: nil)
        for sequence in sequences { _ = pass.add(segmentOf: pass.add(sequence)) }
        if layerInputs.isEmpty {
            try pass.runToFinalNorm()
        } else {
            pass.expand()
            for (i, kept) in layerInputs.enumerated() {
                let count = pass.segmentRows * h
                kept.reserve(count).update(from: pass.x.pointer, count: count)
                try pass.run(first + i, shared: false)
            }
        }
        let count = pass.segmentReads * h
        finalInput.reserve(count).update(from: pass.x.pointer, count: count)
        pass.finalNorm(adapts: false)
        guard let adapter = model.finalAdapter else { return }
        adapterStates.reserve(count).update(from: pass.normed.pointer, count: count)
        pass.adaptFinalStates(adapter)
    }

    // MARK: Down

    /// Adds ∂L/∂C of each adapter to `gradients`, by slot.
    ///
    /// - Parameter states: ∂L/∂n for each row of the layout `reads`, where n is the state that the head reads. It is overwritten.
    package func backward(from states: UnsafeMutablePointer<Float>, into gradients: inout [[Double]]) throws(ModelError) {
        let h = sizes.hidden
        let rows = pass.segmentReads
        if let adapter = model.finalAdapter {
            // If y = x + U·C·Vᵀ·x, then ∂L/∂x = ∂L/∂y + V·Cᵀ·Uᵀ·∂L/∂y.
            let direct = buffer(.d, rows * h)
            direct.update(from: states, count: rows * h)
            back(adapter, x: adapterStates.pointer, dy: direct, rows, into: states, &gradients)
        }
        let scale = model.description.head.scale
        if scale != 1 { for i in 0..<rows * h { states[i] *= scale } }
        guard let weight = model.floats(.finalNorm) else { return }
        let dx = buffer(.dInput, rows * h)
        dx.update(repeating: 0, count: rows * h)
        backNorm(finalInput.pointer, UnsafePointer(weight), states, rows, into: dx)
        var gradient = dx
        for layer in (first..<max(model.configuration.layerCount, first)).reversed() {
            gradient = try back(layer, dz: gradient, into: &gradients)
        }
    }

    /// Rows that leave a layer: their positions in their segment, and their indices among all rows.
    private func rowsOut(_ layer: Int, of segment: ForwardPass.Segment) -> (range: Range<Int>, positions: UnsafePointer<Int32>) {
        let sequence = pass.sequences[segment.sequence]
        let isLast = layer == model.configuration.layerCount - 1
        let range = pass.rows(of: segment, isLast ? .reads : .segments)
        return (range, isLast ? sequence.reads.baseAddress ?? UnsafePointer(allPositions.pointer) : UnsafePointer(allPositions.pointer))
    }

    /// Goes back through one layer, from ∂L/∂output to ∂L/∂input. The entry layer needs no ∂L/∂input.
    private func back(
        _ layer: Int, dz: UnsafeMutablePointer<Float>, into gradients: inout [[Double]]
    ) throws(ModelError) -> UnsafeMutablePointer<Float> {
        let (h, f) = (sizes.hidden, sizes.feedForward)
        let isLast = layer == model.configuration.layerCount - 1
        let rows = isLast ? pass.segmentReads : pass.segmentRows
        let state = try again(layer)

        // Feed-forward layer: z = y + down(silu(gate(n))·up(n)).
        let dInner = buffer(.dInner, rows * f)
        try back(.down, layer, x: state.inner, dy: dz, rows, into: dInner, isFirst: true, &gradients)
        // The gradients take the places of the states.
        let (dGate, dUp) = (state.gate, state.up)
        for i in 0..<rows * f {
            let (g, up) = (state.gate[i], state.up[i])
            let sigmoid = 1 / (1 + exp(-g))
            dUp[i] = dInner[i] * g * sigmoid
            dGate[i] = dInner[i] * up * sigmoid * (1 + g * (1 - sigmoid))
        }
        let d = buffer(.d, max(rows, pass.segmentRows) * h)
        try back(.gate, layer, x: state.feedForwardInput, dy: dGate, rows, into: d, isFirst: true, &gradients)
        try back(.up, layer, x: state.feedForwardInput, dy: dUp, rows, into: d, isFirst: false, &gradients)
        // dz becomes ∂L/∂y.
        backNorm(state.middle, state.feedForwardNorm, d, rows, into: dz)

        // Attention: y = x + output(attention(n)).
        let dAttended = buffer(.dAttended, rows * sizes.query)
        try back(.output, layer, x: state.attended, dy: dz, rows, into: dAttended, isFirst: true, &gradients)
        let all = pass.segmentRows
        let dQueries = buffer(.dQueries, rows * sizes.query)
        let dKeys = buffer(.dKeys, all * sizes.keyValue)
        let dValues = buffer(.dValues, all * sizes.keyValue)
        backAttention(layer, state, dAttended, dQueries, dKeys, dValues)
        try back(.key, layer, x: state.attentionInput, dy: dKeys, all, into: d, isFirst: true, &gradients)
        try back(.value, layer, x: state.attentionInput, dy: dValues, all, into: d, isFirst: false, &gradients)
        if isLast {
            let dRead = buffer(.dRead, rows * h)
            try back(.query, layer, x: state.queryInput, dy: dQueries, rows, into: dRead, isFirst: true, &gradients)
            forEachRead { row, read in ob_add_scaled(d + row * h, dRead + read * h, 1, h) }
        } else {
            try back(.query, layer, x: state.attentionInput, dy: dQueries, rows, into: d, isFirst: false, &gradients)
        }
        guard layer > first else { return dz }
        let dx: UnsafeMutablePointer<Float>
        if isLast {
            // The residual stream bypasses the layer only at the positions that are read.
            dx = buffer(.readInput, all * h)
            dx.update(repeating: 0, count: all * h)
            forEachRead { row, read in (dx + row * h).update(from: dz + read * h, count: h) }
        } else {
            dx = dz
        }
        backNorm(layerInputs[layer - first].pointer, state.attentionNorm, d, all, into: dx)
        return dx
    }

    /// Calls `body` for each row that is read, with its index among all rows and in the layout `reads`.
    private func forEachRead(_ body: (_ row: Int, _ read: Int) -> Void) {
        for segment in pass.segments {
            for (i, position) in pass.sequences[segment.sequence].reads.enumerated() { body(segment.row + Int(position), segment.readRow + i) }
        }
    }

    // MARK: A layer once more

    private struct LayerState {
        let attentionInput, queryInput, attended, middle, feedForwardInput: UnsafePointer<Float>
        let gate, up: UnsafeMutablePointer<Float>
        let inner: UnsafePointer<Float>
        /// Queries and keys are rotated.
        let queries, keys, values: UnsafePointer<Float>
        let attentionNorm, feedForwardNorm: UnsafePointer<Float>
    }

    private func again(_ layer: Int) throws(ModelError) -> LayerState {
        let (h, f, all) = (sizes.hidden, sizes.feedForward, pass.segmentRows)
        let isLast = layer == model.configuration.layerCount - 1
        let rows = isLast ? pass.segmentReads : all
        let x = layerInputs[layer - first].pointer
        let attentionNorm = try norm(.inputNorm, layer, norms[0])
        let feedForwardNorm = try norm(.feedForwardNorm, layer, norms[1])
        let epsilon = Float(model.description.norm.epsilon)

        let input = buffer(.attentionInput, all * h)
        ob_rms_norm(x, attentionNorm, input, all, h, epsilon)
        let (keys, values) = (buffer(.keys, all * sizes.keyValue), buffer(.values, all * sizes.keyValue))
        try map(.key, layer, input, all, into: keys)
        try map(.value, layer, input, all, into: values)
        var queryInput = UnsafePointer(input)
        let middle = buffer(.middle, rows * h)
        if isLast {
            let read = buffer(.readInput, rows * h)
            forEachRead { row, at in
                (read + at * h).update(from: input + row * h, count: h)
                (middle + at * h).update(from: x + row * h, count: h)
            }
            queryInput = UnsafePointer(read)
        } else {
            middle.update(from: x, count: rows * h)
        }
        let queries = buffer(.queries, rows * sizes.query)
        try map(.query, layer, queryInput, rows, into: queries)
        let attended = buffer(.attended, rows * sizes.query)
        attend(layer, queries, keys, values, into: attended)
        try map(.output, layer, attended, rows, into: middle, adds: true)

        let feedForwardInput = buffer(.feedForwardInput, rows * h)
        ob_rms_norm(middle, feedForwardNorm, feedForwardInput, rows, h, epsilon)
        let (gate, up, inner) = (buffer(.gate, rows * f), buffer(.up, rows * f), buffer(.inner, rows * f))
        try map(.gate, layer, feedForwardInput, rows, into: gate)
        try map(.up, layer, feedForwardInput, rows, into: up)
        for i in 0..<rows * f { inner[i] = gate[i] / (1 + exp(-gate[i])) * up[i] }
        return LayerState(
            attentionInput: input, queryInput: queryInput, attended: attended, middle: middle, feedForwardInput: feedForwardInput, gate: gate, up: up,
            inner: inner, queries: queries, keys: keys, values: values, attentionNorm: attentionNorm, feedForwardNorm: feedForwardNorm)
    }

    private func norm(_ module: LayerModule, _ layer: Int, _ made: ScratchBuffer<Float>) throws(ModelError) -> UnsafePointer<Float> {
        if let kept = model.residentLayer(layer) { return UnsafePointer(kept[module]) }
        let out = made.reserve(sizes.hidden)
        try model.copyFloats(LayerTensor(module), of: layer, into: out)
        return UnsafePointer(out)
    }

    /// Returns a matrix that is valid until the next one is asked for. One that is not kept is made in the forward pass's scratch, which that
    /// pass does not need now.
    private func weight(_ module: LayerModule, _ layer: Int) throws(ModelError) -> UnsafePointer<Float> {
        if let kept = model.residentLayer(layer) { return UnsafePointer(kept[module]) }
        let shape = sizes.shape(module)
        let out = pass.madeMatrix.reserve(shape.outputs * shape.inputs)
        try model.copyFloats(LayerTensor(module), of: layer, into: out)
        return UnsafePointer(out)
    }

    /// Computes y = (y +) W·x + U·C·Vᵀ·x.
    private func map(
        _ module: LayerModule, _ layer: Int, _ x: UnsafePointer<Float>, _ rows: Int, into y: UnsafeMutablePointer<Float>, adds: Bool = false
    ) throws(ModelError) {
        let (m, n) = sizes.shape(module)
        Self.multiply(x, rows, n, transposed: try weight(module, layer), m, into: y, adds: adds)
        guard let adapter = model.adapter(layer, module) else { return }
        let (p, r) = (adapter.outputCount, adapter.inputCount)
        let z = projected.reserve(rows * r)
        Self.multiply(x, rows, n, transposed: adapter.inputs.pointer, r, into: z, adds: false)
        let t = asked.reserve(rows * p)
        Self.multiply(z, rows, r, transposed: adapter.coordinates.pointer, p, into: t, adds: false)
        Self.multiply(t, rows, p, by: adapter.outputs.pointer, m, into: y, adds: true)
    }

    /// Computes dx = (dx +) dy·W, plus the adapter's part, and ∂L/∂C += (Uᵀdy)·(Vᵀx)ᵀ.
    private func back(
        _ module: LayerModule, _ layer: Int, x: UnsafePointer<Float>, dy: UnsafePointer<Float>, _ rows: Int, into dx: UnsafeMutablePointer<Float>,
        isFirst: Bool, _ gradients: inout [[Double]]
    ) throws(ModelError) {
        let (m, n) = sizes.shape(module)
        Self.multiply(dy, rows, m, by: try weight(module, layer), n, into: dx, adds: !isFirst)
        if let adapter = model.adapter(layer, module) { back(adapter, x: x, dy: dy, rows, into: dx, &gradients) }
    }

    /// Computes dx += V·Cᵀ·Uᵀ·dy for each row, and ∂L/∂C += (Uᵀdy)·(Vᵀx)ᵀ.
    private func back(
        _ adapter: Adapter, x: UnsafePointer<Float>, dy: UnsafePointer<Float>, _ rows: Int, into dx: UnsafeMutablePointer<Float>,
        _ gradients: inout [[Double]]
    ) {
        let (p, r) = (adapter.outputCount, adapter.inputCount)
        let z = projected.reserve(rows * r)
        Self.multiply(x, rows, adapter.inputWidth, transposed: adapter.inputs.pointer, r, into: z, adds: false)
        let t = asked.reserve(rows * p)
        Self.multiply(dy, rows, adapter.outputWidth, transposed: adapter.outputs.pointer, p, into: t, adds: false)
        let g = product.reserve(p * r)
        cblas_sgemm(
            CblasRowMajor, CblasTrans, CblasNoTrans, blasint(p), blasint(r), blasint(rows), 1, t, blasint(p), z, blasint(r), 0, g, blasint(r))
        for i in 0..<p * r { gradients[adapter.slot][i] += Double(g[i]) }
        // Vᵀx is no longer needed.
        Self.multiply(t, rows, p, by: adapter.coordinates.pointer, r, into: z, adds: false)
        Self.multiply(z, rows, r, by: adapter.inputs.pointer, adapter.inputWidth, into: dx, adds: true)
    }

    /// Computes y = (y +) x·wᵀ, where w is outputs × inputs.
    private static func multiply(
        _ x: UnsafePointer<Float>, _ rows: Int, _ inputs: Int, transposed w: UnsafePointer<Float>, _ outputs: Int,
        into y: UnsafeMutablePointer<Float>, adds: Bool
    ) {
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(outputs), blasint(inputs), 1, x, blasint(inputs), w, blasint(inputs),
            adds ? 1 : 0, y, blasint(outputs))
    }

    /// Computes y = (y +) x·w, where w is inputs × outputs.
    private static func multiply(
        _ x: UnsafePointer<Float>, _ rows: Int, _ inputs: Int, by w: UnsafePointer<Float>, _ outputs: Int, into y: UnsafeMutablePointer<Float>,
        adds: Bool
    ) {
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(rows), blasint(outputs), blasint(inputs), 1, x, blasint(inputs), w, blasint(outputs),
            adds ? 1 : 0, y, blasint(outputs))
    }

    // MARK: Norms

    /// Adds the gradient of y = w ⊙ x/√(mean(x²) + ε) with respect to x, for rows of dy, to dx.
    private func backNorm(
        _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>, _ dy: UnsafePointer<Float>, _ rows: Int, into dx: UnsafeMutablePointer<Float>
    ) {
        let h = sizes.hidden
        let scaled = product.reserve(h)
        for row in 0..<rows {
            let (own, gradient, out) = (x + row * h, dy + row * h, dx + row * h)
            let factor = 1 / (ob_dot(own, own, h) / Float(h) + Float(model.description.norm.epsilon)).squareRoot()
            for i in 0..<h { scaled[i] = w[i] * gradient[i] }
            ob_add_scaled(out, own, -factor * factor * factor * ob_dot(scaled, own, h) / Float(h), h)
            ob_add_scaled(out, scaled, factor, h)
        }
    }

    // MARK: Attention

    private func rotate(
        _ x: UnsafeMutablePointer<Float>, _ stride: Int, _ layer: Int, at positions: UnsafePointer<Int32>, of length: Int, rows: Int, heads: Int,
        back: Bool
    ) {
        let d = model.description
        guard let number = d.layers[layer].rotation, d.rotations.indices.contains(number) else { return }
        let (rotation, table) = (d.rotations[number], model.rotary[number])
        let first = table.firstRow(length: length) * table.half
        ob_rope(
            x, stride, positions, rows, heads, sizes.headDimension, rotation.width, rotation.isInterleaved ? 1 : 0, table.cosine + first,
            (back ? table.negatedSine : table.sine) + first)
    }

    private func rotateAll(
        _ layer: Int, _ queries: UnsafeMutablePointer<Float>, _ keys: UnsafeMutablePointer<Float>, back: Bool
    ) {
        let longest = pass.sequences.reduce(0) { max($0, $1.length) }
        let all = allPositions.reserve(longest)
        for i in 0..<longest { all[i] = Int32(i) }
        for segment in pass.segments {
            let sequence = pass.sequences[segment.sequence]
            rotate(
                keys + segment.row * sizes.keyValue, sizes.keyValue, layer, at: all, of: sequence.textLength, rows: sequence.length,
                heads: sizes.keyValueHeads, back: back)
            let out = rowsOut(layer, of: segment)
            rotate(
                queries + out.range.lowerBound * sizes.query, sizes.query, layer, at: out.positions, of: sequence.textLength, rows: out.range.count,
                heads: sizes.heads, back: back)
        }
    }

    /// Computes the softmax of a query's scores over the keys that it sees, from `first` on.
    private func probabilities(
        _ query: UnsafePointer<Float>, _ keys: UnsafePointer<Float>, count: Int, from first: Int, into p: UnsafeMutablePointer<Float>
    ) {
        let scale = model.description.attention.scale
        for j in first..<count { p[j - first] = scale * ob_dot(query, keys + j * sizes.keyValue, sizes.headDimension) }
        ob_softmax(p, count - first)
    }

    /// Calls `body` for each query and head, with the keys that it sees.
    private func forEachQuery(
        _ layer: Int, _ body: (_ row: Int, _ head: Int, _ firstRow: Int, _ keyHead: Int, _ first: Int, _ count: Int) -> Void
    ) {
        let window = model.description.layers[layer].window ?? 0
        let share = sizes.heads / sizes.keyValueHeads
        for segment in pass.segments {
            let out = rowsOut(layer, of: segment)
            for (i, row) in out.range.enumerated() {
                let count = Int(out.positions[i]) + 1
                for head in 0..<sizes.heads {
                    body(row, head, segment.row, head / share, window > 0 && count > window ? count - window : 0, count)
                }
            }
        }
    }

    private func attend(
        _ layer: Int, _ queries: UnsafeMutablePointer<Float>, _ keys: UnsafeMutablePointer<Float>, _ values: UnsafePointer<Float>,
        into out: UnsafeMutablePointer<Float>
    ) {
        let (size, query, keyValue) = (sizes.headDimension, sizes.query, sizes.keyValue)
        rotateAll(layer, queries, keys, back: false)
        let p = product.reserve(max(pass.sequences.reduce(1) { max($0, $1.length) }, size))
        forEachQuery(layer) { row, head, firstRow, keyHead, first, count in
            let at = firstRow * keyValue + keyHead * size
            probabilities(queries + row * query + head * size, keys + at, count: count, from: first, into: p)
            let own = out + row * query + head * size
            own.update(repeating: 0, count: size)
            for j in first..<count { ob_add_scaled(own, values + at + j * keyValue, p[j - first], size) }
        }
    }

    private func backAttention(
        _ layer: Int, _ state: LayerState, _ dAttended: UnsafePointer<Float>, _ dQueries: UnsafeMutablePointer<Float>,
        _ dKeys: UnsafeMutablePointer<Float>,
        _ dValues: UnsafeMutablePointer<Float>
    ) {
        let (size, query, keyValue) = (sizes.headDimension, sizes.query, sizes.keyValue)
        let rows = layer == model.configuration.layerCount - 1 ? pass.segmentReads : pass.segmentRows
        dQueries.update(repeating: 0, count: rows * query)
        dKeys.update(repeating: 0, count: pass.segmentRows * keyValue)
        dValues.update(repeating: 0, count: pass.segmentRows * keyValue)
        let scale = model.description.attention.scale
        let longest = pass.sequences.reduce(1) { max($0, $1.length) }
        let p = product.reserve(2 * longest)
        let dp = p + longest
        forEachQuery(layer) { row, head, firstRow, keyHead, first, count in
            let at = firstRow * keyValue + keyHead * size
            let own = state.queries + row * query + head * size
            probabilities(own, state.keys + at, count: count, from: first, into: p)
            let gradient = dAttended + row * query + head * size
            var mean: Float = 0
            for j in first..<count {
                dp[j - first] = ob_dot(gradient, state.values + at + j * keyValue, size)
                mean += p[j - first] * dp[j - first]
                ob_add_scaled(dValues + at + j * keyValue, gradient, p[j - first], size)
            }
            for j in first..<count {
                let ds = scale * p[j - first] * (dp[j - first] - mean)
                ob_add_scaled(dQueries + row * query + head * size, state.keys + at + j * keyValue, ds, size)
                ob_add_scaled(dKeys + at + j * keyValue, own, ds, size)
            }
        }
        rotateAll(layer, dQueries, dKeys, back: true)
    }
}

extension ModelSource {
    /// Whether the gradient of adapters on layers can be computed. If not, only differences of losses along directions can.
    public var canDifferentiate: Bool { GradientPass.supports(configuration.description) }
}
