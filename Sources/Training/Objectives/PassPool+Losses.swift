import Core
import LanguageModel

extension PassPool {
    /// Rows per batch.
    private static let lossRows = 1024

    /// Computes the losses of examples at θ. The cache must have the examples.
    ///
    /// - Parameter body: called once for each position in `examples`, from several threads, with what `ForwardPass.losses` reports.
    func forEachLoss(
        of examples: [Int], in cache: PrefixCache, threads: Int,
        _ body: @Sendable (_ place: Int, _ loss: Double, _ scores: UnsafeBufferPointer<Double>, _ outcome: Outcome) -> Void
    ) throws {
        let set = cache.set
        // The batches have about the same number of rows.
        var batches: [Range<Int>] = []
        var start = 0
        var rows = 0
        for (place, example) in examples.enumerated() {
            rows += set.ranges[example].reduce(0) { $0 + set.sequences[$1].length }
            if rows >= Self.lossRows || place == examples.count - 1 {
                batches.append(start..<place + 1)
                start = place + 1
                rows = 0
            }
        }
        let failure = FirstError()
        let work = batches
        nonisolated(unsafe) let shared = cache  // read only
        forEachChunk(of: work.count, size: 1, threads: threads) { chunk in
            failure.capture { try with { try Self.run(work[chunk.lowerBound], of: examples, in: shared, $0, body) } }
        }
        try failure.rethrow()
    }

    private static func run(
        _ places: Range<Int>, of examples: [Int], in cache: PrefixCache, _ workspace: Workspace,
        _ body: (Int, Double, UnsafeBufferPointer<Double>, Outcome) -> Void
    ) throws(ModelError) {
        let pass = workspace.pass
        pass.begin(directions: nil)
        workspace.instances.removeAll(keepingCapacity: true)
        for place in places {
            workspace.instances.append(ForwardPass.Instance(example: examples[place], firstSegment: pass.segments.count))
            for index in cache.set.ranges[examples[place]] { _ = pass.add(segmentOf: pass.add(cache.sequence(index))) }
        }
        try pass.runToFinalNorm()
        pass.losses(of: workspace.instances, in: cache.set) { i, loss, scores, outcome in
            body(places.lowerBound + i, loss, scores, outcome)
        }
    }
}
