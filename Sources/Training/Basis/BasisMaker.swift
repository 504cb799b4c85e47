import Core
import LanguageModel

/// Finds what the inputs of the trained layers have in common, so that `rank1` directions can avoid it.
///
/// For each input space it computes S = Σ x·xᵀ = U·diag(w)·Uᵀ over the positions that matter. For attention these are all positions; for
/// the other spaces they are the positions that leave the layer, which in the last layer are those that a loss reads. The K largest
/// components give v_k = u_k·√(1 − √(w_{K+1}/w_k)). When the v_k are taken out of b, the top K components vary no more than the next one.
public enum BasisMaker {
    /// Makes a basis with the K damped components of each input space.
    ///
    /// - Parameters:
    ///   - source: the base model.
    ///   - patterns: the run's trained tensors. A space is measured if one of its matrices is trained.
    ///   - examples: public texts put through the task's template. A few hundred are enough; never use private ones.
    ///   - components: K.
    ///   - progress: receives the positions put through the frozen part and their total; returning false stops.
    /// - Throws: `TrainingError` if the tensors have no input space or K leaves nothing, or from the eigenvalue routine; errors from the
    ///   model's files.
    public static func makeBasis(
        source: ModelSource, training patterns: [String], examples: [Example], components: Int, threads: Int = 1,
        progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }
    ) throws -> RunBasis {
        let tensors = try source.trainedTensors(matching: patterns, basis: nil)
        let model = try TrainableModel(source: source, parameters: source.makeParameters(tensors))
        let moments = try measure(model: model, examples: examples, threads: threads, progress: progress)
        guard !moments.isEmpty else {
            throw TrainingError(.badTensors, "none of the trained tensors is a layer's matrix, so no components can be damped")
        }
        return try RunBasis(
            spaces: moments.map { moment in
                try InputBasis(space: moment.name, width: moment.moment.width, vectors: damped(moment, components: components))
            })
    }

    /// Σ x·xᵀ of an input space.
    private struct SpaceMoment {
        let layer: Int
        let space: InputSpace
        let moment: SecondMoment
        let name: String
    }

    private static func measure(
        model: TrainableModel, examples: [Example], threads: Int, progress: (_ done: Int, _ total: Int) -> Bool
    ) throws -> [SpaceMoment] {
        let set = try ExampleSet(examples, for: model.configuration)
        let cache = try PrefixCache(model: model, set: set, options: PrefixCache.Options(threads: threads))
        try cache.fill(progress: progress)

        var moments: [SpaceMoment] = []
        var at: [Int: SecondMoment] = [:]
        for layer in 0..<model.configuration.layerCount {
            let trained = Set(
                model.sizes.tensors.filter { model.layerSlots[layer][$0.index] >= 0 }.compactMap { InputSpace(of: $0)?.rawValue })
            for space in InputSpace.allCases where trained.contains(space.rawValue) {
                let moment = SecondMoment(width: space.width(model.sizes))
                moments.append(
                    SpaceMoment(layer: layer, space: space, moment: moment, name: space.name(layer: layer, model.description.names)))
                at[layer * InputSpace.allCases.count + space.rawValue] = moment
            }
        }
        guard !moments.isEmpty else { return [] }
        let pass = ForwardPass(model: model)
        pass.observer = { layer, space, x, stride, rows in
            at[layer * InputSpace.allCases.count + space.rawValue]?.add(x, stride: stride, rows: rows)
        }
        let batchExamples = 32
        for start in stride(from: 0, to: set.count, by: batchExamples) {
            pass.begin(directions: nil)
            for example in start..<min(start + batchExamples, set.count) {
                for index in set.ranges[example] { _ = pass.add(segmentOf: pass.add(cache.sequence(index))) }
            }
            try pass.runToFinalNorm()
        }
        return moments
    }

    /// Returns the K damped components v_k.
    private static func damped(_ moment: SpaceMoment, components: Int) throws(TrainingError) -> [[Double]] {
        let n = moment.moment.width
        guard components > 0, components < n else {
            throw TrainingError(
                .badTensors, "\(components) components of \(moment.name), which has \(n) inputs: 1 to \(n - 1) are possible")
        }
        let eigen = try SymmetricEigen(of: moment.moment.sum, size: n, what: moment.name)
        let next = max(eigen.values[components], 0)
        return (0..<components).map { k in
            let value = eigen.values[k]
            let damping = value > 0 ? (1 - (next / value).squareRoot()).squareRoot() : 0
            return eigen.vector(k).map { $0 * damping }
        }
    }
}
