import ArgumentParser
import Core
import Foundation
import GemmMeter
import LanguageModel
import Training

/// Measures one worker's whole step with all layers trained: both signs of 16 sequences, and the update by its own and its peers' bytes.
struct Step: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "A two-sided step of 16 sequences of about 32 tokens, all layers trained; JSON lines.",
        discussion: "rank1: 16 directions, a sequence each. rademacher: one direction on all 16, as MeZO does it.")

    @OptionGroup var options: RunOptions
    @Option(help: "Sequences.") var sequences = 16
    @Option(help: "Tokens of a sequence, as near as the data have it.") var tokens = 32
    @Option(help: "Steps of which the median is taken.") var steps = 3

    func run() throws {
        let source = try options.source()
        let encoded = try TaskEncoder(task: try options.spec().task, model: source).encode(try DataFile.read(options.trainFile))
        let chosen = Array(encoded.examples.sorted { distance($0) < distance($1) }.prefix(sequences))
        let set = try ExampleSet(chosen, for: source.configuration)
        let total = chosen.reduce(0) { $0 + $1.tokenCount }
        row("tokens", Double(total), "tokens")
        let peak = MatrixLibrary.measureRate().peak
        row("peak", peak, "GFLOP/s")

        var bytesOfParameters = 0
        for family in [PerturbationFamily.rank1, .rademacher] {
            let parameters = try source.makeParameters(try source.trainedTensors(matching: ["all"], basis: nil))
            let model = try TrainableModel(source: source, parameters: parameters)
            let directions = Directions(seed: RunSeed(0), family: family)
            let estimator = try Estimator(
                model: model, directions: directions, cache: try PrefixCache(model: model, set: set, options: .init(threads: options.threads)),
                options: .init(batchSize: family == .rank1 ? 1 : sequences, threads: options.threads))
            bytesOfParameters = 4 * parameters.tensors.reduce(0) { $0 + $1.shape.count }
            let samples = family == .rank1 ? sequences : 1
            func gradients(_ step: Int) throws {
                _ = try estimator.projectedGradients(
                    machine: MachineID(1), samples: SampleNumber(step * samples)..<SampleNumber((step + 1) * samples))
            }
            try gradients(0)
            var taken: [Double] = []
            var shares: [Double] = []
            var rates: [Double] = []
            var allocations: [Double] = []
            var allocated: [Double] = []
            for step in 1...max(steps, 1) {
                gemm_meter_reset()
                let before = (count: allocation_meter_count(), bytes: allocation_meter_bytes())
                let start = now()
                try gradients(step)
                taken.append(now() - start)
                allocations.append(allocation_meter_count() - before.count)
                allocated.append(allocation_meter_bytes() - before.bytes)
                // The meter sums the products of all threads.
                shares.append(gemm_meter_seconds() / (taken.last ?? 0) / Double(options.threads))
                rates.append(gemm_meter_operations() * 1e-9 / gemm_meter_seconds())
            }
            row("\(family).forward", median(taken), "s")
            row("\(family).gemm_share", median(shares), "of the time")
            row("\(family).gemm_rate", median(rates), "GFLOP/s")
            row("\(family).allocations", median(allocations), "allocations")
            row("\(family).allocated", median(allocated) * 1e-6, "MB")
            row("\(family).gemm_of_peak", median(rates) / peak, "of the peak")

            for peers in [1, 16] {
                // A worker contributes one byte per direction. The step is that of a rate of 0.01 with |g| of about 10.
                let bytes = (0..<peers * samples).map { Int8(truncatingIfNeeded: $0 % 127 + 1) }
                var taken: [Double] = []
                for step in 0..<max(steps, 1) {
                    let record = RoundRecord(
                        round: RoundNumber(step), scaleExponent: -2, step: .nearest(rate: 0.01 * exp2(-2) / Double(bytes.count)),
                        contributions: [Contribution(machine: MachineID(1), firstSample: SampleNumber(step * bytes.count), bytes: bytes)])
                    let start = now()
                    parameters.apply([record], directions: directions, threads: options.threads)
                    taken.append(now() - start)
                }
                row("\(family).update.\(peers)", median(taken), "s")
            }
            let start = now()
            model.parametersChanged(threads: options.threads)
            row("\(family).floats", now() - start, "s")
        }
        row("peak_memory", try peakMemory(), "MB")
        row("parameters", Double(bytesOfParameters) * 1e-6, "MB")
    }

    /// Processor time if there is one thread, so that other work on the machine counts little; otherwise wall-clock time.
    private func now() -> Double { clockSeconds(options.threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC) }

    private func row(_ key: String, _ value: Double, _ unit: String) {
        print(#"{"key": "step.\#(options.threads).\#(key)", "value": \#(value), "unit": "\#(unit)"}"#)
        fflush(nil)
    }

    private func distance(_ example: Example) -> Int { abs(example.tokenCount - tokens) }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    /// Largest memory of this process so far, in 10⁶ bytes.
    private func peakMemory() throws -> Double {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return Double(line?.split { !$0.isNumber }.first ?? "0").map { $0 * 1024e-6 } ?? .nan
    }
}
