import Core
import Kernels

/// Carries new tokens of any number of texts through layers that are all in memory, in one batch; the keys and values of what stands
/// before them are the caller's. One thread's; the scratch of it.
package final class IncrementalPass {
    package let model: TrainableModel
    private let threads: Int
    private let x = ScratchBuffer<Float>()
    private let normed = ScratchBuffer<Float>()
    private let projected = ScratchBuffer<Float>()
    private let attended = ScratchBuffer<Float>()
    private let inner = ScratchBuffer<Float>()
    private let panels = ScratchBuffer<Float>()
    private let positions = ScratchBuffer<Int32>()
    private let ids = ScratchBuffer<Int32>()

    /// What a layer's attention works with: a row for each token, `stride` floats apart in the first two.
    package struct Attention {
        package let layer: Int
        /// Rotated.
        package let queries: UnsafePointer<Float>
        /// The keys, rotated, and behind them the values.
        package let keyValues: UnsafePointer<Float>
        package let stride: Int
        /// The model's query width apart.
        package let output: UnsafeMutablePointer<Float>
        /// Of the scores.
        package let scale: Float
    }

    /// - Parameter threads: over which a product is spread: of use to a single text, where many would be shared out among passes.
    package init(model: TrainableModel, threads: Int = 1) {
        self.model = model
        self.threads = max(threads, 1)
    }

    /// - Parameters:
    ///   - tokens: with their places in their texts.
    ///   - layers: the first so many.
    ///   - attend: keeps the new keys and values, and fills `output` with what each query finds.
    /// - Returns: the hidden states behind these layers, a row for each token; valid until the next call.
    package func run(
        _ tokens: some Collection<(token: Int32, position: Int)>, layers: Int, attend: (Attention) -> Void
    ) throws(ModelError) -> UnsafeMutablePointer<Float> {
        let s = model.sizes
        let h = s.hidden
        let f = s.feedForward
        let rows = tokens.count
        let x = x.reserve(rows * h)
        let at = positions.reserve(rows)
        let ids = ids.reserve(rows)
        for (row, (token, position)) in tokens.enumerated() {
            ids[row] = token
            at[row] = Int32(position)
        }
        try model.embed(UnsafeBufferPointer(start: ids, count: rows), into: x)

        let epsilon = Float(model.configuration.rmsEpsilon)
        let width = s.query + 2 * s.keyValue
        let rotary = model.rotary
        let normed = normed.reserve(rows * h)
        let projected = projected.reserve(rows * width)
        let attended = attended.reserve(rows * s.query)
        let inner = inner.reserve(rows * f)
        for layer in 0..<layers {
            guard let w = model.residentLayer(layer) else { continue }
            onebyte_rms_norm(x, w[.inputNorm], normed, rows, h, epsilon)
            product(normed, rows: rows, by: w[.query], outputs: width, inputs: h, into: projected)
            let key = projected + s.query
            onebyte_rope(projected, width, at, rows, s.heads, s.headDimension, rotary.cosine, rotary.sine)
            onebyte_rope(key, width, at, rows, s.keyValueHeads, s.headDimension, rotary.cosine, rotary.sine)
            attend(
                Attention(
                    layer: layer, queries: UnsafePointer(projected), keyValues: UnsafePointer(key), stride: width, output: attended,
                    scale: 1 / Float(s.headDimension).squareRoot()))
            product(attended, rows: rows, by: w[.output], outputs: h, inputs: s.query, into: x, accumulate: true)
            onebyte_rms_norm(x, w[.postNorm], normed, rows, h, epsilon)
            gatedProduct(normed, rows: rows, gate: w[.gate], up: w[.up], into: inner)
            product(inner, rows: rows, by: w[.down], outputs: h, inputs: f, into: x, accumulate: true)
        }
        return x
    }

    /// y = accumulate·y + x·wᵀ.
    package func product(
        _ x: UnsafePointer<Float>, rows: Int, by w: UnsafePointer<Float>, outputs: Int, inputs: Int, into y: UnsafeMutablePointer<Float>,
        accumulate: Bool = false
    ) {
        nonisolated(unsafe) let (x, w, y) = (x, w, y)
        forEachPart(of: outputs, inputs: inputs) { range, panels in
            multiply(
                x, xStride: inputs, rows: rows, by: w + range.lowerBound * inputs, outputs: range.count, inputs: inputs,
                into: y + range.lowerBound, yStride: outputs, accumulate: accumulate, panels: panels)
        }
    }

    /// y = silu(x·gateᵀ)·(x·upᵀ).
    private func gatedProduct(
        _ x: UnsafePointer<Float>, rows: Int, gate: UnsafePointer<Float>, up: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>
    ) {
        let h = model.sizes.hidden
        let f = model.sizes.feedForward
        nonisolated(unsafe) let (x, gate, up, y) = (x, gate, up, y)
        forEachPart(of: f, inputs: h) { range, panels in
            var ownGate = onebyte_matrix(gate + range.lowerBound * h, outputs: range.count, inputs: h)
            var ownUp = onebyte_matrix(up + range.lowerBound * h, outputs: range.count, inputs: h)
            onebyte_swiglu_product(x, h, rows, rows, &ownGate, &ownUp, nil, nil, y + range.lowerBound, f, panels)
        }
    }

    /// Parts of a product's outputs, one for each thread, with scratch for it.
    private func forEachPart(of outputs: Int, inputs: Int, _ body: @Sendable (Range<Int>, UnsafeMutablePointer<Float>) -> Void) {
        let share = (outputs + threads - 1) / threads
        let size = threads == 1 ? outputs : (share + 31) / 32 * 32  // whole panels
        let scratch = (onebyte_product_scratch(inputs) + 15) / 16 * 16  // on a cache line each
        nonisolated(unsafe) let panels = panels.reserve(threads * scratch)
        forEachChunk(of: outputs, size: size, threads: threads) { range in body(range, panels + range.lowerBound / size * scratch) }
    }
}
