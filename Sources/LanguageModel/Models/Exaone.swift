extension ModelFamily {
    /// EXAONE 4: norms behind attention and feed-forward layer, and of each head; where some layers have windows, the others rotate nothing.
    static let exaone4 = ModelFamily(
        "exaone4", title: "EXAONE 4",
        form: "norms behind, q/k norm, full layers without rotation", gguf: "exaone4", className: "Exaone4ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        try model.readAttentionBias(config)
        try model.readRotation(config)
        model.description.attention.queryKeyNorm = .perHead
        model.description.names = .plain
        model.useOutputNormsAlone()
        guard let window = try config.integer("sliding_window"), window > 0 else { return }
        let sliding = try model.slidingLayers(config)
        let each = max(try config.integer("sliding_window_pattern") ?? 4, 1)
        for layer in model.description.layers.indices {
            let isSliding = sliding?[layer] ?? ((layer + 1) % each != 0)
            model.description.layers[layer] = isSliding ? .init(rotation: 0, window: window) : .init(rotation: nil)
        }
    }
}
