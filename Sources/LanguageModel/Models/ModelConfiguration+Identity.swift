import Core

extension ModelConfiguration {
    /// Everything except the tensors' values that determines what the model computes, one line per fact. The same values with other heads,
    /// another θ or another window are another model. docs/reference/ledger.md describes the format.
    package var identity: String {
        let d = description
        var lines = [
            "sizes \(hiddenSize) \(feedForwardSize) \(layerCount) \(headCount) \(keyValueHeadCount) \(headDimension) \(vocabularySize)",
            "norm \(d.norm.kind.rawValue) \(d.norm.epsilon) \(d.norm.weightOffset) weights=\(d.norm.hasWeights) bias=\(d.norm.hasBias)",
            "places \(d.norms.sorted().map { "\($0)" }.joined(separator: " "))",
            "layer parallel=\(d.isParallel) shared=\(d.sharesInputNorm) residual=\(d.residualScale)",
            "attention qk=\(d.attention.queryKeyNorm.rawValue) after=\(d.attention.normalisesAfterRotation) scale=\(d.attention.scale)"
                + " softcap=\(d.attention.softcap) alibi=\(d.attention.hasLinearBiases)",
            "feed-forward \(d.activation.rawValue) gated=\(d.isGated)",
            "biases \(d.biased.sorted().map { "\($0)" }.joined(separator: " "))",
            "embedding scale=\(d.embedding.scale) positions=\(d.embedding.positionCount ?? 0) offset=\(d.embedding.positionOffset)"
                + " norm=\(d.embedding.hasNorm) width=\(d.embedding.projectedWidth ?? 0)",
            "head tied=\(tiedHead) norm=\(d.head.hasNorm) bias=\(d.head.hasBias) scale=\(d.head.scale) softcap=\(d.head.softcap)",
        ]
        if let growth = d.attention.queryGrowth { lines.append("queries \(growth.beta) \(growth.length)") }
        for rotation in d.rotations {
            lines.append(
                "rotation theta=\(rotation.theta) width=\(rotation.width) interleaved=\(rotation.isInterleaved) amplitude=\(rotation.amplitude) \(rotation.scaling.text)"
            )
            if let long = rotation.longTexts { lines.append("long texts \(long.length) \(Rotation.Scaling.factors(long.factors).text)") }
        }
        for (i, layer) in d.layers.enumerated() {
            lines.append("layer \(i) rotation=\(layer.rotation ?? -1) window=\(layer.window ?? 0)")
            if let x = layer.xielu { lines.append("layer \(i) xielu \(x.alphaPlus) \(x.alphaMinus) \(x.beta) \(x.epsilon)") }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Whether the model has the only form that the first versions knew. Their ledgers do not mention a configuration, and this version's
    /// ledgers of such models don't either.
    package var isPlainLlama: Bool {
        var plain = ModelDescription()
        plain.norm.epsilon = description.norm.epsilon
        plain.attention.scale = 1 / Float(headDimension).squareRoot()
        plain.rotations = [Rotation(theta: ropeTheta, width: headDimension)]
        plain.layers = Array(repeating: ModelDescription.Layer(), count: layerCount)
        return family == .llama && description == plain
    }
}

extension Rotation.Scaling {
    fileprivate var text: String {
        switch self {
        case .none: "none"
        case .linear(let factor): "linear \(factor)"
        case .llama3(let factor, let low, let high, let length): "llama3 \(factor) \(low) \(high) \(length)"
        case .yarn(let factor, let fast, let slow, let length, let truncates): "yarn \(factor) \(fast) \(slow) \(length) \(truncates)"
        case .factors(let factors): "factors \(factors.map { "\($0)" }.joined(separator: " "))"
        }
    }
}
