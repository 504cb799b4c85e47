import Core
import LanguageModel

/// Makes the frozen factors of the adapter at `final`. V determines what the adapter sees of a state, and U what it can change in the
/// logits.
///
/// V whitens. With S = Σ n·nᵀ/positions = Q·diag(λ)·Qᵀ over the states n that a loss reads in public text, V is the first r columns of
/// Q·(diag(λ) + τλ₂)^(−½). λ₁ belongs to what all states have in common, so λ₂ stands for the usual size.
///
/// U determines how large a step may be. For `labels`, one unit of a coordinate moves the class scores by an orthonormal contrast. For
/// `loss`, U whitens the gradients of the loss as V whitens the states: the second moment of ∂L/∂n is about the curvature of the loss (the
/// Fisher information), so the curvature in the coordinates is about 1 for any model. For `seed`, one unit moves all logits by about one
/// standard deviation.
public enum AdapterBasisMaker {
    /// Source of U.
    public enum OutputDirections: String, CaseIterable, Sendable {
        /// For classifications: the differences of the label words' head rows, produced by the change of the state that moves the rest of the
        /// vocabulary least. For a matrix that adds to the residual stream, the same is seen through the final norm.
        case labels
        /// For token losses: the leading components of the gradients on public text, ∂L/∂n = (softmax − onehot)·E, whitened. For a matrix that adds
        /// to the residual stream, the same is seen through the final norm.
        case loss
        /// Random signs, made orthonormal.
        case seed

        /// The matrix's leading left singular vectors; not at `final`, which has no matrix.
        case singular

        /// Returns the source that suits a task at `final`.
        ///
        /// - Parameter hasText: whether there is public text.
        public static func standard(for kind: TaskSpec.Kind, hasText: Bool) -> OutputDirections {
            kind == .classification ? .labels : hasText ? .loss : .seed
        }
    }

    /// Ranks and sources of the factors.
    public struct Options: Sendable {
        /// r, the number of vectors in V; at most the model's width.
        public var inputs: Int
        /// p, the number of vectors in U, for `loss` and `seed`. `labels` has one vector fewer than there are distinguishable classes, and
        /// at most `labelOutputsMax`.
        public var outputs: Int
        /// τ, above 0. Components that are small in public text are not amplified beyond this part of the usual size, in V and in the U of
        /// `loss`.
        public var tau: Double
        /// Source of U; nil chooses the one that suits the task.
        public var outputDirections: OutputDirections?
        /// Seed of everything random.
        public var seed: UInt64
        public var threads: Int

        public init(
            inputs: Int = 128, outputs: Int = 16, tau: Double = 0.05, outputDirections: OutputDirections? = nil, seed: UInt64 = 0, threads: Int = 1
        ) {
            self.inputs = inputs
            self.outputs = outputs
            self.tau = tau
            self.outputDirections = outputDirections
            self.seed = seed
            self.threads = threads
        }
    }

    /// Largest p of `labels`.
    public static let labelOutputsMax = 32

