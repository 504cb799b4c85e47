extension ModelFamily {
    /// Families that can't be read and the reasons, by `model_type` or `general.architecture`.
    static let refusals: [String: String] = {
        var reasons: [String: String] = [:]
        func refuse(_ names: String..., because reason: String) { for name in names { reasons[name] = reason } }
        refuse(
            "qwen3_next", "qwen3next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen35", "qwen35moe",
            because: "three of four of its layers are linear attention (gated delta rule), which this program does not compute")
        refuse("lfm2", "lfm2_moe", "lfm2moe", because: "most of its layers are convolutions, which this program does not compute")
        refuse(
            "gemma3n", "gemma3n_text",
            because: "its layers read embeddings of their own and several streams at once, which this program does not compute")
        refuse(
            "gemma4", "gemma4_text",
            because: "its layers read embeddings of their own and share keys and values, which this program does not compute")
        refuse("mamba", "mamba2", "falcon_mamba", "falcon-mamba", because: "it is a state-space model without attention")
        refuse(
            "jamba", "falcon_h1", "falcon-h1", "bamba", "zamba", "zamba2", "nemotron_h", "granitehybrid", "plamo2",
            because: "it mixes attention with state-space layers (Mamba), which this program does not compute")
        refuse("rwkv", "rwkv6", "rwkv7", "recurrent_gemma", because: "it is a recurrent model without attention over all tokens")
        refuse(
            "mixtral", "qwen2_moe", "qwen2moe", "qwen3_moe", "qwen3moe", "olmoe", "granitemoe", "phimoe", "deepseek_v2", "deepseek_v3", "deepseek2",
            "gpt_oss", "gpt-oss", "ernie4_5_moe", "ernie4_5-moe", "hunyuan_v1_moe", "hunyuan-moe", "dbrx", "glm4_moe", "glm4moe", "llama4",
            "llama4_text", "minimax",
            because: "it is a mixture of experts, of which each token takes a few; a step that changes an expert would be seen by few tokens")
        refuse(
            "bert", "roberta", "xlm-roberta", "distilbert", "albert", "deberta", "deberta-v2", "electra", "modernbert", "nomic-bert",
            because: "it is an encoder: its tokens see what comes after them, so that it can't write or be trained on what comes next")
        refuse(
            "t5", "mt5", "bart", "mbart", "pegasus", "whisper", "t5gemma",
            because: "it is an encoder with a decoder, and only decoders can be trained")
        return reasons
    }()
}
