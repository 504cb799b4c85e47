import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Measures the estimator's samples per second by what is trained.
struct Speed: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Samples a second, for so many trained layers.",
        discussion: "Processor time of one thread where --threads is 1, so that other work on the machine counts little.")

    @OptionGroup var options: RunOptions
    @Option(help: "Numbers of trained layers, from the top.") var layers = "1,2,4,8,30"
    @Option(help: "Samples a draw.") var draws = "1,8"
    @Option(help: "two-sided or one-sided.") var estimator: EstimatorKind = .twoSided
    @Option(help: "float or int8.") var precision: Precision = .float
    @Option(help: "Examples that are read.") var examples = 256
    @Option(help: "Seconds for each row.") var seconds = 3.0
    @Flag(help: "JSON lines.") var json = false

    func run() throws {
        let spec = try options.spec()
        let source = try options.source()
        for count in numbers(layers) {
            let parameters = try source.makeParameters(try options.topLayers(count, of: source))
            let model = try TrainableModel(source: source, parameters: parameters)
            let set = try options.examples(options.trainFile, source, limit: examples)
            let start = wallSeconds()
            let cache = try options.cache(set, model, source)
            let prefix = wallSeconds() - start
            for draw in numbers(draws) {
                let estimator = try Estimator(
                    model: model, directions: Directions(seed: RunSeed(spec.seed), family: spec.perturbation), cache: cache,
                    options: .init(
                        epsilon: spec.epsilon, samplesPerBatch: draw, estimator: self.estimator, threads: options.threads,
                        precision: precision))
                let batch = max(32, min(256, 512 / (count * count)))
                var done = 0
                _ = try estimator.projectedGradients(machine: MachineID(1), samples: 0..<SampleNumber(batch))
                let begin = now(options.threads)
                while now(options.threads) - begin < seconds {
                    let first = SampleNumber(done)
                    _ = try estimator.projectedGradients(machine: MachineID(1), samples: first..<first + SampleNumber(batch))
                    done += batch
                }
                let rate = Double(done) / (now(options.threads) - begin)
                if json {
                    print(
                        "{\"key\": \"speed.\(count).\(draw).\(precision.rawValue)\", \"value\": \(rate), \"unit\": \"samples/s\", \"layers\": \(count), \"precision\": \"\(precision.rawValue)\", \"estimator\": \"\(self.estimator.rawValue)\", \"draw\": \(draw), \"threads\": \(options.threads), \"samples_per_second\": \(rate), \"prefix_seconds\": \(prefix)}"
                    )
                } else {
                    print(
                        "\(count) layers, \(draw) samples a draw, \(options.threads) threads: \(String(format: "%.1f", rate)) samples/s, \(String(format: "%.2f", 1000 / rate)) s for 1,000; prefix of \(set.count) examples \(String(format: "%.1f", prefix)) s"
                    )
                }
                fflush(nil)
            }
        }
    }

    private func now(_ threads: Int) -> Double { clockSeconds(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) }
}

func wallSeconds() -> Double { clockSeconds(CLOCK_MONOTONIC) }

func clockSeconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
