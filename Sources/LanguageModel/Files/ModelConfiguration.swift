/// A model's structure as its files describe it, whatever their format.
public struct ModelConfiguration: Hashable, Sendable {
    public var family: ModelFamily
    /// Width of the residual stream.
    public var hiddenSize: Int
    /// Width of the feed-forward layer's inner states.
    public var feedForwardSize: Int
    /// Number of layers.
    public var layerCount: Int
    /// Number of query heads.
    public var headCount: Int
    /// Number of key and value heads; divides `headCount` (grouped-query attention).
    public var keyValueHeadCount: Int
    /// Width of a head of queries, keys or values.
    public var headDimension: Int
    /// Number of tokens, which is the number of rows of the embedding matrix.
    public var vocabularySize: Int
    /// Number of positions that the model was made for.
    public var contextLength: Int
    /// Whether the embedding matrix serves as head, so that the model has no head of its own.
    public var tiedHead: Bool
    /// Token that begins a text; nil if the files name none.
    public var bosToken: Int32?
    /// Tokens that end a text.
    public var eosTokens: [Int32]
    /// The computation that uses these sizes.
    public var description = ModelDescription()

    package init(
        family: ModelFamily, hiddenSize: Int, feedForwardSize: Int, layerCount: Int, headCount: Int, keyValueHeadCount: Int,
        headDimension: Int, vocabularySize: Int, contextLength: Int, tiedHead: Bool, bosToken: Int32? = nil, eosTokens: [Int32] = []
    ) {
        self.family = family
        self.hiddenSize = hiddenSize
        self.feedForwardSize = feedForwardSize
        self.layerCount = layerCount
        self.headCount = headCount
        self.keyValueHeadCount = keyValueHeadCount
        self.headDimension = headDimension
        self.vocabularySize = vocabularySize
        self.contextLength = contextLength
        self.tiedHead = tiedHead
        self.bosToken = bosToken
        self.eosTokens = eosTokens
    }

    /// Number of tokens above which texts are rotated otherwise; nil if the length makes no difference.
    public var longTextLength: Int? { description.rotations.compactMap(\.longTexts?.length).min() }
    /// θ of the (first) rotary position embedding; 0 if there is none.
    public var ropeTheta: Double { description.rotations.first?.theta ?? 0 }
    /// Number of tokens seen by each layer that has a window.
    public var windows: [Int] { description.layers.compactMap(\.window) }
    /// ε of the norms.
    public var normEpsilon: Double { description.norm.epsilon }

    package enum Limits {
        /// No dimension of a model that fits a machine comes near this limit, and products of two dimensions can't overflow.
        package static let dimensionMax = 1 << 28
        package static let layersMax = 4096
    }

    /// Refuses impossible sizes, so that no later code divides by zero or overflows.
    package func validateSizes(file: String) throws(ModelError) {
        let dimensions = [
            ("hidden size", hiddenSize), ("feed-forward size", feedForwardSize), ("number of heads", headCount),
            ("number of key/value heads", keyValueHeadCount), ("head dimension", headDimension), ("vocabulary size", vocabularySize),
            ("context length", contextLength), ("width of embeddings", description.embedding.projectedWidth ?? hiddenSize),
        ]
        for (what, value) in dimensions where !(1...Limits.dimensionMax).contains(value) {
            throw ModelError(.malformed, file: file, subject: what, "is \(value); possible are 1 to \(Limits.dimensionMax)")
        }
        guard (1...Limits.layersMax).contains(layerCount) else {
            throw ModelError(.malformed, file: file, subject: "number of layers", "is \(layerCount); possible are 1 to \(Limits.layersMax)")
        }
        guard headCount % keyValueHeadCount == 0 else {
            throw ModelError(
                .malformed, file: file, subject: "number of key/value heads",
                "is \(keyValueHeadCount), which does not divide the \(headCount) heads")
        }
        guard headCount * headDimension <= Limits.dimensionMax else {
            throw ModelError(.malformed, file: file, subject: "number of heads", "times the head dimension is too large")
        }
    }

    /// Refuses impossible numbers; returns the configuration unchanged.
    package func validated(file: String) throws(ModelError) -> ModelConfiguration {
        try validateSizes(file: file)
        let numbers: [(String, Float)] = [
            ("scale of attention", description.attention.scale), ("softcap of attention", description.attention.softcap),
            ("scale of embeddings", description.embedding.scale), ("scale of the residual stream", description.residualScale),
            ("scale of logits", description.head.scale), ("softcap of logits", description.head.softcap),
        ]
        for (what, value) in numbers where !value.isFinite || value < 0 {
            throw ModelError(.malformed, file: file, subject: what, "is \(value), no positive number")
        }
        let thetas = description.rotations.map(\.theta)
        guard normEpsilon.isFinite, normEpsilon >= 0, thetas.allSatisfy({ $0.isFinite && $0 > 0 }) else {
            throw ModelError(.malformed, file: file, subject: "RMS ε or RoPE θ", "is not a positive number (\(normEpsilon), \(ropeTheta))")
        }
        for token in [bosToken].compactMap({ $0 }) + eosTokens where !(0..<vocabularySize).contains(Int(token)) {
            throw ModelError(.malformed, file: file, subject: "special token", "\(token) is not in the vocabulary of \(vocabularySize)")
        }
        return self
    }
}
