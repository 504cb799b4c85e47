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
        #expect(try names("layers.*.mlp.down_proj") == names("layers.0-2.mlp.down_proj"))
        #expect(try names("layers.*.self_attn") == names("layers.0-2.self_attn"))
        #expect(try names("*norm*").count == 7)
        #expect(try names("model.embed_tokens.weight", "model.norm.weight").count == 2)
        #expect(try names("layers.2", "layers.2", "*.2.*").count == 9, "no tensor twice")
        let tensors = try source.trainedTensors(matching: ["all"], basis: nil)
        #expect(tensors.map { Int($0.index) } == Array(source.tensorNames.indices), "τ is the place among the sorted names")
    }

    @Test(arguments: [
        "layers.3", "layers.1-3", "layers.2-1", "layers.x", "", "layers.", "model.norm", "layers.2.mlp.down", "layers.*.mlp.down", "*.weights",
    ])
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

    /// The part of the cost that directions share is what the pass computes once for all of them: in layers one part after the other, in parallel
    /// ones, and in layers with norms behind their parts.
    @Test(arguments: ["llama", "granite", "phi-2", "cohere", "stablelm-parallel", "gemma2", "gemma3", "olmo2"])
    func sharesWhatThePassShares(_ name: String) throws {
        try FamilyFixture.named(name).with { source in
            let last = source.configuration.layerCount - 1
            for modules in [[LayerModule.down], [.output], [.output, .up, .down], [.query], [.up, .down]] {
                for layer in [last - 1, last] { try expectShared(source, modules, layer, isLast: layer == last) }
            }
        }
    }

    private func expectShared(_ source: ModelSource, _ modules: [LayerModule], _ layer: Int, isLast: Bool) throws {
        let names = source.configuration.description.names
        let run = try AdaptedModel(source, modules.map { "adapter:\(names.name(LayerTensor($0), layer: layer))" })
        let model = try TrainableModel(source: source, parameters: source.makeParameters(run.tensors), basis: run.basis)
        try #require(model.entry == .layer(layer))
        let (tokens, reads) = (7, ScratchBuffer<Int32>([3, 6]))
        model.preparePositions(tokens)
        let states = ScratchBuffer((0..<tokens * model.sizes.hidden).map { Float($0 % 13) / 13 - 0.4 })
        let batch = DirectionBatch(directions: run.directions, tensors: model.trained, epsilon: 1e-3)
        batch.prepare((0..<2).map { SampleName(machine: AdaptedModel.machine, sample: $0) })
        let pass = ForwardPass(model: model)
        var rows: [InputSpace: Int] = [:]
        pass.observer = { at, space, _, _, count in
            guard at == layer else { return }
            rows[space, default: 0] += count
        }
        pass.begin(directions: batch)
        let sequence = pass.add(
            ForwardPass.Sequence(
                length: tokens, reads: UnsafeBufferPointer(start: reads.pointer, count: 2), tokens: UnsafeBufferPointer(start: nil, count: 0),
                hidden: UnsafePointer(states.pointer)))
        for direction in 0..<2 { for sign in [1, -1] as [Float] { _ = pass.add(segmentOf: sequence, direction: direction, sign: sign) } }
        try withExtendedLifetime((reads, states)) { try pass.runToFinalNorm() }

        let leaving = isLast ? 2 : tokens
        var shared = 0
        if rows[.attention] == tokens { shared += tokens * model.sizes.cost(.key, .value) + leaving * model.sizes.cost(.query) }
        if rows[.output] == leaving { shared += leaving * model.sizes.cost(.output) }
        if rows[.feedForward] == leaving { shared += leaving * model.sizes.cost(.gate, .up) }
        if rows[.down] == leaving { shared += leaving * model.sizes.cost(.down) }
        let cost = SampleCost(
            source.configuration, training: run.tensors, family: .rank1, tokens: tokens, reads: 2, fullVocabulary: false)
        #expect(cost.perBatch == shared, "\(modules) of layer \(layer): \(rows)")
        #expect(shared > 0 && rows.count == InputSpace.allCases.count)
    }
}
