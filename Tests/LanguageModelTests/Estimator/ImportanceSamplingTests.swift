import Core
import Foundation
import LanguageModel
import Testing

/// Examples that are chosen by importance, and the loss that heeds hopeless ones less.
struct ImportanceSamplingTests {
    /// Over all points the weighed mean over the chosen is the mean over all, whatever the scores; and a place is chosen in proportion to its score.
    @Test(arguments: [1, 2, 5, 9], [[3.0, 1, 0.5, 2.5, 7], [1, 1, 1], [0, 0, 4, 1e-9], [0.2]])
    func meansStay(_ count: Int, _ scores: [Double]) {
        let values = scores.indices.map { 1 + Double($0 * $0) }
        let points = 40_000
        var mean = 0.0
        var times = [Double](repeating: 0, count: scores.count)
        for i in 0..<points {
            let chosen = importanceSample(count, by: scores, point: (Double(i) + 0.5) / Double(points))
            #expect(chosen.count == count)
            for (place, weight) in chosen {
                mean += values[place] * weight / Double(count * points)
                times[place] += 1 / Double(count * points)
            }
        }
        let exact = values.reduce(0, +) / Double(values.count)
        #expect(abs(mean - exact) < 2e-2 * exact)
        // One that scores nothing is still possible.
        for (time, score) in zip(times, scores) { #expect(abs(time - score / scores.reduce(0, +)) < 2e-3) }
    }

    /// Equal scores are plain sampling with weights of one, and so are scores that say nothing.
    @Test(arguments: [[2.0, 2, 2, 2], [0, 0, 0, 0], [1, .nan, 3, 2], [1, .infinity, 3, 2]])
    func scoresThatSayNothing(_ scores: [Double]) {
        let chosen = importanceSample(4, by: scores, point: 0.3)
        #expect(chosen.map(\.place) == [0, 1, 2, 3])
        #expect(chosen.allSatisfy { $0.weight == 1 })
    }

    /// Weighed losses vary less than losses where scores are near to them.
    @Test func variesLess() {
        let losses = (0..<8).map { exp2(-Double($0)) }
        func variance(_ scores: [Double]) -> Double {
            let found = (0..<1000).map { i in
                let (place, weight) = importanceSample(1, by: scores, point: (Double(i) + 0.5) / 1000)[0]
                return losses[place] * weight
            }
            let mean = found.reduce(0, +) / 1000
            return found.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 1000
        }
        #expect(variance(losses) < 1e-3 * variance(losses.map { _ in 1 }))
    }

    /// q = 0 is cross-entropy, q = 1 the probability of an error; the slope is the derivative by the right class's logit.
    @Test(arguments: [0, 0.3, 0.7, 1])
    func generalizedCrossEntropy(_ q: Double) {
        let loss = GeneralizedCrossEntropy(q: q)
        for lead in stride(from: -8.0, through: 8, by: 0.5) {
            func crossEntropy(_ lead: Double) -> Double { log1p(exp(-lead)) }
            let p = exp(-crossEntropy(lead))
            let wanted = q == 0 ? -log(p) : (1 - pow(p, q)) / q
            #expect(abs(loss.loss(crossEntropy(lead)) - wanted) < 1e-12)
            let slope = (loss.loss(crossEntropy(lead - 1e-5)) - loss.loss(crossEntropy(lead + 1e-5))) / 2e-5
            #expect(abs(loss.slope(crossEntropy(lead)) - slope) < 1e-9)
        }
        #expect(loss.loss(.nan).isNaN)
    }

    private struct Fixture {
        let examples: [Example]
        let model: TrainableModel
        let cache: PrefixCache

        init() throws {
            let source = try EstimatorTests.tiny()
            examples = try EstimatorFixture.shared.get().trainingExamples().filter { $0.objective != .tokens }
            model = try EstimatorTests.model(source, ["layers.1-2"])
            cache = try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration))
        }

