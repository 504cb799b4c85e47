extension ModelFamily {
    /// Qwen 2 and 2.5, and distillations into them: llama with biases of q, k and v.
    static let qwen2 = ModelFamily(
        "qwen2", title: "Qwen 2, Qwen 2.5, DeepSeek-R1-Distill-Qwen",
        form: "biases of q, k, v", gguf: "qwen2", className: "Qwen2ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        model.description.names = .plain
        model.description.biased = [.query, .key, .value]
        try model.readRotation(config)
        try model.readQwenWindows(config)
    }

    /// Qwen 3: queries and keys are normalised head by head.
    static let qwen3 = ModelFamily(
        "qwen3", title: "Qwen 3",
        form: "norms of each head's q and k", gguf: "qwen3", className: "Qwen3ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        if config.present("head_dim") == nil { model.setHeadDimension(128) }
        model.description.names = .plain
        model.description.attention.queryKeyNorm = .perHead
        try model.readAttentionBias(config)
        try model.readRotation(config)
        try model.readQwenWindows(config)
    }
}

extension ModelConfiguration {
    /// Reads windows: only if `use_sliding_window` says so, and then in the upper layers.
    fileprivate mutating func readQwenWindows(_ file: ConfigurationFile) throws(ModelError) {
        guard try file.bool("use_sliding_window") ?? false, let window = try file.integer("sliding_window"), window > 0 else { return }
        let first = try file.integer("max_window_layers") ?? 28
        let sliding = try slidingLayers(file)
        for layer in description.layers.indices where sliding?[layer] ?? (layer >= first) { description.layers[layer].window = window }
    }

    /// Sets the width of a head that a family assumes if its file does not name it.
    package mutating func setHeadDimension(_ dimension: Int) {
        headDimension = dimension
        description.attention.scale = 1 / Float(dimension).squareRoot()
    }
}
