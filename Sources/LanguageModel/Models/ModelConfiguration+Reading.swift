import Glibc

/// Reading what most families' config.json have in common.
extension ModelConfiguration {
    /// Creates a configuration with config.json's sizes and llama's description, which the family then changes.
    package init(_ file: ConfigurationFile, family: ModelFamily) throws(ModelError) {
        let hidden = try file.required("hidden_size", "n_embd")
        let heads = try file.required("num_attention_heads", "n_head", "num_heads")
        guard heads > 0 else { throw ModelError(.malformed, file: file.path, subject: "num_attention_heads", "is \(heads)") }
        self.init(
            family: family, hiddenSize: hidden,
            feedForwardSize: try file.integer("intermediate_size", "ffn_dim", "n_inner") ?? 4 * min(max(hidden, 0), Limits.dimensionMax),
            layerCount: try file.required("num_hidden_layers", "n_layer", "num_layers"), headCount: heads,
            keyValueHeadCount: try file.integer("num_key_value_heads") ?? heads,
            headDimension: try file.integer("head_dim") ?? hidden / heads, vocabularySize: try file.required("vocab_size"),
            contextLength: try file.integer("max_position_embeddings", "n_positions", "seq_length") ?? 2048,
            tiedHead: try file.bool("tie_word_embeddings") ?? false,
            bosToken: try file.tokens("bos_token_id").first, eosTokens: try file.tokens("eos_token_id"))
        try validateSizes(file: file.path)
        description.norm.epsilon = try file.double("rms_norm_eps") ?? 1e-6
        description.attention.scale = 1 / Float(headDimension).squareRoot()
        description.layers = Array(repeating: ModelDescription.Layer(), count: layerCount)
        try family.describe(&self, file)
    }

    /// Gives q, k, v and o biases if `attention_bias` says so.
    package mutating func readAttentionBias(_ file: ConfigurationFile) throws(ModelError) {
        if try file.bool("attention_bias") ?? false { description.biased.formUnion([.query, .key, .value, .output]) }
    }

    /// Reads the rotation that all layers share.
    package mutating func readRotation(_ file: ConfigurationFile, isInterleaved: Bool = false, rotatesParts: Bool = false) throws(ModelError) {
        let settings = try RotationSettings(file, layerType: nil)
        if let part = settings.part, part != 1, !rotatesParts {
            throw ModelError(
                .unsupported, file: file.path, subject: "partial_rotary_factor", "is \(part), but a \(family.name) rotates whole heads",
                remedy: "is config.json that of another model?")
        }
        var rotation = try rotation(settings)
        rotation.isInterleaved = isInterleaved
        description.rotations = [rotation]
    }

    /// Reads the window of all layers, or of those that `layer_types` calls sliding.
    package mutating func readWindows(_ file: ConfigurationFile) throws(ModelError) {
        guard let window = try file.integer("sliding_window") else { return }
        guard window > 0 else { throw ModelError(.malformed, file: file.path, subject: "sliding_window", "is \(window)") }
        let sliding = try slidingLayers(file)
        for layer in description.layers.indices where sliding?[layer] ?? true { description.layers[layer].window = window }
    }

    /// Returns which layers have a window: as `layer_types` says, else all but every `sliding_window_pattern`-th.
    ///
    /// - Parameter standard: the pattern if the file names none.
    package func slidingLayers(_ file: ConfigurationFile, fullEach standard: Int) throws(ModelError) -> [Bool] {
        if let named = try slidingLayers(file) { return named }
        let each = max(try file.integer("sliding_window_pattern", "_sliding_window_pattern") ?? standard, 1)
        return description.layers.indices.map { ($0 + 1) % each != 0 }
    }

    /// Returns which layers `layer_types` calls sliding; nil if the key is missing.
    package func slidingLayers(_ file: ConfigurationFile) throws(ModelError) -> [Bool]? {
        guard let types = file.present("layer_types") else { return nil }
        guard let list = types.array, list.count == layerCount else {
            throw ModelError(.malformed, file: file.path, subject: "layer_types", "does not name a type for each of \(layerCount) layers")
        }
        var sliding: [Bool] = []
        for type in list {
            switch type.string {
            case "sliding_attention": sliding.append(true)
            case "full_attention", "attention": sliding.append(false)
            default:
                throw ModelError(
                    .unsupported, file: file.path, subject: "layer_types", "names \(type.text(indent: 0)), which is not supported",
                    remedy: #"supported: "full_attention", "sliding_attention""#)
            }
        }
        return sliding
    }

    // MARK: Rotations

    package func rotation(_ settings: RotationSettings) throws(ModelError) -> Rotation {
        let part = settings.part ?? 1
        guard part > 0, part <= 1 else {
            throw ModelError(
                .malformed, file: settings.file.path, subject: "partial_rotary_factor", "is \(part); it must be above 0 and no more than 1")
        }
        let width = Int((Double(headDimension) * part).rounded(.down))
        guard width % 2 == 0, width > 0 else {
            throw ModelError(
                .malformed, file: settings.file.path, subject: "head dimension",
                part == 1
                    ? "is \(headDimension); rotary positions need an even one"
                    : "is \(headDimension), of which \(width) are rotated: rotary positions need an even number")
        }
        var rotation = Rotation(theta: settings.theta ?? 10_000, width: width)
        try settings.apply(to: &rotation, contextLength: contextLength)
        return rotation
    }
}
