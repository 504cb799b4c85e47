/// The tensors of a Llama layer, in the order in which they lie in a `LayerWeights`.
package enum LayerTensor: Int, CaseIterable, Sendable {
    case inputNorm, query, key, value, output, postNorm, gate, up, down

    /// Below `model.layers.N.`
    package var suffix: String {
        switch self {
        case .inputNorm: "input_layernorm.weight"
        case .query: "self_attn.q_proj.weight"
        case .key: "self_attn.k_proj.weight"
        case .value: "self_attn.v_proj.weight"
        case .output: "self_attn.o_proj.weight"
        case .postNorm: "post_attention_layernorm.weight"
        case .gate: "mlp.gate_proj.weight"
        case .up: "mlp.up_proj.weight"
        case .down: "mlp.down_proj.weight"
        }
    }

    package func name(layer: Int) -> String { "model.layers.\(layer).\(suffix)" }
}

/// Sizes that the forward pass keeps asking for.
package struct LayerSizes: Sendable {
    package let hidden, query, keyValue, feedForward, heads, keyValueHeads, headDimension: Int

    package init(_ c: ModelConfiguration) {
        hidden = c.hiddenSize
        query = c.headCount * c.headDimension
        keyValue = c.keyValueHeadCount * c.headDimension
        feedForward = c.feedForwardSize
        heads = c.headCount
        keyValueHeads = c.keyValueHeadCount
        headDimension = c.headDimension
    }

    /// A norm has no inputs of its own: it counts as a matrix of one column.
    package func shape(_ tensor: LayerTensor) -> (outputs: Int, inputs: Int) {
        switch tensor {
        case .inputNorm, .postNorm: (hidden, 1)
        case .query: (query, hidden)
        case .output: (hidden, query)
        case .key, .value: (keyValue, hidden)
        case .gate, .up: (feedForward, hidden)
        case .down: (hidden, feedForward)
        }
    }

    package func count(_ tensor: LayerTensor) -> Int {
        let (outputs, inputs) = shape(tensor)
        return outputs * inputs
    }
}

/// One layer in F32, in one block: q, k and v lie one after the other and so do gate and up, so that each group is one product.
package final class LayerWeights: @unchecked Sendable {  // written while nobody computes with it
    let sizes: LayerSizes
    private let block: ScratchBuffer<Float>
    private let offsets: [Int]

    init(_ sizes: LayerSizes) {
        self.sizes = sizes
        var offsets: [Int] = []
        var total = 0
        for tensor in LayerTensor.allCases {
            offsets.append(total)
            total += sizes.count(tensor)
        }
        self.offsets = offsets
        block = ScratchBuffer(capacity: total)
    }

    subscript(_ tensor: LayerTensor) -> UnsafeMutablePointer<Float> { block.pointer + offsets[tensor.rawValue] }
}
