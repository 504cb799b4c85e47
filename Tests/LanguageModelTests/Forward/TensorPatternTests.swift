import Core
import LanguageModel
import Testing
import Training

struct TensorPatternTests {
    func names(_ patterns: String...) throws -> [String] {
        try EstimatorTests.tiny().trainedTensors(matching: patterns, basis: nil).map(\.name)
    }

    @Test func pickTensors() throws {
        let source = try EstimatorTests.tiny()
        #expect(try names("all") == source.tensorNames)
        #expect(try names("layers.2").count == 7)
        #expect(try names("layers.2").allSatisfy { $0.hasPrefix("model.layers.2.") && $0.hasSuffix("_proj.weight") })
        #expect(try names("layers.1-2") == names("layers.1", "layers.2"))
        #expect(try names("layers.2.self_attn").count == 4)
        #expect(try names("layers.0-2.mlp.down_proj").count == 3)
        #expect(try names("layers.2.*norm.weight").count == 2)
        #expect(try names("layers.2.input_layernorm") == ["model.layers.2.input_layernorm.weight"])
        #expect(try names("layers.*.input_layernorm.weight").count == 3)
        #expect(try names("*norm*").count == 7)
        #expect(try names("model.embed_tokens.weight", "model.norm.weight").count == 2)
        #expect(try names("layers.2", "layers.2", "*.2.*").count == 9, "no tensor twice")
        let tensors = try source.trainedTensors(matching: ["all"], basis: nil)
        #expect(tensors.map { Int($0.index) } == Array(source.tensorNames.indices), "τ is the place among the sorted names")
    }

    @Test(arguments: ["layers.3", "layers.1-3", "layers.2-1", "layers.x", "", "layers.", "model.norm", "layers.2.mlp.down", "*.weights"])
    func refuseWhatNamesNothing(_ pattern: String) throws {
        let error = try #require(throws: TrainingError.self) { try names(pattern) }
        #expect(error.code == .badTensors)
        #expect(error.description.contains("'\(pattern)'"))
        #expect(error.description.contains("layers.0 to layers.2"))
    }

    @Test func refuseNoPatternAndAForeignBasis() throws {
        let source = try EstimatorTests.tiny()
        #expect(throws: TrainingError.self) { try source.trainedTensors(matching: [], basis: nil) }
        let foreign = InputBasis(space: "model.layers.2.mlp:in", width: 31, values: Array(repeating: 0, count: 31))
        let error = try #require(throws: TrainingError.self) {
            try source.trainedTensors(matching: ["layers.2.mlp.gate_proj"], basis: RunBasis(spaces: [foreign]))
        }
        #expect(error.description.contains("31 wide"))
    }
}

struct SampleCostTests {
    /// The tiny model has hidden 32, feed-forward 64, 4 heads of 8, 2 key/value heads, 3 layers, vocabulary 288.
    @Test func countsMultiplyAdds() throws {
        let source = try EstimatorTests.tiny()
        func cost(_ pattern: String, _ family: PerturbationFamily = .rank1, full: Bool = false) throws -> SampleCost {
            try SampleCost(
                source.configuration, training: source.trainedTensors(matching: [pattern], basis: nil), family: family, tokens: 10, reads: 1,
                fullVocabulary: full)
        }
        let keyValue = 2 * 32 * 16
        let rest = 32 * 32 + 3 * 32 * 64
        let layer = 10 * (keyValue + 32 * 32 + rest)
        let top = try cost("layers.2")
        #expect(top.perSample == 2 * rest)
        #expect(top.perBatch == 10 * keyValue + 32 * 32)
        #expect(top.prefix == 2 * layer)
        #expect(try cost("layers.2", full: true).perSample == 2 * (rest + 288 * 32))
        let dense = try cost("layers.2", .gaussian)
        #expect(dense.perBatch == 0)
        #expect(dense.perSample == 2 * (rest + 10 * keyValue + 32 * 32))
        let all = try cost("all")
        #expect(all.prefix == 0)
        #expect(all.perSample == 2 * (2 * layer + rest + 10 * keyValue + 32 * 32))
        #expect(try cost("model.norm.weight", full: true).perSample == 2 * 288 * 32)
    }
}
