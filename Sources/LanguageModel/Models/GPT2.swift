extension ModelFamily {
    /// GPT-2: learned positions, LayerNorm, one transposed matrix for q, k and v.
    static let gpt2 = ModelFamily(
        "gpt2", title: "GPT-2",
        form: "LayerNorm, learned positions, transposed matrices, q, k, v in one", gguf: "gpt2", className: "GPT2LMHeadModel"
    ) { (model, config) throws(ModelError) in
        try model.refuse("scale_attn_by_inverse_layer_idx", config, "scores that are scaled by their layer are not supported")
        try model.refuse("add_cross_attention", config, "a decoder that reads an encoder is not supported")
        try model.useGPT(config)
        model.learnPositions()
        model.description.biased = [.query, .key, .value, .output, .up, .down]
        if try config.bool("scale_attn_weights") == false { model.description.attention.scale = 1 }
        model.description.names.fuseAttention("attn.c_attn")
        model.description.names.rename([.output: "attn.c_proj"])
        model.description.names.isTransposed = true
    } addGGUFSettings: { (json, _) throws(ModelError) in
        // transformers' names for GPT-2's keys.
        for (name, from) in [
            ("n_embd", "hidden_size"), ("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"),
            ("n_positions", "max_position_embeddings"), ("n_inner", "intermediate_size"),
        ] {
            if let value = json[from] { json.set(name, value) }
        }
        json.set("activation_function", "gelu_new")
    }

    /// GPT-Neo: unscaled scores, and windows in every other layer.
    static let gptNeo = ModelFamily(
        "gpt_neo", title: "GPT-Neo",
        form: "scores without scale, local layers", className: "GPTNeoForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useGPT(config)
        model.learnPositions()
        model.description.attention.scale = 1
        model.description.biased = [.output, .up, .down]
        model.description.names.rename([
            .query: "attn.attention.q_proj", .key: "attn.attention.k_proj", .value: "attn.attention.v_proj", .output: "attn.attention.out_proj",
        ])
        let window = try config.integer("window_size") ?? 256
        for (layer, isLocal) in try model.localLayers(config).enumerated() where isLocal { model.description.layers[layer].window = max(window, 1) }
    }

    /// GPT-J: attention and feed-forward layer in parallel, interleaved rotation, a head with a bias.
    static let gptJ = ModelFamily(
        "gptj", title: "GPT-J",
        form: "parallel, neighbours rotated, head with bias", className: "GPTJForCausalLM"
    ) { (model, config) throws(ModelError) in
        try model.useGPT(config)
        model.tiedHead = try config.bool("tie_word_embeddings") ?? false
        model.description.isParallel = true
        model.description.sharesInputNorm = true
        model.description.norms = [.inputNorm]
        model.description.biased = [.up, .down]
        model.description.head.hasBias = true
        var rotation = Rotation(theta: 10_000, width: try config.integer("rotary_dim") ?? model.headDimension)
        rotation.isInterleaved = true
        guard (2...model.headDimension).contains(rotation.width), rotation.width % 2 == 0 else {
            throw ModelError(.malformed, file: config.path, subject: "rotary_dim", "is \(rotation.width); a head has \(model.headDimension)")
        }
        model.description.rotations = [rotation]
        model.description.names.rename([
            .query: "attn.q_proj", .key: "attn.k_proj", .value: "attn.v_proj", .output: "attn.out_proj", .up: "mlp.fc_in", .down: "mlp.fc_out",
        ])
    }
}

extension ModelConfiguration {
    fileprivate mutating func useGPT(_ file: ConfigurationFile) throws(ModelError) {
        try useLayerNorm(file)
        try readActivation(file, keys: "activation_function", standard: .geluTanh)
        tiedHead = try file.bool("tie_word_embeddings") ?? true
        description.isGated = false
        description.names = .gpt
    }

    /// Returns which layers of a GPT-Neo have a window: `attention_layers`, or `attention_types` such as [[["global", "local"], 12]].
    fileprivate func localLayers(_ file: ConfigurationFile) throws(ModelError) -> [Bool] {
        var kinds = file.present("attention_layers")?.array?.map(\.string) ?? []
        if kinds.isEmpty {
            for group in file.present("attention_types")?.array ?? [] {
                guard let pair = group.array, pair.count == 2, let list = pair[0].array, let times = pair[1].integer,
                    (1...Limits.layersMax).contains(times)
                else {
                    throw ModelError(.malformed, file: file.path, subject: "attention_types", "is no list of layers' kinds and how often they come")
                }
                for _ in 0..<times { kinds += list.map(\.string) }
                guard kinds.count <= Limits.layersMax else { break }
            }
        }
        guard kinds.count == layerCount, kinds.allSatisfy({ $0 == "global" || $0 == "local" }) else {
            throw ModelError(
                .malformed, file: file.path, subject: "attention_types", "does not say of each of \(layerCount) layers whether it is global or local")
        }
        return kinds.map { $0 == "local" }
    }
}

extension TensorNames {
    package static let gpt: TensorNames = {
        var names = plain
        names.root = "transformer."
        names.layers = "transformer.h."
        names.model = [
            .embedding: ModelPlace("transformer.wte", gguf: "token_embd"), .positions: ModelPlace("transformer.wpe", gguf: "position_embd"),
            .finalNorm: ModelPlace("transformer.ln_f", gguf: "output_norm"), .head: ModelPlace("lm_head", gguf: "output"),
        ]
        names.rename([.inputNorm: "ln_1", .feedForwardNorm: "ln_2", .up: "mlp.c_fc", .down: "mlp.c_proj"])
        return names
    }()
}
