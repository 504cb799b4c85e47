import Core
import Foundation
import LanguageModel
import Testing
import Training

/// The generalized cross-entropy, which down-weights badly misclassified examples.
struct GeneralizedCrossEntropyTests {
    /// q = 0 gives cross-entropy, and q = 1 the probability of an error.
    @Test(arguments: [0, 0.3, 0.7, 1])
    func generalizedCrossEntropy(_ q: Double) {
        let loss = GeneralizedCrossEntropy(q: q)
        for lead in stride(from: -8.0, through: 8, by: 0.5) {
            func crossEntropy(_ lead: Double) -> Double { log1p(exp(-lead)) }
            let p = exp(-crossEntropy(lead))
            let wanted = q == 0 ? -log(p) : (1 - pow(p, q)) / q
            #expect(abs(loss.loss(crossEntropy(lead)) - wanted) < 1e-12)
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

        func gradients(_ options: EstimatorOptions, samples: Range<SampleNumber> = 0..<24) throws -> ProjectedGradients {
            try Estimator(model: model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: cache, options: options)
                .projectedGradients(machine: MachineID(2), samples: samples)
        }
    }

    /// g equals p^q · g of cross-entropy, one example at a time.
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
                    options: .init(samplesPerBatch: 8, estimator: kind, generalizedCrossEntropy: q)
                ).projectedGradients(machine: MachineID(2), samples: 0..<16)
            }
            let (plain, general) = (try found(0), try found(0.7))
            let part = Float(exp(-0.7 * plain.meanLoss))
            #expect(abs(general.meanLoss - (1 - Double(part)) / 0.7) < 1e-4)
            let size = plain.values.map(abs).max() ?? 0
            for (a, b) in zip(plain.values, general.values) { #expect(abs(part * a - b) < 5e-3 + 1e-2 * size, "\(part * a) \(b)") }
        }
    }

    /// Each estimator refuses it for examples without classes, whatever is trained.
    @Test func everyEstimatorNeedsClasses() throws {
        let run = try AdaptedTinyLlama()
        func problem(_ kind: String, _ make: @escaping (PrefixCache, EstimatorOptions) throws -> any GradientEstimator) throws {
            let options = EstimatorOptions(batchSize: 1, generalizedCrossEntropy: 0.7)
            let tokens = try run.cache(AdaptedTinyLlama.examples("tokens"))
            let found = try #require(throws: TrainingError.self) { try make(tokens, options) }
            #expect(found.code == .badExample && found.description.contains("needs examples with classes"), "\(kind): \(found)")
            _ = try make(run.cache(AdaptedTinyLlama.examples("classes")), options)
        }
        try problem("final") { try FinalAdapterEstimator(model: run.model, directions: run.directions, cache: $0, options: $1) }
        try problem("adapters") { try AdapterGradientEstimator(model: run.model, directions: run.directions, cache: $0, options: $1) }
        try problem("samples") { try Estimator(model: run.model, directions: run.directions, cache: $0, options: $1) }
    }

    /// A library's message names a setting and no flag, since a file may have given it.
    @Test func samplesOfAllExamplesAreRefusedWithoutFlags() throws {
        let fixture = try Fixture()
        let found = try #require(throws: TrainingError.self) { try fixture.gradients(.init(batchSize: 0)) }
        #expect(found.description.contains("batch-size") && !found.description.contains("--"), "\(found)")
    }

    @Test func needsClasses() throws {
        let source = try EstimatorTests.tiny()
        let fixture = try Fixture()
        let tokens = try PrefixCache(
            model: fixture.model, set: ExampleSet(EstimatorFixture.shared.get().trainingExamples(), for: source.configuration))
        for options in [EstimatorOptions(generalizedCrossEntropy: 0.7)] {
            #expect(throws: TrainingError.self) {
                try Estimator(model: fixture.model, directions: Directions(seed: RunSeed(9), family: .rank1), cache: tokens, options: options)
            }
        }
        for options in [
            EstimatorOptions(generalizedCrossEntropy: 1.1), .init(generalizedCrossEntropy: .nan),
            .init(generalizedCrossEntropy: 0.7, objective: .accuracy),
        ] {
            #expect(throws: TrainingError.self) { try fixture.gradients(options) }
        }
    }
}
