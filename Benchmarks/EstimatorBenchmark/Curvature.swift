import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Measures the error of a one-sided difference: the curvature term ε·zᵀHz/2, which grows with ε and with what is trained, and rounding,
/// which matters if ε is small.
struct Curvature: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "One-sided g at several ε against two-sided g in floats, as JSON lines: correlation, slope, difference, bias.")

    @OptionGroup var options: RunOptions
    @Option(help: "Tensors to train.") var train = "layers.29"
    @Option(help: "Samples.") var samples = 512
    @Option(help: "Samples a draw.") var samplesPerBatch = 16
    @Option(help: "Examples that are read.") var examples = 64
    @Option(help: "ε of the one-sided differences.") var epsilons = "0.0001,0.0003,0.001,0.003"
    @Option(help: "ε of the two-sided ones.") var referenceEpsilon = 1e-3

    func run() throws {
        let spec = try options.spec()
        let source = try options.source()
        let tensors = try source.trainedTensors(matching: train.split(separator: ",").map(String.init), basis: nil)
        let model = try TrainableModel(source: source, parameters: try source.makeParameters(tensors))
        let cache = try options.cache(try options.examples(options.trainFile, source, limit: examples), model, source)
        func gradients(_ epsilon: Double, _ estimator: EstimatorKind, _ precision: Precision) throws -> [Double] {
            try Estimator(
                model: model, directions: Directions(seed: RunSeed(spec.seed), family: .rank1), cache: cache,
                options: .init(
                    epsilon: epsilon, samplesPerBatch: samplesPerBatch, estimator: estimator, threads: options.threads, precision: precision)
            ).projectedGradients(machine: MachineID(1), samples: 0..<SampleNumber(samples)).values.map(Double.init)
        }
        let reference = try gradients(referenceEpsilon, .twoSided, .float)
        for epsilon in epsilons.split(separator: ",").compactMap({ Double($0) }) {
            for precision in Precision.allCases {
                let found = try gradients(epsilon, .oneSided, precision)
                Comparison(reference: reference, found).show("curvature/\(precision)", epsilon: epsilon)
            }
        }
    }
}
