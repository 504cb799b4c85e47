import Core
import Kernels
import LanguageModel

/// Computes the projected gradients of a run that trains only adapters, on matrices of layers and perhaps at `final`.
///
/// It computes the gradient of their coordinates, G = ∂L/∂C, by reverse-mode differentiation. A sample is ⟨Z, G⟩, the limit of a difference quotient
/// for ε → 0. One G serves all samples on the same examples, so a round of a thousand coordinates costs about three passes over a batch. Its bytes
/// mean the same as those of differences.
///
/// Only one thread may call it at a time. It uses `threads` threads itself, and any number of them gives the same bits.
public final class AdapterGradientEstimator: GradientEstimator {
    /// Number of positions that go through the model at once.
    private static let pieceRows = 768

    public let model: TrainableModel
    public let cache: PrefixCache
    public let options: EstimatorOptions
    public var exampleCount: Int { cache.set.count }
    private let directions: Directions
    private let crossEntropy: GeneralizedCrossEntropy
    private var order: ExampleOrder
    private let passes: [GradientPass]
    private var known: (revision: Int, gradient: Gradient)?

    /// Whether samples can be computed this way. The loss needs a derivative, and the layers must be differentiable by `GradientPass`.
    public static func canEstimate(_ tensors: [TrainedTensor], _ source: ModelSource, objective: Objective?) -> Bool {
        objective == nil && !tensors.isEmpty && tensors.allSatisfy(\.isAdapter) && source.canDifferentiate
    }

    /// - Parameters:
    ///   - directions: directions of the run's tensors, which hold the adapters' coordinates.
    ///   - options: `epsilon`, `estimator` and `precision` have no effect.
    /// - Throws: `TrainingError` for impossible options, or if `canEstimate` is false.
    public init(model: TrainableModel, directions: Directions, cache: PrefixCache, options: EstimatorOptions) throws {
        try options.check(for: cache.set)
        guard Self.canEstimate(model.trained, model.source, objective: options.objective) else {
            throw TrainingError(
                .badTensors, "the gradient of adapters is only for runs that train nothing else, by a loss, in layers that can be differentiated")
        }
        self.model = model
        self.cache = cache
        self.options = options
        self.directions = directions
        crossEntropy = GeneralizedCrossEntropy(q: options.generalizedCrossEntropy)
        passes = (0..<max(options.threads, 1)).map { _ in GradientPass(model: model) }
        order = ExampleOrder(
            exampleCount: cache.set.count, batchSize: options.batchSize(of: cache.set.count), samplesPerBatch: options.samplesPerBatch,
            seed: options.orderSeed)
    }

    /// The gradient of a sum, and then of a mean, over examples.
    private struct Gradient {
        /// ∂L/∂C of each trained tensor, by slot.
        var tensors: [[Double]]
        var loss = 0.0

        init(_ model: TrainableModel) { tensors = model.trained.map { Array(repeating: 0, count: $0.shape.count) } }

        mutating func add(_ other: Gradient) {
            for slot in tensors.indices { for i in tensors[slot].indices { tensors[slot][i] += other.tensors[slot][i] } }
            loss += other.loss
        }

        mutating func divide(by count: Int) {
            for slot in tensors.indices { for i in tensors[slot].indices { tensors[slot][i] /= Double(count) } }
            loss /= Double(count)
        }
    }

