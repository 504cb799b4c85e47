extension ModelFamily {
    /// Gemma: norms with weights 1 + w, a gated GELU, embeddings scaled by √width.
    static let gemma = ModelFamily(
        "gemma", title: "Gemma",
        form: "norms by 1 + w, GeGLU, embeddings × √width", gguf: "gemma", className: "GemmaForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useGemma(config)
        try model.readRotation(config)
    } addGGUFSettings: { (json, _) throws(ModelError) in
        json.set("hidden_act", "gelu_pytorch_tanh")
    }

    /// Gemma 2: four norms, softcaps, and a window in every other layer.
    static let gemma2 = ModelFamily(
        "gemma2", title: "Gemma 2",
        form: "four norms, softcaps, windows", gguf: "gemma2", className: "Gemma2ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useGemma(config)
        model.useFourNorms()
        try model.readRotation(config)
        try model.scaleQueries(config)
        model.description.attention.softcap = try model.softcap("attn_logit_softcapping", config, standard: 50)
        model.description.head.softcap = try model.softcap("final_logit_softcapping", config, standard: 30)
        let window = try config.integer("sliding_window") ?? 4096
        for (layer, isSliding) in try model.slidingLayers(config, fullEach: 2).enumerated() where isSliding {
            model.description.layers[layer].window = max(window, 1)
        }
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.setGemmaScale(layersOfLargest: 46)
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if let cap = try file.double("gemma2.\(key)") { json.set(key, .number("\(cap)")) }
        }
    }

    /// Gemma 3 for text only: norms of queries and keys; five of six layers have a window and a rotation of their own.
    static let gemma3Text = ModelFamily(
        "gemma3_text", title: "Gemma 3 270M, 1B",
        form: "four norms, q/k norm, windows, two rotations", gguf: "gemma3", className: "Gemma3ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useGemma3(config)
    } addGGUFSettings: { (json, file) throws(ModelError) in
        json.setGemmaScale(layersOfLargest: 62)
        json.set("rope_local_base_freq", .number("\(try file.double("gemma3.rope.freq_base_swa") ?? 10_000)"))
        if let cap = try file.double("gemma3.final_logit_softcapping") { json.set("final_logit_softcapping", .number("\(cap)")) }
    }

    /// Gemma 3 with a vision part, which is left out.
    static let gemma3 = ModelFamily(
        "gemma3", title: "Gemma 3 4B to 27B, without their part for pictures", form: "as `gemma3_text`", exportedAs: "gemma3",
        className: "Gemma3ForCausalLM",
        ignoredPrefixes: ["vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."]
    ) { (model, config) throws(ModelError) in
        try model.useGemma3(config)
    }
}

extension ModelConfiguration {
    fileprivate mutating func useGemma(_ file: ConfigurationFile) throws(ModelError) {
        // Older files say "gelu" and mean its tanh approximation.
        try file.require("hidden_activation", oneOf: ["gelu_pytorch_tanh"])
        if file.present("head_dim") == nil { setHeadDimension(256) }
        tiedHead = try file.bool("tie_word_embeddings") ?? true
        description.names = .plain
        description.norm.weightOffset = 1
        description.activation = .geluTanh
        description.embedding.scale = Float(hiddenSize).squareRoot()
        try readAttentionBias(file)
    }

    fileprivate mutating func useGemma3(_ file: ConfigurationFile) throws(ModelError) {
        try useGemma(file)
        try refuse("attn_logit_softcapping", file, "Gemma 3 is not known to cap its scores")
        try refuse("use_bidirectional_attention", file, "the model is an encoder: it sees what comes after a token, and can't be trained to write")
        useFourNorms()
        try scaleQueries(file)
        description.attention.queryKeyNorm = .perHead
        description.head.softcap = try positive("final_logit_softcapping", file) ?? 0
        var full = try RotationSettings(file, layerType: "full_attention")
        if full.theta == nil { full.theta = 1_000_000 }
        var rotations = [try rotation(full)]
        let own = file.present("rope_parameters")?["sliding_attention"]
        if own != nil {
            rotations.append(try rotation(RotationSettings(file, layerType: "sliding_attention")))
        } else {
            rotations.append(Rotation(theta: try file.double("rope_local_base_freq") ?? 10_000, width: headDimension))
        }
        description.rotations = rotations
        let window = try file.integer("sliding_window") ?? 4096
        for (layer, isSliding) in try slidingLayers(file, fullEach: 6).enumerated() where isSliding {
            description.layers[layer] = .init(rotation: 1, window: max(window, 1))
        }
    }

    /// Returns the softcap; 0 if the file says null.
    fileprivate func softcap(_ key: String, _ file: ConfigurationFile, standard: Float) throws(ModelError) -> Float {
        if file.json[key]?.isNull == true { return 0 }
        return try positive(key, file) ?? standard
    }

    fileprivate mutating func scaleQueries(_ file: ConfigurationFile) throws(ModelError) {
        description.attention.scale = 1 / (try positive("query_pre_attn_scalar", file) ?? 256).squareRoot()
    }
}

extension JSON {
    /// Sets the scale of the scores: by a head's width, but in the largest model by width/heads.
    fileprivate mutating func setGemmaScale(layersOfLargest: Int) {
        let isLargest = self["num_hidden_layers"]?.integer == layersOfLargest
        let width =
            isLargest ? (self["hidden_size"]?.integer ?? 0) / max(self["num_attention_heads"]?.integer ?? 1, 1) : self["head_dim"]?.integer ?? 256
        set("query_pre_attn_scalar", .integer(width))
        set("hidden_activation", "gelu_pytorch_tanh")
        remove("hidden_act")
    }
}