    /// Makes the basis of an adapter at `final`.
    ///
    /// - Parameters:
    ///   - source: the base model.
    ///   - task: the run's task; its template and label words are used.
    ///   - texts: public texts, which go through the template. A hundred are enough; never use private ones. If there are none, texts of
    ///     random tokens take their place. The template and the label words then still count, but nothing of how real texts differ.
    ///   - progress: receives the positions put through the model and their total; returning false stops.
    /// - Throws: `TrainingError` for invalid options, for label words that can't be told apart, or from the numerical routines;
    ///   `TrainingError.cancelled` after a stop; `DataError` for an impossible task; errors from the model's files.
    public static func makeBasis(
        source: ModelSource, task: TaskSpec, texts: [String], options: Options = Options(),
        progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }
    ) throws -> AdapterBasis {
        let width = LayerSizes(source.configuration).embedding
        guard (1...width).contains(options.inputs), options.inputs <= AdapterBasis.rankMax else {
            throw TrainingError(.badTensors, "an adapter at final can have 1 to \(min(width, AdapterBasis.rankMax)) inputs, not \(options.inputs)")
        }
        guard (1...width).contains(options.outputs), options.outputs <= AdapterBasis.rankMax else {
            throw TrainingError(.badTensors, "an adapter at final can have 1 to \(min(width, AdapterBasis.rankMax)) outputs, not \(options.outputs)")
        }
        guard options.tau > 0, options.tau.isFinite else {
            throw TrainingError(.numerical, "τ is \(options.tau); it must be above 0 (0.05 is usual)")
        }
        let encoder = try TaskEncoder(task: task, model: source)
        let makeOutputs = try outputMaker(source: source, task: task, encoder: encoder, hasText: !texts.isEmpty, options: options)
        let publicTexts = texts.isEmpty ? try RandomTexts(source: source, seed: options.seed).texts : texts
        let states = try PublicStates(
            source: source, examples: try encoder.encodePublicText(publicTexts), threads: options.threads, progress: progress)
        let inputs = try whitening(try states.secondMoment(), count: options.inputs, tau: options.tau, what: "the final states")
        let outputs = try makeOutputs(states)
        return AdapterBasis(
            place: AdapterPlace.finalName, outputs: try FixedPointVectors(rounding: outputs), inputs: try FixedPointVectors(rounding: inputs))
    }

    /// Returns what makes the vectors of U at `final` from the states of public text.
    ///
    /// - Throws: `TrainingError` for output directions that the task can't have.
    private static func outputMaker(
        source: ModelSource, task: TaskSpec, encoder: TaskEncoder, hasText: Bool, options: Options
    ) throws(TrainingError) -> (PublicStates) throws -> [[Double]] {
        let kind = options.outputDirections ?? .standard(for: task.kind, hasText: hasText)
        switch kind {
        case .labels:
            guard task.kind == .classification else {
                throw TrainingError(.badTensors, "outputs by labels are for classifications; take loss or seed")
            }
            return { _ in try HeadMetric(source: source).labelOutputs(encoder.distinguishingTokens) }
        case .loss:
            guard task.kind != .classification else {
                throw TrainingError(.badTensors, "outputs by loss are for token losses, for public text has no labels; take labels or seed")
            }
            guard hasText else { throw TrainingError(.badTensors, "outputs by loss need public text; without any take seed") }
            return { try whitening($0.gradientMoment(), count: options.outputs, tau: options.tau, what: "the loss's gradients") }
        case .seed:
            return { _ in try HeadMetric(source: source).randomOutputs(count: options.outputs, seed: options.seed) }
        case .singular:
            throw TrainingError(.badTensors, "final has no matrix and so no singular vectors; take labels, loss or seed")
        }
    }

    /// Returns vectors of random signs, made orthonormal in an inner product xᵀ·F·y.
    ///
    /// - Parameter trace: the trace of F.
    static func randomVectors(
        count: Int, width: Int, seed: UInt64, trace: Double, inner: (_ x: [Double], _ y: [Double]) -> Double
    ) -> [[Double]] {
        var random = SplitMix64(state: seed)
        var found: [[Double]] = []
        while found.count < count {
            var vector = (0..<width).map { _ in Bool.random(using: &random) ? 1.0 : -1 }
            // Orthogonalising twice removes the rounding errors of the first time.
            for _ in 0..<2 {
                for other in found {
                    let share = inner(other, vector)
                    for j in 0..<width { vector[j] -= share * other[j] }
                }
            }
            let length = inner(vector, vector).squareRoot()
            // A vector already in the span of the others is drawn again.
            if length > 1e-6 * trace.squareRoot() { found.append(vector.map { $0 / length }) }
        }
        return found
    }

    /// Returns the first columns of Q·(diag(λ) + τλ₂)^(−½).
    ///
    /// - Parameter what: name of the vectors whose second moment is given, for errors.
    static func whitening(
        _ moment: SymmetricMatrix, count: Int, tau: Double, what: String
    ) throws(TrainingError) -> [[Double]] {
        let eigen = try moment.eigen(what)
        // A single state has no second component.
        let usual = eigen.values.dropFirst().first { $0 > 1e-9 * eigen.values[0] } ?? eigen.values[0]
        guard usual > 0 else { throw TrainingError(.numerical, "\(what) are all zeros") }
        return (0..<count).map { k in
            let scale = 1 / (max(eigen.values[k], 0) + tau * usual).squareRoot()
            return eigen.vector(k).map { $0 * scale }
        }
    }
}

