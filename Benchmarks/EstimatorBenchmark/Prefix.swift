import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Measures how fast hidden states are computed: floats against 8-bit integers by turns, on random tokens.
struct Prefix: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Positions a second through all layers, in F32 and in 8-bit integers, as JSON lines.",
        discussion: """
            Each turn measures both, and a ratio is that of one turn. Processor time where --threads is 1, so that other work on the machine
            counts little.
            """)

    @Option(help: "The base model; random weights do.") var model = ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
    @Option(help: "Name of the rows.") var name = "SmolLM2"
    @Option(help: "Examples.") var examples = 64
    @Option(help: "Tokens of each example.") var length = 27
    @Option(help: "Threads.") var threads = 1
    @Option(help: "Turns.") var turns = 5

    func run() throws {
        MatrixLibrary.setThreads(1)
        let source = try ModelSource.open(model)
        let set = try ExampleSet(makeExamples(source.configuration.vocabularySize), for: source.configuration)
        let base = try TrainableModel(source: source)
        var rates: [Precision: [Double]] = [:]
        for turn in 0...turns {
            for precision in turn % 2 == 0 ? Precision.allCases : Precision.allCases.reversed() {
                let cache = try PrefixCache(model: base, set: set, options: .init(threads: threads, precision: precision))
                let start = now
                try cache.fill()
                // The first turn reads the file and allocates memory.
                if turn > 0 { rates[precision, default: []].append(Double(set.positionCount) / (now - start)) }
            }
        }
        guard let floats = rates[.float], let bytes = rates[.int8] else { return }
        write("float", floats, "tokens/s")
        write("int8", bytes, "tokens/s")
        write("ratio", zip(bytes, floats).map { $0 / $1 }, "×")
    }

    private func makeExamples(_ vocabulary: Int) -> [Example] {
        var random = SystemRandomNumberGenerator()
        return (0..<examples).map { _ in
            let tokens = (0..<length).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }
            return Example(
                sequences: [TokenSequence(tokens: tokens, targets: [.init(position: length - 1, token: 0)])],
                objective: .candidates([0, 1], correct: 0))
        }
    }

    private func write(_ figure: String, _ values: [Double], _ unit: String) {
        let sorted = values.sorted()
        let (low, median, high) = (sorted[0], sorted[sorted.count / 2], sorted[sorted.count - 1])
        print(
            "{\"key\": \"prefix.\(name).\(threads).\(figure)\", \"value\": \(median), \"unit\": \"\(unit)\", \"low\": \(low), \"high\": \(high), \"turns\": \(values.count)}"
        )
    }

    private var now: Double { clockSeconds(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) }
}