        func gradients(_ options: Estimator.Options, samples: Range<SampleNumber> = 0..<24) throws -> ProjectedGradients {
            try Estimator(model: model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: cache, options: options)
                .projectedGradients(machine: MachineID(2), samples: samples)
        }
    }

    /// g = p^q · g of cross-entropy, an example at a time.
    @Test(arguments: EstimatorKind.allCases)
    func gradientOfTheGeneralizedLoss(_ kind: EstimatorKind) throws {
        let source = try EstimatorTests.tiny()
        let fixture = try Fixture()
        try #require(fixture.examples.count > 1)
        for example in fixture.examples {
            let cache = try PrefixCache(model: fixture.model, set: ExampleSet([example], for: source.configuration))
            func found(_ q: Double) throws -> ProjectedGradients {
                try Estimator(
                    model: fixture.model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: cache,
                    options: .init(samplesPerDraw: 8, estimator: kind, generalizedCrossEntropy: q)
                ).projectedGradients(machine: MachineID(2), samples: 0..<16)
            }
            let (plain, general) = (try found(0), try found(0.7))
            let part = Float(exp(-0.7 * plain.meanLoss))
            #expect(abs(general.meanLoss - (1 - Double(part)) / 0.7) < 1e-4)
            let size = plain.values.map(abs).max() ?? 0
            for (a, b) in zip(plain.values, general.values) { #expect(abs(part * a - b) < 5e-3 + 1e-2 * size, "\(part * a) \(b)") }
        }
    }

    /// Half of many candidates, weighed, give nearly the g of all examples; in any order and on any number of threads the same.
    @Test(arguments: [0.0, 0.7])
    func chosenExamplesStandForAll(_ q: Double) throws {
        let fixture = try Fixture()
        let count = fixture.examples.count
        func options(each: Int, candidates: Int, threads: Int = 1) -> Estimator.Options {
            .init(
                examplesPerSample: each, samplesPerDraw: 4, estimator: .oneSided, candidatesPerExample: candidates, generalizedCrossEntropy: q,
                orderSeed: 4, threads: threads)
        }
        let all = try fixture.gradients(options(each: count, candidates: 1))
        let some = try fixture.gradients(options(each: 8 * count, candidates: 2))
        let size = (all.values.reduce(0) { $0 + $1 * $1 } / Float(all.values.count)).squareRoot()
        let difference = (zip(all.values, some.values).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Float(all.values.count)).squareRoot()
        #expect(difference < 0.2 * size, "\(difference) of \(size)")
        #expect(abs(all.meanLoss - some.meanLoss) < 0.2 * all.meanLoss)
        #expect(all.values != some.values)

        let few = try fixture.gradients(options(each: 2, candidates: 3))
        let (first, rest) = (
            try fixture.gradients(options(each: 2, candidates: 3), samples: 0..<6), try fixture.gradients(options(each: 2, candidates: 3, threads: 2), samples: 6..<24)
        )
        for (a, b) in zip(few.values, first.values + rest.values) { #expect(abs(a - b) < 3e-2 + 1e-2 * abs(a)) }
    }

    @Test func needsClasses() throws {
        let source = try EstimatorTests.tiny()
        let fixture = try Fixture()
        let tokens = try PrefixCache(
            model: fixture.model, set: ExampleSet(EstimatorFixture.shared.get().trainingExamples(), for: source.configuration))
        for options in [Estimator.Options(candidatesPerExample: 2), .init(generalizedCrossEntropy: 0.7)] {
            #expect(throws: TrainingError.self) {
                try Estimator(model: fixture.model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: tokens, options: options)
            }
        }
        for options in [
            Estimator.Options(candidatesPerExample: 0), .init(generalizedCrossEntropy: 1.1), .init(generalizedCrossEntropy: .nan),
            .init(candidatesPerExample: 2, objective: .accuracy),
        ] {
            #expect(throws: TrainingError.self) { try fixture.gradients(options) }
        }
    }
}
