import Core

/// The metadata of a GGUF file that is written.
package struct GGUFMetadata {
    package private(set) var entries: [(key: String, value: GGUFFile.Value)] = []

    package init() {}

    package mutating func set(_ key: String, _ value: GGUFFile.Value) { entries.append((key, value)) }
    package mutating func set(_ key: String, _ text: String) { set(key, .string(Array(text.utf8))) }
    package mutating func set(_ key: String, _ number: Int) { set(key, .unsigned(UInt64(max(number, 0)))) }
    package mutating func set(_ key: String, _ number: Float) { set(key, .single(number)) }
    package mutating func set(_ key: String, _ number: Double) { set(key, .single(Float(number))) }
    package mutating func set(_ key: String, _ isTrue: Bool) { set(key, .bool(isTrue)) }
    package mutating func append(_ other: GGUFMetadata) { entries += other.entries }
}

/// What llama.cpp does with the files of an architecture, as far as an export must know it.
package struct GGUFArchitecture {
    package enum Head { case optional, required, never }

    package let name: String
    /// Whether a factor for each frequency is read from `rope_freqs.weight`.
    package var readsFrequencyFactors = false
    /// Whether layers can have windows. If not, an export holds no more positions than its smallest window.
    package var knowsWindows = false
    /// Whether a model has a head of its own.
    package var head = Head.optional

    package init(_ name: String, layerCount: Int) {
        self.name = name
        readsFrequencyFactors = ["llama", "mistral3", "granite", "exaone4", "arcee", "apertus"].contains(name)
        // EXAONE's only model with windows has 64 layers, and llama.cpp knows it by that.
        knowsWindows = ["gemma2", "gemma3", "cohere2", "olmo2"].contains(name) || (name == "exaone4" && layerCount == 64)
        if ["gptneox", "phi2", "olmo2", "stablelm", "apertus"].contains(name) { head = .required }
        if ["gemma", "gemma2", "command-r", "cohere2"].contains(name) { head = .never }
    }
}

/// A small tensor that follows from a configuration.
package struct GGUFTable {
    package let name: String
    package let values: [Float]
}

extension ModelConfiguration {
    /// Returns the metadata that describe the model's computation to llama.cpp, and the tables that belong to them.
    ///
    /// - Throws: `ModelError` for what the architecture can't express, as far as that is known here. `firstDifference` finds the rest.
    package func ggufMetadata(_ architecture: GGUFArchitecture, file: String) throws(ModelError) -> (GGUFMetadata, [GGUFTable]) {
        let prefix = architecture.name + "."
        let smallest = windows.filter { $0 < contextLength }.min() ?? contextLength
        var metadata = GGUFMetadata()
        let positions = architecture.knowsWindows ? contextLength : smallest
        metadata.set(prefix + "context_length", positions)
        metadata.set(prefix + "embedding_length", hiddenSize)
        metadata.set(prefix + "block_count", layerCount)
        metadata.set(prefix + "feed_forward_length", feedForwardSize)
        metadata.set(prefix + "attention.head_count", headCount)
        metadata.set(prefix + "attention.head_count_kv", keyValueHeadCount)
        metadata.set(prefix + "attention.key_length", headDimension)
        metadata.set(prefix + "attention.value_length", headDimension)
        metadata.set(prefix + "vocab_size", vocabularySize)
        switch description.norm.kind {
        case .rms: metadata.set(prefix + "attention.layer_norm_rms_epsilon", description.norm.epsilon)
        case .layer: metadata.set(prefix + "attention.layer_norm_epsilon", description.norm.epsilon)
        }
        if architecture.knowsWindows, let window = windows.min() {
            guard Set(windows).count == 1 else {
                throw ModelError(
                    .unsupported, file: file, "has windows of several sizes, for which GGUF has no place", remedy: "write another format")
            }
            metadata.set(prefix + "attention.sliding_window", window)
            metadata.set(prefix + "attention.sliding_window_pattern", windowPattern)
        }
        for (i, key) in ModelDescription.XIELU.names.enumerated() {
            let numbers = description.layers.compactMap { $0.xielu?.values[i] }
            if !numbers.isEmpty { metadata.set("xielu." + key, .array(numbers.map { .single($0) })) }
        }
        addMultipliers(architecture, to: &metadata)
        let tables = try addRotation(architecture, positions: positions, file: file, to: &metadata)
        return (metadata, tables)
    }

