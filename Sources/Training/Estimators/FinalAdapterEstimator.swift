import Core
import Glibc
import Kernels
import LanguageModel

/// Computes the projected gradients of a run that trains the adapter at `final` and nothing else, from the gradient of the adapter's matrix
/// C.
///
/// What reaches the adapter never changes, and only the head follows it. Let n be the frozen final states, x = Vᵀn, n′ the adapted states,
/// and δ = Uᵀ·∂L/∂n′. Then ∂L/∂C = G = Σ δ·xᵀ. A sample's projected gradient is ⟨Z, G⟩, the limit of the difference quotient as ε → 0. One
/// G serves all samples on the same examples, so a sample of all of a worker's examples costs no more than a sample of a few. A choice
/// between label tokens costs some microseconds (`LabelLogits`); a token loss costs a pass of the head.
///
/// A score has no derivative. It must be a choice between label tokens here, and the result is the difference quotient with ε, computed
/// from the same kept numbers.
///
/// Call it from one thread at a time; it uses `threads` threads inside, and their number does not change a bit of the result.
public final class FinalAdapterEstimator: GradientEstimator {
    /// Rows of one piece of the sum G. The pieces do not depend on the number of threads, so the sum does not either.
    private static let pieceRows = 256
    /// Number of pieces whose sums are in memory at once.
    private static let piecesAtOnce = 32
    /// Number of directions that a thread takes at once where there is no derivative.
    private static let directionsAtOnce = 4

    public let model: TrainableModel
    public let cache: PrefixCache
    public let options: EstimatorOptions
    public var exampleCount: Int { cache.set.count }
    private let directions: Directions
    private let tensor: TrainedTensor
    private let adapter: Adapter
    private let crossEntropy: GeneralizedCrossEntropy
    private let pool: PassPool
    private let labels: LabelLogits
    /// EU, vocabulary × p; nil if no loss needs the logits of all tokens.
    private let headOutputs: ScratchBuffer<Float>?
    private var order: ExampleOrder
    /// The gradient over all examples, and the revision of the parameters that it belongs to.
    private var known: (revision: Int, batch: BatchGradient)?

    /// Whether this estimator can serve a run.
    ///
    /// - Parameters:
    ///   - tensors: all tensors that the run trains.
    ///   - set: the worker's examples.
    public static func canEstimate(_ tensors: [TrainedTensor], _ set: ExampleSet, objective: Objective?) -> Bool {
        guard !tensors.isEmpty, tensors.allSatisfy({ $0.place == .final }) else { return false }
        return switch objective {
        case nil: true
        case .command: false
        case .accuracy, .f1, .exactMatch: set.hasLabelTokensAlone
        }
    }

    /// - Parameters:
    ///   - directions: the run's directions, which include the adapter's coordinates.
    ///   - options: `precision` has no effect here. Without an objective, `epsilon` and `estimator` have none either.
    /// - Throws: `TrainingError` for invalid options or where `canEstimate` is false; errors from the model's files.
    public init(model: TrainableModel, directions: Directions, cache: PrefixCache, options: EstimatorOptions) throws {
        try options.check(for: cache.set)
        guard Self.canEstimate(model.trained, cache.set, objective: options.objective), let adapter = model.finalAdapter else {
            throw TrainingError(
                .badTensors, "the gradient of the adapter at final is for runs that train it alone, by a loss or a choice between single tokens")
        }
        guard directions.coordinates.count == adapter.outputCount * adapter.inputCount else {
            throw TrainingError(.badTensors, "the directions are not those of the adapter at final")
        }
        self.model = model
        self.cache = cache
        self.options = options
        self.directions = directions
        self.adapter = adapter
        tensor = model.trained[adapter.slot]
        crossEntropy = GeneralizedCrossEntropy(q: options.generalizedCrossEntropy)
        pool = PassPool(model)
        labels = LabelLogits(model: model, cache: cache, adapter: adapter, pool: pool, threads: options.threads)
        headOutputs = cache.set.needsFullVocabulary ? Self.headOutputs(of: model, adapter) : nil
        order = ExampleOrder(
            exampleCount: cache.set.count, batchSize: options.batchSize(of: cache.set.count), samplesPerBatch: options.samplesPerBatch,
            seed: options.orderSeed)
    }

