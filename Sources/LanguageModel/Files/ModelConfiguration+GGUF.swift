import Core

extension ModelConfiguration {
    /// Reads the configuration from a GGUF file's metadata and tensors, and makes the config.json that transformers would read for it.
    package static func read(_ file: GGUFFile) throws(ModelError) -> (configuration: ModelConfiguration, json: JSON) {
        guard let name = try file.string("general.architecture") else {
            throw ModelError(.malformed, file: file.path, subject: "general.architecture", "is missing")
        }
        if try file.string("general.type") == "adapter" {
            throw ModelError(
                .unsupported, file: file.path, subject: "general.type", "is an adapter, not a model", remedy: "give the model that it was made for")
        }
        if let experts = try file.integer("\(name).expert_count"), experts > 0 {
            throw ModelError(
                .unsupported, file: file.path, subject: "\(name).expert_count", "is \(experts): mixtures of experts are not supported",
                remedy: "take a dense model")
        }
        var family = try ModelFamily.named(gguf: name, file: file.path)
        // llama.cpp has one architecture for both.
        if family == .olmo2, file.metadata["olmo2.attention.sliding_window"] != nil { family = .olmo3 }
        var json = try file.configuration(of: family, keys: name)
        try family.addGGUFSettings(&json, file)
        var configuration = try ModelConfiguration(ConfigurationFile(path: file.path, json: json), family: family)
        try configuration.readActivations(file.path) { layer throws(ModelError) in
            try ["alpha_p", "alpha_n", "beta", "eps"].map { key throws(ModelError) in try file.number("xielu.\(key)", layer: layer) }
        }
        return (try configuration.validated(file: file.path), json)
    }
}

extension GGUFFile {
    /// Whether the first block has a tensor of this name.
    package func has(_ name: String) -> Bool { tensors["blk.0." + name] != nil }

    /// Makes config.json's entries for the settings that most families have.
    fileprivate func configuration(of family: ModelFamily, keys: String) throws(ModelError) -> JSON {
        func required(_ key: String) throws(ModelError) -> Int {
            guard let value = try integer("\(keys).\(key)") else { throw ModelError(.malformed, file: path, subject: "\(keys).\(key)", "is missing") }
            return value
        }
        let hidden = try required("embedding_length")
        let heads = try required("attention.head_count")
        guard heads > 0 else { throw ModelError(.malformed, file: path, subject: "\(keys).attention.head_count", "is \(heads)") }
        let headDimension = try integer("\(keys).attention.key_length") ?? hidden / heads
        guard let embedding = tensors["token_embd.weight"], embedding.dimensions.count == 2 else {
            throw ModelError(.missingTensor, file: path, subject: "token_embd.weight", "the embedding matrix is missing")
        }
        var json: JSON = [
            "architectures": [.string(family.className)], "attention_bias": false, "attention_dropout": .number("0.0"),
            "head_dim": .integer(headDimension), "hidden_act": "silu", "hidden_size": .integer(hidden),
            "intermediate_size": .integer(try required("feed_forward_length")), "max_position_embeddings": .integer(try required("context_length")),
            "mlp_bias": false, "model_type": .string(family.name), "num_attention_heads": .integer(heads),
            "num_hidden_layers": .integer(try required("block_count")),
            "num_key_value_heads": .integer(try uniform("\(keys).attention.head_count_kv") ?? heads),
        ]
        try addNorm(keys, to: &json)
        try addRotation(keys, headDimension: headDimension, to: &json)
        if let window = try integer("\(keys).attention.sliding_window"), window > 0 { json.set("sliding_window", .integer(window)) }
        if case .array(let pattern)? = metadata["\(keys).attention.sliding_window_pattern"] {
            json.set("layer_types", .array(pattern.map { if case .bool(true) = $0 { "sliding_attention" } else { "full_attention" } }))
        } else if let period = try integer("\(keys).attention.sliding_window_pattern"), period > 1 {
            let layers = try required("block_count")
            guard (0...1 << 16).contains(layers) else { throw ModelError(.malformed, file: path, subject: "\(keys).block_count", "is \(layers)") }
            json.set("layer_types", .array((0..<layers).map { $0 % period < period - 1 ? "sliding_attention" : "full_attention" }))
        }
        json.set("tie_word_embeddings", .bool(tensors["output.weight"] == nil))
        json.set("use_cache", true)
        json.set("vocab_size", .integer(embedding.dimensions[1]))
        if let bos = try integer("tokenizer.ggml.bos_token_id") { json.set("bos_token_id", .integer(bos)) }
        if let eos = try integer("tokenizer.ggml.eos_token_id") {
            // The end of a turn ends a text, too.
            let turn = try integer("tokenizer.ggml.eot_token_id") ?? eos
            json.set("eos_token_id", turn == eos ? .integer(eos) : .array([.integer(eos), .integer(turn)]))
        }
        return json
    }

    /// Returns the number of a layer from a list with one for each, or the one that all layers share.
    fileprivate func number(_ key: String, layer: Int) throws(ModelError) -> Float? {
        guard case .array(let values)? = metadata[key] else { return try double(key).map { Float($0) } }
        guard values.indices.contains(layer), case .single(let number) = values[layer] else {
            throw ModelError(.malformed, file: path, subject: key, "does not hold a number for each layer")
        }
        return number
    }

