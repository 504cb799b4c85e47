extension ModelFamily {
    /// Llama 1 to 3.2, and the many models of the same form: SmolLM2, TinyLlama, Vicuna, Falcon 3, DeepSeek's distillations.
    public static let llama = ModelFamily(
        "llama", title: "Llama 1 to 3.3, SmolLM2, TinyLlama, Vicuna, Falcon 3, DeepSeek-R1-Distill-Llama",
        form: "RMSNorm, rotary positions, grouped-query attention, SwiGLU", gguf: "llama", className: "LlamaForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu", "swish"])
        try model.readAttentionBias(config)
        if try config.bool("mlp_bias") ?? false { model.description.biased.formUnion([.gate, .up, .down]) }
        try model.readRotation(config)
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.set("attention_bias", .bool(file.has("attn_output.bias")))
        json.set("mlp_bias", .bool(file.has("ffn_down.bias")))
    }
}