    private static func headOutputs(of model: TrainableModel, _ adapter: Adapter) -> ScratchBuffer<Float>? {
        guard let head = model.fullHeadPointer else { return nil }
        let (width, vocabulary) = (model.sizes.embedding, model.configuration.vocabularySize)
        let outputs = ScratchBuffer<Float>(capacity: vocabulary * adapter.outputCount)
        for token in 0..<vocabulary {
            for i in 0..<adapter.outputCount {
                outputs.pointer[token * adapter.outputCount + i] =
                    ob_dot(head + token * width, adapter.outputs.pointer + i * width, width)
            }
        }
        return outputs
    }

    /// Neighbouring samples that read the same examples.
    private struct Group {
        /// Positions in the list of samples.
        let samples: Range<Int>
        /// Positions in the list of examples that are read.
        let examples: Range<Int>
    }

    /// Loss and gradient, as a sum or a mean over some examples.
    private struct BatchGradient {
        /// ∂loss/∂C, p×r.
        var gradient: [Double]
        var loss = 0.0

        mutating func add(_ other: BatchGradient) {
            for i in gradient.indices { gradient[i] += other.gradient[i] }
            loss += other.loss
        }

        func divided(by count: Int) -> BatchGradient {
            BatchGradient(gradient: gradient.map { $0 / Double(count) }, loss: loss / Double(count))
        }
    }

