import Core
import Dispatch
import Foundation
import Kernels

/// Measures the integer kernels: `KernelBenchmark [threads] [--json] [--model] [--only KEY]`.
///
/// Without ONEBYTE_KERNELS in the environment it runs itself once for each variant and shows each one's rate. `--json` prints one JSON
/// object per row instead of a table. `--model` instead measures the parameters of all of SmolLM2-135M with the best variant: an update of
/// 16 peers, and a replay of 16 workers × 1,000 rounds (a tenth as many for the dense family). `--only rank1_update.4096` runs that row
/// alone.
@main struct KernelBenchmark {
    static let variants = ["portable", "avx2", "avx512", "avx512vnni", "avx512vbmi", "amx", "neon", "neondot"]
    static let threads = CommandLine.arguments.dropFirst().lazy.compactMap { Int($0) }.first ?? 1
    static let json = CommandLine.arguments.contains("--json")
    static let only = CommandLine.arguments.drop { $0 != "--only" }.dropFirst().first

    static func main() throws {
        let environment = ProcessInfo.processInfo.environment
        if CommandLine.arguments.contains("--model") {
            try wholeModel(.rank1, rounds: 1000)
            try wholeModel(.rademacher, rounds: 100)
            readAndWrite()
            return
        }
        guard let wanted = environment["ONEBYTE_KERNELS"] else {
            for variant in variants {
                let process = Process()
                process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
                process.arguments = Array(CommandLine.arguments.dropFirst())
                process.environment = environment.merging(["ONEBYTE_KERNELS": variant]) { $1 }
                try process.run()
                process.waitUntilExit()
            }
            return
        }
        guard kernelVariant == wanted else { return }  // this processor does not have it
        if !json { print("\(kernelVariant), \(threads) thread\(threads == 1 ? "" : "s")") }
        let slow = wanted == "portable"
        try dense(.rademacher, samples: slow ? [64] : [1, 16, 64, 256])
        try dense(.gaussian, samples: slow ? [64] : [1, 64, 256])
        try lastLayer(samples: slow ? [256] : [16, 64, 256, 1024, 4096])
        try replay(rounds: slow ? 4 : 50, samples: 256)
        try replay(rounds: slow ? 16 : 200, samples: 16)
        try adapters()
        try floatsAndDigest()
        multiplyAdds()
    }

