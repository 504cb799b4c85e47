import Core
import LanguageModel
import Testing

@Suite struct ImportanceSamplingTests {
    /// One example in ten has nearly all of the gradient.
    private let magnitudes: [Float] = (0..<50).map { (i: Int) -> Float in i % 10 == 3 ? 20 + Float(i) : 0.1 + Float(i) / 100 }

    private func sampling(share: Double, seen: Range<Int>) -> ImportanceSampling {
        var sampling = ImportanceSampling(exampleCount: magnitudes.count, share: share)
        for example in seen { sampling.observe(example, [magnitudes[example], -magnitudes[example]]) }
        return sampling
    }

    @Test func drawsFollowTheirProbabilities() {
        let sampling = sampling(share: 0.8, seen: 0..<40)
        var random = SplitMix64(state: 3)
        var drawn = [Double](repeating: 0, count: magnitudes.count)
        let count = 200_000
        for _ in 0..<count { drawn[sampling.draw(using: &random)] += 1 }
        let probabilities = magnitudes.indices.map(sampling.probability)
        #expect(abs(probabilities.reduce(0, +) - 1) < 1e-9)
        for example in magnitudes.indices {
            let p: Double = probabilities[example]
            let found: Double = drawn[example] / Double(count)
            #expect(abs(found - p) < 5 * (p / Double(count)).squareRoot(), "example \(example): \(found), \(p)")
            // Also one that was never seen, and none counts for more than five.
            #expect(p >= 0.2 / 50 - 1e-12)
            #expect(abs(sampling.weight(of: example) * p * 50 - 1) < 1e-9)
        }
    }

    /// What is weighed has the mean of reading all alike, and less noise.
    @Test func theMeanStays() {
        let mean = magnitudes.reduce(0) { $0 + Double($1) } / Double(magnitudes.count)
        func estimates(share: Double) -> (mean: Double, variance: Double) {
            let sampling = sampling(share: share, seen: 0..<50)
            var random = SplitMix64(state: 8)
            var sum = 0.0
            var squares = 0.0
            for _ in 0..<100_000 {
                let example = sampling.draw(using: &random)
                let value = Double(magnitudes[example]) * sampling.weight(of: example)
                sum += value
                squares += value * value
            }
            let mean = sum / 100_000
            return (mean, squares / 100_000 - mean * mean)
        }
        let (uniform, preferring) = (estimates(share: 0), estimates(share: 0.8))
        #expect(abs(uniform.mean - mean) < 5 * (uniform.variance / 100_000).squareRoot())
        #expect(abs(preferring.mean - mean) < 5 * (preferring.variance / 100_000).squareRoot())
        #expect(preferring.variance < uniform.variance / 10)
    }

    @Test func whatIsSeenMovesAMagnitude() {
        var sampling = ImportanceSampling(exampleCount: 3, share: 0.5)
        var random = SplitMix64(state: 1)
        #expect(Set((0..<100).map { _ in sampling.draw(using: &random) }) == [0, 1, 2])
        #expect(sampling.weight(of: 1) == 1)
        sampling.observe(0, [])
        sampling.observe(0, [.nan, .infinity])
        #expect(sampling.weight(of: 0) == 1, "nothing was seen")
        sampling.observe(0, [3, -3])
        #expect(abs(sampling.probability(of: 0) - (0.5 / 3 + 0.5)) < 1e-12)
        sampling.observe(1, [1, .nan])
        #expect(abs(sampling.probability(of: 0) - (0.5 / 3 + 0.5 * 3 / 4)) < 1e-12)
        // 16 samples count for as much as all before.
        sampling.observe(0, [Float](repeating: 5, count: 16))
        #expect(abs(sampling.probability(of: 0) - (0.5 / 3 + 0.5 * 4 / 5)) < 1e-12)
    }

    /// The first epoch reads as without importance; after it each value is that of the example that the table drew, along the sample's
    /// direction, clipped and then weighed.
    @Test func anEstimatorWeighsWhatItDraws() throws {
        let expected = try EstimatorFixture.shared.get()
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let examples = expected.trainingExamples()
        let directions = Directions(seed: RunSeed(9), family: .rank1)
        let machine = MachineID(2)
        func estimator(_ examples: [Example], importance: Double = 0) throws -> Estimator {
            try Estimator(
                model: model, directions: directions,
                cache: PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration)),
                options: .init(epsilon: 1e-2, orderSeed: 4, usesClosedFormHead: false, importance: importance))
        }
        let n = examples.count
        let preferring = try estimator(examples, importance: 0.7)
        let first = try preferring.projectedGradients(machine: machine, samples: 0..<SampleNumber(n)).values
        #expect(try first == estimator(examples).projectedGradients(machine: machine, samples: 0..<SampleNumber(n)).values)

        let alone = try examples.map { try estimator([$0]) }
        func along(_ sample: SampleNumber, _ example: Int) throws -> Float {
            try alone[example].projectedGradients(machine: machine, samples: sample..<sample + 1).values[0]
        }
        var table = ImportanceSampling(exampleCount: n, share: 0.7)
        var order = ExampleOrder(exampleCount: n, examplesPerSample: 1, samplesPerDraw: 1, seed: 4)
        for sample in 0..<n { table.observe(order.example(machine: machine, sample: SampleNumber(sample), 0), [first[sample]]) }

        let again = try estimator(examples, importance: 0.7)
        _ = try again.projectedGradients(machine: machine, samples: 0..<SampleNumber(n))
        let limit = Double(first.map(abs).sorted()[n / 2])
        var drawn: Set<Int> = []
        for sample in SampleNumber(n)..<SampleNumber(n) + 30 {
            let value = try preferring.projectedGradients(machine: machine, samples: sample..<sample + 1, limit: limit).values[0]
            #expect(try again.projectedGradients(machine: machine, samples: sample..<sample + 1, limit: limit).values[0] == value)
            var random = Estimator.random(orderSeed: 4, machine, draw: Int(sample))
            let example = table.draw(using: &random)
            let clipped = min(max(try along(sample, example), -Float(limit)), Float(limit))
            let weighed = clipped * Float(table.weight(of: example))
            #expect(abs(weighed - value) < 2e-3 + 1e-3 * abs(value), "sample \(sample): \(value), \(weighed)")
            table.observe(example, [clipped])
            drawn.insert(example)
        }
        #expect(drawn.count > 1)
    }
}
