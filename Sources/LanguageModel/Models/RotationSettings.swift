import Glibc

/// Rotary positions in a config.json. transformers 5 writes `rope_parameters`; earlier versions wrote `rope_theta` and `rope_scaling`.
package struct RotationSettings {
    package let file: ConfigurationFile
    /// The object that holds the settings, and its key.
    private let object: JSON?
    private let key: String
    package var theta: Double?
    /// Part of a head's elements that are rotated.
    package var part: Double?

    /// - Parameter layerType: the type of layer whose settings are read, if `rope_parameters` has separate ones.
    package init(_ file: ConfigurationFile, layerType: String?) throws(ModelError) {
        self.file = file
        var object: JSON?
        var key = "rope_parameters"
        for candidate in ["rope_scaling", "rope_parameters"] {
            guard let found = file.present(candidate) else { continue }
            guard found.members != nil else { throw ModelError(.malformed, file: file.path, subject: candidate, "is no object") }
            (object, key) = (found, candidate)
        }
        if let layerType {
            if let own = object?[layerType], own.members != nil { object = own }
        } else if let own = object?.members?.first(where: { $0.value.members != nil }) {
            throw ModelError(
                .unsupported, file: file.path, subject: "\(key).\(own.key)",
                "are settings of one type of layer, but all layers of this family rotate alike",
                remedy: "is config.json that of another model?")
        }
        self.object = object
        self.key = key
        theta = object?["rope_theta"]?.double
        if theta == nil { theta = try file.double("rope_theta") }
        if theta == nil { theta = try file.double("rotary_emb_base") }
        part = object?["partial_rotary_factor"]?.double
        if part == nil { part = try file.double("partial_rotary_factor") }
        if part == nil { part = try file.double("rotary_pct") }
    }

    /// Sets how frequencies are scaled.
    package func apply(to rotation: inout Rotation, contextLength: Int) throws(ModelError) {
        let type = object?["rope_type"] ?? object?["type"] ?? "default"
        switch type.string {
        case "default", "none": break
        case nil where type.isNull: break
        // Up to the length that the model was made for this is the default; longer texts are not read.
        case "dynamic": break
        case "linear":
            let factor = try required("factor")
            if factor != 1 { rotation.scaling = .linear(factor: factor) }
        case "llama3":
            rotation.scaling = .llama3(
                factor: try required("factor"), lowFactor: try required("low_freq_factor"), highFactor: try required("high_freq_factor"),
                length: try required("original_max_position_embeddings"))
        case "yarn": try applyYarn(to: &rotation, contextLength: contextLength)
        case "longrope", "su": try applyLongRope(to: &rotation, contextLength: contextLength)
        default:
            throw ModelError(
                .unsupported, file: file.path, subject: key, "RoPE of type \(type.text(indent: 0)) is not supported",
                remedy: "supported: default, linear, dynamic, llama3, yarn, longrope")
        }
    }

    /// The multiplier of cosines and sines that YaRN recommends.
    package static func yarnAmplitude(factor: Double, scale: Double = 1) -> Double { factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1 }

    private func applyYarn(to rotation: inout Rotation, contextLength: Int) throws(ModelError) {
        let length = try number("original_max_position_embeddings") ?? Double(contextLength)
        let factor = try number("factor") ?? Double(contextLength) / max(length, 1)
        rotation.scaling = .yarn(
            factor: factor, fast: try number("beta_fast") ?? 32, slow: try number("beta_slow") ?? 1, length: length,
            truncates: object?["truncate"]?.bool ?? true)
        if let given = try number("attention_factor") {
            rotation.amplitude = given
        } else if let scale = try number("mscale"), let all = try number("mscale_all_dim"), scale != 0, all != 0 {
            rotation.amplitude = Self.yarnAmplitude(factor: factor, scale: scale) / Self.yarnAmplitude(factor: factor, scale: all)
        } else {
            rotation.amplitude = Self.yarnAmplitude(factor: factor)
        }
    }

    private func applyLongRope(to rotation: inout Rotation, contextLength: Int) throws(ModelError) {
        let short = try factors("short_factor", count: rotation.width / 2)
        rotation.scaling = .factors(short)
        let length = try originalLength ?? Double(contextLength)
        guard length >= 1, let usual = Int(exactly: length.rounded(.down)) else {
            throw ModelError(.malformed, file: file.path, subject: "original_max_position_embeddings", "is \(length), which is no number of tokens")
        }
        let factor = try number("factor") ?? Double(contextLength) / length
        rotation.amplitude = try number("attention_factor") ?? (factor <= 1 ? 1 : (1 + log(factor) / log(length)).squareRoot())
        guard contextLength > usual else { return }
        let long = try factors("long_factor", count: rotation.width / 2)
        if long != short { rotation.longTexts = .init(factors: long, length: usual) }
    }

    private func factors(_ name: String, count: Int) throws(ModelError) -> [Double] {
        guard let factors = object?[name]?.array, factors.count == count else {
            throw ModelError(.malformed, file: file.path, subject: "\(key).\(name)", "does not hold \(count) numbers")
        }
        var values: [Double] = []
        for factor in factors {
            guard let value = factor.double, value.isFinite, value > 0 else {
                throw ModelError(.malformed, file: file.path, subject: "\(key).\(name)", "holds something that is no positive number")
            }
            values.append(value)
        }
        return values
    }

    private var originalLength: Double? {
        get throws(ModelError) {
            if let own = try number("original_max_position_embeddings") { return own }
            return try file.double("original_max_position_embeddings")
        }
    }

    package func number(_ name: String) throws(ModelError) -> Double? {
        guard let value = object?[name], !value.isNull else { return nil }
        guard let number = value.double, number.isFinite else {
            throw ModelError(.malformed, file: file.path, subject: "\(key).\(name)", "is not a number")
        }
        return number
    }

    private func required(_ name: String) throws(ModelError) -> Double {
        guard let number = try number(name), number > 0 else {
            throw ModelError(.malformed, file: file.path, subject: "\(key).\(name)", "is missing or not a positive number")
        }
        return number
    }
}
