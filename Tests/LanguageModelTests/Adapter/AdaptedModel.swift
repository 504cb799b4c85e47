import Core
import Foundation
import LanguageModel
import Testing
import Training

/// A model with adapters at any places, with random factors.
struct AdaptedModel {
    static let machine = MachineID(3)

    let source: ModelSource
    let basis: RunBasis
    let tensors: [TrainedTensor]
    let directions: Directions

    init(_ source: ModelSource, _ patterns: [String], outputs: Int = 2, inputs: Int = 4, sampling: DirectionSampling = .orthogonal) throws {
        self.source = source
        var random = SplitMix64(state: 17)
        func vectors(_ count: Int, _ width: Int, _ size: Double) throws -> FixedPointVectors {
            try FixedPointVectors(rounding: (0..<count).map { _ in (0..<width).map { _ in Double.random(in: -size...size, using: &random) } })
        }
        var adapters: [AdapterBasis] = []
        for place in try source.adapterPlaces(matching: patterns) {
            let widths = try #require(source.widths(of: place))
            adapters.append(
                AdapterBasis(place: place.name, outputs: try vectors(outputs, widths.outputs, 0.3), inputs: try vectors(inputs, widths.inputs, 0.3)))
        }
        basis = try RunBasis(spaces: [], adapters: adapters)
        tensors = try source.trainedTensors(matching: patterns, basis: basis)
        directions = try Directions(seed: RunSeed(9), family: .rank1, sampling: sampling, tensors: tensors)
    }

    /// Moves the model by scale·Σ q·z, from sample 1000 on.
    func moved(_ bytes: [Int8], scale: Double) throws -> (parameters: Parameters, model: TrainableModel) {
        let parameters = try source.makeParameters(tensors)
        apply(bytes, from: 1000, scale: scale, to: parameters)
        return (parameters, try TrainableModel(source: source, parameters: parameters, basis: basis))
    }

    func apply(_ bytes: [Int8], from first: SampleNumber, scale: Double, to parameters: Parameters) {
        let record = RoundRecord(
            round: 0, scaleExponent: 0, step: .nearest(rate: scale),
            contributions: [Contribution(machine: Self.machine, firstSample: first, bytes: bytes.map { -$0 })])
        parameters.apply([record], directions: directions, threads: 1)
    }

    /// Checks that the gradient's samples, over all examples and over batches, are the slopes of the loss.
    private func expectGradient(
        _ model: TrainableModel, _ set: ExampleSet, slopes: [Double], _ samples: Range<SampleNumber>, within tolerance: Double
    ) throws {
        guard source.canDifferentiate else { return }
        for (batchSize, threads) in [(0, 1), (set.count, 2)] {
            let estimator = try AdapterGradientEstimator(
                model: model, directions: directions, cache: PrefixCache(model: model, set: set),
                options: .init(batchSize: batchSize, samplesPerBatch: 4, threads: threads))
            let found = try estimator.projectedGradients(machine: Self.machine, samples: samples)
            for (g, slope) in zip(found.values, slopes) { #expect(abs(Double(g) - slope) < tolerance * (1 + abs(slope)), "\(g), not \(slope)") }
        }
    }

    /// Checks that the estimator's samples are the differences of losses of models moved by ±εz: one- and two-sided, shared and not.
    func expectDifferences(_ examples: [Example], epsilon: Double, within tolerance: Double) throws {
        let (parameters, model) = try moved([60, -90, 30], scale: 0x1p-11)
        let set = try ExampleSet(examples, for: source.configuration)
        func loss(_ model: TrainableModel) throws -> Double {
            try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
        }
        let samples = SampleNumber(4)..<SampleNumber(8)
        var wanted: [(plus: Double, minus: Double)] = []
        for sample in samples {
            let sides = try [Int8(1), -1].map { sign in
                let other = try source.makeParameters(tensors)
                #expect(other.assign(parameters))
                apply([sign], from: sample, scale: epsilon, to: other)
                return try loss(TrainableModel(source: source, parameters: other, basis: basis))
            }
            wanted.append((sides[0], sides[1]))
        }
        let clean = try loss(model)
        try expectGradient(model, set, slopes: wanted.map { ($0.plus - $0.minus) / (2 * epsilon) }, samples, within: tolerance)
        let slopes = wanted.map { ($0.plus - $0.minus) / (2 * epsilon) }
        let size = max((slopes.reduce(0) { $0 + $1 * $1 } / Double(slopes.count)).squareRoot(), 1e-2)
        for kind in [EstimatorKind.twoSided, .oneSided] {
            for share in [1, 4] {
                let cache = try PrefixCache(model: model, set: set)
                let found = try Estimator(
                    model: model, directions: directions, cache: cache,
                    options: .init(
                        epsilon: epsilon, batchSize: examples.count, samplesPerBatch: share, estimator: kind, threads: 2),
                    throughHead: share == 1
                ).projectedGradients(machine: Self.machine, samples: samples).values
                for (g, sides) in zip(found, wanted) {
                    let g0 = kind == .twoSided ? (sides.plus - sides.minus) / (2 * epsilon) : (sides.plus - clean) / epsilon
                    #expect(abs(Double(g) - g0) < tolerance * (1 + size), "\(kind) \(share): \(g), not \(g0)")
                }
            }
        }
    }
}
