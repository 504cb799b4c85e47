extension ModelFamily {
    /// SmolLM3: llama without rotation in every fourth layer (NoPE).
    static let smolLM3 = ModelFamily(
        "smollm3", title: "SmolLM3",
        form: "layers without rotation", gguf: "smollm3", className: "SmolLM3ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        model.tiedHead = try config.bool("tie_word_embeddings") ?? true
        try model.readAttentionBias(config)
        var settings = try RotationSettings(config, layerType: nil)
        settings.theta = settings.theta ?? 2_000_000
        model.description.rotations = [try model.rotation(settings)]
        if try config.bool("use_sliding_window") ?? false { try model.readWindows(config) }
        let each = max(try config.integer("no_rope_layer_interval") ?? 4, 1)
        let rotates = config.present("no_rope_layers")?.array
        guard rotates == nil || rotates?.count == model.layerCount else {
            throw ModelError(
                .malformed, file: config.path, subject: "no_rope_layers", "does not have a number for each of \(model.layerCount) layers")
        }
        for layer in model.description.layers.indices {
            let isRotated = rotates.map { $0[layer].integer != 0 } ?? ((layer + 1) % each != 0)
            if !isRotated { model.description.layers[layer].rotation = nil }
        }
    }
}
