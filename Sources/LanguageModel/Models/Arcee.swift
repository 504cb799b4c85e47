extension ModelFamily {
    /// Arcee's AFM: llama with a squared ReLU and no gate.
    static let arcee = ModelFamily(
        "arcee", title: "Arcee AFM",
        form: "squared ReLU, not gated", gguf: "arcee", className: "ArceeForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.readActivation(config, keys: "hidden_act", standard: .reluSquared)
        try model.readAttentionBias(config)
        if try config.bool("mlp_bias") ?? false { model.description.biased.formUnion([.up, .down]) }
        try model.readRotation(config)
        model.description.isGated = false
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.set("hidden_act", "relu2")
        json.set("attention_bias", .bool(file.has("attn_output.bias")))
    }
}