    /// Returns a number that is the same for all layers; some files write it once per layer.
    private func uniform(_ key: String) throws(ModelError) -> Int? {
        guard let list = try? integers(key) ?? unsignedIntegers(key) else { return try integer(key) }
        guard let first = list.first, list.allSatisfy({ $0 == first }) else {
            throw ModelError(.unsupported, file: path, subject: key, "differs between layers, which is not supported")
        }
        return Int(first)
    }

    private func unsignedIntegers(_ key: String) -> [Int32]? {
        guard case .array(let values)? = metadata[key] else { return nil }
        return values.map { value in
            switch value {
            case .unsigned(let n): Int32(exactly: n) ?? -1
            case .integer(let n): Int32(exactly: n) ?? -1
            default: -1
            }
        }
    }

    private func addNorm(_ keys: String, to json: inout JSON) throws(ModelError) {
        if let epsilon = try double("\(keys).attention.layer_norm_rms_epsilon") {
            json.set("rms_norm_eps", .number("\(epsilon)"))
        } else if let epsilon = try double("\(keys).attention.layer_norm_epsilon") {
            for key in ["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"] { json.set(key, .number("\(epsilon)")) }
        } else {
            throw ModelError(.malformed, file: path, subject: "\(keys).attention.layer_norm_rms_epsilon", "is missing")
        }
    }

    private func addRotation(_ keys: String, headDimension: Int, to json: inout JSON) throws(ModelError) {
        if let rotated = try integer("\(keys).rope.dimension_count"), rotated != headDimension, rotated > 0 {
            json.set("partial_rotary_factor", .number("\(Double(rotated) / Double(headDimension))"))
        }
        var scaling = JSON.null
        var factor = try double("\(keys).rope.scaling.factor")
        if factor == nil { factor = try double("\(keys).rope.scale_linear") }
        // A factor without a type means the linear one.
        switch try string("\(keys).rope.scaling.type") ?? (factor == nil ? "none" : "linear") {
        case "none": break
        case "linear": if let factor, factor != 1 { scaling = ["factor": .number("\(factor)"), "rope_type": "linear"] }
        case "yarn":
            guard let factor else { throw ModelError(.malformed, file: path, subject: "\(keys).rope.scaling.factor", "is missing") }
            scaling = ["factor": .number("\(factor)"), "rope_type": "yarn"]
            if let length = try integer("\(keys).rope.scaling.original_context_length") {
                scaling.set("original_max_position_embeddings", .integer(length))
            }
            // llama.cpp multiplies its own amplitude by this one.
            if let part = try double("\(keys).rope.scaling.attn_factor") {
                scaling.set("attention_factor", .number("\(part * RotationSettings.yarnAmplitude(factor: factor))"))
            }
            for (own, key) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow"), ("yarn_attn_factor", "attention_factor")] {
                if let value = try double("\(keys).rope.scaling.\(own)") { scaling.set(key, .number("\(value)")) }
            }
        case "longrope": scaling = ["rope_type": "longrope"]
        case let other:
            throw ModelError(
                .unsupported, file: path, subject: "\(keys).rope.scaling.type", "RoPE scaling \(other.debugDescription) is not supported",
                remedy: "supported: none, linear, yarn, longrope")
        }
        try addFactors(keys, headDimension: headDimension, to: &scaling)
        json.set("rope_scaling", scaling)
        json.set("rope_theta", .number("\(try double("\(keys).rope.freq_base") ?? 10_000)"))
    }

    /// Adds the factors of frequencies that are stored as tensors: those of Llama 3 (`rope_freqs`) and of longrope.
    private func addFactors(_ keys: String, headDimension: Int, to scaling: inout JSON) throws(ModelError) {
        let short = try factors("rope_factors_short.weight", headDimension)
        let isLong = short != nil
        let own = try factors("rope_freqs.weight", headDimension)
        guard let list = short ?? own, isLong || list.contains(where: { $0 != 1 }) else { return }
        let long = try factors("rope_factors_long.weight", headDimension) ?? list
        scaling = ["long_factor": Self.json(long), "rope_type": "longrope", "short_factor": Self.json(list)]
        var amplitude = try double("\(keys).rope.scaling.attn_factor")
        if amplitude == nil, !isLong { amplitude = 1 }
        if let amplitude { scaling.set("attention_factor", .number("\(amplitude)")) }
        var length = try integer("\(keys).rope.scaling.original_context_length")
        if length == nil { length = try integer("\(keys).context_length") }
        if let length { scaling.set("original_max_position_embeddings", .integer(length)) }
    }

    private static func json(_ factors: [Float]) -> JSON { .array(factors.map { .number("\($0)") }) }

    /// Returns the numbers of a tensor of factors; nil if the file does not have it.
    private func factors(_ name: String, _ headDimension: Int) throws(ModelError) -> [Float]? {
        guard let tensor = tensors[name], tensor.dimensions.count == 1 else { return nil }
        let count = tensor.dimensions[0]
        guard count <= headDimension else { throw ModelError(.malformed, file: path, subject: name, "has \(count) numbers") }
        var factors = [Float](repeating: 0, count: count)
        factors.withUnsafeMutableBufferPointer { buffer in
            guard let out = buffer.baseAddress else { return }
            StoredTensor(
                file: tensor.file, offset: tensor.offset, type: tensor.type, shape: .vector(count), storedColumns: count, view: TensorView()
            ).copyFloats(rows: 0..<1, into: out)
        }
        return factors
    }
}
