import Core
import LanguageModel

/// Makes the frozen factors of the adapter at `final`: V, which says what the adapter sees of a state, and U, which says what it can do to
/// the logits.
///
/// V whitens: with S = Σ n·nᵀ/positions = Q·diag(λ)·Qᵀ over the states n that a loss reads in public text, V is the first r columns of
/// Q·(diag(λ) + τλ₂)^(−½). λ₁ belongs to what all states have in common, so λ₂ says what a usual size is.
///
/// U decides how large a step may be. Of labels, a unit of a coordinate moves the class scores by an orthonormal contrast. For token losses U
/// whitens what the loss asks of the states, as V whitens the states: the second moment of ∂L/∂n is about the curvature of the loss (the
/// Fisher information), so the curvature in the coordinates is about 1, whatever the model. By seed, a unit moves all logits by about one
/// standard deviation.
public enum AdapterBasisMaker {
    /// Where U comes from.
    public enum OutputDirections: String, CaseIterable, Sendable {
        /// Classifications: the differences of the label words' head rows, by that change of the state which moves the rest of the
        /// vocabulary least.
        case labels
        /// Token losses: the leading components of what public text asks of the states, ∂L/∂n = (softmax − onehot)·E, whitened.
        case loss
        /// Random signs, made orthonormal.
        case seed

        /// What suits a task.
        ///
        /// - Parameter hasText: whether there is public text.
        public static func standard(for kind: TaskSpec.Kind, hasText: Bool) -> OutputDirections {
            kind == .classification ? .labels : hasText ? .loss : .seed
        }
    }

    public struct Options: Sendable {
        /// r: the vectors of V; at most the model's width.
        public var inputs: Int
        /// p where U is `loss` or `seed`: the vectors of U. `labels` has one fewer than there are classes that can be told apart, or
        /// `labelOutputsMax` of many.
        public var outputs: Int
        /// τ, above 0: what is small in public text is not blown up beyond this part of a usual size, in V and in the U of a loss.
        public var tau: Double
        /// Nil: what suits the task.
        public var outputDirections: OutputDirections?
        /// Of everything that is random.
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

    /// p of `labels`, at most.
    public static let labelOutputsMax = 32

    /// - Parameters:
    ///   - source: the base model.
    ///   - task: the run's, whose template and label words count.
    ///   - texts: public text, put through the template; a hundred are enough, never private ones. None: texts of random tokens take their
    ///     place, which the template and the label words outlive, but nothing of what real texts differ in.
    ///   - progress: positions put through the model, and all of them; false stops.
    /// - Throws: `TrainingError` for options that can't be, label words that can't be told apart, or from the numerical routines;
    ///   `TrainingError.cancelled` after a stop; `DataError` for a task that can't work; errors of the model's files.
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
        let kind = options.outputDirections ?? .standard(for: task.kind, hasText: !texts.isEmpty)
        if kind == .labels, task.kind != .classification {
            throw TrainingError(.badTensors, "outputs by labels are for classifications; take loss or seed")
        }
        if kind == .loss, task.kind == .classification {
            throw TrainingError(.badTensors, "outputs by loss are for token losses, for public text has no labels; take labels or seed")
        }
        if kind == .loss, texts.isEmpty { throw TrainingError(.badTensors, "outputs by loss need public text; without any take seed") }

        let publicTexts = texts.isEmpty ? try RandomTexts(source: source, seed: options.seed).texts : texts
        let states = try PublicStates(
            source: source, examples: try encoder.encodePublicText(publicTexts), threads: options.threads, progress: progress)
        let inputs = try whitening(try states.secondMoment(), count: options.inputs, tau: options.tau, what: "the final states")
        let outputs =
            switch kind {
            case .labels: try HeadMetric(source: source).labelOutputs(encoder.distinguishingTokens)
            case .loss: try whitening(try states.gradientMoment(), count: options.outputs, tau: options.tau, what: "the loss's gradients")
            case .seed: try HeadMetric(source: source).randomOutputs(count: options.outputs, seed: options.seed)
            }
        return AdapterBasis(
            place: AdapterPlace.finalName, outputs: try FixedPointVectors(rounding: outputs), inputs: try FixedPointVectors(rounding: inputs))
    }

    /// The first columns of Q·(diag(λ) + τλ₂)^(−½).
    ///
    /// - Parameter what: the vectors whose second moment it is, for errors.
    static func whitening(
        _ moment: SymmetricMatrix, count: Int, tau: Double, what: String
    ) throws(TrainingError) -> [[Double]] {
        let eigen = try moment.eigen(what)
        // With a single state there is no second component.
        let usual = eigen.values.dropFirst().first { $0 > 1e-9 * eigen.values[0] } ?? eigen.values[0]
        guard usual > 0 else { throw TrainingError(.numerical, "\(what) are all zeros") }
        return (0..<count).map { k in
            let scale = 1 / (max(eigen.values[k], 0) + tau * usual).squareRoot()
            return eigen.vector(k).map { $0 * scale }
        }
    }
}

/// Texts of random tokens, for a run without public text.
private struct RandomTexts {
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
private final class PublicStates {
    /// Positions that are read, at most: enough for any width, and a bound for memory and time.
    private static let readsMax = 1 << 14
    /// Positions whose logits are computed, at most.
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

    /// The second moment of ∂(−log p(target))/∂n.
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
                // The gradient is that of the mean over the example's targets.
                let count = gradient.rows.count / h
                let rows = gradient.rows.map { $0 * Float(count) }
                rows.withUnsafeBufferPointer { rows in
                    if let start = rows.baseAddress { moment.add(start, stride: h, rows: count) }
                }
            }
        }
        return moment.mean()
    }

    /// Final states of neighbouring examples in `pass.normed`, in the layout `reads`.
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

