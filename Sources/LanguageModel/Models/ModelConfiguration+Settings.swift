/// Settings that several families share.
extension ModelConfiguration {
    /// Uses LayerNorm: by mean and variance.
    package mutating func useLayerNorm(_ file: ConfigurationFile, hasBias: Bool = true) throws(ModelError) {
        description.norm.kind = .layer
        description.norm.hasBias = hasBias
        var epsilon: Double?
        for key in ["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"] where epsilon == nil { epsilon = try file.double(key) }
        description.norm.epsilon = epsilon ?? 1e-5
    }

    /// Reads the activation from the first of these keys that is present.
    package mutating func readActivation(_ file: ConfigurationFile, keys: String..., standard: ModelDescription.Activation) throws(ModelError) {
        description.activation = standard
        guard let key = keys.first(where: { file.present($0) != nil }), let name = try file.string(key) else { return }
        switch name {
        case "silu", "swish": description.activation = .silu
        case "gelu": description.activation = .gelu
        case "gelu_new", "gelu_pytorch_tanh", "gelu_fast": description.activation = .geluTanh
        case "relu": description.activation = .relu
        case "relu2": description.activation = .reluSquared
        default:
            throw ModelError(
                .unsupported, file: file.path, subject: key, "is \(name.debugDescription), which is not supported",
                remedy: "supported: silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2")
        }
    }

    /// Puts norms after attention and feed-forward layer, before their outputs are added, and none in front.
    package mutating func useOutputNormsAlone() {
        description.norms = [.attentionOutputNorm, .feedForwardOutputNorm]
        nameOutputNorms()
    }

    /// Puts norms in front of attention and feed-forward layer, and after them before their outputs are added.
    package mutating func useFourNorms() {
        description.norms = [.inputNorm, .attentionOutputNorm, .feedForwardNorm, .feedForwardOutputNorm]
        description.names.modules[.feedForwardNorm]?.file = "pre_feedforward_layernorm"
        nameOutputNorms()
    }

    private mutating func nameOutputNorms() {
        description.names.modules[.attentionOutputNorm] = .init("post_attention_layernorm", gguf: "post_attention_norm")
        description.names.modules[.feedForwardOutputNorm] = .init("post_feedforward_layernorm", gguf: "post_ffw_norm")
    }

    /// Turns rotation off, for models whose positions are learned or part of the scores.
    package mutating func rotateNothing() {
        for layer in description.layers.indices { description.layers[layer].rotation = nil }
    }

    /// Adds a table of learned positions, whose first `offset` rows belong to no token.
    package mutating func learnPositions(offset: Int = 0) {
        rotateNothing()
        description.embedding.positionCount = contextLength + offset
        description.embedding.positionOffset = offset
    }

    /// Refuses a setting that changes the computation, if it is on.
    package func refuse(_ key: String, _ file: ConfigurationFile, _ reason: String) throws(ModelError) {
        guard let value = file.present(key), value != false else { return }
        throw ModelError(.unsupported, file: file.path, subject: key, "is \(value.text(indent: 0)): \(reason)")
    }

    package func positive(_ key: String, _ file: ConfigurationFile) throws(ModelError) -> Float? {
        guard let value = try file.double(key) else { return nil }
        guard value.isFinite, value > 0 else { throw ModelError(.malformed, file: file.path, subject: key, "is \(value), no positive number") }
        return Float(value)
    }
}
