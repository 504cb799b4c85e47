import Core

/// A tensor that a model needs.
package struct ExpectedTensor {
    /// A tensor of the model as a part of a tensor in a file.
    package struct Place {
        package let name: String
        /// Dimensions of the file's tensor, rows first.
        package let dimensions: [Int]
        package let view: TensorView
    }
    /// Name used in runs: Hugging Face's name, followed by the part's name if files hold several modules in one tensor.
    package let name: String
    package let shape: TensorShape
    package let file: Place
    package let gguf: Place
}

extension ModelConfiguration {
    /// All tensors of the model. A tensor's position in the sorted list of names is its τ.
    package var tensors: [ExpectedTensor] {
        let sizes = LayerSizes(self)
        return ModelTensor.allCases.compactMap { expected($0, sizes) }
            + (0..<layerCount).flatMap { layer in sizes.tensors.map { expected($0, layer: layer, sizes) } }
    }

    /// Returns a tensor outside the layers; nil if the model does not have it.
    private func expected(_ tensor: ModelTensor, _ sizes: LayerSizes) -> ExpectedTensor? {
        guard has(tensor) else { return nil }
        let shape: TensorShape =
            switch tensor {
            case .embedding, .head: .matrix(rows: vocabularySize, columns: sizes.embedding)
            case .positions: .matrix(rows: description.embedding.positionCount ?? 0, columns: hiddenSize)
            case .projectIn: .matrix(rows: hiddenSize, columns: sizes.embedding)
            case .projectOut: .matrix(rows: sizes.embedding, columns: hiddenSize)
            case .headBias: .vector(vocabularySize)
            case .embeddingNorm, .embeddingNormBias, .finalNorm, .finalNormBias: .vector(hiddenSize)
            }
        let names = description.names
        let offset = tensor.isNorm && !tensor.isBias ? -description.norm.weightOffset : 0
        return ExpectedTensor(
            name: names.name(tensor), shape: shape, file: .init(name: names.name(tensor), dimensions: shape.dimensions, view: TensorView()),
            gguf: .init(name: names.ggufName(tensor), dimensions: shape.dimensions, view: TensorView(offset: offset)))
    }

    package func has(_ tensor: ModelTensor) -> Bool {
        let d = description
        return switch tensor {
        case .embedding: true
        case .positions: d.embedding.positionCount != nil
        case .embeddingNorm: d.embedding.hasNorm && d.norm.hasWeights
        case .embeddingNormBias: d.embedding.hasNorm && d.norm.hasBias
        case .projectIn, .projectOut: d.embedding.projectedWidth != nil
        case .finalNorm: d.head.hasNorm && d.norm.hasWeights
        case .finalNormBias: d.head.hasNorm && d.norm.hasBias
        case .head: !tiedHead
        case .headBias: d.head.hasBias
        }
    }

    private func expected(_ tensor: LayerTensor, layer: Int, _ sizes: LayerSizes) -> ExpectedTensor {
        let names = description.names
        let shape = sizes.tensorShape(tensor)
        let place = names.modules[tensor.module] ?? TensorNames.Place("", gguf: "")
        let kind = tensor.isBias ? "bias" : "weight"
        let rows = sizes.shape(tensor.module).outputs

        // Rows of the modules in the same tensor: those before this module, and all.
        func fused(_ isSame: (TensorNames.Place) -> Bool) -> (before: Int, all: Int) {
            let group = LayerModule.allCases.filter { module in names.modules[module].map(isSame) ?? false }.filter { sizes.has($0) }
            let counts = group.map { sizes.shape($0).outputs }
            let before = zip(group, counts).reduce(0) { $0 + ($1.0 < tensor.module ? $1.1 : 0) }
            return (before, counts.reduce(0, +))
        }
        var fileRows = rows
        var view = TensorView()
        if place.part != nil {
            let (before, all) = fused { $0.part != nil && $0.file == place.file }
            fileRows = all
            if place.isByHead {
                view.rowOrder = .partOfHeads(part: tensor.module.rawValue - LayerModule.query.rawValue, parts: 3, headDimension: headDimension)
            } else {
                view.firstRow = before
            }
        }
        view.isTransposed = names.isTransposed && !tensor.isBias && !tensor.module.isNorm
        var ggufRows = rows
        var ggufView = TensorView(offset: tensor.module.isNorm && !tensor.isBias ? -description.norm.weightOffset : 0)
        if place.isPartOfGGUF { (ggufView.firstRow, ggufRows) = fused { $0.isPartOfGGUF && $0.gguf == place.gguf } }
        if place.isInterleavedInGGUF { ggufView.rowOrder = .interleavedHeads(headDimension: headDimension) }

        func dimensions(_ rows: Int, isTransposed: Bool = false) -> [Int] {
            guard case .matrix(_, let columns) = shape else { return [rows] }
            return isTransposed ? [columns, rows] : [rows, columns]
        }
        return ExpectedTensor(
            name: names.name(tensor, layer: layer), shape: shape,
            file: .init(
                name: "\(names.layers)\(layer).\(place.file).\(kind)", dimensions: dimensions(fileRows, isTransposed: view.isTransposed), view: view),
            gguf: .init(name: "blk.\(layer).\(place.gguf).\(kind)", dimensions: dimensions(ggufRows), view: ggufView))
    }

    /// Whether a tensor is not needed although some files carry it: a table that follows from the configuration, a tensor of a part that is
    /// left out, or the separate head of a model with a tied one.
    package func isRedundant(_ name: String) -> Bool {
        let suffixes = [
            ".rotary_emb.inv_freq", ".rotary_emb.position_ids", ".attn.bias", ".attn.masked_bias", ".attn.attention.bias",
            ".attn.attention.masked_bias", ".attention.bias", ".attention.masked_bias",
        ]
        return suffixes.contains { name.hasSuffix($0) } || family.ignoredPrefixes.contains { name.hasPrefix($0) }
            || (tiedHead && name == description.names.name(.head))
    }
}
