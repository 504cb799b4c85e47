extension ModelFamily {
    /// EXAONE 4: norms after attention and feed-forward layer, and of each head. If some layers have windows, only those rotate.
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
        for (layer, isSliding) in try model.slidingLayers(config, fullEach: 4).enumerated() {
            model.description.layers[layer] = isSliding ? .init(rotation: 0, window: window) : .init(rotation: nil)
        }
    }
}
