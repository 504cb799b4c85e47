import Kernels

/// Carries new tokens of any number of texts through layers that are all in memory, in one batch; the keys and values of what stands
/// before them are the caller's. One thread's; the scratch of it.
final class IncrementalPass {
    let model: TrainableModel
    private let x = ScratchBuffer<Float>()
    private let normed = ScratchBuffer<Float>()
    private let projected = ScratchBuffer<Float>()
    private let attended = ScratchBuffer<Float>()
    private let inner = ScratchBuffer<Float>()
    private let panels = ScratchBuffer<Float>()
    private let positions = ScratchBuffer<Int32>()
    private let ids = ScratchBuffer<Int32>()

    /// What a layer's attention works with: a row for each token, `stride` floats apart in the first two.
    struct Attention {
        let layer: Int
        /// Rotated.
        let queries: UnsafePointer<Float>
        /// The keys, rotated, and behind them the values.
        let keyValues: UnsafePointer<Float>
        let stride: Int
        /// The model's query width apart.
        let output: UnsafeMutablePointer<Float>
        /// Of the scores.
        let scale: Float
    }

    init(model: TrainableModel) { self.model = model }

    /// - Parameters:
    ///   - tokens: with their places in their texts.
    ///   - layers: the first so many.
    ///   - attend: keeps the new keys and values, and fills `output` with what each query finds.
    /// - Returns: the hidden states behind these layers, a row for each token; valid until the next call.
    func run(
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
        let panels = panels.reserve(max(onebyte_product_scratch(h), onebyte_product_scratch(f), onebyte_product_scratch(s.query)))
        for layer in 0..<layers {
            guard let w = model.residentLayer(layer) else { continue }
            onebyte_rms_norm(x, w[.inputNorm], normed, rows, h, epsilon)
            multiply(normed, xStride: h, rows: rows, by: w[.query], outputs: width, inputs: h, into: projected, yStride: width, panels: panels)
            let key = projected + s.query
            onebyte_rope(projected, width, at, rows, s.heads, s.headDimension, rotary.cosine, rotary.sine)
            onebyte_rope(key, width, at, rows, s.keyValueHeads, s.headDimension, rotary.cosine, rotary.sine)
            attend(
                Attention(
                    layer: layer, queries: UnsafePointer(projected), keyValues: UnsafePointer(key), stride: width, output: attended,
                    scale: 1 / Float(s.headDimension).squareRoot()))
            multiply(
                attended, xStride: s.query, rows: rows, by: w[.output], outputs: h, inputs: s.query, into: x, yStride: h, accumulate: true,
                panels: panels)
            onebyte_rms_norm(x, w[.postNorm], normed, rows, h, epsilon)
            var gate = onebyte_matrix(w[.gate], outputs: f, inputs: h)
            var up = onebyte_matrix(w[.up], outputs: f, inputs: h)
            onebyte_swiglu_product(normed, h, rows, &gate, &up, nil, nil, inner, f, panels)
            multiply(
                inner, xStride: f, rows: rows, by: w[.down], outputs: h, inputs: f, into: x, yStride: h, accumulate: true, panels: panels)
        }
        return x
    }
}
