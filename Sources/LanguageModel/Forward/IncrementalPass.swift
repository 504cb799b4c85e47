import Core
import Kernels

/// Carries new tokens of any number of texts through layers that are all in memory, in one batch. The caller keeps the keys and values of
/// the earlier tokens. It is a `ForwardPass` without directions whose rows all go through all layers.
package final class IncrementalPass {
    package let model: TrainableModel
    private let pass: ForwardPass
    private let ids = ScratchBuffer<Int32>()

    /// - Parameter threads: number of threads that share a product. More than 1 helps a single text; many texts are better shared out among
    ///   passes.
    package init(model: TrainableModel, threads: Int = 1) {
        self.model = model
        pass = ForwardPass(model: model)
        pass.threads = max(threads, 1)
    }

    /// Carries tokens from the embeddings through the first layers.
    ///
    /// - Parameters:
    ///   - tokens: tokens with their positions in their texts, and these texts' numbers of tokens.
    ///   - layers: number of layers to run, from the first.
    ///   - attend: keeps the new keys and values, and fills `output` with the attention of each query.
    /// - Returns: the hidden states after these layers, one row per token; valid until the next call.
    package func run(
        _ tokens: some Collection<(token: Int32, position: Int, textLength: Int)>, layers: Int, attend: (ForwardPass.Attention) -> Void
    ) throws(ModelError) -> UnsafeMutablePointer<Float> {
        let rows = tokens.count
        let ids = ids.reserve(rows)
        let at = pass.rowPositions.reserve(rows)
        let lengths = pass.rowTextLengths.reserve(rows)
        for (row, (token, position, textLength)) in tokens.enumerated() {
            ids[row] = token
            at[row] = Int32(position)
            lengths[row] = Int32(textLength)
        }
        let own = UnsafeBufferPointer(start: ids, count: rows)
        pass.begin(directions: nil)
        _ = pass.add(
            segmentOf: pass.add(ForwardPass.Sequence(length: rows, reads: UnsafeBufferPointer(start: nil, count: 0), tokens: own, hidden: nil)))
        try pass.embed(own)
        return try withoutActuallyEscaping(attend) { attend throws(ModelError) in
            pass.keptAttention = attend
            defer { pass.keptAttention = nil }
            for layer in 0..<layers { try pass.run(layer, shared: false) }
            return pass.x.pointer
        }
    }

    /// Computes the logits of the whole vocabulary for the token that follows a hidden state after all layers.
    package func logits(after state: UnsafePointer<Float>, into logits: UnsafeMutablePointer<Float>) {
        pass.begin(directions: nil)
        let one = UnsafeBufferPointer(start: ids.pointer, count: 1)
        ids.pointer[0] = 0
        _ = pass.add(segmentOf: pass.add(ForwardPass.Sequence(length: 1, reads: one, tokens: one, hidden: nil)))
        pass.x.pointer.update(from: state, count: model.sizes.hidden)
        pass.finalNorm()
        pass.allLogits(into: logits)
    }
}
