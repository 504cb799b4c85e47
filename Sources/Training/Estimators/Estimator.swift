import Core
import LanguageModel

/// Measures how much the loss rises or falls along the samples' directions (SPSA, Spall 1992). Both signs of many samples go through the
/// trained part of the model in one batch. With `rank1` directions the weights are read once for all of them, and no weight is perturbed:
/// y± = xWᵀ ± ε(x·b)aᵀ.
///
/// Call it from one thread at a time; it uses `threads` threads inside. After the first round of a given size it allocates next to nothing.
public final class Estimator: GradientEstimator {
    /// Rows in a batch's products: enough for the matrix library's best rate, and few enough that activations stay in the core's cache.
    private static let batchRows = 512
    /// The same for a pass through more than the last layer. Such layers are built anew for each batch, which must cost little beside the
    /// products.
    private static let deepBatchRows = 1024
    /// The same for `int8`, where only the clean rows, a part of the batch, go through the matrix library.
    private static let int8BatchRows = 1536
    /// Number of examples whose own gradients are computed together.
    private static let examplesPerVisit = 32

    public let model: TrainableModel
    public let cache: PrefixCache
    public let options: EstimatorOptions
    public var exampleCount: Int { cache.set.count }
    private let batchSize: Int
    private let directions: Directions
    private let pool: PassPool
    private var order: ExampleOrder
    private let difference: any LossDifference
    private let score: SampleLoss
    /// The examples of the samples at hand, `batchSize` for each sample.
    private var examples: [Int] = []
    /// The losses of each sample.
    private var losses: [LossPair] = []

    /// - Throws: `TrainingError` for invalid options or a mismatch between options, data and model; errors from the model's files.
    public convenience init(model: TrainableModel, directions: Directions, cache: PrefixCache, options: EstimatorOptions) throws {
        try self.init(model: model, directions: directions, cache: cache, options: options, throughHead: false)
    }

    /// - Parameter throughHead: whether both sides of a difference go through the head even if its gradient would do; for tests.
    package init(model: TrainableModel, directions: Directions, cache: PrefixCache, options: EstimatorOptions, throughHead: Bool) throws {
        try options.check(for: cache.set)
        guard options.objective != .command else {
            throw TrainingError(.badExample, "a program's score needs texts: that is `ScoreEstimator`'s")
        }
        guard model.parameters != nil, !model.trained.isEmpty else {
            throw TrainingError(.badTensors, "the model has no trained tensors")
        }
        guard options.precision == .float || directions.family == .rank1 else {
            throw TrainingError(
                .badTensors, "8-bit products are for rank1 directions, not for \(directions.family.rawValue); use float precision")
        }
        guard options.batchSize > 0 || model.entry == .layer(model.configuration.layerCount) else {
            throw TrainingError(.badExample, "samples of all examples are for runs that train adapters alone, by a loss; give batch-size a number")
        }
        if options.precision == .int8 { try model.prepareInt8Weights() }
        self.model = model
        // The gradient at the head needs a clean pass and an unperturbed head, and is used with `rank1` directions alone.
        let hasHeadGradient =
            options.objective == nil && cache.set.hasTokenLosses && !model.trainsHead && directions.family == .rank1
        let isOneSided = options.estimator == .oneSided
        if hasHeadGradient, !throughHead {
            difference = HeadGradientDifference(isOneSided: isOneSided)
        } else {
            difference = isOneSided ? OneSidedDifference() as any LossDifference : TwoSidedDifference()
        }
        score = SampleLoss(
            crossEntropy: GeneralizedCrossEntropy(q: options.generalizedCrossEntropy), objective: options.objective)
        self.cache = cache
        self.options = options
        batchSize = options.batchSize(of: cache.set.count)
        self.directions = directions
        pool = PassPool(model)
        order = ExampleOrder(
            exampleCount: cache.set.count, batchSize: batchSize,
            samplesPerBatch: options.samplesPerBatch, seed: options.orderSeed)
    }

