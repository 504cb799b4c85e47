import Core
import LanguageModel

/// Three ways to compute missing states, all with the same bits: everything at once, what a batch of samples reads, and slices in idle
/// time.
extension PrefixCache {
    /// Computes everything that is missing, on all threads.
    ///
    /// - Parameter progress: called now and then with the positions done and the total that was missing. Returning false stops the filling;
    ///   what is done stays.
    /// - Throws: `TrainingError.cancelled` after such a stop; errors from the model's or the cache's files.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws {
        let before = readyPositions
        let total = set.positionCount - before
        try finishUnderway()
        while let first = missingBlock(from: 0) {
            var next = [first]
            // Several blocks per thread, so that a thread that finishes early can take another one.
            while next.count < 3 * threads, let more = missingBlock(from: next[next.count - 1] + 1) { next.append(more) }
            try compute(next)
            guard progress(readyPositions - before, total) else { throw Self.stopped }
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
        let missing = Set(examples.lazy.filter { !self.contains($0) }.map { self.block(of: $0) }).sorted()
        for start in stride(from: 0, to: missing.count, by: threads) {
            try compute(Array(missing[start..<min(start + threads, missing.count)]))
            guard onProgress?(filledPart) ?? true else { throw Self.stopped }
        }
    }

    /// Carries the next missing blocks, one per thread, one layer further.
    ///
    /// - Returns: whether anything is left to do.
    /// - Throws: errors from the model's or the cache's files.
    public func fillSlice() throws -> Bool {
        guard case .layer(let layer) = model.entry, !isFilled else { return false }
        if underway.isEmpty {
            var from = 0
            while underway.count < threads, let block = missingBlock(from: from) {
                underway.append(PrefixBlock(block, of: self))
                from = block + 1
            }
        }
        let failure = FirstError()
        nonisolated(unsafe) let own = underway
        forEachChunk(of: own.count, size: 1, threads: threads) { chunk in
            failure.capture { try own[chunk.lowerBound].advance(to: layer) }
        }
        try failure.rethrow()
        if underway.allSatisfy(\.isDone) {
            for block in underway { try store(block) }
            underway = []
        }
        return !isFilled
    }

    private static var stopped: TrainingError { TrainingError(.cancelled, "stopped while the examples' hidden states were computed") }

    /// Finishes the blocks that slices have begun; they are nearly always what is wanted next.
    private func finishUnderway() throws {
        while !underway.isEmpty { _ = try fillSlice() }
    }

    private func compute(_ numbers: [Int]) throws {
        guard case .layer(let layer) = model.entry else { return }
        let failure = FirstError()
        nonisolated(unsafe) let cache = self
        forEachChunk(of: numbers.count, size: 1, threads: threads) { chunk in
            failure.capture {
                try cache.pool.with { workspace in
                    let block = PrefixBlock(numbers[chunk.lowerBound], of: cache, in: workspace)
                    while !block.isDone { try block.advance(to: layer) }
                    block.copyOut(of: cache)
                }
            }
        }
        try failure.rethrow()
        for number in numbers { try finish(number) }
    }

    private func store(_ block: PrefixBlock) throws {
        block.copyOut(of: self)
        try finish(block.number)
    }
}

/// A block of examples on its way from the tokens to the model's entry.
final class PrefixBlock {
    let number: Int
    private(set) var isDone = false
    private let workspace: PassPool.Workspace
    private let sequences: [Int]
    /// Number of layers done; nil before the embeddings.
    private var layer: Int?

    /// - Parameter workspace: a workspace that only this block uses until it is done; nil makes a new one.
    init(_ number: Int, of cache: PrefixCache, in workspace: PassPool.Workspace? = nil) {
        self.number = number
        self.workspace = workspace ?? PassPool.Workspace(cache.model)
        sequences = cache.sequences(of: number)
        let pass = self.workspace.pass
        pass.begin(directions: nil)
        for index in sequences {
            let sequence = cache.set.sequences[index]
            let place = pass.add(
                ForwardPass.Sequence(
                    length: sequence.length, reads: cache.set.reads(of: sequence), tokens: cache.set.tokens(of: sequence), hidden: nil))
            _ = pass.add(segmentOf: place)
        }
    }

    /// Takes one step: a layer, together with the embeddings if it is the first.
    func advance(to entry: Int) throws(ModelError) {
        guard !isDone else { return }
        if layer == nil { try workspace.pass.embedSequences() }
        let next = layer ?? 0
        if next < entry { try workspace.pass.run(next, shared: false) }
        layer = next + 1
        isDone = next + 1 >= entry
    }

    func copyOut(of cache: PrefixCache) {
        guard case .layer(let entry) = cache.model.entry else { return }
        let pass = workspace.pass
        let width = cache.model.sizes.hidden
        let layout: ForwardPass.Layout = entry == cache.model.configuration.layerCount ? .reads : .segments
        for (i, index) in sequences.enumerated() {
            let rows = pass.rows(of: pass.segments[i], layout)
            cache.room(for: index)?.update(from: pass.x.pointer + rows.lowerBound * width, count: rows.count * width)
        }
    }
}
