import Core
import LanguageModel

/// Prompts, a model that writes after them, and the program that scores the texts: the common part of training and measuring by an external
/// score.
final class TextWriter {
    let writer: BatchWriter
    let prompts: [WritingPrompt]
    private let tokenizer: Tokenizer
    private let scorer: any TextScorer
    private let stopsAtNewline: Bool

    init(
        model: TrainableModel, examples: [Example], writing: Writing, tokenizer: Tokenizer, scorer: any TextScorer, memoryLimit: Int, threads: Int
    ) throws {
        guard !examples.isEmpty else { throw TrainingError(.noExamples, "there are no examples") }
        var prompts: [WritingPrompt] = []
        for (i, example) in examples.enumerated() {
            guard case .text(let prompt) = example.objective, example.sequences.count == 1 else {
                throw TrainingError(.badExample, "example \(i + 1) is no prompt to write after")
            }
            prompts.append(prompt)
        }
        self.prompts = prompts
        self.tokenizer = tokenizer
        self.scorer = scorer
        stopsAtNewline = writing.stopsAtNewline == true
        writer = try BatchWriter(
            model: model, prompts: examples.map { $0.sequences[0].tokens }, maxTokens: writing.maxTokens,
            endings: Self.endings(writing, tokenizer, model.configuration), memoryLimit: memoryLimit, threads: threads)
    }

    private static func endings(_ writing: Writing, _ tokenizer: Tokenizer, _ model: ModelConfiguration) -> [BatchWriter.Ending] {
        var endings = [BatchWriter.Ending](repeating: .continues, count: model.vocabularySize)
        if writing.stopsAtNewline == true {
            for token in endings.indices where tokenizer.bytes(of: Int32(token)).contains(UInt8(ascii: "\n")) { endings[token] = .lineBreak }
        }
        for token in model.eosTokens + [tokenizer.eosToken].compactMap({ $0 }) where endings.indices.contains(Int(token)) {
            endings[Int(token)] = .endOfText
        }
        return endings
    }

    /// Returns a line's text, without what follows the line break that ended it.
    func text(of line: BatchWriter.Line) -> String {
        let text = tokenizer.decode(line.node.written, fromStart: false)
        guard stopsAtNewline, let end = text.firstIndex(where: \.isNewline) else { return text }
        return String(text[..<end])
    }

    /// Returns the score of each line, or NaN if the line is broken. Each text after a prompt is scored only once.
    func scores(of lines: [BatchWriter.Line]) throws -> [Double] {
        var places: [ObjectIdentifier: Int] = [:]
        var texts: [WrittenText] = []
        for line in lines where !line.isBroken && places[ObjectIdentifier(line.node)] == nil {
            places[ObjectIdentifier(line.node)] = texts.count
            texts.append(WrittenText(prompt: prompts[line.prompt], text: text(of: line)))
        }
        let scores = try scorer.scores(of: texts)
        return lines.map { line in line.isBroken ? .nan : places[ObjectIdentifier(line.node)].map { scores[$0] } ?? .nan }
    }
}
