import Core
import LanguageModel

/// Finds out how much the loss rises or falls along the directions of samples (SPSA, Spall 1992). All signs of many samples go
/// through the trained part of the model in one batch; with `rank1` the weights are read once for all of them and nothing is perturbed:
/// y± = xWᵀ ± ε(x·b)aᵀ.
///
/// One thread at a time; it uses `threads` inside. After the first round of its size it allocates next to nothing.
public final class Estimator: GradientEstimator {
    public struct Options: Sendable {
        /// ε of θ ± εz.
        public var epsilon: Double
        /// Examples of a sample; 0: all.
        public var batchSize: Int
        /// `batchSize` of so many examples.
        func batchSize(of exampleCount: Int) -> Int { batchSize == 0 ? exampleCount : batchSize }

        /// How many neighbouring samples read the same examples, each along its own direction. What is the same for all directions on
        /// an example is then computed once for so many samples. A worker's own choice: the ledger does not know it. In
        /// the last layer the keys and values of all positions are half of an example's cost, and sharing saves them.
        public var samplesPerBatch: Int
        public var estimator: EstimatorKind
        /// Of the order of the examples; private to the worker.
        public var orderSeed: UInt64
        public var threads: Int
        /// Mean token losses: (L₊ − L₋) from the last hidden states by `ForwardPass.headGradient`, so that a direction needs no logits.
        /// Off, both signs go through the head; for tests and comparisons.
        public var usesClosedFormHead: Bool
        /// q of `GeneralizedCrossEntropy`; 0: cross-entropy. Needs classes.
        public var generalizedCrossEntropy: Double
        /// A score in place of the task's own loss; its samples want several examples and a larger ε, for it has steps.
        public var objective: Objective?
        /// Of the matrix products: a worker's own choice, since only its bytes reach the ledger. `int8` is for `rank1`; two-sided it costs a clean
        /// pass for each example on top.
        public var precision: Precision

        public init(
            epsilon: Double = 1e-3, batchSize: Int = 1, samplesPerBatch: Int = 1, estimator: EstimatorKind = .twoSided,
            generalizedCrossEntropy: Double = 0, orderSeed: UInt64 = 0, threads: Int = 1,
            usesClosedFormHead: Bool = true, objective: Objective? = nil, precision: Precision = .float
        ) {
            self.generalizedCrossEntropy = generalizedCrossEntropy
            self.precision = precision
            self.estimator = estimator
            self.objective = objective
            self.usesClosedFormHead = usesClosedFormHead
            self.epsilon = epsilon
            self.batchSize = batchSize
            self.samplesPerBatch = samplesPerBatch
            self.orderSeed = orderSeed
            self.threads = threads
        }

        func check() throws(TrainingError) {
            guard epsilon > 0, epsilon.isFinite else {
                throw TrainingError(.numerical, "ε is \(epsilon); it must be above 0 (1e-3 is usual)")
            }
            guard batchSize >= 0, samplesPerBatch > 0 else {
                throw TrainingError(.noExamples, "a sample needs at least one example")
            }
            guard (0...1).contains(generalizedCrossEntropy) else {
                throw TrainingError(.numerical, "q of the generalized cross-entropy is \(generalizedCrossEntropy); it must be 0…1")
            }
            guard objective == nil || generalizedCrossEntropy == 0 else {
                throw TrainingError(.badExample, "the generalized cross-entropy is for the loss, not for an objective in its place")
            }
        }
    }

    /// Rows of a batch's products: enough for the matrix library's best rate, few enough that activations stay near the core.
    private static let batchRows = 512
    /// Through more than the last layer: a layer that is made anew for each batch is to cost little beside its products.
    private static let deepBatchRows = 1024
    /// With bytes the clean rows, a part of all, are what the matrix library multiplies.
    private static let int8BatchRows = 1536

    public let model: TrainableModel
    public let cache: PrefixCache
    public let options: Options
    private let batchSize: Int
    private let directions: Directions
    private let pool: PassPool
    private var order: ExampleOrder
    private let crossEntropy: GeneralizedCrossEntropy
    /// The examples of the samples at hand, `batchSize` for each sample.
    private var examples: [Int] = []
    /// Of each sample: at θ + εz, and at what that is compared with.
    private var losses: [Double] = []

