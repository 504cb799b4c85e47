extension ModelFamily {
    /// Apertus: llama without a gate, with norms of each head and an activation that has numbers of its own in each layer.
    static let apertus = ModelFamily(
        "apertus", title: "Apertus",
        form: "xIELU, not gated, norms of each head's q and k", gguf: "apertus", className: "ApertusForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["xielu"])
        try model.readAttentionBias(config)
        if try config.bool("mlp_bias") ?? false { model.description.biased.formUnion([.up, .down]) }
        var settings = try RotationSettings(config, layerType: nil)
        settings.theta = settings.theta ?? 12_000_000
        model.description.rotations = [try model.rotation(settings)]
        model.description.isGated = false
        model.description.attention.queryKeyNorm = .perHead
        model.description.names = .plain
        model.description.names.rename([.inputNorm: "attention_layernorm", .feedForwardNorm: "feedforward_layernorm"])
        // The files' numbers take the place of these.
        for layer in model.description.layers.indices { model.description.layers[layer].xielu = .init(alphaPlus: 0, alphaMinus: 0) }
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.set("hidden_act", "xielu")
        json.set("attention_bias", .bool(file.has("attn_output.bias")))
    }
}

extension ModelConfiguration {
    /// Names of the tensors that hold numbers of a layer's activation, in the order of `XIELU.names`; empty if it has none.
    package func activationNames(layer: Int) -> [String] {
        guard description.layers[layer].xielu != nil else { return [] }
        let up = description.names.name(LayerTensor(.up), layer: layer)
        let parent = up.split(separator: ".").dropLast(2).joined(separator: ".")
        return ModelDescription.XIELU.names.map { "\(parent).act_fn.\($0)" }
    }

    /// Sets the numbers of the layers' activations.
    ///
    /// - Parameter numbers: returns the numbers of a layer in the order of `XIELU.names`. The last two may be missing.
    package mutating func readActivations(_ file: String, _ numbers: (Int) throws(ModelError) -> [Float?]) throws(ModelError) {
        for layer in description.layers.indices where description.layers[layer].xielu != nil {
            let found = try numbers(layer)
            guard let plus = found[0], let minus = found[1], plus.isFinite, minus.isFinite else {
                throw ModelError(
                    .missingTensor, file: file, subject: activationNames(layer: layer)[0], "or alpha_n, a number of the activation, is missing",
                    remedy: "the files are incomplete")
            }
            var xielu = ModelDescription.XIELU(alphaPlus: plus, alphaMinus: minus)
            if let beta = found[2] { xielu.beta = beta }
            if let epsilon = found[3] { xielu.epsilon = epsilon }
            description.layers[layer].xielu = xielu
        }
    }
}
