extension ModelFamily {
    /// Falcon 7B: attention and feed-forward layer in parallel after one norm, one key-value head.
    static let falcon = ModelFamily(
        "falcon", title: "Falcon 7B",
        form: "parallel, one key-value head", gguf: "falcon", className: "FalconForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.refuse("new_decoder_architecture", config, "the form of Falcon 40B and 180B is not supported")
        try model.refuse("alibi", config, "the form of Falcon-RW is not supported")
        guard try config.bool("multi_query") ?? true, try config.bool("parallel_attn") ?? true else {
            throw ModelError(.unsupported, file: config.path, subject: "multi_query", "or parallel_attn is false: only Falcon 7B's form is supported")
        }
        try model.useLayerNorm(config)
        try model.readActivation(config, keys: "activation", standard: .gelu)
        model.tiedHead = try config.bool("tie_word_embeddings") ?? true
        if let size = try config.integer("ffn_hidden_size") { model.feedForwardSize = size }
        model.keyValueHeadCount = 1
        try model.readRotation(config)
        model.description.isParallel = true
        model.description.sharesInputNorm = true
        model.description.norms = [.inputNorm]
        model.description.isGated = false
        if try config.bool("bias") ?? false { model.description.biased = [.query, .key, .value, .output, .up, .down] }
        model.description.names = .falcon
    } addGGUFSettings: { (json, _) throws(ModelError) in
        json.set("multi_query", true)
        json.set("parallel_attn", true)
        json.set("new_decoder_architecture", false)
        json.set("bias", false)
    }
}

extension TensorNames {
    /// Names of Falcon and BLOOM.
    package static let falcon: TensorNames = {
        var names = gpt
        names.model[.embedding]?.file = "transformer.word_embeddings"
        names.model[.embeddingNorm] = ModelPlace("transformer.word_embeddings_layernorm", gguf: "token_embd_norm")
        names.fuseAttention("self_attention.query_key_value")
        names.rename([
            .inputNorm: "input_layernorm", .output: "self_attention.dense", .feedForwardNorm: "post_attention_layernorm",
            .up: "mlp.dense_h_to_4h", .down: "mlp.dense_4h_to_h",
        ])
        return names
    }()
}