    /// - Throws: `TrainingError` for options that can't be; errors of the model's files.
    public init(model: TrainableModel, directions: Directions, cache: PrefixCache, options: Options) throws {
        try options.check()
        guard options.objective != .command else {
            throw TrainingError(.badExample, "a program's score needs texts: that is `ScoreEstimator`'s")
        }
        guard model.parameters != nil, !model.trained.isEmpty else {
            throw TrainingError(.badTensors, "the model has no trained tensors")
        }
        guard options.precision == .float || directions.family == .rank1 else {
            throw TrainingError(
                .badTensors, "8-bit products are for rank1 directions, not for \(directions.family.rawValue); leave out --precision int8")
        }
        guard cache.set.hasClasses || options.generalizedCrossEntropy == 0 else {
            throw TrainingError(.badExample, "the generalized cross-entropy needs examples with classes")
        }
        guard options.batchSize > 0 || model.entry == .layer(model.configuration.layerCount) else {
            throw TrainingError(.badExample, "samples of all examples are for runs that train adapters alone, by a loss; give --batch-size a number")
        }
        if options.precision == .int8 { try model.prepareInt8Weights() }
        self.model = model
        crossEntropy = GeneralizedCrossEntropy(q: options.generalizedCrossEntropy)
        self.cache = cache
        self.options = options
        batchSize = options.batchSize(of: cache.set.count)
        self.directions = directions
        pool = PassPool(model)
        order = ExampleOrder(
            exampleCount: cache.set.count, batchSize: batchSize,
            samplesPerBatch: options.samplesPerBatch, seed: options.orderSeed)
    }

