import Core
import Foundation
import LanguageModel
import Testing
import Training

/// The forward pass equals that of transformers on the same weights.
struct ForwardParityTests {
    struct Reference: Decodable {
        let prompt: String
        let tokens: [Int32]
        let logProbabilitySum: Double
    }

    func relativeError(_ got: [Float], _ wanted: [Float]) -> Double {
        let scale = wanted.map { abs($0) }.max() ?? 1
        return zip(got, wanted).map { Double(abs($0 - $1) / scale) }.max() ?? .infinity
    }

    func tiny() throws -> (source: ModelSource, references: [Reference], logits: [[Float]]) {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        let references = try JSONDecoder().decode([Reference].self, from: Data(contentsOf: fixture("tiny-llama-reference.json")))
        let bytes = try Data(contentsOf: fixture("tiny-llama-logits.f32"))
        let floats = bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map { Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))) }
        }
        let vocabulary = source.configuration.vocabularySize
        return (source, references, references.indices.map { Array(floats[$0 * vocabulary..<($0 + 1) * vocabulary]) })
    }

    @Test func logitsOfTwentyPromptsPackedAndAlone() throws {
        let (source, references, logits) = try tiny()
        #expect(references.count == 20)
        let model = try TrainableModel(source: source)
        let packed = try model.lastLogits(of: references.map(\.tokens))
        for (i, reference) in references.enumerated() {
            #expect(relativeError(packed[i], logits[i]) < 2e-4, "\(reference.prompt)")
            let alone = try model.lastLogits(of: [reference.tokens])[0]
            #expect(relativeError(packed[i], alone) < 1e-5, "\(reference.prompt)")
        }
    }

    @Test func keptKeysAndValuesGiveTheSameLogits() throws {
        let (source, references, logits) = try tiny()
        let generator = try Generator(model: TrainableModel(source: source))
        for (reference, wanted) in zip(references, logits) {
            #expect(try relativeError(generator.nextLogits(after: reference.tokens), wanted) < 2e-4, "\(reference.prompt)")
        }
    }

    @Test func logProbabilitiesOfAllPositions() throws {
        let (source, references, _) = try tiny()
        let model = try TrainableModel(source: source)
        let long = references.filter { $0.tokens.count > 1 }
        let set = try ExampleSet(long.map { Self.text($0.tokens) }, for: source.configuration)
        let evaluation = try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate()
        for (reference, item) in zip(long, evaluation.items) {
            let sum = -item.loss * Double(reference.tokens.count - 1)
            #expect(abs(sum - reference.logProbabilitySum) < 2e-4 * abs(reference.logProbabilitySum), "\(reference.prompt)")
        }
        #expect(evaluation.accuracy == nil)
        #expect(try #require(evaluation.perplexity) > 1)
    }

    @Test func greedyTextFollowsTheLogits() throws {
        let (source, references, _) = try tiny()
        let model = try TrainableModel(source: source)
        let generator = try Generator(model: model)
        let prompt = references[5].tokens
        var heard: [Int32] = []
        let text = try generator.generate(prompt: prompt, options: .init(maxTokens: 8)) {
            heard.append($0)
            return true
        }
        #expect(text.count == 8)
        #expect(heard == text)
        for i in text.indices {
            let logits = try model.lastLogits(of: [prompt + text[..<i]])[0]
            let best = try #require(logits.max())
            #expect(logits[Int(text[i])] > best - 1e-3)
        }
        let stopped = try generator.generate(prompt: prompt, options: .init(maxTokens: 8, stopTokens: [text[3]]))
        #expect(stopped == Array(text.prefix { $0 != text[3] }))
        let cold = try generator.generate(prompt: prompt, options: .init(maxTokens: 8, temperature: 1, topP: 1e-9, seed: 1))
        #expect(cold == text, "the nucleus of nothing is the likeliest token")
        let first = try generator.generate(prompt: prompt, options: .init(maxTokens: 8, temperature: 1, seed: 1))
        #expect(try generator.generate(prompt: prompt, options: .init(maxTokens: 8, temperature: 1, seed: 1)) == first)
        #expect(throws: TrainingError.self) { try generator.generate(prompt: []) }
        #expect(throws: TrainingError.self) { try generator.generate(prompt: [100_000]) }
        let room = source.configuration.contextLength
        let full = try generator.generate(prompt: Array(repeating: 5, count: room - 2), options: .init(maxTokens: 100))
        #expect(full.count <= 2 + 1, "the context bounds the text")
    }

    /// Twenty prompts: English, code, other scripts, emoji, unusual white space, a chat.
    @Test(.enabled(if: TestModels.smollm2 != nil, "needs SmolLM2, which make demo obtains"))
    func smolLM2() throws {
        struct File: Decodable {
            struct Prompt: Decodable {
                let ids: [Int32]
                let top: [[Double]]
                let sumLogProbability: Double
                enum CodingKeys: String, CodingKey {
                    case ids, top
                    case sumLogProbability = "sum_logprob"
                }
            }
            let prompts: [Prompt]
        }
        let data = try Data(contentsOf: fixture("smollm2-logits.json"))
        let prompts = try JSONDecoder().decode(File.self, from: data).prompts
        #expect(prompts.count == 20)
        MatrixLibrary.setThreads(1)
        let model = try TrainableModel(source: ModelSource.open(#require(TestModels.smollm2)))
        let logits = try model.lastLogits(of: prompts.map(\.ids))
        let set = try ExampleSet(prompts.map { Self.text($0.ids) }, for: model.configuration)
        let evaluation = try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate()
        for (i, prompt) in prompts.enumerated() {
            let top = prompt.top[0][1]
            for entry in prompt.top { #expect(abs(Double(logits[i][Int(entry[0])]) - entry[1]) < 2e-4 * abs(top)) }
            let sum = -evaluation.items[i].loss * Double(prompt.ids.count - 1)
            #expect(abs(sum - prompt.sumLogProbability) < 2e-4 * abs(prompt.sumLogProbability))
        }
    }

    /// The model writes llama2.c's own greedy text, in more than 60 decoding steps with kept keys and values.
    @Test(.enabled(if: Stories260K.files != nil, "stories260K is not on this machine"))
    func aTrainedModelTellsItsStory() throws {
        try withTemporaryDirectory { directory in
            let stories = try Stories260K(writingTo: directory)
            let generator = try Generator(model: TrainableModel(source: ModelSource.open(directory)))
            let tokens = try generator.generate(prompt: [1], options: .init(maxTokens: 70))
            let text = String(decoding: tokens.flatMap { stories.vocabulary[Int($0)] }, as: UTF8.self)
            #expect(text.trimmingCharacters(in: .whitespaces).hasPrefix(Stories260K.greedyBeginning), "\(text)")
        }
    }

    /// Returns a text in which every token after the first is predicted.
    static func text(_ tokens: [Int32]) -> Example {
        Example(
            sequences: [
                TokenSequence(tokens: tokens, targets: (0..<tokens.count - 1).map { .init(position: $0, token: tokens[$0 + 1]) })
            ], objective: .tokens)
    }
}
