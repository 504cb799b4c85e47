import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Tests of differences of scores along directions.
struct ScoreEstimatorTests {
    /// Scores texts without a process.
    private final class Judge: TextScorer {
        private let judge: (WrittenText) -> Double
        private(set) var asked = 0

        init(_ judge: @escaping (WrittenText) -> Double) { self.judge = judge }

        func scores(of texts: [WrittenText]) -> [Double] {
            asked += texts.count
            return texts.map(judge)
        }
    }

    private let examples: [Example] = (0..<6).map { (i: Int) -> Example in
        let tokens = (0..<5).map { (j: Int) -> Int32 in Int32((i * 31 + j * 7 + 1) % 200) }
        return Example(sequences: [TokenSequence(tokens: tokens, targets: [])], objective: .text(WritingPrompt("\(i)")))
    }

    private func estimator(
        _ model: TrainableModel, _ judge: Judge, tokenizer: Tokenizer, each: Int = 3, epsilon: Double = 0.05
    ) throws -> ScoreEstimator {
        try ScoreEstimator(
            model: model, directions: Directions(seed: RunSeed(2), family: .rank1), examples: examples, writing: Writing(maxTokens: 6),
            tokenizer: tokenizer, scorer: judge, options: .init(epsilon: epsilon, batchSize: each, samplesPerBatch: 2))
    }

    @Test func aSampleIsTheDifferenceOfMeanScores() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.1-2"])
        // The score tells whether a text has an even number of bytes, so means are multiples of 1/3.
        let judge = Judge { $0.text.utf8.count % 2 == 0 ? 1 : 0 }
        let estimator = try estimator(model, judge, tokenizer: try source.tokenizer)
        let found = try estimator.projectedGradients(machine: MachineID(1), samples: 0..<24)
        #expect(found.values.count == 24 && found.values.contains { $0 != 0 })
        for g in found.values {
            let steps = Double(g) * 2 * 0.05 * 3
            #expect(abs(steps - steps.rounded()) < 1e-4)
        }
        #expect((-1...0).contains(found.meanLoss))
        #expect(judge.asked < 24 * 2 * 3, "the same text after the same prompt is scored once")
        // The same samples one by one, and again, give the same values.
        let again = try (0..<24).map { try estimator.projectedGradients(machine: MachineID(1), samples: $0..<$0 + 1).values[0] }
        #expect(again == found.values)
    }

    @Test func aScoreOfAnyScaleRises() throws {
        let source = try EstimatorTests.tiny()
        let parameters = try source.makeParameters(source.trainedTensors(matching: ["layers.1-2"], basis: nil))
        let model = try TrainableModel(source: source, parameters: parameters)
        let tokenizer = try source.tokenizer
        let judge = Judge { text in 100 * Double(text.text.utf8.count { $0 == UInt8(ascii: "e") }) - 1000 }
        let estimator = try estimator(model, judge, tokenizer: tokenizer)
        let directions = Directions(seed: RunSeed(2), family: .rank1)
        func score() throws -> Double { -(try estimator.projectedGradients(machine: MachineID(9), samples: 0..<8).meanLoss) }
        let before = try score()
        for round in 0..<30 {
            let first = SampleNumber(round * 16)
            let found = try estimator.projectedGradients(machine: MachineID(0), samples: first..<first + 16)
            let bytes = found.values.map { ByteCodec.encode($0, scaleExponent: 5) }
            let record = RoundRecord(
                round: RoundNumber(round), scaleExponent: 5, step: StepSize.nearest(rate: 2e-6 * 32),
                contributions: [Contribution(machine: MachineID(0), firstSample: first, bytes: bytes)])
            parameters.apply([record], directions: directions, threads: 1)
            model.parametersChanged(threads: 1)
        }
        let after = try score()
        #expect(after > before, "\(before) → \(after)")
    }

    @Test func anIntervalGoesWithTheMean() throws {
        let evaluation = Evaluation(scores: [1, 2, 3, 4])
        #expect(evaluation.score == 2.5 && evaluation.meanLoss == -2.5)
        let half = 1.96 * (5.0 / 3 / 4).squareRoot()
        let interval = try #require(evaluation.scoreInterval)
        #expect(abs(interval.lower - (2.5 - half)) < 1e-12 && abs(interval.upper - (2.5 + half)) < 1e-12)
        #expect(evaluation.accuracy == nil && evaluation.perplexity == nil)
    }

    static func encode(_ task: TaskSpec, _ json: String) throws -> Example {
        let url = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).jsonl")
        try Data((json + "\n").utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        let encoder = try TaskEncoder(task: task, tokenizer: try EstimatorTests.tiny().tokenizer)
        return try #require(try encoder.encode(try DataFile.read(url.path)).examples.first)
    }

    /// Records of each kind become prompts.
    @Test func promptsOfAllKinds() throws {
        let tokenizer = try EstimatorTests.tiny().tokenizer
        func check(_ task: TaskSpec, _ json: String, prompt: String, fields: String) throws -> [Int32] {
            let example = try Self.encode(task, json)
            guard case .text(let found) = example.objective else {
                Issue.record("\(example.objective)")
                return []
            }
            #expect(found.prompt == prompt && found.fieldsText == fields, "\(found)")
            return try #require(example.sequences.first).tokens
        }
        let writing = Writing(maxTokens: 4)
        let labels = [LabelWord(label: "0", word: " a"), LabelWord(label: "1", word: " b")]
        let choice = try check(
            TaskSpec(kind: .classification, template: "{text} It was ", labels: labels, maxLength: 40, objective: .command, writing: writing),
            #"{"text": "film", "label": 1, "more": [1, "x"]}"#,
            prompt: "film It was", fields: #"{"label":1,"more":[1,"x"]}"#)
        #expect(choice == tokenizer.leadingTokens + tokenizer.encode("film It was"))
        _ = try check(
            TaskSpec(kind: .completion, maxLength: 40, objective: .command, writing: writing), #"{"prompt": "so", "completion": " what"}"#,
            prompt: "so", fields: #"{"completion":" what"}"#)
        let text = "one two three four five six seven"
        let long = try check(
            TaskSpec(kind: .text, maxLength: 8, objective: .command, writing: writing), "{\"text\": \"\(text)\"}", prompt: text, fields: "{}")
        #expect(long.count == 4)
        #expect(throws: DataError.self) {
            try TaskEncoder(task: TaskSpec(kind: .text, maxLength: 8, objective: .command, writing: Writing(maxTokens: 8)), tokenizer: tokenizer)
        }
    }
}
