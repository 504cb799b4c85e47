import Core
import Glibc
import Kernels

/// A model that is ready to compute. Frozen tensors stay in their file; trained ones are the integers of the `Parameters`. There are F32
/// copies of what is read too often to be made anew each time. A layer that is trained as a whole has no copy, unless it is the last:
/// passes over hundreds of rows make its matrices as they need them. So training all layers takes the memory of their integers and a few
/// matrices.
///
/// Only one thread at a time may call the methods that change the model (`parametersChanged` and the `prepare…` family). Between these
/// calls any number of threads may compute with it.
public final class TrainableModel: @unchecked Sendable {
    /// Where a pass over an example begins. Nothing before this point ever changes.
    public enum Entry: Hashable, Sendable {
        /// At the tokens, because the embedding matrix is trained.
        case tokens
        /// At the input of this layer; `layerCount` is the input of the final norm.
        case layer(Int)
    }

    public let source: ModelSource
    public let configuration: ModelConfiguration
    /// Nil for a model that is only evaluated or that only writes.
    public let parameters: Parameters?
    /// Where passes over examples begin.
    public let entry: Entry

    package let sizes: LayerSizes
    /// The parameters' tensors. A slot is a position in this list; −1 stands for a frozen tensor.
    package let trained: [TrainedTensor]
    /// Slots of each layer's tensors, by `LayerTensor.index`.
    package let layerSlots: [[Int]]
    /// Slots of the tensors outside the layers, by `ModelTensor`'s raw value.
    private let modelSlots: [Int]
    package let embeddingSlot: Int
    package let headSlot: Int
    package let finalAdapter: Adapter?
    /// Adapters of each layer, by `LayerModule`; empty for a layer without any.
    private let layerAdapters: [[Adapter?]]
    private let allAdapters: [Adapter]
    /// Number of calls of `parametersChanged`. Results computed from the parameters hold as long as it stays the same.
    package private(set) var revision = 0
    /// Tables for rotating queries and keys, one for each rotation of the description.
    package private(set) var rotary: [RotaryTable]
    /// ALiBi's slopes, if the description asks for them.
    private let slopes: ScratchBuffer<Float>?
    /// Tensors outside the layers in F32, except the embedding and the head.
    private var residentTensors: [ModelTensor: ScratchBuffer<Float>] = [:]

    /// Layers that are kept in F32; nil for those below the entry and those that passes make for themselves.
    private var resident: [LayerWeights?]
    /// Layers in 8-bit integers; empty until `prepareInt8Weights`.
    private var int8Layers: [Int8Weights?] = []
    private var fullHead: ScratchBuffer<Float>?
    private var headRows: [Int32: ScratchBuffer<Float>] = [:]

    package var description: ModelDescription { configuration.description }

