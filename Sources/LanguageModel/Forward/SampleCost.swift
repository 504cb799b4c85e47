import Core

/// Cost of a sample in multiply-adds of matrix products, for `model inspect`. Norms, attention scores and label logits are left out; they
/// are a few percent.
public struct SampleCost: Hashable, Sendable {
    /// Cost of both signs of one direction on one example.
    public let perSample: Int
    /// Cost per example and batch that all `rank1` directions on the example share; 0 if nothing can be shared.
    public let perBatch: Int
    /// Cost per example of a whole run: the part below the first trained layer.
    public let prefix: Int

    /// - Parameters:
    ///   - tensors: result of `source.trainedTensors(…)`.
    ///   - tokens: length of the sequences.
    ///   - reads: number of positions that the loss reads.
    ///   - fullVocabulary: whether the loss needs the logits of all tokens at the positions read.
    public init(
        _ configuration: ModelConfiguration, training tensors: [TrainedTensor], family: PerturbationFamily, tokens: Int, reads: Int,
        fullVocabulary: Bool
    ) {
        let s = LayerSizes(configuration)
        let layers = configuration.layerCount
        let names = Set(tensors.map { $0.place?.name ?? $0.name })
        let weights = Set(tensors.filter { !$0.isAdapter }.map(\.name))
        let adapters = Dictionary(
            tensors.filter(\.isAdapter).map { ($0.place?.name ?? "", $0.shape.dimensions) }, uniquingKeysWith: { first, _ in first })
        let keyValue = s.cost(.key, .value)
        let query = s.cost(.query)
        let rest = s.cost(.output, .gate, .up, .down)
        let entryNames = Set(ModelTensor.entry.filter(configuration.has).map(configuration.description.names.name))
        let embedding = !names.isDisjoint(with: entryNames)
        func name(_ tensor: LayerTensor, _ layer: Int) -> String { configuration.description.names.name(tensor, layer: layer) }
        let first =
            embedding ? 0 : (0..<layers).first { layer in s.tensors.contains { names.contains(name($0, layer)) } } ?? layers
        let head = fullVocabulary ? reads * configuration.vocabularySize * s.embedding : 0

        func whole(_ layer: Int) -> Int {
            layer == layers - 1 ? tokens * keyValue + reads * (query + rest) : tokens * (keyValue + query + rest)
        }
        /// Multiply-adds of Vᵀ·x and of U times the result, for a layer's adapters.
        func adapted(_ layer: Int) -> Int {
            LayerModule.matrices.reduce(0) { sum, module in
                guard let ranks = adapters[name(LayerTensor(module), layer)], ranks.count == 2 else { return sum }
                let rows = layer == layers - 1 && module != .key && module != .value ? reads : tokens
                return sum + rows * (ranks[0] * s.shape(module).outputs + ranks[1] * s.shape(module).inputs)
            }
        }
        let above = (first..<layers).reduce(0) { $0 + whole($1) + adapted($1) }
        let shares =
            family == .rank1 && !embedding && first < layers
            && ![false, true].contains { names.contains(name(LayerTensor(.inputNorm, isBias: $0), first)) }
        let rows = first == layers - 1 ? reads : tokens
        var shared = shares ? tokens * keyValue + rows * query : 0
        if shares {
            let writer = ForwardPass.lastWriter(
                configuration.description, adapted: LayerModule.matrices.filter { adapters[name(LayerTensor($0), first)] != nil },
                trainsWeights: s.tensors.contains { weights.contains(name($0, first)) })
            if writer == .down { shared = whole(first) } else if writer == .output { shared += rows * s.cost(.output) }
        }
        perSample = 2 * (above - shared + head)
        perBatch = shared
        prefix = embedding ? 0 : (0..<first).reduce(0) { $0 + whole($1) }
    }
}
