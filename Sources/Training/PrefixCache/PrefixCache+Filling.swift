import Core
import LanguageModel

/// Three ways to compute missing states, all with the same bits: everything at once, what a batch of samples reads, and slices in idle
/// time.
///
/// Blocks go through the model in groups, layer by layer: a layer's weights are read and made ready once for a whole group.
extension PrefixCache {
    /// Bytes of states between two layers that a group may hold. With 8 billion weights that is 16,384 tokens, beside whose products the
    /// reading of the weights is nothing.
    private static let groupBytes = 256 << 20

    /// Blocks per thread that are carried through a layer before the caller is asked again whether to go on. There are several, so that a thread
    /// that finishes early can take another one.
    private static let blocksAtOnce = 4

    /// Computes everything that is missing, on all threads. All of it goes through the model in one group if its states between two layers fit
    /// in 256 MiB, so that each layer's weights are read once.
    ///
    /// - Parameter progress: called after each piece of work with the positions done, counting those underway in part, and the total that
    ///   was missing. Returning false stops the filling. What is done stays; in a file, also for the next process.
    /// - Throws: `TrainingError.cancelled` after such a stop; errors from the model's or the cache's files.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws {
        let before = computedPositions
        let total = Double(set.positionCount) - before
        do {
            // Blocks that slices have begun wait for the others, so that they share the weights.
            extendUnderway(by: missingBlocks)
            while !isFilled {
                if underway.isEmpty { extendUnderway(by: missingBlocks) }
                try advance(atMost: Self.blocksAtOnce * threads)
                guard progress(Int(computedPositions - before), Int(total)) else { throw Self.stopped }
            }
        } catch {
            keepUnderway()
            throw error
        }
    }

    /// Computes what these examples lack or, with `replacesMissing`, replaces missing examples by others.
    ///
    /// - Throws: `TrainingError.cancelled` if `onProgress` returns false; errors from the model's or the cache's files.
    package func fillOrReplaceMissing(_ examples: inout [Int]) throws {
        guard !isFilled else { return }
        if replacesMissing, !readyExamples.isEmpty {
            // Replacements depend on the missing example, so that consecutive samples still read different examples.
            for i in examples.indices where !contains(examples[i]) { examples[i] = readyExamples[examples[i] % readyExamples.count] }
            return
        }
        let wanted = Set(examples.lazy.filter { !self.contains($0) }.map { self.block(of: $0) })
        // Nobody waits for blocks that are underway and not wanted.
        let others = underway.filter { !wanted.contains($0.number) }
        underway.removeAll { !wanted.contains($0.number) }
        defer { underway += others }
        // Groups double, so that the first blocks are soon there if the caller stops.
        var size = threads
        while true {
            if underway.isEmpty { extendUnderway(by: wanted.sorted().lazy.filter { !self.isReady(block: $0) }.prefix(size)) }
            guard !underway.isEmpty else { return }
            while !underway.isEmpty {
                try advance(atMost: Self.blocksAtOnce * threads)
                guard onProgress?(filledPart) ?? true else { throw Self.stopped }
            }
            size *= 2
        }
    }

    /// Carries the next missing blocks, one per thread, one layer further.
    ///
    /// - Returns: whether anything is left to do.
    /// - Throws: errors from the model's or the cache's files.
    public func fillSlice() throws -> Bool {
        guard case .layer = model.entry, !isFilled else { return false }
        if underway.isEmpty { extendUnderway(by: missingBlocks.prefix(threads)) }
        try advance(atMost: threads)
        return !isFilled
    }

    private static var stopped: TrainingError { TrainingError(.cancelled, "stopped while the examples' hidden states were computed") }

    private var missingBlocks: LazyFilterSequence<Range<Int>> { (0..<blockCount).lazy.filter { !self.isReady(block: $0) } }

    /// Adds blocks to those underway until the memory for a group is full, and at least one if there is none.
    private func extendUnderway(by blocks: some Sequence<Int>) {
        let present = Set(underway.map(\.number))
        var bytes = underway.reduce(0) { $0 + $1.byteCount }
        for number in blocks where !present.contains(number) {
            let block = PrefixBlock(number, of: self)
            bytes += block.byteCount
            guard underway.isEmpty || bytes <= Self.groupBytes else { return }
            underway.append(block)
        }
    }

    /// Takes one step with some of the blocks underway that have come least far, and stores the states of those that are done then.
    private func advance(atMost count: Int) throws {
        guard case .layer(let entry) = model.entry, let layer = underway.lazy.map(\.layer).min() else { return }
        let blocks = Array(underway.lazy.filter { $0.layer == layer }.prefix(count))
        let weights = try layer < entry ? self.weights(of: layer) : nil
        if layer + 1 >= entry { for block in blocks { try reserve(block.number) } }
        let failure = FirstError()
        nonisolated(unsafe) let (cache, own) = (self, blocks)
        forEachChunk(of: blocks.count, size: 1, threads: threads) { chunk in
            failure.capture { try cache.pool.with { try own[chunk.lowerBound].advance(to: entry, of: cache, weights, in: $0.pass) } }
        }
        try failure.rethrow()
        for block in blocks where block.isDone { try finish(block.number) }
        underway.removeAll(where: \.isDone)
        if isFilled { frozen = nil }
    }

    /// The weights of a layer below the entry, read if they are not those at hand.
    private func weights(of layer: Int) throws(ModelError) -> FrozenLayer {
        let weights = frozen ?? FrozenLayer(model, precision: precision)
        frozen = weights
        if weights.layer != layer { try weights.read(layer, threads: threads) }
        return weights
    }
}

