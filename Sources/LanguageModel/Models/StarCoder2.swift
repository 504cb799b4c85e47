extension ModelFamily {
    /// StarCoder 2: LayerNorm, a feed-forward layer without a gate, biases everywhere, a window.
    static let starCoder2 = ModelFamily(
        "starcoder2", title: "StarCoder 2",
        form: "LayerNorm, biases, not gated", gguf: "starcoder2", className: "Starcoder2ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useLayerNorm(config)
        try model.readActivation(config, keys: "hidden_act", standard: .geluTanh)
        model.tiedHead = try config.bool("tie_word_embeddings") ?? true
        try model.readRotation(config)
        try model.readWindows(config)
        model.description.isGated = false
        if try config.bool("use_bias") ?? true { model.description.biased = [.query, .key, .value, .output, .up, .down] }
        model.description.names = .plain
        model.description.names.rename([.up: "mlp.c_fc", .down: "mlp.c_proj"])
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.set("hidden_act", "gelu_pytorch_tanh")
        json.set("use_bias", .bool(file.has("attn_q.bias")))
    }
}