    /// Which layers have a window: the period of those that have none, if there is one, which every version of llama.cpp reads; else a list.
    private var windowPattern: GGUFFile.Value {
        let hasWindow = description.layers.map { $0.window != nil }
        let period = (2...max(hasWindow.count, 2)).first { period in
            hasWindow.indices.allSatisfy { hasWindow[$0] == ($0 % period < period - 1) }
        }
        return period.map { .unsigned(UInt64($0)) } ?? .array(hasWindow.map { .bool($0) })
    }

    /// Adds the numbers that only some architectures have.
    private func addMultipliers(_ architecture: GGUFArchitecture, to metadata: inout GGUFMetadata) {
        let prefix = architecture.name + "."
        let d = description
        switch architecture.name {
        case "granite":
            metadata.set(prefix + "embedding_scale", d.embedding.scale)
            metadata.set(prefix + "attention.scale", d.attention.scale)
            metadata.set(prefix + "residual_scale", d.residualScale)
            // The number whose reciprocal is the scale, to the last bit.
            let divisor: Float = 1 / d.head.scale
            let exact: Float? = [divisor, divisor.nextUp, divisor.nextDown].first { 1 / $0 == d.head.scale }
            metadata.set(prefix + "logit_scale", exact ?? divisor)
        case "command-r", "cohere2": metadata.set(prefix + "logit_scale", d.head.scale)
        case "gemma2":
            metadata.set(prefix + "attn_logit_softcapping", d.attention.softcap)
            metadata.set(prefix + "final_logit_softcapping", d.head.softcap)
        case "gemma3" where d.head.softcap > 0: metadata.set(prefix + "final_logit_softcapping", d.head.softcap)
        case "gptneox": metadata.set(prefix + "use_parallel_residual", d.isParallel)
        default: break
        }
        if let growth = d.attention.queryGrowth { metadata.set(prefix + "attention.temperature_scale", growth.beta) }
    }

    /// Adds the rotation of the layers without a window, and of the others if they differ.
    private func addRotation(
        _ architecture: GGUFArchitecture, positions: Int, file: String, to metadata: inout GGUFMetadata
    ) throws(ModelError) -> [GGUFTable] {
        guard let rotation = description.rotations.first else { return [] }
        let prefix = architecture.name + ".rope."
        metadata.set(prefix + "freq_base", rotation.theta)
        metadata.set(prefix + "dimension_count", rotation.width)
        if description.rotations.count > 1 { metadata.set(prefix + "freq_base_swa", description.rotations[1].theta) }
        switch rotation.scaling {
        case .none where rotation.amplitude == 1: return []
        case .linear(let factor) where rotation.amplitude == 1:
            metadata.set(prefix + "scaling.type", "linear")
            metadata.set(prefix + "scaling.factor", factor)
            return []
        // llama.cpp reads the frequencies between which the ramp lies for one architecture only.
        case .yarn(let factor, let fast, let slow, let length, true) where (fast, slow) == (32, 1) || architecture.name == "mistral3":
            metadata.set(prefix + "scaling.type", "yarn")
            metadata.set(prefix + "scaling.factor", factor)
            metadata.set(prefix + "scaling.original_context_length", Int(exactly: length.rounded()) ?? 0)
            metadata.set(prefix + "scaling.yarn_beta_fast", fast)
            metadata.set(prefix + "scaling.yarn_beta_slow", slow)
            let own = RotationSettings.yarnAmplitude(factor: factor)
            if rotation.amplitude != own { metadata.set(prefix + "scaling.attn_factor", rotation.amplitude / own) }
            return []
        default: break
        }
        let plain = Rotation(theta: rotation.theta, width: rotation.width).frequencies
        let factors = zip(plain, rotation.frequencies).map { Float($0 / $1) }
        if architecture.name == "phi3" {
            metadata.set(prefix + "scaling.type", "longrope")
            metadata.set(prefix + "scaling.original_context_length", rotation.longTexts?.length ?? contextLength)
            metadata.set(prefix + "scaling.attn_factor", rotation.amplitude)
            // llama.cpp goes by the size of its context, so a model that takes no long text has nothing for one.
            let takesLong = rotation.longTexts.map { $0.length < positions } ?? false
            let long = takesLong ? zip(plain, rotation.longFrequencies).map { Float($0 / $1) } : factors
            return [("short", factors), ("long", long)].map { GGUFTable(name: "rope_factors_\($0).weight", values: $1) }
        }
        guard rotation.longTexts == nil else {
            throw ModelError(
                .unsupported, file: file, "rotates longer texts by other factors, which llama.cpp does not know for a \(architecture.name)",
                remedy: "write another format")
        }
        guard architecture.readsFrequencyFactors else {
            throw ModelError(
                .unsupported, file: file, "scales its rotary positions in a way that llama.cpp does not know for a \(architecture.name)",
                remedy: "write another format")
        }
        if rotation.amplitude != 1 { metadata.set(prefix + "scaling.attn_factor", rotation.amplitude) }
        return [GGUFTable(name: "rope_freqs.weight", values: factors)]
    }

