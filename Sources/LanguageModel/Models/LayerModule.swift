/// The parts of a layer that have tensors: each a weight, some a bias. A description says which of them there are.
package enum LayerModule: Int, CaseIterable, Sendable, Comparable {
    // In this order their weights lie in a `LayerWeights`.
    case inputNorm, query, key, value, output, feedForwardNorm, gate, up, down
    /// Of what attention adds to the stream, before it is added.
    case attentionOutputNorm
    /// Of the stream, after attention was added.
    case attentionSumNorm
    /// Of what the feed-forward layer adds to the stream, before it is added.
    case feedForwardOutputNorm
    /// Of the stream, after the feed-forward layer was added.
    case feedForwardSumNorm
    case queryNorm, keyNorm

    package static func < (a: LayerModule, b: LayerModule) -> Bool { a.rawValue < b.rawValue }

    package static let matrices: [LayerModule] = [.query, .key, .value, .output, .gate, .up, .down]

    package var isNorm: Bool { !Self.matrices.contains(self) }
    /// A module that reads activations of the model's width or its head's, as opposed to one that normalises q or k.
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

    /// Place in a table of all tensors that a layer can have.
    package var index: Int { module.rawValue + (isBias ? LayerModule.allCases.count : 0) }
    package static let count = 2 * LayerModule.allCases.count
}

/// The tensors of a model that belong to no layer.
package enum ModelTensor: Int, CaseIterable, Sendable {
    case embedding, positions, embeddingNorm, embeddingNormBias, projectIn, finalNorm, finalNormBias, projectOut, head, headBias
}

extension ModelTensor {
    /// Those that every layer's input depends on.
    package static let entry: [ModelTensor] = [.embedding, .positions, .embeddingNorm, .embeddingNormBias, .projectIn]
}
