import Core
import Glibc
import Kernels
import LanguageModel

/// The projected gradients of a run that trains the adapter at `final` and nothing else, from the gradient of C itself.
///
/// What reaches the adapter never changes, and behind it there is only the head. So with x = Vᵀn of the frozen final states n and
/// δ = Uᵀ·∂L/∂n′ of the adapted ones, ∂L/∂C = G = Σ δ·xᵀ, and a sample's projected gradient is ⟨Z, G⟩: what a difference quotient with
/// ε → 0 would give. One G serves all samples on the same examples, so a sample of all of a worker's examples costs no more than one of a few. A choice
/// between label tokens costs some microseconds (`LabelLogits`), a token loss a pass of the head.
///
/// For a score without a derivative, which has to be a choice between label tokens, it is the difference quotient with ε, on the same
/// kept numbers.
///
/// One thread at a time; it uses `threads` inside, and any number of them gives the same bits.
public final class FinalAdapterEstimator: GradientEstimator {
    /// Rows that are worked through at once: a piece of the sum G, always of the same rows.
    private static let pieceRows = 256
    /// Pieces whose sums are in memory at once.
    private static let piecesAtOnce = 32
    /// Directions of a piece of work where there is no derivative.
    private static let directionsAtOnce = 4

    public let model: TrainableModel
    public let cache: PrefixCache
    public let options: Estimator.Options
    private let directions: Directions
    private let tensor: TrainedTensor
    private let adapter: Adapter
    private let crossEntropy: GeneralizedCrossEntropy
    private let pool: PassPool
    private let labels: LabelLogits
    /// EU, vocabulary × p, where a loss needs the logits of all tokens.
    private let headOutputs: ScratchBuffer<Float>?
    private var order: ExampleOrder
    /// The gradient over all examples, and for which parameters.
    private var known: (revision: Int, batch: BatchGradient)?

    /// Whether samples can be computed here.
    ///
    /// - Parameters:
    ///   - tensors: all that the run trains.
    ///   - set: of the worker's examples.
    public static func canEstimate(_ tensors: [TrainedTensor], _ set: ExampleSet, objective: Objective?) -> Bool {
        guard !tensors.isEmpty, tensors.allSatisfy({ $0.place == .final }) else { return false }
        return switch objective {
        case nil: true
        case .command: false
        case .accuracy, .f1, .exactMatch: set.hasLabelTokensAlone
        }
    }

