import Core
import Foundation
import LanguageModel
import Testing
import Training

@Suite struct ExampleOrderTests {
    private struct Case: Decodable {
        struct Sample: Decodable {
            var sample: UInt32
            var reads: [Int]
        }
        var examples: Int
        var batch: Int
        var shared: Int
        var seed: UInt64
        var machine: UInt32
        var samples: [Sample]
    }

    @Test("Samples read the examples that a second implementation of the documented function gives")
    func documented() throws {
        let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: fixture("example-order.json")))
        #expect(cases.count == 6)
        for known in cases {
            var order = ExampleOrder(
                exampleCount: known.examples, batchSize: known.batch, samplesPerBatch: known.shared, seed: known.seed)
            for sample in known.samples {
                let reads = (0..<known.batch).map { order.example(machine: MachineID(known.machine), sample: sample.sample, $0) }
                #expect(reads == sample.reads, "\(known.examples) examples, sample \(sample.sample)")
            }
        }
    }

    @Test("The order equals that of earlier versions, which used the standard library's shuffle", arguments: [1, 2, 3, 10, 257, 5000])
    func earlierVersions(count: Int) {
        for seed: UInt64 in [0, 1, 0xDEAD_BEEF] {
            var random = SplitMix64(state: seed)
            #expect(ExampleOrder.firstEpoch(of: count, seed: seed) == (0..<count).shuffled(using: &random))
        }
    }
}
