import Core
import LanguageModel

/// Three ways to compute missing states, all with the same bits: everything at once, what a batch of samples reads, and slices in idle
/// time.
///
/// Blocks go through the model in groups, layer by layer: a layer's weights are read and made ready once for a whole group.
extension PrefixCache {
    /// Bytes of states between two layers that a group may hold.
    private static let groupBytes = 256 << 20

    /// Computes everything that is missing, on all threads. Groups double in size. So a stop costs at most as much as what is done already, and
    /// the weights are read only a few times, however many examples there are.
    ///
    /// - Parameter progress: called after each layer of a group with the positions done, counting those underway in part, and the total that
    ///   was missing. Returning false stops the filling; whole groups stay.
    /// - Throws: `TrainingError.cancelled` after such a stop; errors from the model's or the cache's files.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws {
        let before = readyPositions
        let total = set.positionCount - before
        try finishUnderway()
        // Several blocks per thread, so that a thread that finishes early can take another one.
        var size = 3 * threads
        while let first = missingBlock(from: 0) {
            let group = missingBlocks(from: first, atMost: size)
            let done = readyPositions - before
            let positions = Double(group.reduce(0) { $0 + $1.positions })
            try carry(group) { part in
                guard progress(done + Int(part * positions), total) else { throw Self.stopped }
            }
            size *= 2
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
        try finishUnderway()
        var missing = Set(examples.lazy.filter { !self.contains($0) }.map { self.block(of: $0) }).sorted()[...]
        var size = threads
        while !missing.isEmpty {
            let group = group(of: missing, atMost: size)
            let (before, part) = (filledPart, Double(group.reduce(0) { $0 + $1.positions }) / Double(max(set.positionCount, 1)))
            try carry(group) { done in
                guard onProgress?(before + done * part) ?? true else { throw Self.stopped }
            }
            missing = missing.dropFirst(group.count)
            size *= 2
        }
    }

    /// Carries the next missing blocks, one per thread, one layer further.
    ///
    /// - Returns: whether anything is left to do.
    /// - Throws: errors from the model's or the cache's files.
    public func fillSlice() throws -> Bool {
        guard case .layer = model.entry, !isFilled else { return false }
        if underway.isEmpty, let first = missingBlock(from: 0) { underway = missingBlocks(from: first, atMost: threads) }
        try advance(underway)
        if underway.allSatisfy(\.isDone) { underway = [] }
        return !isFilled
    }

    private static var stopped: TrainingError { TrainingError(.cancelled, "stopped while the examples' hidden states were computed") }

    /// Finishes the blocks that slices have begun; they are nearly always what is wanted next.
    private func finishUnderway() throws {
        while !underway.isEmpty { _ = try fillSlice() }
    }

    /// Returns the next missing blocks, no more than the memory for a group holds.
    private func missingBlocks(from first: Int, atMost count: Int) -> [PrefixBlock] {
        group(of: Swift.sequence(first: first) { self.missingBlock(from: $0 + 1) }, atMost: count)
    }

    /// Returns the first of some blocks, no more than the memory for a group holds, and at least one.
    private func group(of blocks: some Sequence<Int>, atMost count: Int) -> [PrefixBlock] {
        var found: [PrefixBlock] = []
        var bytes = 0
        for number in blocks.prefix(count) {
            let block = PrefixBlock(number, of: self)
            bytes += block.byteCount
            guard found.isEmpty || bytes <= Self.groupBytes else { break }
            found.append(block)
        }
        return found
    }

    /// Carries blocks from their tokens to the model's entry.
    private func carry(_ blocks: [PrefixBlock], onLayer: (_ part: Double) throws -> Void = { _ in }) throws {
        guard case .layer(let entry) = model.entry else { return }
        for layer in 0..<max(entry, 1) {
            try advance(blocks)
            try onLayer(Double(layer + 1) / Double(max(entry, 1)))
        }
    }

    /// Takes one step with blocks that have come equally far, and stores the states of those that are done.
    private func advance(_ blocks: [PrefixBlock]) throws {
        guard case .layer(let entry) = model.entry, let layer = blocks.first?.layer else { return }
        var weights: FrozenLayer?
        if layer < entry {
            weights = frozen ?? FrozenLayer(model, precision: precision)
            frozen = weights
            try weights?.read(layer, threads: threads)
        }
        let failure = FirstError()
        nonisolated(unsafe) let (cache, own) = (self, blocks)
        forEachChunk(of: blocks.count, size: 1, threads: threads) { [weights] chunk in
            failure.capture { try cache.pool.with { try own[chunk.lowerBound].advance(to: entry, of: cache, weights, in: $0.pass) } }
        }
        try failure.rethrow()
        for block in blocks where block.isDone { try finish(block.number) }
        if isFilled { frozen = nil }
    }
}

/// A block of examples on its way from the tokens to the model's entry.
final class PrefixBlock {
    let number: Int
    /// Number of layers done.
    private(set) var layer = 0
    private(set) var isDone = false
    /// Number of rows of all sequences.
    let positions: Int
    private let sequences: [Int]
    private let width: Int
    /// The rows between two layers.
    private let states = ScratchBuffer<Float>()

    init(_ number: Int, of cache: PrefixCache) {
        self.number = number
        sequences = cache.sequences(of: number)
        positions = sequences.reduce(0) { $0 + cache.set.sequences[$1].length }
        width = cache.model.sizes.hidden
    }

    /// Bytes of the rows between two layers.
    var byteCount: Int { positions * width * MemoryLayout<Float>.stride }

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