/// F: the covariance of all of the head's rows, and 0.1 of its mean eigenvalue times the identity. uᵀFu says how much a change u of a state
/// moves the logits of the whole vocabulary.
private struct HeadMetric {
    private static let ridge = 0.1
    private static let rowsAtOnce = 4096

    private let source: ModelSource
    private let width: Int
    private let matrix: SymmetricMatrix
    private let factor: CholeskyFactor

    init(source: ModelSource) throws {
        self.source = source
        width = LayerSizes(source.configuration).embedding
        let moment = SecondMoment(width: width)
        let rows = ScratchBuffer<Float>(capacity: Self.rowsAtOnce * width)
        let vocabulary = source.configuration.vocabularySize
        for first in stride(from: 0, to: vocabulary, by: Self.rowsAtOnce) {
            let range = first..<min(first + Self.rowsAtOnce, vocabulary)
            try source.copyFloats(source.headName, rows: range, into: rows.pointer)
            moment.add(rows.pointer, stride: width, rows: range.count)
        }
        matrix = moment.covariance()
        let ridge = Self.ridge * matrix.trace / Double(width)
        for i in 0..<width { matrix[i, i] += ridge }
        factor = try CholeskyFactor(matrix, what: "the covariance of the head's rows")
    }

    /// U = F⁻¹E_cᵀ(E_c F⁻¹E_cᵀ)⁺B, with E_c the classes' head rows minus their mean and B orthonormal contrasts between classes: E_c·U = B, so
    /// that class scores move by B·C·x for any model, and of all such U that with the smallest uᵀFu.
    ///
    /// - Parameter tokens: one for each class.
    func labelOutputs(_ tokens: [Int32]) throws -> [[Double]] {
        let classes = tokens.count
        let floats = ScratchBuffer<Float>(capacity: classes * width)
        try source.gatherFloats(source.headName, rows: tokens, into: floats.pointer)
        var centred = (0..<classes).map { c in (0..<width).map { Double(floats.pointer[c * width + $0]) } }
        for j in 0..<width {
            let mean = centred.reduce(0) { $0 + $1[j] } / Double(classes)
            for c in 0..<classes { centred[c][j] -= mean }
        }
        let whitened = centred.map { factor.solveLower($0) }
        let gram = SymmetricMatrix(size: classes)
        for a in 0..<classes { for b in a..<classes { gram[a, b] = dot(whitened[a], whitened[b]) } }
        let eigen = try gram.eigen("the label words' head rows")
        // Classes with the same row cannot be told apart.
        let rank = eigen.values.count { $0 > 1e-9 * eigen.values[0] && $0 > 0 }
        guard rank > 0 else {
            throw TrainingError(.badTensors, "the label words all begin alike, so that the adapter can't tell them apart; choose other words")
        }
        let vectors = (0..<rank).map { eigen.vector($0) }
        let contrasts =
            rank > AdapterBasisMaker.labelOutputsMax
            ? Array(vectors.prefix(AdapterBasisMaker.labelOutputsMax)) : Self.contrasts(between: classes, within: vectors)
        return contrasts.map { contrast in
            // (E_c F⁻¹E_cᵀ)⁺·b.
            var weights = [Double](repeating: 0, count: classes)
            for (vector, value) in zip(vectors, eigen.values) {
                let share = dot(vector, contrast) / value
                for c in 0..<classes { weights[c] += share * vector[c] }
            }
            var sum = [Double](repeating: 0, count: width)
            for (weight, row) in zip(weights, whitened) { for j in 0..<width { sum[j] += weight * row[j] } }
            return factor.solveUpper(sum)
        }
    }

    /// Orthonormal contrasts: class 1 against class 0, class 2 against the mean of both, and so on, as far as they lie in the span of
    /// orthonormal vectors.
    private static func contrasts(between classes: Int, within span: [[Double]]) -> [[Double]] {
        var found: [[Double]] = []
        for k in 1..<classes where found.count < span.count {
            let raw = (0..<classes).map { $0 < k ? -1 : $0 == k ? Double(k) : 0 }
            var contrast = [Double](repeating: 0, count: classes)
            for vector in span {
                let share = dot(vector, raw)
                for c in 0..<classes { contrast[c] += share * vector[c] }
            }
            let length = dot(contrast, contrast).squareRoot()
            for other in found {
                let share = dot(other, contrast)
                for c in 0..<classes { contrast[c] -= share * other[c] }
            }
            let left = dot(contrast, contrast).squareRoot()
            // What is left of a contrast between classes with the same row is rounding.
            guard left > 1e-6 * max(length, 1) else { continue }
            found.append(contrast.map { $0 / left })
        }
        return found
    }

    /// Random signs, made orthonormal in F.
    func randomOutputs(count: Int, seed: UInt64) -> [[Double]] {
        var random = SplitMix64(state: seed)
        var found: [[Double]] = []
        while found.count < count {
            var vector = (0..<width).map { _ in Bool.random(using: &random) ? 1.0 : -1 }
            // Twice is enough for rounding.
            for _ in 0..<2 {
                for other in found {
                    let share = dot(times(other), vector)
                    for j in 0..<width { vector[j] -= share * other[j] }
                }
            }
            let length = dot(times(vector), vector).squareRoot()
            // Signs that the others span already are drawn again.
            if length > 1e-6 * matrix.trace.squareRoot() { found.append(vector.map { $0 / length }) }
        }
        return found
    }

    private func times(_ x: [Double]) -> [Double] { (0..<width).map { i in (0..<width).reduce(0) { $0 + matrix[i, $1] * x[$1] } } }
}

private func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
