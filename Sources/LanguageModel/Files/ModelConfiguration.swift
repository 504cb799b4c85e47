/// What a model's files say about its structure, whichever format they have.
public struct ModelConfiguration: Hashable, Sendable {
    public var architecture: Architecture
    /// Width of the residual stream.
    public var hiddenSize: Int
    /// Width of the feed-forward layer's inside.
    public var feedForwardSize: Int
    public var layerCount: Int
    /// Query heads.
    public var headCount: Int
    /// Key and value heads; divides `headCount` (grouped-query attention).
    public var keyValueHeadCount: Int
    public var headDimension: Int
    public var vocabularySize: Int
    /// Positions that the model was made for.
    public var contextLength: Int
    /// θ of the rotary position embedding.
    public var ropeTheta: Double
    /// ε of RMSNorm.
    public var rmsEpsilon: Double
    /// The head is the embedding matrix: there is no `lm_head.weight`.
    public var tiedHead: Bool
    public var bosToken: Int32?
    /// Any of these ends a text.
    public var eosTokens: [Int32]

    public init(
        architecture: Architecture, hiddenSize: Int, feedForwardSize: Int, layerCount: Int, headCount: Int, keyValueHeadCount: Int,
        headDimension: Int, vocabularySize: Int, contextLength: Int, ropeTheta: Double, rmsEpsilon: Double, tiedHead: Bool,
        bosToken: Int32? = nil, eosTokens: [Int32] = []
    ) {
        self.architecture = architecture
        self.hiddenSize = hiddenSize
        self.feedForwardSize = feedForwardSize
        self.layerCount = layerCount
        self.headCount = headCount
        self.keyValueHeadCount = keyValueHeadCount
        self.headDimension = headDimension
        self.vocabularySize = vocabularySize
        self.contextLength = contextLength
        self.ropeTheta = ropeTheta
        self.rmsEpsilon = rmsEpsilon
        self.tiedHead = tiedHead
        self.bosToken = bosToken
        self.eosTokens = eosTokens
    }

    package enum Limits {
        /// No dimension of a model that fits a machine comes near it, and products of two of them can't overflow.
        package static let dimensionMax = 1 << 28
        package static let layersMax = 4096
    }

    /// Refuses what no model of this kind can be, so that nothing after it divides by zero or overflows.
    package func validated(file: String) throws(ModelError) -> ModelConfiguration {
        let dimensions = [
            ("hidden size", hiddenSize), ("feed-forward size", feedForwardSize), ("number of heads", headCount),
            ("number of key/value heads", keyValueHeadCount), ("head dimension", headDimension), ("vocabulary size", vocabularySize),
            ("context length", contextLength),
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
        guard headDimension % 2 == 0 else {
            throw ModelError(.malformed, file: file, subject: "head dimension", "is \(headDimension); rotary positions need an even one")
        }
        guard headCount * headDimension <= Limits.dimensionMax else {
            throw ModelError(.malformed, file: file, subject: "number of heads", "times the head dimension is too large")
        }
        guard rmsEpsilon.isFinite, rmsEpsilon >= 0, ropeTheta.isFinite, ropeTheta > 0 else {
            throw ModelError(.malformed, file: file, subject: "RMS ε or RoPE θ", "is not a positive number (\(rmsEpsilon), \(ropeTheta))")
        }
        for token in [bosToken].compactMap({ $0 }) + eosTokens where !(0..<vocabularySize).contains(Int(token)) {
            throw ModelError(.malformed, file: file, subject: "special token", "\(token) is not in the vocabulary of \(vocabularySize)")
        }
        return self
    }
}
