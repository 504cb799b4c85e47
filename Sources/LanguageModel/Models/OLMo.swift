extension ModelFamily {
    /// OLMo 1: norms without weights.
    static let olmo = ModelFamily(
        "olmo", title: "OLMo",
        form: "norms without weights", gguf: "olmo", className: "OlmoForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.refuse("clip_qkv", config, "queries, keys and values that are clipped are not supported")
        try config.require("hidden_act", oneOf: ["silu"])
        model.description.norm = .init(kind: .layer, epsilon: 1e-5, hasWeights: false)
        try model.readAttentionBias(config)
        try model.readRotation(config)
    } addGGUFSettings: { (json, file) throws(ModelError) in
        if let clip = try file.double("olmo.attention.clamp_kqv") { json.set("clip_qkv", .number("\(clip)")) }
    }

    /// OLMo 2: norms after attention and feed-forward layer, and of all queries and all keys.
    static let olmo2 = ModelFamily(
        "olmo2", title: "OLMo 2",
        form: "norms behind, q/k norm over the whole width", gguf: "olmo2", className: "Olmo2ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useOLMo2(config)
        try model.readRotation(config)
    }

    /// OLMo 3: OLMo 2 with windows, and a scaled rotation in the layers without them.
    static let olmo3 = ModelFamily(
        "olmo3", title: "OLMo 3",
        form: "as OLMo 2, windows, YaRN", exportedAs: "olmo2", className: "Olmo3ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useOLMo2(config)
        let full = try RotationSettings(config, layerType: "full_attention")
        var sliding = Rotation(theta: full.theta ?? 10_000, width: model.headDimension)
        if config.present("rope_parameters")?["sliding_attention"] != nil {
            sliding = try model.rotation(RotationSettings(config, layerType: "sliding_attention"))
        }
        model.description.rotations = [try model.rotation(full), sliding]
        let window = max(try config.integer("sliding_window") ?? 4096, 1)
        for (layer, isSliding) in try model.slidingLayers(config, fullEach: 4).enumerated() where isSliding {
            model.description.layers[layer] = .init(rotation: 1, window: window)
        }
    }
}

extension ModelConfiguration {
    fileprivate mutating func useOLMo2(_ file: ConfigurationFile) throws(ModelError) {
        try file.require("hidden_act", oneOf: ["silu"])
        description.names = .plain
        try readAttentionBias(file)
        useOutputNormsAlone()
        description.attention.queryKeyNorm = .whole
    }
}
