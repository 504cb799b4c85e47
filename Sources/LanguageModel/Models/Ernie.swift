extension ModelFamily {
    /// ERNIE 4.5 without experts: llama with interleaved rotation.
    static let ernie = ModelFamily(
        "ernie4_5", title: "ERNIE 4.5 0.3B",
        form: "neighbours rotated", gguf: "ernie4_5", className: "Ernie4_5ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        model.tiedHead = try config.bool("tie_word_embeddings") ?? true
        if try config.bool("use_bias") ?? false { model.description.biased = [.query, .key, .value, .output, .gate, .up, .down] }
        var settings = try RotationSettings(config, layerType: nil)
        settings.theta = settings.theta ?? 500_000
        var rotation = try model.rotation(settings)
        rotation.isInterleaved = true
        model.description.rotations = [rotation]
        model.description.names = .plain
    }
}
