import Core
import Foundation
import LanguageModel
import Testing
import Training

struct BasisTests {
    /// The basis equals NumPy's eigenvectors of PyTorch's F64 second moments (make_estimator.py), to within one unit of its 14 bits.
    @Test(arguments: [["layers.2"], ["layers.1-2"]])
    func isWhatNumPyFinds(_ patterns: [String]) throws {
        let expected = try EstimatorFixture.shared.get()
        let basis = try BasisMaker.makeBasis(
            source: EstimatorTests.tiny(), training: patterns, examples: expected.trainingExamples(), components: expected.components, threads: 2)
        #expect(basis.spaces.count == 4 * (patterns == ["layers.2"] ? 1 : 2))
        for space in basis.spaces {
            let wanted = try #require(expected.basis[space.space]).flatMap { $0 }
            #expect(space.values.count == wanted.count)
            for (got, value) in zip(space.values, wanted) { #expect(abs(Int(got) - Int(value)) <= 2, "\(space.space)") }
        }
        let tensors = try EstimatorTests.tiny().trainedTensors(matching: patterns + ["model.norm.weight"], basis: basis)
        #expect(tensors.count { $0.basis != nil } == 7 * (patterns == ["layers.2"] ? 1 : 2))
        // A run that trains more would be undamped there, at a rate that is meant for damped components.
        let error = try #require(throws: TrainingError.self) { try EstimatorTests.tiny().trainedTensors(matching: ["all"], basis: basis) }
        #expect(error.description.contains("the basis has no model.layers.0."), "\(error)")
    }

    @Test func measuresOnlyWhatIsTrained() throws {
        let expected = try EstimatorFixture.shared.get()
        let basis = try BasisMaker.makeBasis(
            source: EstimatorTests.tiny(), training: ["layers.2.mlp.down_proj"], examples: expected.trainingExamples(), components: 1)
        #expect(basis.spaces.map(\.space) == ["model.layers.2.mlp.down_proj:in"])
    }

    @Test func refusesWhatHasNoShape() throws {
        let examples = try EstimatorFixture.shared.get().trainingExamples()
        for (patterns, components) in [(["model.norm.weight"], 2), (["layers.2"], 32), (["layers.2"], 0)] {
            #expect(throws: TrainingError.self) {
                try BasisMaker.makeBasis(source: EstimatorTests.tiny(), training: patterns, examples: examples, components: components)
            }
        }
        var wasAsked = 0
        #expect(throws: TrainingError.self) {
            try BasisMaker.makeBasis(source: EstimatorTests.tiny(), training: ["layers.2"], examples: examples, components: 2) { _, _ in
                wasAsked += 1
                return false
            }
        }
        #expect(wasAsked == 1)
    }
}