    public func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) throws -> ProjectedGradients {
        var found = ProjectedGradients(values: [], meanLoss: .nan)
        var (sum, count) = (0.0, 0)
        for batch in options.batches(of: samples) {
            let gradient = try gradient(machine, batch.lowerBound)
            let own = projections(of: gradient, machine, batch)
            for g in own { found.values.append(g.isFinite && gradient.loss.isFinite ? Float(g) : .nan) }
            if gradient.loss.isFinite {
                sum += gradient.loss * Double(batch.count)
                count += batch.count
            }
        }
        if count > 0 { found.meanLoss = sum / Double(count) }
        return found
    }

    public func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
    ) throws {
        var examples = examples
        try cache.fillOrReplaceMissing(&examples)
        for start in stride(from: 0, to: examples.count, by: passes.count) {
            try throwIfCancelled(isFirst: start == 0)
            let some = Array(examples[start..<min(start + passes.count, examples.count)])
            for (example, gradient) in zip(some, try sums(over: some, some.indices.map { $0..<$0 + 1 })) {
                try visit(example, projections(of: gradient, machine, samples))
            }
        }
    }

    private func projections(of gradient: Gradient, _ machine: MachineID, _ samples: Range<SampleNumber>) -> [Double] {
        let coordinates = directions.coordinates.adapters.flatMap { adapter in
            model.trained.firstIndex(of: adapter).map { gradient.tensors[$0] } ?? []
        }
        return directions.projections(of: coordinates, from: SampleName(machine: machine, sample: samples.lowerBound), count: samples.count)
    }

    /// - Throws: `TrainingError.cancelled` if the cache's `onProgress` returns false.
    private func throwIfCancelled(isFirst: Bool) throws {
        guard !isFirst, let onProgress = cache.onProgress, !onProgress(cache.filledPart) else { return }
        throw TrainingError(.cancelled, "stopped while samples were computed")
    }

    /// Returns the gradient over the examples that a sample reads.
    private func gradient(_ machine: MachineID, _ sample: SampleNumber) throws -> Gradient {
        let isAll = options.batchSize == 0
        if isAll, let known, known.revision == model.revision { return known.gradient }
        var examples = isAll ? Array(0..<cache.set.count) : (0..<options.batchSize).map { order.example(machine: machine, sample: sample, $0) }
        try cache.fillOrReplaceMissing(&examples)
        let pieces = pieces(of: examples)
        var total = Gradient(model)
        for first in stride(from: 0, to: pieces.count, by: passes.count) {
            try throwIfCancelled(isFirst: first == 0)
            let some = Array(pieces[first..<min(first + passes.count, pieces.count)])
            // Sum in the order of the examples, whichever thread computed them.
            for part in try sums(over: examples, some) { total.add(part) }
        }
        total.divide(by: examples.count)
        if isAll { known = (model.revision, total) }
        return total
    }

    /// Returns the sums over some pieces of the examples, at most one for each thread.
    private func sums(over examples: [Int], _ pieces: [Range<Int>]) throws -> [Gradient] {
        let failure = FirstError()
        var parts = [Gradient?](repeating: nil, count: pieces.count)
        parts.withUnsafeMutableBufferPointer { parts in
            nonisolated(unsafe) let out = parts
            nonisolated(unsafe) let own = self
            forEachChunk(of: pieces.count, size: 1, threads: options.threads) { chunk in
                for i in chunk { failure.capture { out[i] = try own.sum(over: examples[pieces[i]], own.passes[i]) } }
            }
        }
        try failure.rethrow()
        return parts.compactMap { $0 }
    }

    /// Returns ranges of neighbouring examples with about `pieceRows` positions each.
    private func pieces(of examples: [Int]) -> [Range<Int>] {
        let set = cache.set
        var pieces: [Range<Int>] = []
        var (start, rows) = (0, 0)
        for place in examples.indices {
            rows += set.ranges[examples[place]].reduce(0) { $0 + set.sequences[$1].length }
            if rows >= Self.pieceRows || place == examples.count - 1 {
                pieces.append(start..<place + 1)
                (start, rows) = (place + 1, 0)
            }
        }
        return pieces
    }

    // MARK: One piece

    private func sum(over examples: ArraySlice<Int>, _ gradientPass: GradientPass) throws(ModelError) -> Gradient {
        let set = cache.set
        try gradientPass.forward(examples.flatMap { set.ranges[$0].map { cache.sequence($0) } })
        let pass = gradientPass.pass
        let width = model.sizes.embedding
        let states = ScratchBuffer<Float>(capacity: max(pass.segmentReads * width, 1))
        states.pointer.update(repeating: 0, count: pass.segmentReads * width)
        var total = Gradient(model)
        var segment = 0
        for example in examples {
            let own = segment..<segment + set.ranges[example].count
            total.loss += add(example, Array(own), pass, into: states.pointer)
            segment = own.upperBound
        }
        try gradientPass.backward(from: states.pointer, into: &total.tensors)
        return total
    }

    /// Adds ∂loss/∂n of an example's rows to `states`. Returns the example's loss.
    private func add(_ example: Int, _ segments: [Int], _ pass: ForwardPass, into states: UnsafeMutablePointer<Float>) -> Double {
        let set = cache.set
        let width = model.sizes.embedding
        switch set.examples[example].objective {
        case .candidates(let tokens, let correct):
            let row = pass.segments[segments[0]].readRow
            let state = pass.normed.pointer + row * width
            let scores = tokens.map { token in
                Double(model.headRow(token).map { model.logit(ob_dot(state, $0, width) + (model.headBias?[Int(token)] ?? 0)) } ?? .nan)
            }
            let (loss, weights) = crossEntropy.choice(scores, correct)
            for (c, token) in tokens.enumerated() {
                guard let head = model.headRow(token) else { continue }
                ob_add_scaled(states + row * width, head, Float(weights[c] * model.logitSlope(scores[c])), width)
            }
            return loss
        case .options(let correct):
            let parts = segments.map { segment in
                pass.headGradient(of: [segment], targets: [set.targets(of: set.sequences[set.ranges[example].lowerBound + segment - segments[0]])])
            }
            let counts = parts.map { $0.rows.count / width }
            let scores = zip(parts, counts).map { -$0.loss * Double($1) }
            let (loss, weights) = crossEntropy.choice(scores, correct)
            for (i, segment) in segments.enumerated() {
                add(parts[i].rows, times: Float(-weights[i] * Double(counts[i])), segment, pass, into: states)
            }
            return loss
        case .tokens:
            let targets = set.ranges[example].map { set.targets(of: set.sequences[$0]) }
            let gradient = pass.headGradient(of: segments, targets: targets)
            add(gradient.rows, times: 1, segments[0], pass, into: states)
            return gradient.loss
        case .text: return .nan
        }
    }

    /// Adds rows to a segment's states, from its first row on.
    private func add(_ rows: [Float], times factor: Float, _ segment: Int, _ pass: ForwardPass, into states: UnsafeMutablePointer<Float>) {
        rows.withUnsafeBufferPointer { rows in
            guard let from = rows.baseAddress else { return }
            ob_add_scaled(states + pass.segments[segment].readRow * model.sizes.embedding, from, factor, rows.count)
        }
    }
}
