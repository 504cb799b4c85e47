extension ModelFamily {
    /// Mistral 7B and Nemo: llama with a window. (Their GGUF files name llama as the architecture.)
    static let mistral = ModelFamily(
        "mistral", title: "Mistral 7B, Nemo",
        form: "window", exportedAs: "llama", className: "MistralForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        try model.readRotation(config)
        try model.readWindows(config)
        // Files without the key are older than the key.
        if config.json["sliding_window"] == nil {
            for layer in model.description.layers.indices { model.description.layers[layer].window = 4096 }
        }
    }

    /// Ministral 3: queries grow with their position.
    static let ministral3 = ModelFamily(
        "ministral3", title: "Ministral 3",
        form: "queries that grow with their position", gguf: "mistral3", className: "Ministral3ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        try model.readRotation(config)
        try model.readWindows(config)
        let settings = try RotationSettings(config, layerType: nil)
        guard let beta = try settings.number("llama_4_scaling_beta"), let length = try settings.number("original_max_position_embeddings"),
            let whole = Int(exactly: length.rounded()), whole > 0
        else { return }
        model.description.attention.queryGrowth = .init(beta: beta, length: whole)
    } addGGUFSettings: { (json, file) throws(ModelError) in
        guard let beta = try file.double("mistral3.attention.temperature_scale"), var scaling = json["rope_scaling"] else { return }
        scaling.set("llama_4_scaling_beta", .number("\(beta)"))
        json.set("rope_scaling", scaling)
    }
}
