extension ModelFamily {
    /// OPT: learned positions, LayerNorm, ReLU. The 350M model normalises the sums, and its embeddings are narrower than the model.
    static let opt = ModelFamily(
        "opt", title: "OPT",
        form: "LayerNorm, learned positions, ReLU; 350M: norms on the sums, narrower embeddings", className: "OPTForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.refuse("_remove_final_layer_norm", config, "a decoder without its last norm is not supported")
        let isPre = try config.bool("do_layer_norm_before") ?? true
        try model.useLayerNorm(config)
        try model.readActivation(config, keys: "activation_function", standard: .relu)
        model.tiedHead = try config.bool("tie_word_embeddings") ?? true
        model.learnPositions(offset: 2)
        if let width = try config.integer("word_embed_proj_dim"), width != model.hiddenSize { model.description.embedding.projectedWidth = width }
        model.description.isGated = false
        if try config.bool("enable_bias") ?? true { model.description.biased = [.query, .key, .value, .output, .up, .down] }
        model.description.norm.hasWeights = try config.bool("layer_norm_elementwise_affine") ?? true
        model.description.norm.hasBias = model.description.norm.hasWeights
        model.description.head.hasNorm = isPre
        model.description.norms = isPre ? [.inputNorm, .feedForwardNorm] : [.attentionSumNorm, .feedForwardSumNorm]
        model.description.names = .opt
    }
}

extension TensorNames {
    fileprivate static let opt: TensorNames = {
        var names = plain
        names.layers = "model.decoder.layers."
        names.model = [
            .embedding: ModelPlace("model.decoder.embed_tokens"), .positions: ModelPlace("model.decoder.embed_positions"),
            .projectIn: ModelPlace("model.decoder.project_in"), .projectOut: ModelPlace("model.decoder.project_out"),
            .finalNorm: ModelPlace("model.decoder.final_layer_norm"), .head: ModelPlace("lm_head"),
        ]
        names.rename([
            .inputNorm: "self_attn_layer_norm", .output: "self_attn.out_proj", .feedForwardNorm: "final_layer_norm", .up: "fc1", .down: "fc2",
        ])
        names.modules[.attentionSumNorm] = Place("self_attn_layer_norm", gguf: "")
        names.modules[.feedForwardSumNorm] = Place("final_layer_norm", gguf: "")
        return names
    }()
}
