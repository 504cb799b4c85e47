import Core

/// The weights of one frozen layer, made once for all passes that carry examples through it. The next layer takes its place.
package final class FrozenLayer: @unchecked Sendable {  // written while nobody computes with it
    /// Rows of a matrix that a thread copies at a time.
    private static let rowsAtOnce = 64

    private let model: TrainableModel
    /// All tensors in F32; nil in 8-bit integers.
    let floats: LayerWeights?
    /// The matrices in 8-bit integers; nil in F32. Norms and biases are F32 in both, and passes read these few from the file.
    let quantised: QuantisedLayer?
    /// The layer whose weights these are; nil before the first and after a failure.
    package private(set) var layer: Int?

    /// - Parameter precision: that of the layer's products. In `int8`, rows are rounded too (quantised.h), not differences of rows.
    package init(_ model: TrainableModel, precision: Precision) {
        self.model = model
        floats = precision == .float ? LayerWeights(model.sizes) : nil
        quantised = precision == .int8 ? QuantisedLayer(model.sizes) : nil
    }

    /// Reads the weights of a layer below the model's entry, in which nothing is trained.
    package func read(_ layer: Int, threads: Int) throws(ModelError) {
        self.layer = nil
        if let floats { try copy(layer, into: floats, threads: threads) }
        try quantised?.pack(layer, of: model, threads: threads)
        self.layer = layer
    }

    private func copy(_ layer: Int, into weights: LayerWeights, threads: Int) throws(ModelError) {
        for tensor in model.sizes.tensors {
            guard let out = weights[tensor] else { continue }
            guard case .matrix(let rows, let columns) = model.sizes.tensorShape(tensor) else {
                try model.copyFloats(tensor, of: layer, into: out)
                continue
            }
            let stored = try model.source.storedTensor(model.description.names.name(tensor, layer: layer))
            nonisolated(unsafe) let start = out
            forEachChunk(of: rows, size: Self.rowsAtOnce, threads: threads) { range in
                stored.copyFloats(rows: range, into: start + range.lowerBound * columns)
            }
        }
    }
}
