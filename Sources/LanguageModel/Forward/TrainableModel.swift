import Core
import Kernels

/// A model ready to compute: its frozen tensors where their file keeps them, its trained ones as the integers of the `Parameters`, and
/// F32 copies of what is read too often to be made anew each time. A layer that is trained as a whole has none, unless it is the last:
/// passes over hundreds of rows make its matrices on their way, so that training all layers takes the memory of their integers and a few
/// matrices.
///
/// One thread at a time may call the methods that change it (`parametersChanged`, and the `prepare…` family); between them any
/// number of threads compute with it.
public final class TrainableModel: @unchecked Sendable {
    /// Where a pass over an example begins: nothing before it ever changes.
    public enum Entry: Hashable, Sendable {
        /// The embedding matrix is trained: from the tokens.
        case tokens
        /// At the input of this layer; `layerCount` is the input of the final norm.
        case layer(Int)
    }

    public let source: ModelSource
    public let configuration: ModelConfiguration
    /// Nil for a model that is only evaluated or made to speak.
    public let parameters: Parameters?
    public let entry: Entry

    package let sizes: LayerSizes
    /// The parameters' tensors; a slot is a position in this list, −1 stands for a frozen tensor.
    package let trained: [TrainedTensor]
    package let layerSlots: [[Int]]
    package let finalNormSlot: Int
    package let embeddingSlot: Int
    package let headSlot: Int
    package let finalNorm: ScratchBuffer<Float>
    package let finalAdapter: FinalAdapter?
    /// Counts the calls of `parametersChanged`: what was computed from the parameters holds as long as this stays.
    package private(set) var revision = 0
    private(set) var rotary: RotaryTable

    /// F32 layers that are kept; nil for those below the entry and those that passes make for themselves.
    private var resident: [LayerWeights?]
    /// The same in bytes, once they were asked for.
    private var byteLayers: [Int8Weights?] = []
    private var fullHead: ScratchBuffer<Float>?
    private var headRows: [Int32: ScratchBuffer<Float>] = [:]
    private let headName: String

    package static let embeddingName = "model.embed_tokens.weight"
    package static let finalNormName = "model.norm.weight"