    /// Returns a fact in which another configuration computes something else; nil if both compute the same, up to the rounding of numbers to
    /// single precision. A window that no text fills makes no difference.
    package func firstDifference(from other: ModelConfiguration) -> String? {
        let positions = min(contextLength, other.contextLength)
        let (own, others) = (comparable(positions), other.comparable(positions))
        if let line = zip(own.lines, others.lines).first(where: { $0 != $1 }) { return String(line.0) }
        guard own.rotations.count == others.rotations.count else { return "rotations: \(own.rotations.count)" }
        for (a, b) in zip(own.rotations, others.rotations) {
            let (x, y) = (a.frequencies + [a.amplitude], b.frequencies + [b.amplitude])
            guard x.count == y.count, zip(x, y).allSatisfy({ abs($0 - $1) <= 1e-6 * abs($0) }), a.isInterleaved == b.isInterleaved else {
                return "rotation with θ = \(a.theta)"
            }
            // What differs only for texts that neither takes makes no difference.
            func long(_ rotation: Rotation) -> Rotation.LongTexts? { rotation.longTexts.flatMap { $0.length < positions ? $0 : nil } }
            let areAlike = long(a) == nil || zip(a.longFrequencies, b.longFrequencies).allSatisfy { abs($0 - $1) <= 1e-6 * abs($0) }
            guard long(a)?.length == long(b)?.length, areAlike else {
                return "rotation of texts of more than \(long(a)?.length ?? long(b)?.length ?? 0) tokens"
            }
        }
        return nil
    }

    private static func single(_ number: Double) -> Double { Double(Float(number).description) ?? number }

    private func comparable(_ positions: Int) -> (lines: [Substring], rotations: [Rotation]) {
        var copy = self
        copy.tiedHead = false
        // GGUF holds these in single precision, and the reader takes the shortest decimal number for them.
        copy.description.norm.epsilon = Self.single(copy.description.norm.epsilon)
        if let growth = copy.description.attention.queryGrowth { copy.description.attention.queryGrowth?.beta = Self.single(growth.beta) }
        for layer in copy.description.layers.indices where (copy.description.layers[layer].window ?? 0) >= positions {
            copy.description.layers[layer].window = nil
        }
        let used = Set(copy.description.layers.compactMap(\.rotation)).sorted()
        // Layers name their rotation by its number, so unused ones are only left out behind the last that is used.
        let rotations = Array(copy.description.rotations.prefix((used.last ?? -1) + 1))
        copy.description.rotations = []
        return (copy.identity.split(separator: "\n"), rotations)
    }
}
