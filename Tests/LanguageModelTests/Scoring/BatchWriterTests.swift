import Core
import LanguageModel
import Testing
import Training

/// Many versions of a model write the same texts in one batch as each does alone.
struct BatchWriterTests {
    private static let maxTokens = 9
    private static let prompts: [[Int32]] = (0..<6).map { (i: Int) -> [Int32] in
        let length = 3 + i % 3 * 2
        return (0..<length).map { (j: Int) -> Int32 in Int32((i * 41 + j * 13 + 3) % 200) }
    }

    private func writer(_ model: TrainableModel, memoryLimit: Int = 1 << 30, threads: Int = 1) throws -> BatchWriter {
        try BatchWriter(
            model: model, prompts: Self.prompts, maxTokens: Self.maxTokens, endings: [], memoryLimit: memoryLimit, threads: threads)
    }

    private func alone(_ model: TrainableModel, stopTokens: [Int32] = []) throws -> [[Int32]] {
        let generator = try Generator(model: model)
        return try Self.prompts.map { try generator.generate(prompt: $0, options: .init(maxTokens: Self.maxTokens, stopTokens: stopTokens)) }
    }

    @Test(arguments: [["layers.0"], ["layers.1"], ["layers.2"], ["model.norm.weight"], ["all"], ["layers.1-2", "model.norm.weight"]])
    func theModelAsItIs(_ patterns: [String]) throws {
        let source = try EstimatorTests.tiny()
        let expected = try alone(try TrainableModel(source: source))
        for threads in [1, 2] {
            let writer = try writer(try EstimatorTests.model(source, patterns), threads: threads)
            let all = Array(Self.prompts.indices)
            // The second time comes from the tree, with nothing to compute.
            for _ in 0..<2 { #expect(try writer.write(prompts: all).map(\.node.written) == expected) }
        }
    }

    /// Texts at θ ± εz are those of a model whose parameters are θ ± εz.
    @Test(arguments: PerturbationFamily.allCases, [["layers.0"], ["layers.1"], ["layers.2"], ["model.norm.weight"], ["all"]])
    func alongDirections(_ family: PerturbationFamily, _ patterns: [String]) throws {
        let source = try EstimatorTests.tiny()
        let tensors = try source.trainedTensors(matching: patterns, basis: nil)
        let directions = Directions(seed: RunSeed(5), family: family)
        let epsilon = 0.0625
        let samples = (0..<5).map { SampleName(machine: MachineID(3), sample: SampleNumber($0)) }
        // Batches of two samples share their prompts.
        let drawn = samples.indices.map { i in (0..<3).map { ($0 + i / 2 * 2) % Self.prompts.count } }
        var expected: [[Int32]] = []
        for (sample, prompts) in zip(samples, drawn) {
            for sign in [Int8(1), -1] {
                let parameters = try source.makeParameters(tensors)
                let step = StepSize.nearest(rate: epsilon)
                #expect(step.value == epsilon)
                let record = RoundRecord(
                    round: 0, scaleExponent: 0, step: step,
                    contributions: [Contribution(machine: sample.machine, firstSample: sample.sample, bytes: [-sign])])
                parameters.apply([record], directions: directions, threads: 1)
                let texts = try alone(TrainableModel(source: source, parameters: parameters))
                expected += prompts.map { texts[$0] }
            }
        }
        for threads in [1, 2] {
            let writer = try writer(try EstimatorTests.model(source, patterns), threads: threads)
            let lines = try writer.write(samples: samples, prompts: drawn, directions: directions, epsilon: epsilon)
            #expect(lines.map(\.node.written) == expected)
            let clean = try writer.write(prompts: drawn[0])
            if patterns != ["model.norm.weight"] { #expect(lines.prefix(3).map(\.node.written) != clean.map(\.node.written), "ε changes something") }
        }
    }

    /// Small steps from clean states, where the bound on winning tokens applies, give the same texts as the whole head.
    @Test func manyDirectionsShareTheirPlaces() throws {
        let source = try EstimatorTests.tiny()
        let directions = Directions(seed: RunSeed(8), family: .rank1)
        for epsilon in [1e-3, 0.02, 0.2] {
            let samples = (0..<24).map { SampleName(machine: MachineID(1), sample: SampleNumber($0)) }
            let writer = try writer(try EstimatorTests.model(source, ["layers.2"]))
            let together = try writer.write(samples: samples, prompts: samples.map { _ in [0, 1] }, directions: directions, epsilon: epsilon)
            // A sample alone shares no position with others after the first tokens, so it goes through the whole head.
            let alone = try samples.flatMap { sample in
                try (0..<2).map { try writer.write(samples: [sample], prompts: [[$0]], directions: directions, epsilon: epsilon).map(\.node.written) }
            }
            for (i, _) in samples.enumerated() {
                for prompt in 0..<2 {
                    #expect(together[4 * i + prompt].node.written == alone[2 * i + prompt][0])
                    #expect(together[4 * i + 2 + prompt].node.written == alone[2 * i + prompt][1])
                }
            }
        }
    }

    @Test("Removed states are computed again")
    func littleMemory() throws {
        let source = try EstimatorTests.tiny()
        let expected = try alone(try TrainableModel(source: source))
        let writer = try writer(try EstimatorTests.model(source, ["layers.2"]), memoryLimit: 20_000)
        for i in 0..<20 {
            let prompts = [i % 6, (i + 1) % 6]
            #expect(try writer.write(prompts: prompts).map(\.node.written) == prompts.map { expected[$0] })
        }
    }

    @Test func tokensThatEndATextEndIt() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.1"])
        let free = try alone(model)
        let end = try #require(free[0].dropFirst(2).first { !free[0].prefix(2).contains($0) })
        var endings = [BatchWriter.Ending](repeating: .continues, count: source.configuration.vocabularySize)
        for (ending, isKept) in [(BatchWriter.Ending.endOfText, false), (.lineBreak, true)] {
            endings[Int(end)] = ending
            let writer = try BatchWriter(
                model: model, prompts: Self.prompts, maxTokens: Self.maxTokens, endings: endings, memoryLimit: 1 << 30, threads: 1)
            for (line, text) in zip(try writer.write(prompts: Array(Self.prompts.indices)), free) {
                let place = text.firstIndex(of: end)
                #expect(line.node.written == place.map { Array(text[..<($0 + (isKept ? 1 : 0))]) } ?? text)
            }
        }
    }

    @Test func brokenNumbersAreNoText() throws {
        let source = try EstimatorTests.tiny()
        let writer = try writer(try EstimatorTests.model(source, ["layers.2"]))
        let lines = try writer.write(
            samples: [SampleName(machine: MachineID(1), sample: 0)], prompts: [[0, 1]], directions: Directions(seed: RunSeed(1), family: .rank1),
            epsilon: 1e30)
        #expect(lines.allSatisfy { $0.isBroken })
    }

    @Test func badPromptsAreRefused() throws {
        let model = try EstimatorTests.model(EstimatorTests.tiny(), ["layers.2"])
        for prompt in [[], [Int32](repeating: 1, count: 4096), [-1], [1 << 20]] {
            #expect(throws: TrainingError.self) {
                try BatchWriter(model: model, prompts: [prompt], maxTokens: 4, endings: [], memoryLimit: 1 << 20, threads: 1)
            }
        }
    }
}