    /// Returns the projected gradients of samples. Examples that the cache does not have yet go through the frozen part first.
    ///
    /// - Parameters:
    ///   - machine: the machine whose directions are tried.
    ///   - samples: numbers of the samples; they may come in any order from call to call.
    /// - Throws: `TrainingError.cancelled` if the cache's `onProgress` returns false; errors from the model's or the cache's files.
    public func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) throws -> ProjectedGradients {
        let (groups, examples) = try read(machine, samples)
        try labels.prepare(examples)
        return options.objective == nil
            ? try byGradient(machine, samples, groups, examples) : byDifferences(machine, samples, groups, examples)
    }

    private func read(_ machine: MachineID, _ samples: Range<SampleNumber>) throws -> (groups: [Group], examples: [Int]) {
        let all = Array(0..<cache.set.count)
        guard options.batchSize > 0 else {
            if !cache.isFilled { try cache.fill { _, _ in cache.onProgress?(cache.filledPart) ?? true } }
            return ([Group(samples: 0..<samples.count, examples: 0..<all.count)], all)
        }
        var groups: [Group] = []
        var examples: [Int] = []
        for batch in options.batches(of: samples) {
            let (place, first) = (Int(batch.lowerBound - samples.lowerBound), examples.count)
            for i in 0..<options.batchSize { examples.append(order.example(machine: machine, sample: batch.lowerBound, i)) }
            groups.append(Group(samples: place..<place + batch.count, examples: first..<examples.count))
        }
        try cache.fillOrReplaceMissing(&examples)
        return (groups, examples)
    }

    // MARK: By the gradient

    private func byGradient(
        _ machine: MachineID, _ samples: Range<SampleNumber>, _ groups: [Group], _ examples: [Int]
    ) throws -> ProjectedGradients {
        var found = ProjectedGradients(values: [], meanLoss: .nan)
        found.values.reserveCapacity(samples.count)
        var (sum, count) = (0.0, 0)
        for start in stride(from: 0, to: groups.count, by: Self.piecesAtOnce) {
            try throwIfCancelled(isFirst: start == 0)
            let some = Array(groups[start..<min(start + Self.piecesAtOnce, groups.count)])
            for (group, batch) in zip(some, try batches(some, examples)) {
                let first = SampleName(machine: machine, sample: samples.lowerBound &+ SampleNumber(group.samples.lowerBound))
                let projections = directions.projections(of: batch.gradient, from: first, count: group.samples.count)
                for g in projections { found.values.append(g.isFinite && batch.loss.isFinite ? Float(g) : .nan) }
                guard batch.loss.isFinite else { continue }
                sum += batch.loss * Double(group.samples.count)
                count += group.samples.count
            }
        }
        if count > 0 { found.meanLoss = sum / Double(count) }
        return found
    }

    /// - Throws: `TrainingError.cancelled` if the cache's `onProgress` returns false.
    private func throwIfCancelled(isFirst: Bool) throws {
        guard !isFirst, let onProgress = cache.onProgress, !onProgress(cache.filledPart) else { return }
        throw TrainingError(.cancelled, "stopped while samples were computed")
    }

    /// Returns the mean over each group's examples, in the order of the groups.
    private func batches(_ groups: [Group], _ examples: [Int]) throws -> [BatchGradient] {
        if groups.count == 1 {
            if options.batchSize == 0, let known, known.revision == model.revision { return [known.batch] }
            let batch = try gradient(over: examples[groups[0].examples])
            if options.batchSize == 0 { known = (model.revision, batch) }
            return [batch]
        }
        // Each thread takes a whole batch.
        nonisolated(unsafe) let own = self
        return try results(of: groups.count) { place in
            let batch = examples[groups[place].examples]
            var mean = own.zeros
            for piece in own.pieces(of: batch) { mean.add(try own.pool.with { try own.sum(over: batch[piece], $0.pass) }) }
            return mean.divided(by: batch.count)
        }
    }

    /// Returns the mean over a batch, with its pieces shared among the threads.
    private func gradient(over examples: ArraySlice<Int>) throws -> BatchGradient {
        let pieces = pieces(of: examples)
        var mean = zeros
        nonisolated(unsafe) let own = self
        for start in stride(from: 0, to: pieces.count, by: Self.piecesAtOnce) {
            try throwIfCancelled(isFirst: start == 0)
            let some = Array(pieces[start..<min(start + Self.piecesAtOnce, pieces.count)])
            let parts = try results(of: some.count) { place in
                try own.pool.with { try own.sum(over: examples[some[place]], $0.pass) }
            }
            // Always in the order of the examples, so that the number of threads does not change the sum.
            for part in parts { mean.add(part) }
        }
        return mean.divided(by: examples.count)
    }

    private var zeros: BatchGradient { BatchGradient(gradient: Array(repeating: 0, count: tensor.shape.count)) }

    /// Runs `count` pieces of work on the threads and returns their results in order.
    private func results(of count: Int, _ body: @Sendable (Int) throws -> BatchGradient) throws -> [BatchGradient] {
        var results = [BatchGradient?](repeating: nil, count: count)
        let failure = FirstError()
        results.withUnsafeMutableBufferPointer { results in
            nonisolated(unsafe) let out = results
            forEachChunk(of: count, size: 1, threads: options.threads) { chunk in
                failure.capture { out[chunk.lowerBound] = try body(chunk.lowerBound) }
            }
        }
        try failure.rethrow()
        return results.compactMap { $0 }
    }

    /// Splits examples into runs of neighbours with about `pieceRows` rows each.
    private func pieces(of examples: ArraySlice<Int>) -> [Range<Int>] {
        let set = cache.set
        var pieces: [Range<Int>] = []
        var (start, rows) = (examples.startIndex, 0)
        for place in examples.indices {
            rows += set.ranges[examples[place]].reduce(0) { $0 + set.sequences[$1].reads.count }
            if rows >= Self.pieceRows || place == examples.endIndex - 1 {
                pieces.append(start..<place + 1)
                (start, rows) = (place + 1, 0)
            }
        }
        return pieces
    }

    /// Sums the losses and gradients of examples.
    private func sum(over examples: ArraySlice<Int>, _ pass: ForwardPass) throws -> BatchGradient {
        var batch = zeros
        var others: [Int] = []
        for example in examples {
            if case .candidates(let tokens, let correct) = cache.set.examples[example].objective {
                add(example, tokens, correct, to: &batch)
            } else {
                others.append(example)
            }
        }
        if !others.isEmpty { try add(others, pass, to: &batch) }
        return batch
    }

    /// Adds the loss and gradient of a choice between tokens.
    private func add(_ example: Int, _ tokens: [Int32], _ correct: Int, to batch: inout BatchGradient) {
        let x = labels.input(of: example)
        let scores = labels.scores(of: example, tokens: tokens, outputs: outputs(of: x))
        let (loss, weights) = crossEntropy.choice(scores, correct)
        batch.loss += loss
        var delta = [Double](repeating: 0, count: adapter.outputCount)
        for (c, token) in tokens.enumerated() {
            let own = labels.outputs(of: token)
            let weight = weights[c] * model.logitSlope(scores[c])
            for i in delta.indices { delta[i] += weight * Double(own[i]) }
        }
        add(delta, x, to: &batch)
    }

    /// Adds the losses and gradients of examples whose losses need the logits of the whole vocabulary.
    private func add(_ examples: [Int], _ pass: ForwardPass, to batch: inout BatchGradient) throws {
        guard let headOutputs else { return }
        let set = cache.set
        let (p, r, width) = (adapter.outputCount, adapter.inputCount, model.sizes.embedding)
        pass.begin(directions: nil)
        for example in examples {
            for index in set.ranges[example] { _ = pass.add(segmentOf: pass.add(cache.sequence(index))) }
        }
        try pass.runToFinalNorm()
        pass.finalNorm(adapts: false)
        let rows = pass.segmentReads
        let inputs = pass.adapterInputs.reserve(rows * r)
        let targets = pass.targetTokens.reserve(rows)
        for row in 0..<rows {
            let state = pass.normed.pointer + row * width
            adapter.project(state, into: inputs + row * r)
            adapter.adapt(state, projection: inputs + row * r)
        }
        var row = 0
        for example in examples {
            for index in set.ranges[example] {
                for token in set.targets(of: set.sequences[index]) {
                    targets[row] = token
                    row += 1
                }
            }
        }
        let logProbabilities = pass.logProbability.reserve(rows)
        let gradients = pass.difference.reserve(rows * p)
        pass.adapterGradients(
            targets: targets, headOutputs: headOutputs.pointer, count: p, logProbabilities: logProbabilities, into: gradients)

        var first = 0
        var delta = [Double](repeating: 0, count: p)
        for example in examples {
            let counts = set.ranges[example].map { set.sequences[$0].reads.count }
            let (loss, weights) = loss(of: set.examples[example].objective, counts, logProbabilities + first)
            batch.loss += loss
            for (count, weight) in zip(counts, weights) {
                for row in first..<first + count {
                    for i in 0..<p { delta[i] = weight * Double(gradients[row * p + i]) }
                    add(delta, inputs + row * r, to: &batch)
                }
                first += count
            }
        }
    }

    /// Returns the loss of an example, and for each of its sequences the derivative of the loss with respect to −log p of each token.
    private func loss(
        of objective: ExampleObjective, _ counts: [Int], _ logProbabilities: UnsafePointer<Double>
    ) -> (loss: Double, weights: [Double]) {
        var row = 0
        let sums = counts.map { count in
            defer { row += count }
            return (row..<row + count).reduce(0.0) { $0 + logProbabilities[$1] }
        }
        if case .options(let correct) = objective {
            let (loss, weights) = crossEntropy.choice(sums, correct)
            return (loss, weights.map { -$0 })
        }
        return (-sums.reduce(0, +) / Double(row), counts.map { _ in 1 / Double(row) })
    }

    /// G += δ·xᵀ.
    private func add(_ delta: [Double], _ x: UnsafePointer<Float>, to batch: inout BatchGradient) {
        let r = adapter.inputCount
        batch.gradient.withUnsafeMutableBufferPointer { gradient in
            for (i, d) in delta.enumerated() {
                for j in 0..<r { gradient[i * r + j] += d * Double(x[j]) }
            }
        }
    }

    /// C·x.
    private func outputs(of x: UnsafePointer<Float>) -> [Float] {
        (0..<adapter.outputCount).map { ob_dot(adapter.coordinates.pointer + $0 * adapter.inputCount, x, adapter.inputCount) }
    }

    // MARK: Single examples

    public func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
    ) throws {
        var examples = examples
        try cache.fillOrReplaceMissing(&examples)
        try labels.prepare(examples)
        let first = SampleName(machine: machine, sample: samples.lowerBound)
        nonisolated(unsafe) let own = self
        for start in stride(from: 0, to: examples.count, by: Self.piecesAtOnce) {
            try throwIfCancelled(isFirst: start == 0)
            let some = Array(examples[start..<min(start + Self.piecesAtOnce, examples.count)])
            guard options.objective == nil else {
                for example in some { try visit(example, differences(of: example, machine, samples)) }
                continue
            }
            let single = try results(of: some.count) { place in try own.pool.with { try own.sum(over: some[place...place], $0.pass) } }
            for (example, batch) in zip(some, single) {
                try visit(example, directions.projections(of: batch.gradient, from: first, count: samples.count))
            }
        }
    }

    private func differences(of example: Int, _ machine: MachineID, _ samples: Range<SampleNumber>) -> [Double] {
        let clean = [outputs(of: labels.input(of: example))]
        let cleanLoss = options.estimator == .oneSided ? loss(of: [example], clean) : .nan
        return samples.map { sample in
            losses(along: SampleName(machine: machine, sample: sample), [example], clean: clean, cleanLoss: cleanLoss)
                .projectedGradient(epsilon: options.epsilon, options.estimator)
        }
    }

    // MARK: By differences

    private func byDifferences(
        _ machine: MachineID, _ samples: Range<SampleNumber>, _ groups: [Group], _ examples: [Int]
    ) -> ProjectedGradients {
        var losses = [LossPair](repeating: LossPair(plus: .nan, other: .nan), count: samples.count)
        losses.withUnsafeMutableBufferPointer { losses in
            nonisolated(unsafe) let out = losses
            nonisolated(unsafe) let own = self
            for group in groups {
                let batch = Array(examples[group.examples])
                // C·x is the same for all directions.
                let clean = batch.map { outputs(of: labels.input(of: $0)) }
                let cleanLoss = options.estimator == .oneSided ? loss(of: batch, clean) : .nan
                forEachChunk(of: group.samples.count, size: Self.directionsAtOnce, threads: options.threads) { chunk in
                    for i in chunk {
                        let place = group.samples.lowerBound + i
                        let name = SampleName(machine: machine, sample: samples.lowerBound &+ SampleNumber(place))
                        out[place] = own.losses(along: name, batch, clean: clean, cleanLoss: cleanLoss)
                    }
                }
            }
        }
        return ProjectedGradients(losses: losses, epsilon: options.epsilon, estimator: options.estimator)
    }

    /// Returns the losses of a batch at θ + εz, and at θ − εz (two-sided) or θ (one-sided).
    private func losses(
        along sample: SampleName, _ batch: [Int], clean: [[Float]], cleanLoss: Double
    ) -> LossPair {
        let (p, r) = (adapter.outputCount, adapter.inputCount)
        let signs = [Int8](unsafeUninitializedCapacity: p * r) { signs, count in
            if let start = signs.baseAddress { directions.dense(of: tensor, sample, elements: 0..<p * r, into: start) }
            count = p * r
        }
        // ε·Z·x.
        let change = signs.withUnsafeBufferPointer { signs in
            batch.map { example in
                (0..<p).map { i in
                    signs.baseAddress.map { Float(options.epsilon) * ob_dot_i8(labels.input(of: example), $0 + i * r, r) } ?? .nan
                }
            }
        }
        func moved(_ sign: Float) -> [[Float]] { zip(clean, change).map { zip($0, $1).map { $0 + sign * $1 } } }
        return LossPair(plus: loss(of: batch, moved(1)), other: options.estimator == .oneSided ? cleanLoss : loss(of: batch, moved(-1)))
    }

    /// Returns 1 − score of examples, given (C ± εZ)·x of each.
    private func loss(of batch: [Int], _ outputs: [[Float]]) -> Double {
        guard let objective = options.objective else { return .nan }
        var outcomes: [Outcome] = []
        outcomes.reserveCapacity(batch.count)
        for (example, own) in zip(batch, outputs) {
            guard case .candidates(let tokens, let correct) = cache.set.examples[example].objective else { continue }
            let scores = labels.scores(of: example, tokens: tokens, outputs: own)
            guard scores.allSatisfy(\.isFinite) else { return .nan }
            outcomes.append(scores.withUnsafeBufferPointer { ForwardPass.choice(of: $0, correct: correct) })
        }
        return objective.loss(of: outcomes)
    }
}
