import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Whole checkpoints, with their tokenizers, equal transformers. `ONEBYTE_CHECKPOINTS` names a directory of them (Fixtures/checkpoints.py).
@Suite struct CheckpointTests {
    struct Reference: Decodable {
        let texts: [String]
        let ids: [[Int32]]
        let losses: [Double]
        let prompts: [[Int32]]
        let words: [[Int32]]
        let labels: [Int]
        let choices: [Double]
        let written: [Int32]
        let margin: Double
    }

    private static let root = ProcessInfo.processInfo.environment["ONEBYTE_CHECKPOINTS"]
    private static let names = root.flatMap { root in
        try? FileManager.default.contentsOfDirectory(atPath: root).filter { FileManager.default.fileExists(atPath: "\(root)/\($0)/reference.json") }
            .sorted()
    }

    /// Models that are not read, and the reason that the refusal gives.
    private static let refused: [(family: String, reason: String)] = [
        ("qwen3.5", "linear attention"), ("lfm2", "convolutions"), ("gemma-3n", "embeddings of their own"), ("gemma-4", "embeddings of their own"),
        ("roberta", "it is an encoder"),
    ]

    @Test(.enabled(if: names != nil, "needs ONEBYTE_CHECKPOINTS"), arguments: names ?? [])
    func equalsTransformers(_ name: String) throws {
        let path = "\(try #require(Self.root))/\(name)"
        if let refusal = Self.refused.first(where: { name.hasPrefix($0.family) }) {
            let error = #expect(throws: ModelError.self) { try ModelSource.open(path) }
            #expect(error?.description.contains(refusal.reason) == true)
            return
        }
        let reference = try JSONDecoder().decode(Reference.self, from: Data(contentsOf: URL(filePath: path + "/reference.json")))
        let source = try ModelSource.open(path)
        let tokenizer = try source.tokenizer
        for (text, ids) in zip(reference.texts, reference.ids) {
            #expect(tokenizer.leadingTokens + tokenizer.encode(text) + tokenizer.trailingTokens == ids, "\(text.debugDescription)")
        }
        let model = try TrainableModel(source: source)
        func expect(_ examples: [Example], _ losses: [Double], _ what: String) throws {
            let set = try ExampleSet(examples, for: source.configuration)
            let found = try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
            let wanted = losses.reduce(0, +) / Double(losses.count)
            #expect(abs(found - wanted) < 1e-5 * wanted, "\(what): \(found), not \(wanted)")
        }
        try expect(reference.ids.map(ForwardParityTests.text), reference.losses, "texts")
        try expect(zip(reference.prompts, reference.labels).map { choice($0, reference.words, $1) }, reference.choices, "choices")
        // Where two tokens are equally likely in F64, a greedy text is not determined.
        if reference.margin > 1e-5 {
            let written = try Generator(model: model).generate(prompt: reference.ids[0], options: .init(maxTokens: 32))
            // A text ends with the first token that ends texts.
            #expect(written.count > 0 && reference.written.starts(with: written))
            #expect(written.count == 32 || source.configuration.eosTokens.contains(reference.written[written.count]))
        }
        guard let exports = ProcessInfo.processInfo.environment["ONEBYTE_CHECKPOINT_EXPORTS"] else { return }
        var exporter = ModelExporter(source: source)
        exporter.overwrites = true
        try exporter.write(to: "\(exports)/\(name)")
        do {
            try exporter.writeGGUF(to: "\(exports)/\(name).gguf")
            let copy = try ModelSource.open("\(exports)/\(name).gguf")
            for (text, ids) in zip(reference.texts, reference.ids) {
                let own = try copy.tokenizer
                #expect(own.leadingTokens + own.encode(text) + own.trailingTokens == ids, "GGUF: \(text.debugDescription)")
            }
        } catch {
            guard error.code == .unsupported else { throw error }
            print("\(name): no GGUF: \(error.description)")
        }
    }

    /// A choice between whole words behind a prompt.
    private func choice(_ prompt: [Int32], _ words: [[Int32]], _ label: Int) -> Example {
        if words.allSatisfy({ $0.count == 1 }) {
            let sequence = TokenSequence(tokens: prompt, targets: [.init(position: prompt.count - 1, token: words[label][0])])
            return Example(sequences: [sequence], objective: .candidates(words.map { $0[0] }, correct: label))
        }
        let sequences = words.map { word in
            TokenSequence(
                tokens: prompt + word, targets: word.enumerated().map { .init(position: prompt.count - 1 + $0, token: $1) })
        }
        return Example(sequences: sequences, objective: .options(correct: label))
    }
}