    /// - Parameters:
    ///   - parameters: of `source.trainedTensors(…)`; nil leaves the whole model as its files have it.
    ///   - basis: the run's; needed where an adapter is trained.
    /// - Throws: `ModelError` from the files, or where an adapter is trained whose factors the basis does not have.
    public init(source: ModelSource, parameters: Parameters? = nil, basis: RunBasis? = nil) throws(ModelError) {
        self.source = source
        self.parameters = parameters
        configuration = source.configuration
        let layerCount = configuration.layerCount
        sizes = LayerSizes(configuration)
        trained = parameters?.tensors ?? []
        headName = source.headName

        let slots = Dictionary(trained.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
        func slot(_ name: String) -> Int { slots[name] ?? -1 }
        layerSlots = (0..<layerCount).map { layer in LayerTensor.allCases.map { slot($0.name(layer: layer)) } }
        finalNormSlot = slot(Self.finalNormName)
        embeddingSlot = slot(Self.embeddingName)
        headSlot = slot(headName)
        if embeddingSlot >= 0 {
            entry = .tokens
        } else {
            entry = .layer(layerSlots.firstIndex { $0.contains { $0 >= 0 } } ?? layerCount)
        }

        finalNorm = ScratchBuffer(capacity: configuration.hiddenSize)
        if finalNormSlot >= 0 {
            parameters?.copyFloats(at: finalNormSlot, elements: 0..<configuration.hiddenSize, into: finalNorm.pointer)
        } else {
            try source.copyFloats(Self.finalNormName, into: finalNorm.pointer)
        }
        finalAdapter = try source.finalAdapter(of: trained, basis: basis)
        if let finalAdapter {
            parameters?.copyFloats(
                at: finalAdapter.slot, elements: 0..<trained[finalAdapter.slot].shape.count, into: finalAdapter.coordinates.pointer)
        }
        rotary = RotaryTable(positions: 0, headDimension: sizes.headDimension, theta: configuration.ropeTheta)

        resident = Array(repeating: nil, count: layerCount)
        // Of the last layer most rows are needed for their keys and values only: making it would cost as much as computing with it.
        for layer in layersFromEntry where layer == layerCount - 1 || !isTrained(layer) { resident[layer] = try makeLayer(layer) }
    }

    private var layersFromEntry: Range<Int> {
        let first = if case .layer(let layer) = entry { layer } else { 0 }
        return first..<configuration.layerCount
    }

    /// Whether all of its tensors are.
    private func isTrained(_ layer: Int) -> Bool { layerSlots[layer].allSatisfy { $0 >= 0 } }

    private func makeLayer(_ layer: Int) throws(ModelError) -> LayerWeights {
        let weights = LayerWeights(sizes)
        for tensor in LayerTensor.allCases { try copyFloats(tensor, of: layer, into: weights[tensor]) }
        return weights
    }

    /// As its file or the parameters have it.
    package func copyFloats(_ tensor: LayerTensor, of layer: Int, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        let slot = layerSlots[layer][tensor.rawValue]
        if slot >= 0 {
            parameters?.copyFloats(at: slot, elements: 0..<sizes.count(tensor), into: out)
        } else {
            try source.copyFloats(tensor.name(layer: layer), into: out)
        }
    }

    /// Refreshes the F32 copies of the trained tensors: to be called after rounds were applied or taken back.
    public func parametersChanged(threads: Int) {
        guard let parameters else { return }
        revision += 1
        for slot in trained.indices {
            guard let copy = trainedCopy(slot) else { continue }
            nonisolated(unsafe) let out = copy
            nonisolated(unsafe) let from = parameters
            forEachChunk(of: trained[slot].shape.count, size: 1 << 16, threads: threads) { range in
                from.copyFloats(at: slot, elements: range, into: out + range.lowerBound)
            }
        }
        if headSlot >= 0 {
            for (token, row) in headRows { parameters.copyFloats(at: headSlot, elements: elements(of: token), into: row.pointer) }
        }
        let packed = byteLayers.indices.flatMap { layer in
            LayerTensor.allCases.filter { byteLayers[layer] != nil && layerSlots[layer][$0.rawValue] >= 0 }.map { (layer, $0) }
        }
        forEachChunk(of: packed.count, size: 1, threads: threads) { range in
            for (layer, tensor) in packed[range] {
                if let weights = resident[layer] { byteLayers[layer]?.pack(tensor, of: weights) }
            }
        }
    }

    private func trainedCopy(_ slot: Int) -> UnsafeMutablePointer<Float>? {
        if slot == finalNormSlot { return finalNorm.pointer }
        if slot == headSlot { return fullHead?.pointer }
        if let finalAdapter, slot == finalAdapter.slot { return finalAdapter.coordinates.pointer }
        for layer in layerSlots.indices {
            if let tensor = layerSlots[layer].firstIndex(of: slot) {
                return LayerTensor(rawValue: tensor).flatMap { resident[layer]?[$0] }
            }
        }
        return nil
    }

    /// A layer in F32, where it is kept.
    package func residentLayer(_ layer: Int) -> LayerWeights? { resident[layer] }

    /// A layer that `prepareInt8Weights` saw.
    package func byteLayer(_ layer: Int) -> Int8Weights? { byteLayers.isEmpty ? nil : byteLayers[layer] }

    /// Keeps the layers from the entry up in bytes from now on, and all of them in F32 as well, which their clean rows want: for passes
    /// with `Precision.int8`.
    package func prepareInt8Weights() throws(ModelError) {
        guard byteLayers.isEmpty else { return }
        try keep(layersFromEntry)
        byteLayers = resident.map { $0.map(Int8Weights.init) }
    }

    /// Keeps every layer in F32 from now on: for texts, which go through all of them token by token.
    package func prepareAllLayers() throws(ModelError) { try keep(resident.indices) }

    private func keep(_ layers: Range<Int>) throws(ModelError) {
        for layer in layers where resident[layer] == nil { resident[layer] = try makeLayer(layer) }
    }

    /// Sees to it that positions below `count` can be rotated.
    package func preparePositions(_ count: Int) {
        guard count > rotary.positions else { return }
        rotary = RotaryTable(positions: count, headDimension: sizes.headDimension, theta: configuration.ropeTheta)
    }

    /// Sees to it that the head's rows of these tokens can be read.
    package func prepareHead(tokens: some Sequence<Int32>) throws(ModelError) {
        guard fullHead == nil else { return }
        for token in tokens where headRows[token] == nil {
            let row = ScratchBuffer<Float>(capacity: sizes.hidden)
            try copyHead(rows: Int(token)..<Int(token) + 1, into: row.pointer)
            headRows[token] = row
        }
    }

    private func copyHead(rows: Range<Int>, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        if headSlot >= 0 {
            parameters?.copyFloats(at: headSlot, elements: rows.lowerBound * sizes.hidden..<rows.upperBound * sizes.hidden, into: out)
        } else {
            try source.copyFloats(headName, rows: rows, into: out)
        }
    }

    /// Of a token's row in the embedding or the head.
    private func elements(of token: Int32) -> Range<Int> { Int(token) * sizes.hidden..<(Int(token) + 1) * sizes.hidden }

    /// Sees to it that the whole head can be read.
    package func prepareFullHead() throws(ModelError) {
        guard fullHead == nil else { return }
        let head = ScratchBuffer<Float>(capacity: configuration.vocabularySize * sizes.hidden)
        try copyHead(rows: 0..<configuration.vocabularySize, into: head.pointer)
        fullHead = head
        headRows = [:]
    }

    /// The head, vocabulary × hidden, where `prepareFullHead` has seen to it.
    package var fullHeadPointer: UnsafePointer<Float>? { fullHead.map { UnsafePointer($0.pointer) } }

    /// The head's row of a token that was prepared.
    package func headRow(_ token: Int32) -> UnsafePointer<Float>? {
        if let head = fullHeadPointer { return head + Int(token) * sizes.hidden }
        return headRows[token].map { UnsafePointer($0.pointer) }
    }

    /// The embeddings of tokens, unperturbed, one after the other.
    package func embed(_ tokens: UnsafeBufferPointer<Int32>, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        if embeddingSlot >= 0 {
            for (i, token) in tokens.enumerated() {
                parameters?.copyFloats(at: embeddingSlot, elements: elements(of: token), into: out + i * sizes.hidden)
            }
        } else {
            try source.gatherFloats(Self.embeddingName, rows: tokens, into: out)
        }
    }
}

extension ModelSource {
    /// The matrix that makes logits.
    package var headName: String { configuration.tiedHead ? TrainableModel.embeddingName : "lm_head.weight" }

    /// Fixed-point parameters of these tensors, at the values that the files hold; adapters begin at 0.
    ///
    /// - Throws: what reading a tensor, or a value that is not finite, brings up.
    public func makeParameters(_ tensors: [TrainedTensor]) throws -> Parameters {
        let sorted = tensors.sorted { $0.index < $1.index }
        return try Parameters(tensors: sorted) { i, out in
            guard let base = out.baseAddress else { return }
            try copyFloats(sorted[i].name, into: base)
        }
    }
}