/// Texts of random tokens, for a run without public text.
struct RandomTexts {
    private static let count = 256
    private static let tokens = 24

    let texts: [String]

    init(source: ModelSource, seed: UInt64) throws {
        let tokenizer = try source.tokenizer
        var random = SplitMix64(state: seed)
        let vocabulary = Int32(source.configuration.vocabularySize)
        texts = (0..<Self.count).map { _ in
            tokenizer.decode((0..<Self.tokens).map { _ in Int32.random(in: 0..<vocabulary, using: &random) })
        }
    }
}

/// The final states of public text.
final class PublicStates {
    /// Largest number of positions that are read: enough for any width, and a bound on memory and time.
    private static let readsMax = 1 << 14
    /// Largest number of positions whose logits are computed.
    private static let gradientsMax = 1 << 12
    private static let batchExamples = 32

    private let set: ExampleSet
    private let cache: PrefixCache
    private let model: TrainableModel

    init(
        source: ModelSource, examples: [Example], threads: Int, progress: (_ done: Int, _ total: Int) -> Bool
    ) throws {
        guard !examples.isEmpty else { throw TrainingError(.noExamples, "no public text has a token to learn from; give longer ones") }
        var reads = 0
        let few = examples.prefix { example in
            defer { reads += example.sequences.reduce(0) { $0 + $1.targets.count } }
            return reads < Self.readsMax
        }
        // Without trained tensors the prefix ends at the final norm.
        model = try TrainableModel(source: source)
        set = try ExampleSet(Array(few), for: model.configuration)
        cache = try PrefixCache(model: model, set: set, options: PrefixCache.Options(threads: threads))
        try cache.fill(progress: progress)
    }

    func secondMoment() throws -> SymmetricMatrix {
        let moment = SecondMoment(width: model.sizes.embedding)
        try forEachBatch { pass, _ in moment.add(pass.normed.pointer, stride: pass.sizes.embedding, rows: pass.segmentReads) }
        return moment.mean()
    }

    /// Returns the second moment of ∂(−log p(target))/∂n.
    func gradientMoment() throws -> SymmetricMatrix {
        let h = model.sizes.embedding
        let moment = SecondMoment(width: h)
        try forEachBatch { pass, examples in
            guard moment.count < Self.gradientsMax else { return }
            var segment = 0
            for example in examples {
                let sequences = set.sequences[set.ranges[example]]
                let gradient = pass.headGradient(
                    of: Array(segment..<segment + sequences.count), targets: sequences.map { set.targets(of: $0) })
                segment += sequences.count
                // The gradient is that of the mean over the example's targets; undo the division.
                let count = gradient.rows.count / h
                let rows = gradient.rows.map { $0 * Float(count) }
                rows.withUnsafeBufferPointer { rows in
                    if let start = rows.baseAddress { moment.add(start, stride: h, rows: count) }
                }
            }
        }
        return moment.mean()
    }

    /// Computes the final states of neighbouring examples, batch by batch, into `pass.normed` in the layout `reads`.
    private func forEachBatch(_ body: (_ pass: ForwardPass, _ examples: Range<Int>) throws -> Void) throws {
        let pass = ForwardPass(model: model)
        for start in stride(from: 0, to: set.count, by: Self.batchExamples) {
            let examples = start..<min(start + Self.batchExamples, set.count)
            pass.begin(directions: nil)
            for example in examples {
                for index in set.ranges[example] { _ = pass.add(segmentOf: pass.add(cache.sequence(index))) }
            }
            try pass.runToFinalNorm()
            pass.finalNorm()
            try body(pass, examples)
        }
    }
}
