extension ModelFamily {
    /// Phi 1, 1.5 and 2: attention and feed-forward layer in parallel after one norm, a part of each head rotated, a head with a bias.
    static let phi = ModelFamily(
        "phi", title: "Phi 1, 1.5, 2",
        form: "parallel, half of a head rotated, head with bias", gguf: "phi2", className: "PhiForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.refuse("qk_layernorm", config, "norms of queries and keys are not supported in this family")
        try model.useLayerNorm(config)
        try model.readActivation(config, keys: "hidden_act", standard: .geluTanh)
        var settings = try RotationSettings(config, layerType: nil)
        settings.part = settings.part ?? 0.5
        model.description.rotations = [try model.rotation(settings)]
        model.description.isParallel = true
        model.description.sharesInputNorm = true
        model.description.norms = [.inputNorm]
        model.description.isGated = false
        model.description.biased = [.query, .key, .value, .output, .up, .down]
        model.description.head.hasBias = true
        model.description.names = .plain
        model.description.names.model[.finalNorm]?.file = "model.final_layernorm"
        model.description.names.rename([.output: "self_attn.dense", .up: "mlp.fc1", .down: "mlp.fc2"])
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.set("hidden_act", "gelu_new")
        // The converter writes four times the width, whatever the model has.
        if let down = file.tensors["blk.0.ffn_down.weight"] { json.set("intermediate_size", .integer(down.dimensions[0])) }
    }

    /// Phi 3, 3.5 and 4: llama with q, k and v in one matrix, gate and up in another.
    static let phi3 = ModelFamily(
        "phi3", title: "Phi 3, 3.5, 4",
        form: "q, k, v in one matrix, gate and up in one, longrope", gguf: "phi3", className: "Phi3ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        try model.readRotation(config, rotatesParts: true)
        try model.readWindows(config)
        model.description.names = .plain
        model.description.names.fuseAttention("self_attn.qkv_proj")
        model.description.names.modules[.gate] = .init(partOf: "mlp.gate_up_proj", "gate", gguf: "ffn_up")
        model.description.names.modules[.up] = .init(partOf: "mlp.gate_up_proj", "up", gguf: "ffn_up")
    }
}
