import Core

/// Llama (and SmolLM, TinyLlama, Mistral-shaped models that call themselves llama): RMSNorm, RoPE, grouped-query attention, SwiGLU.
package enum LlamaFiles: ArchitectureFiles {
    package static func configuration(_ file: ConfigurationFile) throws(ModelError) -> ModelConfiguration {
        try file.require("hidden_act", oneOf: ["silu"])
        try file.require("attention_bias", oneOf: [false])
        try file.require("mlp_bias", oneOf: [false])
        let hidden = try file.required("hidden_size")
        let heads = try file.required("num_attention_heads")
        guard heads > 0 else { throw ModelError(.malformed, file: file.path, subject: "num_attention_heads", "is \(heads)") }
        // transformers 5 writes `rope_parameters`; before it there were `rope_theta` and `rope_scaling`.
        var theta = try file.double("rope_theta")
        for key in ["rope_parameters", "rope_scaling"] {
            guard let rope = file.present(key) else { continue }
            let type = rope["rope_type"] ?? rope["type"] ?? "default"
            guard type == "default" else {
                throw ModelError(
                    .unsupported, file: file.path, subject: key, "RoPE of type \(type.text(indent: 0)) is not supported",
                    remedy: "supported: \"default\"")
            }
            theta = rope["rope_theta"]?.double ?? theta
        }
        return ModelConfiguration(
            architecture: .llama, hiddenSize: hidden, feedForwardSize: try file.required("intermediate_size"),
            layerCount: try file.required("num_hidden_layers"), headCount: heads,
            keyValueHeadCount: try file.integer("num_key_value_heads") ?? heads,
            headDimension: try file.integer("head_dim") ?? hidden / heads, vocabularySize: try file.required("vocab_size"),
            contextLength: try file.integer("max_position_embeddings") ?? 2048, ropeTheta: theta ?? 10_000,
            rmsEpsilon: try file.double("rms_norm_eps") ?? 1e-6, tiedHead: try file.bool("tie_word_embeddings") ?? false,
            bosToken: try file.tokens("bos_token_id").first, eosTokens: try file.tokens("eos_token_id"))
    }

    package static func configuration(_ file: GGUFFile) throws(ModelError) -> ModelConfiguration {
        func required(_ key: String) throws(ModelError) -> Int {
            guard let value = try file.integer(key) else { throw ModelError(.malformed, file: file.path, subject: key, "is missing") }
            return value
        }
        let hidden = try required("llama.embedding_length")
        let heads = try required("llama.attention.head_count")
        guard heads > 0 else { throw ModelError(.malformed, file: file.path, subject: "llama.attention.head_count", "is \(heads)") }
        let headDimension = try file.integer("llama.attention.key_length") ?? hidden / heads
        if let rotated = try file.integer("llama.rope.dimension_count"), rotated != headDimension {
            throw ModelError(
                .unsupported, file: file.path, subject: "llama.rope.dimension_count",
                "is \(rotated): rotating only a part of each head of \(headDimension) is not supported")
        }
        if let scaling = try file.string("llama.rope.scaling.type"), scaling != "none" {
            throw ModelError(
                .unsupported, file: file.path, subject: "llama.rope.scaling.type", "RoPE scaling \(scaling.debugDescription) is not supported")
        }
        if let scale = try file.double("llama.rope.scale_linear"), scale != 1 {
            throw ModelError(.unsupported, file: file.path, subject: "llama.rope.scale_linear", "is \(scale): RoPE scaling is not supported")
        }
        guard let epsilon = try file.double("llama.attention.layer_norm_rms_epsilon") else {
            throw ModelError(.malformed, file: file.path, subject: "llama.attention.layer_norm_rms_epsilon", "is missing")
        }
        guard let embedding = file.tensors["token_embd.weight"], embedding.dimensions.count == 2 else {
            throw ModelError(.missingTensor, file: file.path, subject: "token_embd.weight", "the embedding matrix is missing")
        }
        let eos = try file.integer("tokenizer.ggml.eos_token_id").flatMap(Int32.init(exactly:))
        return ModelConfiguration(
            architecture: .llama, hiddenSize: hidden, feedForwardSize: try required("llama.feed_forward_length"),
            layerCount: try required("llama.block_count"), headCount: heads,
            keyValueHeadCount: try file.integer("llama.attention.head_count_kv") ?? heads, headDimension: headDimension,
            vocabularySize: embedding.dimensions[1], contextLength: try required("llama.context_length"),
            ropeTheta: try file.double("llama.rope.freq_base") ?? 10_000, rmsEpsilon: epsilon,
            tiedHead: file.tensors["output.weight"] == nil,
            bosToken: try file.integer("tokenizer.ggml.bos_token_id").flatMap(Int32.init(exactly:)),
            eosTokens: eos.map { [$0] } ?? [])
    }

    package static func configurationFile(_ c: ModelConfiguration) -> JSON {
        var json: JSON = [
            "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": .number("0.0"),
            "head_dim": .integer(c.headDimension), "hidden_act": "silu", "hidden_size": .integer(c.hiddenSize),
            "intermediate_size": .integer(c.feedForwardSize), "max_position_embeddings": .integer(c.contextLength), "mlp_bias": false,
            "model_type": "llama", "num_attention_heads": .integer(c.headCount), "num_hidden_layers": .integer(c.layerCount),
            "num_key_value_heads": .integer(c.keyValueHeadCount), "rms_norm_eps": .number("\(c.rmsEpsilon)"),
            "rope_scaling": .null, "rope_theta": .number("\(c.ropeTheta)"), "tie_word_embeddings": .bool(c.tiedHead), "use_cache": true,
            "vocab_size": .integer(c.vocabularySize),
        ]
        json.setSpecialTokens(of: c)
        return json
    }

    package static func tensors(_ c: ModelConfiguration) -> [ExpectedTensor] {
        let queries = c.headCount * c.headDimension
        let keys = c.keyValueHeadCount * c.headDimension
        let interleaved = StoredTensor.RowOrder.interleavedHeads(headDimension: c.headDimension)
        var list = [
            ExpectedTensor(
                name: "model.embed_tokens.weight", ggufName: "token_embd.weight",
                shape: .matrix(rows: c.vocabularySize, columns: c.hiddenSize)),
            ExpectedTensor(name: "model.norm.weight", ggufName: "output_norm.weight", shape: .vector(c.hiddenSize)),
        ]
        if !c.tiedHead {
            list.append(
                ExpectedTensor(
                    name: "lm_head.weight", ggufName: "output.weight", shape: .matrix(rows: c.vocabularySize, columns: c.hiddenSize)))
        }
        for layer in 0..<c.layerCount {
            func add(_ name: String, _ ggufName: String, _ shape: TensorShape, _ order: StoredTensor.RowOrder = .asIs) {
                list.append(
                    ExpectedTensor(
                        name: "model.layers.\(layer).\(name).weight", ggufName: "blk.\(layer).\(ggufName).weight", shape: shape,
                        ggufRowOrder: order))
            }
            add("input_layernorm", "attn_norm", .vector(c.hiddenSize))
            add("self_attn.q_proj", "attn_q", .matrix(rows: queries, columns: c.hiddenSize), interleaved)
            add("self_attn.k_proj", "attn_k", .matrix(rows: keys, columns: c.hiddenSize), interleaved)
            add("self_attn.v_proj", "attn_v", .matrix(rows: keys, columns: c.hiddenSize))
            add("self_attn.o_proj", "attn_output", .matrix(rows: c.hiddenSize, columns: queries))
            add("post_attention_layernorm", "ffn_norm", .vector(c.hiddenSize))
            add("mlp.gate_proj", "ffn_gate", .matrix(rows: c.feedForwardSize, columns: c.hiddenSize))
            add("mlp.up_proj", "ffn_up", .matrix(rows: c.feedForwardSize, columns: c.hiddenSize))
            add("mlp.down_proj", "ffn_down", .matrix(rows: c.hiddenSize, columns: c.feedForwardSize))
        }
        return list
    }

    package static func isRedundant(_ name: String, _ c: ModelConfiguration) -> Bool {
        name.hasSuffix(".rotary_emb.inv_freq") || (c.tiedHead && name == "lm_head.weight")
    }
}
