extension ModelFamily {
    /// GPT-NeoX and Pythia: attention and feed-forward layer in parallel, q, k and v of each head in one tensor, a quarter of each head
    /// rotated.
    static let gptNeoX = ModelFamily(
        "gpt_neox", title: "GPT-NeoX, Pythia",
        form: "parallel, a quarter of a head rotated, q, k, v of each head together", gguf: "gptneox", className: "GPTNeoXForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useLayerNorm(config)
        try model.readActivation(config, keys: "hidden_act", standard: .gelu)
        var settings = try RotationSettings(config, layerType: nil)
        settings.part = settings.part ?? 0.25
        model.description.rotations = [try model.rotation(settings)]
        model.description.isParallel = try config.bool("use_parallel_residual") ?? true
        model.description.isGated = false
        model.description.biased = [.up, .down]
        if try config.bool("attention_bias") ?? true { model.description.biased.formUnion([.query, .key, .value, .output]) }
        model.description.names = .neoX
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.set("hidden_act", "gelu")
        json.set("attention_bias", .bool(file.has("attn_qkv.bias")))
        json.set("use_parallel_residual", .bool(try file.bool("gptneox.use_parallel_residual") ?? true))
    }
}

extension TensorNames {
    fileprivate static let neoX: TensorNames = {
        var names = plain
        names.root = "gpt_neox."
        names.layers = "gpt_neox.layers."
        names.model = [
            .embedding: ModelPlace("gpt_neox.embed_in", gguf: "token_embd"),
            .finalNorm: ModelPlace("gpt_neox.final_layer_norm", gguf: "output_norm"), .head: ModelPlace("embed_out", gguf: "output"),
        ]
        names.fuseAttention("attention.query_key_value", byHead: true)
        names.rename([.output: "attention.dense", .up: "mlp.dense_h_to_4h", .down: "mlp.dense_4h_to_h"])
        return names
    }()
}
