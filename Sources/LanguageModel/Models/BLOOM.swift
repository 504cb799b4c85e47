extension ModelFamily {
    /// BLOOM: positions as a bias of the scores (ALiBi), a norm after the embeddings, q, k and v of each head in one tensor.
    static let bloom = ModelFamily(
        "bloom", title: "BLOOM",
        form: "ALiBi, norm of the embeddings", gguf: "bloom", className: "BloomForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.refuse("apply_residual_connection_post_layernorm", config, "a residual stream that begins behind a norm is not supported")
        try model.useLayerNorm(config)
        model.tiedHead = try config.bool("tie_word_embeddings") ?? true
        model.rotateNothing()
        model.description.attention.hasLinearBiases = true
        model.description.activation = .geluTanh
        model.description.isGated = false
        model.description.biased = [.query, .key, .value, .output, .up, .down]
        model.description.embedding.hasNorm = true
        model.description.names = .falcon
        model.description.names.fuseAttention("self_attention.query_key_value", byHead: true)
    } addGGUFSettings: { (json, _) throws(ModelError) in
        for (name, from) in [("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads")] {
            if let value = json[from] { json.set(name, value) }
        }
    }
}
