import Core

/// Sizes that the forward pass often asks for, and the tensors of a layer.
package struct LayerSizes: Sendable {
    package let hidden, query, keyValue, feedForward, heads, keyValueHeads, headDimension: Int
    /// Width of the embeddings and of the states that the head reads.
    package let embedding: Int
    /// Tensors that each layer has, in the order in which they lie in a `LayerWeights`.
    package let tensors: [LayerTensor]
    private let present: Set<LayerTensor>
    private let isQueryKeyNormWhole: Bool

    package init(_ c: ModelConfiguration) {
        hidden = c.hiddenSize
        query = c.headCount * c.headDimension
        keyValue = c.keyValueHeadCount * c.headDimension
        feedForward = c.feedForwardSize
        heads = c.headCount
        keyValueHeads = c.keyValueHeadCount
        headDimension = c.headDimension
        let d = c.description
        embedding = d.embedding.projectedWidth ?? c.hiddenSize
        isQueryKeyNormWhole = d.attention.queryKeyNorm == .whole
        func hasWeight(_ module: LayerModule) -> Bool {
            switch module {
            case .query, .key, .value, .output, .up, .down: true
            case .gate: d.isGated
            case .queryNorm, .keyNorm: d.attention.queryKeyNorm != .none
            default: d.norms.contains(module) && d.norm.hasWeights
            }
        }
        let weights = LayerModule.allCases.filter(hasWeight)
        let biases = weights.filter { $0.isNorm ? d.norm.hasBias && !$0.isQueryKeyNorm : d.biased.contains($0) }
        tensors = weights.map { LayerTensor($0) } + biases.map { LayerTensor($0, isBias: true) }
        present = Set(tensors)
    }

    package func has(_ module: LayerModule) -> Bool { present.contains(LayerTensor(module)) }
    package func hasBias(_ module: LayerModule) -> Bool { present.contains(LayerTensor(module, isBias: true)) }

    /// Shape of a module's weight. A norm has no inputs of its own and counts as a matrix of one column.
    package func shape(_ module: LayerModule) -> (outputs: Int, inputs: Int) {
        switch module {
        case .query: (query, hidden)
        case .output: (hidden, query)
        case .key, .value: (keyValue, hidden)
        case .gate, .up: (feedForward, hidden)
        case .down: (hidden, feedForward)
        case .queryNorm: (isQueryKeyNormWhole ? query : headDimension, 1)
        case .keyNorm: (isQueryKeyNormWhole ? keyValue : headDimension, 1)
        default: (hidden, 1)
        }
    }

    package func tensorShape(_ tensor: LayerTensor) -> TensorShape {
        let (outputs, inputs) = shape(tensor.module)
        return tensor.isBias || tensor.module.isNorm ? .vector(outputs) : .matrix(rows: outputs, columns: inputs)
    }

    package func count(_ tensor: LayerTensor) -> Int { tensorShape(tensor).count }

    /// Multiply-adds of some modules for one row.
    package func cost(_ modules: LayerModule...) -> Int {
        modules.reduce(0) { $0 + (has($1) ? count(LayerTensor($1)) : 0) }
    }
}

/// One layer in F32, in one block. q, k and v are adjacent, and so are gate and up, so that each group is one product.
package final class LayerWeights: @unchecked Sendable {  // written while nobody computes with it
    let sizes: LayerSizes
    private let block: ScratchBuffer<Float>
    /// Offsets in floats by `LayerTensor.index`; −1 for a tensor that the layer does not have.
    private let offsets: [Int]

    init(_ sizes: LayerSizes) {
        self.sizes = sizes
        var offsets = Array(repeating: -1, count: LayerTensor.count)
        var total = 0
        for tensor in sizes.tensors {
            offsets[tensor.index] = total
            total += sizes.count(tensor)
        }
        self.offsets = offsets
        block = ScratchBuffer(capacity: total)
    }

    /// The elements of a tensor; nil if the layer does not have it.
    subscript(_ tensor: LayerTensor) -> UnsafeMutablePointer<Float>? {
        let offset = offsets[tensor.index]
        return offset < 0 ? nil : block.pointer + offset
    }

    /// The weight of a module that the layer has.
    subscript(_ module: LayerModule) -> UnsafeMutablePointer<Float> { block.pointer + max(offsets[module.rawValue], 0) }
}