    /// The examples that these samples read are put through the frozen part first where the cache does not have them yet.
    ///
    /// - Parameters:
    ///   - machine: whose directions they are.
    ///   - samples: their numbers; they need not have been handed out in order.
    public func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) throws -> ProjectedGradients {
        let count = samples.count
        try readExamples(machine, samples)
        if losses.count < 2 * count { losses = Array(repeating: 0, count: 2 * count) }
        let failure = FirstError()
        losses.withUnsafeMutableBufferPointer { losses in
            nonisolated(unsafe) let out = losses
            nonisolated(unsafe) let own = self
            forEachChunk(of: count, size: batchSamples(count), threads: options.threads) { chunk in
                failure.capture { try own.pool.with { try own.run(machine, samples, chunk, $0, into: out) } }
            }
        }
        try failure.rethrow()

        return ProjectedGradients(
            losses: (0..<count).lazy.map { (plus: self.losses[2 * $0], other: self.losses[2 * $0 + 1]) }, epsilon: options.epsilon,
            estimator: options.estimator)
    }

    /// Finds the examples that samples read, and has the cache provide them.
    private func readExamples(_ machine: MachineID, _ samples: Range<SampleNumber>) throws {
        examples.removeAll(keepingCapacity: true)
        for sample in samples {
            for i in 0..<batchSize { examples.append(order.example(machine: machine, sample: sample, i)) }
        }
        try cache.fillOrReplaceMissing(&examples)
    }

    /// Samples of a batch: so many that its products have about `batchRows` rows, evenly shared out among the threads, and in whole
    /// groups of `samplesPerBatch`, since samples share work only within one pass.
    private func batchSamples(_ count: Int) -> Int {
        let set = cache.set
        let isDeep = if case .layer(let layer) = model.entry { layer < model.configuration.layerCount - 1 } else { true }
        let rowsPerExample = max((isDeep ? set.positionCount : set.readCount) / set.count, 1)
        let signs = options.estimator == .twoSided ? 2 : 1
        let rows = options.precision == .int8 ? Self.int8BatchRows : isDeep ? Self.deepBatchRows : Self.batchRows
        let most = max(rows / (signs * rowsPerExample * batchSize), 1)
        let share = (count + options.threads - 1) / max(options.threads, 1)
        // As few batches for a thread as `most` allows, of about the same size.
        let batches = (share + most - 1) / most
        let samples = (share + batches - 1) / max(batches, 1)
        let group = options.samplesPerBatch
        return max((samples + group - 1) / group * group, 1)
    }

    private func run(
        _ machine: MachineID, _ samples: Range<SampleNumber>, _ chunk: Range<Int>, _ workspace: PassPool.Workspace,
        into losses: UnsafeMutableBufferPointer<Double>
    ) throws(ModelError) {
        let pass = workspace.pass
        let each = batchSize
        let batch: DirectionBatch
        if let known = workspace.directions {
            batch = known
        } else {
            batch = DirectionBatch(directions: directions, tensors: model.trained, epsilon: options.epsilon)
            workspace.directions = batch
        }
        batch.prepare(chunk.map { SampleName(machine: machine, sample: samples.lowerBound + SampleNumber($0)) })

        pass.begin(directions: batch)
        pass.precision = options.precision
        workspace.instances.removeAll(keepingCapacity: true)
        workspace.placed.removeAll(keepingCapacity: true)
        // The head itself must not be perturbed; a dense family has no rows for a clean pass.
        let isClosedForm = options.usesClosedFormHead && options.objective == nil && cache.set.hasTokenLosses && !model.trainsHead && batch.isRank1
        let isOneSided = options.estimator == .oneSided
        for (d, sample) in chunk.enumerated() {
            let examples = examples[sample * each..<(sample + 1) * each]
            for sign in isOneSided ? [Float(1)] : [Float(1), -1] {
                for example in examples {
                    let first = pass.segments.count
                    for index in cache.set.ranges[example] {
                        _ = pass.add(segmentOf: place(index, workspace), direction: d, sign: sign)
                    }
                    workspace.instances.append(ForwardPass.Instance(example: example, firstSegment: first))
                }
            }
        }
        let clean = isClosedForm || isOneSided || options.precision == .int8 ? addCleanSegments(workspace) : [:]
        try pass.runToFinalNorm()
        for sample in chunk {
            losses[2 * sample] = 0
            losses[2 * sample + 1] = 0
        }
        if isClosedForm {
            differences(chunk, workspace, clean, into: losses)
        } else {
            differences(chunk, workspace, between: clean, into: losses)
        }
    }

    /// Every sequence of the batch once through the parameters as they are; the segments by the set's numbers of their sequences.
    /// Those of an example follow each other.
    private func addCleanSegments(_ workspace: PassPool.Workspace) -> [Int: Int] {
        var clean: [Int: Int] = [:]
        for (index, number) in workspace.placed.sorted(by: { $0.value < $1.value }) { clean[index] = workspace.pass.add(segmentOf: number) }
        return clean
    }

    /// The losses as the head gives them.
    private func differences(
        _ chunk: Range<Int>, _ workspace: PassPool.Workspace, between clean: [Int: Int], into losses: UnsafeMutableBufferPointer<Double>
    ) {
        let set = cache.set
        let each = batchSize
        let isOneSided = options.estimator == .oneSided
        // Of a one-sided estimator each example of the batch once more, behind all others.
        let perturbed = workspace.instances.count
        var cleanInstance: [Int: Int] = [:]
        if isOneSided {
            for instance in workspace.instances[..<perturbed] where cleanInstance[instance.example] == nil {
                guard let first = clean[set.ranges[instance.example].lowerBound] else { continue }
                cleanInstance[instance.example] = workspace.instances.count
                workspace.instances.append(ForwardPass.Instance(example: instance.example, firstSegment: first))
            }
        }
        var found: [(loss: Double, outcome: Outcome)] = []
        found.reserveCapacity(workspace.instances.count)
        workspace.pass.losses(of: workspace.instances, in: set) { _, loss, _, outcome in found.append((loss, outcome)) }
        func mean(_ instances: some Sequence<Int>) -> Double {
            let loss = instances.reduce(0) { $0 + crossEntropy.loss(found[$1].loss) } / Double(each)
            // A loss that is not finite is no answer at all.
            guard let objective = options.objective, loss.isFinite else { return loss }
            return objective.loss(of: instances.map { found[$0].outcome })
        }
        let signs = isOneSided ? 1 : 2
        for (d, sample) in chunk.enumerated() {
            let plus = d * signs * each..<(d * signs + 1) * each
            losses[2 * sample] = mean(plus)
            losses[2 * sample + 1] =
                isOneSided
                ? mean(workspace.instances[plus].compactMap { cleanInstance[$0.example] })
                : mean(plus.upperBound..<plus.upperBound + each)
        }
    }

    /// Losses around that of the clean pass: L₊ − L₋ = ⟨∂L/∂h, h₊ − h₋⟩ with the last hidden states h: the head is linear and its
    /// softmax smooth, so what is left out is of third order in ε. One-sided, h₋ is that of the clean pass, and what is left out of second.
    private func differences(
        _ chunk: Range<Int>, _ workspace: PassPool.Workspace, _ clean: [Int: Int], into losses: UnsafeMutableBufferPointer<Double>
    ) {
        let pass = workspace.pass
        let set = cache.set
        let each = batchSize
        pass.finalNorm()
        var gradients: [Int: ForwardPass.HeadGradient] = [:]
        for instance in workspace.instances where gradients[instance.example] == nil {
            let segments = set.ranges[instance.example].compactMap { clean[$0] }
            let targets = set.ranges[instance.example].map { set.targets(of: set.sequences[$0]) }
            gradients[instance.example] = pass.headGradient(of: segments, targets: targets)
        }
        let isOneSided = options.estimator == .oneSided
        let signs = isOneSided ? 1 : 2
        for (i, instance) in workspace.instances.enumerated() where i / each % signs == 0 {
            guard let gradient = gradients[instance.example], let first = clean[set.ranges[instance.example].lowerBound] else { continue }
            let sample = chunk.lowerBound + i / (signs * each)
            if isOneSided {
                let difference = pass.difference(from: first, to: instance.firstSegment, along: gradient)
                losses[2 * sample] += (gradient.loss + difference) / Double(each)
                losses[2 * sample + 1] += gradient.loss / Double(each)
            } else {
                let difference = pass.difference(from: workspace.instances[i + each].firstSegment, to: instance.firstSegment, along: gradient)
                losses[2 * sample] += (gradient.loss + difference / 2) / Double(each)
                losses[2 * sample + 1] += (gradient.loss - difference / 2) / Double(each)
            }
        }
    }

    /// The batch's number of a sequence; one that several samples read is there once.
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
