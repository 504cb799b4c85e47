extension ModelFamily {
    /// StableLM 2 1.6B: LayerNorm, a quarter of each head rotated.
    static let stableLM = ModelFamily(
        "stablelm", title: "StableLM 2 1.6B",
        form: "LayerNorm, a quarter of a head rotated", gguf: "stablelm", className: "StableLmForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.refuse("qk_layernorm", config, "norms of each head of its own are not supported")
        try config.require("hidden_act", oneOf: ["silu"])
        try model.useLayerNorm(config)
        var settings = try RotationSettings(config, layerType: nil)
        settings.part = settings.part ?? 0.25
        model.description.rotations = [try model.rotation(settings)]
        if try config.bool("use_parallel_residual") ?? false {
            model.description.isParallel = true
            model.description.sharesInputNorm = true
            model.description.norms = [.inputNorm]
        }
        if try config.bool("use_qkv_bias") ?? false { model.description.biased = [.query, .key, .value] }
        model.description.names = .plain
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.set("use_qkv_bias", .bool(file.has("attn_q.bias")))
        json.set("use_parallel_residual", .bool(!file.has("ffn_norm.weight")))
    }
}