    /// - Parameters:
    ///   - directions: of the run's tensors, so that it knows the adapter's coordinates.
    ///   - options: `usesClosedFormHead` and `precision` mean nothing here, and without an objective neither do `epsilon` and `estimator`.
    /// - Throws: `TrainingError` for options that can't be, or where `canEstimate` is false; errors of the model's files.
    public init(model: TrainableModel, directions: Directions, cache: PrefixCache, options: Estimator.Options) throws {
        try options.check()
        guard Self.canEstimate(model.trained, cache.set, objective: options.objective), let adapter = model.finalAdapter else {
            throw TrainingError(
                .badTensors, "the gradient of the adapter at final is for runs that train it alone, by a loss or a choice between single tokens")
        }
        guard directions.coordinates.count == adapter.outputCount * adapter.inputCount else {
            throw TrainingError(.badTensors, "the directions are not those of the adapter at final")
        }
        guard cache.set.hasClasses || options.generalizedCrossEntropy == 0 else {
            throw TrainingError(.badExample, "the generalized cross-entropy needs examples with classes")
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
                    onebyte_dot(head + token * width, adapter.outputs.pointer + i * width, width)
            }
        }
        return outputs
    }

    /// Neighbouring samples that read the same examples.
    private struct Group {
        /// Their places in the order for samples.
        let samples: Range<Int>
        /// Their examples' places among all examples that are read.
        let examples: Range<Int>
    }

    /// The sum or the mean over some examples.
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

    /// The examples that these samples read are put through the frozen part first where the cache does not have them yet.
    ///
    /// - Parameters:
    ///   - machine: whose directions they are.
    ///   - samples: their numbers; they need not have been handed out in order.
    /// - Throws: `TrainingError.cancelled` where the cache's `onProgress` stops it; errors of the model's or the cache's files.
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
        for (place, sample) in samples.enumerated() {
            let isSame = place > 0 && Int(sample) % options.samplesPerBatch > 0
            if isSame, let last = groups.popLast() {
                groups.append(Group(samples: last.samples.lowerBound..<place + 1, examples: last.examples))
            } else {
                let first = examples.count
                for i in 0..<options.batchSize { examples.append(order.example(machine: machine, sample: sample, i)) }
                groups.append(Group(samples: place..<place + 1, examples: first..<examples.count))
            }
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
            try askWhetherToGoOn(isFirst: start == 0)
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

    /// - Throws: `TrainingError.cancelled` where the cache's `onProgress` says so.
    private func askWhetherToGoOn(isFirst: Bool) throws {
        guard !isFirst, let onProgress = cache.onProgress, !onProgress(cache.filledPart) else { return }
        throw TrainingError(.cancelled, "stopped while samples were computed")
    }

    /// The means over each group's examples, in the order of the groups.
    private func batches(_ groups: [Group], _ examples: [Int]) throws -> [BatchGradient] {
        if groups.count == 1 {
            if options.batchSize == 0, let known, known.revision == model.revision { return [known.batch] }
            let batch = try gradient(over: examples[groups[0].examples])
            if options.batchSize == 0 { known = (model.revision, batch) }
            return [batch]
        }
        // A thread for each batch.
        nonisolated(unsafe) let own = self
        return try results(of: groups.count) { place in
            let batch = examples[groups[place].examples]
            var mean = own.zeros
            for piece in own.pieces(of: batch) { mean.add(try own.pool.with { try own.sum(over: batch[piece], $0.pass) }) }
            return mean.divided(by: batch.count)
        }
    }

    /// The mean over a batch, whose pieces the threads share.
    private func gradient(over examples: ArraySlice<Int>) throws -> BatchGradient {
        let pieces = pieces(of: examples)
        var mean = zeros
        nonisolated(unsafe) let own = self
        for start in stride(from: 0, to: pieces.count, by: Self.piecesAtOnce) {
            try askWhetherToGoOn(isFirst: start == 0)
            let some = Array(pieces[start..<min(start + Self.piecesAtOnce, pieces.count)])
            let parts = try results(of: some.count) { place in
                try own.pool.with { try own.sum(over: examples[some[place]], $0.pass) }
            }
            // In the order of the examples, whoever computed them.
            for part in parts { mean.add(part) }
        }
        return mean.divided(by: examples.count)
    }

    private var zeros: BatchGradient { BatchGradient(gradient: Array(repeating: 0, count: tensor.shape.count)) }

    /// Pieces of work, shared out among the threads; the results in their order.
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

    /// Neighbouring examples with about `pieceRows` rows.
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

    /// The sums of the losses and their gradients.
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

    /// A choice between tokens.
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

    /// Losses over the whole vocabulary.
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

    /// The loss of an example, and what it changes with −log p of each token of each of its sequences.
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
        (0..<adapter.outputCount).map { onebyte_dot(adapter.coordinates.pointer + $0 * adapter.inputCount, x, adapter.inputCount) }
    }

    // MARK: By differences

    private func byDifferences(
        _ machine: MachineID, _ samples: Range<SampleNumber>, _ groups: [Group], _ examples: [Int]
    ) -> ProjectedGradients {
        var losses = [(plus: Double, other: Double)](repeating: (.nan, .nan), count: samples.count)
        losses.withUnsafeMutableBufferPointer { losses in
            nonisolated(unsafe) let out = losses
            nonisolated(unsafe) let own = self
            for group in groups {
                let batch = Array(examples[group.examples])
                // C·x, the same for all directions.
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

    /// The losses of a batch at θ + εz, and at θ − εz or, one-sided, at θ.
    private func losses(
        along sample: SampleName, _ batch: [Int], clean: [[Float]], cleanLoss: Double
    ) -> (plus: Double, other: Double) {
        let (p, r) = (adapter.outputCount, adapter.inputCount)
        let signs = [Int8](unsafeUninitializedCapacity: p * r) { signs, count in
            if let start = signs.baseAddress { directions.dense(of: tensor, sample, elements: 0..<p * r, into: start) }
            count = p * r
        }
        // ε·Z·x.
        let change = signs.withUnsafeBufferPointer { signs in
            batch.map { example in
                (0..<p).map { i in
                    signs.baseAddress.map { Float(options.epsilon) * onebyte_dot_i8(labels.input(of: example), $0 + i * r, r) } ?? .nan
                }
            }
        }
        func moved(_ sign: Float) -> [[Float]] { zip(clean, change).map { zip($0, $1).map { $0 + sign * $1 } } }
        return (loss(of: batch, moved(1)), options.estimator == .oneSided ? cleanLoss : loss(of: batch, moved(-1)))
    }

    /// 1 − score of examples, with (C ± εZ)·x of each.
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