/// A block of examples on its way from the tokens to the model's entry.
final class PrefixBlock {
    let number: Int
    /// Number of layers done.
    private(set) var layer: Int
    private(set) var isDone = false
    /// Number of rows of all sequences.
    let positions: Int
    private let sequences: [Int]
    private let width: Int
    /// The rows between two layers.
    private let states = ScratchBuffer<Float>()

    /// - Parameters:
    ///   - layer: number of layers done.
    ///   - rows: the rows behind them, as `rows` gave them; empty in front of the first layer.
    init(_ number: Int, of cache: PrefixCache, layer: Int = 0, rows: UnsafeRawBufferPointer = .init(start: nil, count: 0)) {
        self.number = number
        self.layer = layer
        sequences = cache.sequences(of: number)
        positions = sequences.reduce(0) { $0 + cache.set.sequences[$1].length }
        width = cache.model.sizes.hidden
        UnsafeMutableRawBufferPointer(start: states.reserve(rows.count / MemoryLayout<Float>.stride), count: rows.count).copyMemory(from: rows)
    }

    /// Bytes of the rows between two layers.
    var byteCount: Int { positions * width * MemoryLayout<Float>.stride }

    /// The rows behind the layers done, of which there is at least one.
    var rows: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: states.pointer, count: byteCount) }

    /// Takes one step: a layer, together with the embeddings if it is the first. After the last, the states are in the cache's room for them.
    ///
    /// - Parameter weights: those of the layer; nil if there is no layer below the entry.
    func advance(to entry: Int, of cache: PrefixCache, _ weights: FrozenLayer?, in pass: ForwardPass) throws(ModelError) {
        guard !isDone else { return }
        plan(pass, of: cache.set)
        if layer == 0 {
            try pass.embedSequences()
        } else {
            pass.x.reserve(positions * width).update(from: states.pointer, count: positions * width)
        }
        if layer < entry {
            pass.frozen = weights
            defer { pass.frozen = nil }
            try pass.run(layer, shared: false)
        }
        layer += 1
        isDone = layer >= entry
        if isDone {
            copyOut(of: pass, to: cache, layout: entry == cache.model.configuration.layerCount ? .reads : .segments)
        } else {
            states.reserve(positions * width).update(from: pass.x.pointer, count: positions * width)
        }
    }

    /// Makes the batch: each sequence once, without directions.
    private func plan(_ pass: ForwardPass, of set: ExampleSet) {
        pass.begin(directions: nil)
        for index in sequences {
            let sequence = set.sequences[index]
            let place = pass.add(
                ForwardPass.Sequence(length: sequence.length, reads: set.reads(of: sequence), tokens: set.tokens(of: sequence), hidden: nil))
            _ = pass.add(segmentOf: place)
        }
    }

    private func copyOut(of pass: ForwardPass, to cache: PrefixCache, layout: ForwardPass.Layout) {
        for (i, index) in sequences.enumerated() {
            let rows = pass.rows(of: pass.segments[i], layout)
            cache.room(for: index)?.update(from: pass.x.pointer + rows.lowerBound * width, count: rows.count * width)
        }
    }
}
