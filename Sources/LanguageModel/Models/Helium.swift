extension ModelFamily {
    /// Kyutai's Helium: llama with interleaved rotation.
    static let helium = ModelFamily(
        "helium", title: "Helium 1",
        form: "neighbours rotated", className: "HeliumForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        if config.present("head_dim") == nil { model.setHeadDimension(128) }
        if try config.bool("attention_bias") ?? false { model.description.biased = [.query, .key, .value] }
        if try config.bool("mlp_bias") ?? false { model.description.biased.formUnion([.gate, .up, .down]) }
        try model.readRotation(config, isInterleaved: true)
        model.description.names = .plain
    }
}
