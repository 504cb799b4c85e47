/// The parts of a layer that have tensors: each has a weight, some have a bias. A model's description says which parts a layer has.
package enum LayerModule: Int, CaseIterable, Sendable, Comparable {
    // A `LayerWeights` holds the weights in this order.
    case inputNorm, query, key, value, output, feedForwardNorm, gate, up, down
    /// Norm of attention's output, before it is added to the stream.
    case attentionOutputNorm
    /// Norm of the stream after attention was added.
    case attentionSumNorm
    /// Norm of the feed-forward layer's output, before it is added to the stream.
    case feedForwardOutputNorm
    /// Norm of the stream after the feed-forward layer was added.
    case feedForwardSumNorm
    case queryNorm, keyNorm

    package static func < (a: LayerModule, b: LayerModule) -> Bool { a.rawValue < b.rawValue }

    package static let matrices: [LayerModule] = [.query, .key, .value, .output, .gate, .up, .down]

    package var isNorm: Bool { !Self.matrices.contains(self) }
    /// Whether the module normalises queries or keys, and not activations of the model's width.
    package var isQueryKeyNorm: Bool { self == .queryNorm || self == .keyNorm }
}

/// A tensor of a layer.
package struct LayerTensor: Hashable, Sendable {
    package let module: LayerModule
    package let isBias: Bool

    package init(_ module: LayerModule, isBias: Bool = false) {
        self.module = module
        self.isBias = isBias
    }

    /// Position in a table of all tensors that a layer can have.
    package var index: Int { module.rawValue + (isBias ? LayerModule.allCases.count : 0) }
    package static let count = 2 * LayerModule.allCases.count
}

/// The tensors of a model outside its layers.
package enum ModelTensor: Int, CaseIterable, Sendable {
    case embedding, positions, embeddingNorm, embeddingNormBias, projectIn, finalNorm, finalNormBias, projectOut, head, headBias
}

extension ModelTensor {
    /// Tensors on which every layer's input depends.
    package static let entry: [ModelTensor] = [.embedding, .positions, .embeddingNorm, .embeddingNormBias, .projectIn]
}