    /// - Parameters:
    ///   - parameters: parameters of `source.trainedTensors(…)`; nil leaves the whole model as its files have it.
    ///   - basis: the run's basis; needed if an adapter is trained.
    /// - Throws: `ModelError` from the files, or if an adapter is trained whose factors the basis does not have.
    public init(source: ModelSource, parameters: Parameters? = nil, basis: RunBasis? = nil) throws(ModelError) {
        self.source = source
        self.parameters = parameters
        configuration = source.configuration
        let layerCount = configuration.layerCount
        sizes = LayerSizes(configuration)
        trained = parameters?.tensors ?? []

        let slots = Dictionary(trained.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
        let names = configuration.description.names
        let layerTensors = sizes.tensors
        layerSlots = (0..<layerCount).map { layer in
            var own = Array(repeating: -1, count: LayerTensor.count)
            for tensor in layerTensors { own[tensor.index] = slots[names.name(tensor, layer: layer)] ?? -1 }
            return own
        }
        let adapters = try source.adapters(of: trained, basis: basis)
        allAdapters = Array(adapters.values)
        finalAdapter = adapters[AdapterPlace.finalName]
        layerAdapters = (0..<layerCount).map { layer in
            let own = LayerModule.allCases.map { adapters[names.name(LayerTensor($0), layer: layer)] }
            return own.contains { $0 != nil } ? own : []
        }
        let present = ModelTensor.allCases.map(configuration.has)
        modelSlots = ModelTensor.allCases.map { present[$0.rawValue] ? slots[names.name($0)] ?? -1 : -1 }
        embeddingSlot = modelSlots[ModelTensor.embedding.rawValue]
        headSlot = configuration.tiedHead ? embeddingSlot : modelSlots[ModelTensor.head.rawValue]
        let ownSlots = modelSlots
        if ModelTensor.entry.contains(where: { ownSlots[$0.rawValue] >= 0 }) {
            entry = .tokens
        } else {
            let (ownLayers, ownAdapters) = (layerSlots, layerAdapters)
            entry = .layer((0..<layerCount).first { ownLayers[$0].contains { $0 >= 0 } || !ownAdapters[$0].isEmpty } ?? layerCount)
        }
        for adapter in allAdapters {
            parameters?.copyFloats(at: adapter.slot, elements: 0..<trained[adapter.slot].shape.count, into: adapter.coordinates.pointer)
        }
        rotary = configuration.description.rotations.map { RotaryTable($0, positions: 0) }
        slopes = configuration.description.attention.hasLinearBiases ? ScratchBuffer(Self.linearBiases(heads: configuration.headCount)) : nil

        resident = Array(repeating: nil, count: layerCount)
        for tensor in ModelTensor.allCases where tensor != .embedding && tensor != .head && configuration.has(tensor) {
            residentTensors[tensor] = try makeTensor(tensor)
        }
        // The last layer is kept, except beside adapters below it. Most of its rows need only keys and values, so making the layer would cost as
        // much as computing with it; beside deeper layers that is little.
        for layer in layersFromEntry where !areAdaptersDeep && (layer == layerCount - 1 || !isTrained(layer)) {
            resident[layer] = try makeLayer(layer)
        }
    }

    /// Whether only adapters are trained in layers, and some below the last layer. The base then stays in its files' formats.
    private var areAdaptersDeep: Bool {
        layerSlots.allSatisfy { $0.allSatisfy { $0 < 0 } } && layerAdapters.dropLast().contains { !$0.isEmpty }
    }

    /// Returns the adapter of a layer's matrix; nil if it has none.
    package func adapter(_ layer: Int, _ module: LayerModule) -> Adapter? {
        layerAdapters[layer].isEmpty ? nil : layerAdapters[layer][module.rawValue]
    }

    /// Returns the adapter whose C is this trained tensor; nil for a tensor of the model itself.
    package func adapter(at slot: Int) -> Adapter? { allAdapters.first { $0.slot == slot } }

    package func hasAdapters(_ layer: Int) -> Bool { !layerAdapters[layer].isEmpty }

    private var layersFromEntry: Range<Int> {
        let first = if case .layer(let layer) = entry { layer } else { 0 }
        return first..<configuration.layerCount
    }

    /// Whether all tensors of a layer are trained.
    private func isTrained(_ layer: Int) -> Bool { sizes.tensors.allSatisfy { layerSlots[layer][$0.index] >= 0 } }

    private func makeLayer(_ layer: Int) throws(ModelError) -> LayerWeights {
        let weights = LayerWeights(sizes)
        for tensor in sizes.tensors { if let out = weights[tensor] { try copyFloats(tensor, of: layer, into: out) } }
        return weights
    }

    /// Copies a tensor's values from its file or the parameters; a norm's weights are copied as the factors that they stand for.
    package func copyFloats(_ tensor: LayerTensor, of layer: Int, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        let slot = layerSlots[layer][tensor.index]
        if slot >= 0 {
            parameters?.copyFloats(at: slot, elements: 0..<sizes.count(tensor), into: out)
        } else {
            try source.copyFloats(description.names.name(tensor, layer: layer), into: out)
        }
        if tensor.module.isNorm, !tensor.isBias { addNormOffset(out, sizes.count(tensor)) }
    }

    private func makeTensor(_ tensor: ModelTensor) throws(ModelError) -> ScratchBuffer<Float> {
        let name = description.names.name(tensor)
        let count = source.shape(of: name)?.count ?? 0
        let buffer = ScratchBuffer<Float>(capacity: count)
        if slot(tensor) >= 0 {
            parameters?.copyFloats(at: slot(tensor), elements: 0..<count, into: buffer.pointer)
        } else {
            try source.copyFloats(name, into: buffer.pointer)
        }
        if tensor.isNorm, !tensor.isBias { addNormOffset(buffer.pointer, count) }
        return buffer
    }

    private func addNormOffset(_ weights: UnsafeMutablePointer<Float>, _ count: Int) {
        let offset = description.norm.weightOffset
        if offset != 0 { for i in 0..<count { weights[i] += offset } }
    }

    /// Whether the head's weights or bias are trained.
    package var trainsHead: Bool { headSlot >= 0 || slot(.headBias) >= 0 }

    package func slot(_ tensor: ModelTensor) -> Int { modelSlots[tensor.rawValue] }

    /// A tensor outside the layers, as it is used; nil if the model does not have it.
    package func floats(_ tensor: ModelTensor) -> UnsafeMutablePointer<Float>? { residentTensors[tensor]?.pointer }

    /// Refreshes the F32 copies of the trained tensors. Call it after rounds were applied or taken back.
    public func parametersChanged(threads: Int) {
        guard let parameters else { return }
        revision += 1
        for slot in trained.indices {
            guard let (copy, isNormWeight) = trainedCopy(slot) else { continue }
            nonisolated(unsafe) let out = copy
            nonisolated(unsafe) let from = parameters
            forEachChunk(of: trained[slot].shape.count, size: 1 << 16, threads: threads) { range in
                from.copyFloats(at: slot, elements: range, into: out + range.lowerBound)
            }
            if isNormWeight { addNormOffset(copy, trained[slot].shape.count) }
        }
        if headSlot >= 0 {
            for (token, row) in headRows { parameters.copyFloats(at: headSlot, elements: elements(of: token), into: row.pointer) }
        }
        let packed = int8Layers.indices.flatMap { layer in
            LayerModule.matrices.filter { int8Layers[layer] != nil && layerSlots[layer][$0.rawValue] >= 0 }.map { (layer, $0) }
        }
        forEachChunk(of: packed.count, size: 1, threads: threads) { range in
            for (layer, module) in packed[range] {
                if let weights = resident[layer] { int8Layers[layer]?.pack(module, of: weights) }
            }
        }
    }

    /// The F32 copy of a trained tensor, if there is one, and whether it is a norm's weights.
    private func trainedCopy(_ slot: Int) -> (UnsafeMutablePointer<Float>, isNormWeight: Bool)? {
        if slot == headSlot { return fullHead.map { ($0.pointer, false) } }
        if let adapter = adapter(at: slot) { return (adapter.coordinates.pointer, false) }
        if let tensor = ModelTensor.allCases.first(where: { modelSlots[$0.rawValue] == slot }) {
            return floats(tensor).map { ($0, tensor.isNorm && !tensor.isBias) }
        }
        for layer in layerSlots.indices {
            guard let tensor = sizes.tensors.first(where: { layerSlots[layer][$0.index] == slot }) else { continue }
            return resident[layer]?[tensor].map { ($0, tensor.module.isNorm && !tensor.isBias) }
        }
        return nil
    }

    /// A layer in F32; nil if it is not kept.
    package func residentLayer(_ layer: Int) -> LayerWeights? { resident[layer] }

    /// A layer in 8-bit integers; nil if `prepareInt8Weights` has not made it.
    package func byteLayer(_ layer: Int) -> Int8Weights? { int8Layers.isEmpty ? nil : int8Layers[layer] }

    /// Keeps the layers from the entry up in 8-bit integers from now on, for passes with `Precision.int8`. All of them are also kept in
    /// F32, which their clean rows need.
    package func prepareInt8Weights() throws(ModelError) {
        guard int8Layers.isEmpty else { return }
        try keep(layersFromEntry)
        int8Layers = resident.map { $0.map(Int8Weights.init) }
    }

    /// Keeps every layer in F32 from now on, for writing texts, which go through all layers token by token.
    package func prepareAllLayers() throws(ModelError) { try keep(resident.indices) }

    private func keep(_ layers: Range<Int>) throws(ModelError) {
        for layer in layers where resident[layer] == nil { resident[layer] = try makeLayer(layer) }
    }

    /// Ensures that texts of up to `count` tokens can be rotated.
    package func preparePositions(_ count: Int) {
        guard let known = rotary.first, count > known.positions else { return }
        rotary = description.rotations.map { RotaryTable($0, positions: count) }
    }

    /// The parameters of a layer's attention as the kernels read them.
    package func attention(_ layer: Int) -> ob_attention {
        ob_attention(
            heads: sizes.heads, kv_heads: sizes.keyValueHeads, head_size: sizes.headDimension, scale: description.attention.scale,
            softcap: description.attention.softcap, window: description.layers[layer].window ?? 0, slopes: slopes.map { UnsafePointer($0.pointer) })
    }

    /// ALiBi's slopes for n heads: 2^(−8/n), 2^(−16/n) and so on. If n is no power of two, they are the slopes of the next smaller power,
    /// followed by every other slope of the next larger one.
    private static func linearBiases(heads: Int) -> [Float] {
        var power = 1
        while power * 2 <= heads { power *= 2 }
        let base = pow(2, -8 / Double(power))
        let between = pow(2, -4 / Double(power))
        return (0..<heads).map { Float($0 < power ? pow(base, Double($0 + 1)) : pow(between, Double(2 * ($0 - power) + 1))) }
    }

    /// Ensures that the head's rows of these tokens can be read.
    package func prepareHead(tokens: some Sequence<Int32>) throws(ModelError) {
        guard fullHead == nil else { return }
        for token in tokens where headRows[token] == nil {
            let row = ScratchBuffer<Float>(capacity: sizes.embedding)
            try copyHead(rows: Int(token)..<Int(token) + 1, into: row.pointer)
            headRows[token] = row
        }
    }

    private func copyHead(rows: Range<Int>, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        if headSlot >= 0 {
            parameters?.copyFloats(at: headSlot, elements: rows.lowerBound * sizes.embedding..<rows.upperBound * sizes.embedding, into: out)
        } else {
            try source.copyFloats(source.headName, rows: rows, into: out)
        }
    }

    /// The elements of a token's row in the embedding or the head.
    private func elements(of token: Int32) -> Range<Int> { Int(token) * sizes.embedding..<(Int(token) + 1) * sizes.embedding }

    /// Ensures that the whole head can be read.
    package func prepareFullHead() throws(ModelError) {
        guard fullHead == nil else { return }
        let head = ScratchBuffer<Float>(capacity: configuration.vocabularySize * sizes.embedding)
        try copyHead(rows: 0..<configuration.vocabularySize, into: head.pointer)
        fullHead = head
        headRows = [:]
    }

    /// The head, vocabulary × the width of embeddings; nil before `prepareFullHead`.
    package var fullHeadPointer: UnsafePointer<Float>? { fullHead.map { UnsafePointer($0.pointer) } }

    /// The head's row of a prepared token; nil for other tokens.
    package func headRow(_ token: Int32) -> UnsafePointer<Float>? {
        if let head = fullHeadPointer { return head + Int(token) * sizes.embedding }
        return headRows[token].map { UnsafePointer($0.pointer) }
    }

    /// Copies rows of the unperturbed embedding matrix, one after the other.
    package func copyEmbeddings(_ tokens: UnsafeBufferPointer<Int32>, into out: UnsafeMutablePointer<Float>) throws(ModelError) {
        if embeddingSlot >= 0 {
            for (i, token) in tokens.enumerated() {
                parameters?.copyFloats(at: embeddingSlot, elements: elements(of: token), into: out + i * sizes.embedding)
            }
        } else {
            try source.gatherFloats(description.names.name(.embedding), rows: tokens, into: out)
        }
    }
}

extension ModelSource {
    /// Name of the matrix that makes the logits.
    package var headName: String { configuration.description.names.name(configuration.tiedHead ? .embedding : .head) }

    /// Returns fixed-point parameters of these tensors at the values in the files; adapters begin at 0.
    ///
    /// - Throws: errors from reading a tensor, or for a value that is not finite.
    public func makeParameters(_ tensors: [TrainedTensor]) throws -> Parameters {
        let sorted = tensors.sorted { $0.index < $1.index }
        return try Parameters(tensors: sorted) { i, out in
            guard let base = out.baseAddress else { return }
            try copyFloats(sorted[i].name, into: base)
        }
    }
}
