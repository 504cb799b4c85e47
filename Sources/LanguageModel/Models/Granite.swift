extension ModelFamily {
    /// Granite 3: llama with multipliers of the embeddings, the scores, the layers' outputs and the logits.
    static let granite = ModelFamily(
        "granite", title: "Granite 3",
        form: "four multipliers", gguf: "granite", className: "GraniteForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        try model.readAttentionBias(config)
        if try config.bool("mlp_bias") ?? false { model.description.biased.formUnion([.gate, .up, .down]) }
        try model.readRotation(config)
        try model.readMultipliers(config)
    } addGGUFSettings: { (json, file) throws(ModelError) in
        let keys = [
            ("embedding_scale", "embedding_multiplier"), ("attention.scale", "attention_multiplier"), ("residual_scale", "residual_multiplier"),
            ("logit_scale", "logits_scaling"),
        ]
        for (own, key) in keys {
            if let value = try file.double("granite.\(own)") { json.set(key, .number("\(value)")) }
        }
    }

    /// Granite 4 without experts and without state-space layers.
    static let granite4 = ModelFamily(
        "granitemoehybrid", title: "Granite 4, dense, without Mamba",
        form: "four multipliers, gate and up in one matrix", exportedAs: "granite", className: "GraniteMoeHybridForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        guard try config.integer("num_local_experts") ?? 8 == 0 else {
            throw ModelError(.unsupported, file: config.path, subject: "num_local_experts", "is not 0: mixtures of experts are not supported")
        }
        guard let types = config.present("layer_types")?.array, types.allSatisfy({ $0 == "attention" || $0 == "full_attention" }) else {
            throw ModelError(
                .unsupported, file: config.path, subject: "layer_types", "names others than attention: state-space layers (Mamba) are not supported")
        }
        try model.readAttentionBias(config)
        if try config.string("position_embedding_type") == "rope" {
            try model.readRotation(config)
        } else {
            model.rotateNothing()
        }
        try model.readMultipliers(config)
        model.feedForwardSize = try config.required("shared_intermediate_size")
        // GGUF's granite holds gate and up apart.
        for (module, part) in [(LayerModule.gate, "gate"), (.up, "up")] {
            var place = TensorNames.Place(partOf: "shared_mlp.input_linear", part, gguf: "ffn_" + part)
            place.isPartOfGGUF = false
            model.description.names.modules[module] = place
        }
        model.description.names.rename([.down: "shared_mlp.output_linear"])
    }
}

extension ModelConfiguration {
    fileprivate mutating func readMultipliers(_ file: ConfigurationFile) throws(ModelError) {
        description.embedding.scale = try positive("embedding_multiplier", file) ?? 1
        description.attention.scale = try positive("attention_multiplier", file) ?? 1
        description.residualScale = try positive("residual_multiplier", file) ?? 1
        description.head.scale = 1 / (try positive("logits_scaling", file) ?? 1)
    }
}