    /// Returns the projected gradients of samples. Examples that the cache does not have yet go through the frozen part first.
    ///
    /// - Parameters:
    ///   - machine: the machine whose directions are tried.
    ///   - samples: numbers of the samples; they may come in any order from call to call.
    public func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) throws -> ProjectedGradients {
        let count = samples.count
        try readExamples(machine, samples)
        if losses.count < count { losses = Array(repeating: LossPair(plus: 0, other: 0), count: count) }
        let failure = FirstError()
        losses.withUnsafeMutableBufferPointer { losses in
            nonisolated(unsafe) let out = losses
            nonisolated(unsafe) let own = self
            forEachChunk(of: count, size: samplesPerPass(count, of: batchSize), threads: options.threads) { chunk in
                failure.capture {
                    let found = try own.pool.with {
                        own.difference.losses(of: try own.perturbed(machine, samples, chunk, own.examples, own.batchSize, $0), score: own.score)
                    }
                    for (sample, pair) in zip(chunk, found) { out[sample] = pair }
                }
            }
        }
        try failure.rethrow()
        return ProjectedGradients(losses: losses[..<count], epsilon: options.epsilon, estimator: options.estimator)
    }

    public func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
    ) throws {
        // Few enough examples that a sample's pass keeps its usual size.
        for start in stride(from: 0, to: examples.count, by: Self.examplesPerVisit) {
            var some = Array(examples[start..<min(start + Self.examplesPerVisit, examples.count)])
            try cache.fillOrReplaceMissing(&some)
            let each = some.count
            // The layout of a batch is the same for each sample.
            let all = samples.flatMap { _ in some }
            var gradients = [Double](repeating: .nan, count: each * samples.count)
            let failure = FirstError()
            gradients.withUnsafeMutableBufferPointer { gradients in
                nonisolated(unsafe) let out = gradients
                nonisolated(unsafe) let own = self
                forEachChunk(of: samples.count, size: samplesPerPass(samples.count, of: each), threads: options.threads) { chunk in
                    failure.capture {
                        let found = try own.pool.with {
                            own.difference.exampleLosses(of: try own.perturbed(machine, samples, chunk, all, each, $0), score: own.score)
                        }
                        for (sample, pairs) in zip(chunk, found) {
                            for (i, pair) in pairs.enumerated() {
                                out[i * samples.count + sample] = pair.projectedGradient(epsilon: own.options.epsilon, own.options.estimator)
                            }
                        }
                    }
                }
            }
            try failure.rethrow()
            for (i, example) in some.enumerated() { try visit(example, Array(gradients[i * samples.count..<(i + 1) * samples.count])) }
        }
    }

    /// Finds the examples that samples read, and has the cache provide them.
    private func readExamples(_ machine: MachineID, _ samples: Range<SampleNumber>) throws {
        examples.removeAll(keepingCapacity: true)
        for sample in samples {
            for i in 0..<batchSize { examples.append(order.example(machine: machine, sample: sample, i)) }
        }
        try cache.fillOrReplaceMissing(&examples)
    }

    /// Samples per batch. The products of a batch have about `batchRows` rows, and the threads get even shares. A batch holds whole groups
    /// of `samplesPerBatch`, since samples share work only within one pass.
    ///
    /// - Parameter batchSize: examples per sample.
    private func samplesPerPass(_ count: Int, of batchSize: Int) -> Int {
        let set = cache.set
        let isDeep = if case .layer(let layer) = model.entry { layer < model.configuration.layerCount - 1 } else { true }
        let rowsPerExample = max((isDeep ? set.positionCount : set.readCount) / set.count, 1)
        let rows = options.precision == .int8 ? Self.int8BatchRows : isDeep ? Self.deepBatchRows : Self.batchRows
        let most = max(rows / (difference.signs.count * rowsPerExample * batchSize), 1)
        let share = (count + options.threads - 1) / max(options.threads, 1)
        // Each thread gets the fewest batches that `most` allows, all of about the same size.
        let batches = (share + most - 1) / most
        let samples = (share + batches - 1) / max(batches, 1)
        let group = options.samplesPerBatch
        return max((samples + group - 1) / group * group, 1)
    }

    /// Runs the samples of a chunk up to the final norm's input.
    ///
    /// - Parameters:
    ///   - examples: the examples of all samples, `each` for each.
    private func perturbed(
        _ machine: MachineID, _ samples: Range<SampleNumber>, _ chunk: Range<Int>, _ examples: [Int], _ each: Int,
        _ workspace: PassPool.Workspace
    ) throws(ModelError) -> PerturbedBatch {
        let pass = workspace.pass
        let batch =
            workspace.directions ?? DirectionBatch(directions: directions, tensors: model.trained, epsilon: options.epsilon)
        workspace.directions = batch
        batch.prepare(chunk.map { SampleName(machine: machine, sample: samples.lowerBound + SampleNumber($0)) })

        pass.begin(directions: batch)
        pass.precision = options.precision
        workspace.instances.removeAll(keepingCapacity: true)
        workspace.placed.removeAll(keepingCapacity: true)
        for (direction, sample) in chunk.enumerated() {
            for sign in difference.signs {
                for example in examples[sample * each..<(sample + 1) * each] {
                    let first = pass.segments.count
                    for index in cache.set.ranges[example] {
                        _ = pass.add(segmentOf: place(index, workspace), direction: direction, sign: sign)
                    }
                    workspace.instances.append(ForwardPass.Instance(example: example, firstSegment: first))
                }
            }
        }
        // 8-bit products compute the differences of directions from an example's clean pass.
        let clean = difference.needsCleanPass || options.precision == .int8 ? addCleanSegments(workspace) : [:]
        try pass.runToFinalNorm()
        return PerturbedBatch(
            pass: pass, set: cache.set, instances: workspace.instances, clean: clean, sampleCount: chunk.count, batchSize: each)
    }

    /// Adds a clean segment (at θ) for every sequence of the batch. The segments of an example stand together.
    ///
    /// - Returns: the clean segment of each sequence, by the sequence's number in the set.
    private func addCleanSegments(_ workspace: PassPool.Workspace) -> [Int: Int] {
        var clean: [Int: Int] = [:]
        for (index, number) in workspace.placed.sorted(by: { $0.value < $1.value }) { clean[index] = workspace.pass.add(segmentOf: number) }
        return clean
    }

    /// Returns the batch's number of a sequence. A sequence that several samples read is in the batch once.
    private func place(_ index: Int, _ workspace: PassPool.Workspace) -> Int {
        if let number = workspace.placed[index] { return number }
        let number = workspace.pass.add(cache.sequence(index))
        workspace.placed[index] = number
        return number
    }
}

extension PrefixCache {
    /// A sequence as the forward pass takes it.
    func sequence(_ index: Int) -> ForwardPass.Sequence {
        let sequence = set.sequences[index]
        return ForwardPass.Sequence(
            length: sequence.length, reads: set.reads(of: sequence), tokens: set.tokens(of: sequence), hidden: states(index))
    }
}
