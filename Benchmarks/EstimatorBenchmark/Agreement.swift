import ArgumentParser
import Core
import Foundation
import LanguageModel

/// What 8-bit products do to projected gradients: the same samples both ways.
struct Agreement: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "g of 8-bit products against g of floats, as JSON lines: correlation, slope, difference, bias.")

    @OptionGroup var options: RunOptions
    @Option(help: "Numbers of trained layers, from the top.") var layers = "1,2,4"
    @Option(help: "Samples.") var samples = 1024
    @Option(help: "Samples a draw.") var samplesPerDraw = 8
    @Option(help: "Examples that are read.") var examples = 128
    @Option(help: "ε.") var epsilon = 1e-3

    func run() throws {
        let spec = try options.spec()
        let source = try options.source()
        let top = source.configuration.layerCount
        for count in numbers(layers) {
            let tensors = try source.trainedTensors(matching: ["layers.\(top - count)-\(top - 1)"], basis: try options.basis())
            let model = try TrainableModel(source: source, parameters: try source.makeParameters(tensors), threads: options.threads)
            let cache = try options.cache(try options.examples(options.trainFile, source, limit: examples), model, source)
            for estimator in [EstimatorKind.twoSided, .oneSided] {
                let found = try ForwardArithmetic.allCases.map { arithmetic in
                    try Estimator(
                        model: model, directions: Directions(seed: RunSeed(spec.seed), family: spec.perturbation), cache: cache,
                        options: .init(
                            epsilon: epsilon, samplesPerDraw: samplesPerDraw, estimator: estimator, threads: options.threads, arithmetic: arithmetic)
                    ).projectedGradients(machine: MachineID(1), samples: 0..<SampleNumber(samples)).values.map(Double.init)
                }
                show("agreement/top \(count)/\(estimator.rawValue)", reference: found[0], found[1])
            }
        }
    }

    private func show(_ key: String, reference: [Double], _ found: [Double]) {
        let n = Double(reference.count)
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / n }
        func product(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } / n }
        let rms = product(reference, reference).squareRoot()
        let difference = zip(found, reference).map { $0 - $1 }
        let (r, f) = (mean(reference), mean(found))
        let covariance = product(reference, found) - r * f
        let correlation = covariance / ((product(reference, reference) - r * r) * (product(found, found) - f * f)).squareRoot()
        for (name, value, unit) in [
            ("correlation", correlation, "1"), ("slope", product(reference, found) / (rms * rms), "1"),
            ("difference", product(difference, difference).squareRoot() / rms, "rms of g"), ("bias", mean(difference) / rms, "rms of g"),
        ] {
            print("{\"key\": \"\(key)/\(name)\", \"value\": \(String(format: "%.5f", value)), \"unit\": \"\(unit)\", \"samples\": \(reference.count), \"epsilon\": \(epsilon)}")
        }
        fflush(nil)
    }
}