    /// Processor time if there is one thread, so that other work on the machine counts little; otherwise wall-clock time.
    static func now() -> Double {
        var time = timespec()
        clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    /// Returns the seconds of the fastest of several runs.
    static func fastest(_ body: () -> Void) -> Double {
        var best = Double.infinity
        let begin = now()
        repeat {
            let start = now()
            body()
            best = min(best, now() - start)
        } while now() - begin < 0.5
        return best
    }

    static func row(_ key: String, _ name: String, _ rate: Double, _ unit: String, _ seconds: Double) {
        if json {
            print(#"{"key": "kernels.\#(kernelVariant).\#(threads).\#(key)", "value": \#(rate), "unit": "\#(unit)", "seconds": \#(seconds)}"#)
            fflush(nil)
            return
        }
        let value = String(format: "%8.2f", rate)
        let time = String(format: "%9.3f ms", seconds * 1e3)
        print("  \(name.padding(toLength: 44, withPad: " ", startingAt: 0))\(value) \(unit)  \(time)")
    }

    /// Measures and prints the row of a body that handles `count` units.
    static func measure(_ key: String, _ name: String, _ count: Int, _ unit: String, _ body: () -> Void) {
        guard only == nil || only == key else { return }
        let seconds = fastest(body)
        row(key, name, Double(count) / seconds * 1e-9, unit, seconds)
    }

    static func round(_ number: Int, samples: Int) -> RoundRecord {
        RoundRecord(
            round: RoundNumber(number), scaleExponent: 0, step: StepSize(multiplier: 40000, exponent: -50),
            contributions: [
                Contribution(
                    machine: MachineID(1), firstSample: UInt32(number * samples),
                    bytes: (0..<samples).map { Int8(truncatingIfNeeded: $0 % 127 + 1) })
            ])
    }

    static func parameters(_ tensors: [TrainedTensor]) throws -> Parameters {
        try Parameters(tensors: tensors) { _, floats in
            for i in floats.indices { floats[i] = Float(i % 1000) * 1e-4 - 0.05 }
        }
    }

    static func dense(_ family: PerturbationFamily, samples: [Int]) throws {
        let count = 1 << 20
        let parameters = try parameters([TrainedTensor(name: "w", index: 3, shape: .vector(count))])
        let directions = Directions(seed: RunSeed(1), family: family)
        for n in samples {
            let record = round(0, samples: n)
            measure("\(family)_update.\(n)", "\(family) update, \(n) directions", count * n, "G parameter·direction/s") {
                parameters.apply([record], directions: directions, threads: threads)
            }
        }
    }

    /// The matrices of a SmolLM2-135M layer with K = 4 damped components.
    static func layer() -> [TrainedTensor] {
        let shapes = [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)]
        return shapes.enumerated().map { index, shape in
            let values = (0..<4 * shape.1).map { Int16($0 * 7919 % 3000 - 1500) }
            return TrainedTensor(
                name: "m\(index)", index: UInt32(index), shape: .matrix(rows: shape.0, columns: shape.1),
                basis: InputBasis(space: "m\(index)", width: shape.1, values: values))
        }
    }

    static func lastLayer(samples: [Int]) throws {
        let parameters = try parameters(layer())
        let directions = Directions(seed: RunSeed(1), family: .rank1)
        let count = parameters.tensors.map(\.shape.count).reduce(0, +)
        for n in samples {
            let record = round(0, samples: n)
            measure("rank1_update.\(n)", "rank1 shaped layer, \(n) directions", count * n, "G parameter·direction/s") {
                parameters.apply([record], directions: directions, threads: threads)
            }
        }
        let names = (0..<256).map { SampleName(machine: MachineID(1), sample: UInt32($0)) }
        let tensor = parameters.tensors[6]
        var a = [Int8](repeating: 0, count: 256 * 576)
        var b = [Int8](repeating: 0, count: 256 * 1536)
        measure("factors", "factors of 256 directions, 576×1536, K = 4", a.count + b.count, "G factors/s") {
            directions.rank1Factors(of: tensor, names, a: &a, b: &b)
        }
    }

    static func replay(rounds: Int, samples: Int) throws {
        let parameters = try parameters(layer())
        let directions = Directions(seed: RunSeed(1), family: .rank1)
        let records = (0..<rounds).map { round($0, samples: samples) }
        let count = parameters.tensors.map(\.shape.count).reduce(0, +)
        measure("rank1_replay.\(samples)", "rank1 replay of \(rounds) rounds of \(samples)", count * samples * rounds, "G parameter·direction/s") {
            parameters.apply(records, directions: directions, threads: threads)
        }
    }

    /// Measures the replay of a machine that joins late: 10⁶ bytes of orthogonal samples in rounds of 96, for several numbers of
    /// coordinates, with and without momentum.
    static func adapters() throws {
        let samples = 96
        for coordinates in [64, 256, 4096, 16384] {
            let adapter = TrainedTensor(adapterAt: .final, rows: 1, columns: coordinates)
            let (parameters, base) = (try parameters([adapter]), try parameters([adapter]))
            let records = (0..<1_000_000 / samples).map { round($0, samples: samples) }
            for momentum in [nil, 0.9] as [Double?] {
                let directions = try Directions(
                    seed: RunSeed(1), family: .rank1, sampling: .orthogonal, tensors: [adapter], momentum: momentum)
                let suffix = momentum == nil ? ("", "") : (".momentum", ", momentum")
                // `measure` counts in 10⁹; bytes are shown in 10⁶.
                measure(
                    "orthogonal_replay.\(coordinates)\(suffix.0)", "orthogonal replay, \(coordinates) coordinates\(suffix.1)",
                    1000 * samples * records.count, "M bytes/s"
                ) {
                    _ = parameters.assign(base)
                    parameters.apply(records, directions: directions, threads: threads)
                    _ = parameters.largestMagnitude()
                }
            }
        }
    }

    /// Measures all tensors of SmolLM2-135M: 30 layers, the embeddings, the norms.
    static func wholeModel(_ family: PerturbationFamily, rounds: Int) throws {
        let matrices = (0..<30).flatMap { _ in layer().map(\.shape) } + [.matrix(rows: 49152, columns: 576)]
        let shapes = matrices + Array(repeating: .vector(576), count: 61)
        let parameters = try parameters(
            shapes.enumerated().map { TrainedTensor(name: "t\($0)", index: UInt32($0), shape: $1) })
        let directions = Directions(seed: RunSeed(1), family: family)
        let count = shapes.map(\.count).reduce(0, +)
        let peers = 16
        measure("model.\(family)_update", "\(family) update of a model, 16 directions", count * peers, "G parameter·direction/s") {
            parameters.apply([round(0, samples: peers)], directions: directions, threads: threads)
        }
        let key = "model.\(family)_replay.\(rounds)"
        guard only == nil || only == key else { return }
        let records = (0..<rounds).map { round($0, samples: peers) }
        let start = now()
        parameters.apply(records, directions: directions, threads: threads)
        let seconds = now() - start
        row(
            key, "\(family) replay of a model, \(rounds) rounds of 16", Double(count * peers * rounds) / seconds * 1e-9,
            "G parameter·direction/s", seconds)
    }

    /// Reads and writes as many integers as SmolLM2-135M has parameters, in order: the best that memory allows an update.
    static func readAndWrite() {
        let count = 134_515_008
        let integers = UnsafeMutableBufferPointer<Int32>.allocate(capacity: count)
        integers.initialize(repeating: 1)
        defer { integers.deallocate() }
        measure("model.read_and_write", "reading and writing a model's parameters", 8 * count, "GB/s") {
            for i in integers.indices { integers[i] &+= 1 }
        }
    }

    /// Measures multiply-adds in registers on every thread: with more than one thread, the best that the machine's cores reach together.
    static func multiplyAdds() {
        let steps = 1 << 20
        let threads = threads
        var sink: Float = 0
        measure("multiply_adds", "multiply-adds in registers", ob_multiply_adds(1, &sink) * steps * threads, "GFLOP/s") {
            DispatchQueue.concurrentPerform(iterations: threads) { _ in
                var sink: Float = 0
                _ = ob_multiply_adds(steps, &sink)
            }
        }
    }

    static func floatsAndDigest() throws {
        let parameters = try parameters(layer())
        let count = parameters.tensors[4].shape.count
        var floats = [Float](repeating: 0, count: count)
        measure("floats", "floats", count, "G values/s") { parameters.copyFloats(at: 4, elements: 0..<count, into: &floats) }
        let bytes = 4 * parameters.tensors.map(\.shape.count).reduce(0, +)
        measure("digest", "parameter digest", bytes, "GB/s") { _ = parameters.digest(threads: threads) }
    }
}
