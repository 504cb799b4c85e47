import Glibc

extension ModelFamily {
    /// HunYuan's dense models: queries and keys are normalised head by head after their rotation.
    static let hunYuan = ModelFamily(
        "hunyuan_v1_dense", title: "HunYuan dense",
        form: "q/k norm after the rotation", gguf: "hunyuan-dense", className: "HunYuanDenseV1ForCausalLM"
    ) { (model, config) throws(ModelError) in
        try config.require("hidden_act", oneOf: ["silu"])
        try model.readAttentionBias(config)
        var settings = try RotationSettings(config, layerType: nil)
        if let alpha = try settings.number("alpha"), alpha > 0, model.headDimension > 2 {
            // A larger θ replaces scaled positions.
            settings.theta = (settings.theta ?? 10_000) * pow(alpha, Double(model.headDimension) / Double(model.headDimension - 2))
        }
        model.description.rotations = [try model.rotation(settings)]
        model.description.attention.queryKeyNorm = .perHead
        model.description.attention.normalisesAfterRotation = true
        model.description.names = .plain
        model.description.names.rename([.queryNorm: "self_attn.query_layernorm", .keyNorm: "self_attn.key_layernorm"])
    }
}
