import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Measures the effect of 8-bit products on projected gradients by computing the same samples both ways.
struct Agreement: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "g of 8-bit products against g of floats, as JSON lines: correlation, slope, difference, bias.")

    @OptionGroup var options: RunOptions
    @Option(help: "Numbers of trained layers, from the top.") var layers = "1,2,4"
    @Option(help: "Samples.") var samples = 1024
    @Option(help: "Samples a draw.") var samplesPerBatch = 8
    @Option(help: "Examples that are read.") var examples = 128
    @Option(help: "ε.") var epsilon = 1e-3

    func run() throws {
        let spec = try options.spec()
        let source = try options.source()
        for count in numbers(layers) {
            let tensors = try options.topLayers(count, of: source)
            let model = try TrainableModel(source: source, parameters: try source.makeParameters(tensors))
            let cache = try options.cache(try options.examples(options.trainFile, source, limit: examples), model, source)
            for estimator in [EstimatorKind.twoSided, .oneSided] {
                let found = try Precision.allCases.map { precision in
                    try Estimator(
                        model: model, directions: Directions(seed: RunSeed(spec.seed), family: spec.perturbation), cache: cache,
                        options: .init(
                            epsilon: epsilon, samplesPerBatch: samplesPerBatch, estimator: estimator, threads: options.threads, precision: precision)
                    ).projectedGradients(machine: MachineID(1), samples: 0..<SampleNumber(samples)).values.map(Double.init)
                }
                Comparison(reference: found[0], found[1]).show("agreement/top \(count)/\(estimator.rawValue)", epsilon: epsilon)
            }
        }
    }
}
