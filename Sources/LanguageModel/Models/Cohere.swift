extension ModelFamily {
    /// Command R: attention and feed-forward layer in parallel after one norm without bias, interleaved rotation, scaled logits.
    static let cohere = ModelFamily(
        "cohere", title: "Command R (2024-08 and before)",
        form: "parallel, LayerNorm without bias, neighbours rotated, scaled logits", gguf: "command-r", className: "CohereForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.refuse("use_qk_norm", config, "norms of each head of its own are not supported")
        try model.useCohere(config)
    } addGGUFSettings: { (json, file) throws(ModelError) in
        if let scale = try file.double("command-r.logit_scale") { json.set("logit_scale", .number("\(scale)")) }
    }

    /// Command R7B: three of four layers have a window, and only those rotate.
    static let cohere2 = ModelFamily(
        "cohere2", title: "Command R7B",
        form: "as Command R, windows, full layers without rotation", gguf: "cohere2", className: "Cohere2ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useCohere(config)
        let window = max(try config.integer("sliding_window") ?? 4096, 1)
        for (layer, isSliding) in try model.slidingLayers(config, fullEach: 4).enumerated() {
            model.description.layers[layer] = isSliding ? .init(rotation: 0, window: window) : .init(rotation: nil)
        }
    } addGGUFSettings: { (json, file) throws(ModelError) in
        if let scale = try file.double("cohere2.logit_scale") { json.set("logit_scale", .number("\(scale)")) }
    }
}

extension ModelConfiguration {
    fileprivate mutating func useCohere(_ file: ConfigurationFile) throws(ModelError) {
        try file.require("hidden_act", oneOf: ["silu"])
        try useLayerNorm(file, hasBias: false)
        tiedHead = try file.bool("tie_word_embeddings") ?? true
        try readAttentionBias(file)
        try readRotation(file, isInterleaved: true)
        description.isParallel = true
        description.sharesInputNorm = true
        description.norms = [.inputNorm]
        description.head.scale = try positive("logit_scale", file) ?? 0.0625
        description.names = .plain
    }
}
