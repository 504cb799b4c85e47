import Core
import LanguageModel

/// Lets a model as it is write after prompts, by the likeliest token each time: what it would answer, for people to read.
public final class PromptWriter {
    private let texts: TextWriter

    /// - Parameters:
    ///   - examples: prompts, as `TaskEncoder` makes them for a task with `writing`.
    ///   - memoryLimit: bytes of hidden states that are kept of what was written.
    /// - Throws: `TrainingError` for what is no prompt; errors of the model's files.
    public init(
        model: TrainableModel, examples: [Example], writing: Writing, tokenizer: Tokenizer, memoryLimit: Int = 2 << 30, threads: Int = 1
    ) throws {
        texts = try TextWriter(
            model: model, examples: examples, writing: writing, tokenizer: tokenizer, scorer: Unscored(), memoryLimit: memoryLimit, threads: threads)
    }

    /// Computes the prompts' own states ahead.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws { try texts.writer.fill(progress: progress) }

    /// What the model writes after each prompt, and whether it ended for want of room; nil where its numbers broke.
    public func write() throws -> [(text: String, isCut: Bool)?] {
        try texts.writer.write(prompts: Array(texts.prompts.indices)).map { $0.isBroken ? nil : (texts.text(of: $0), $0.isCut) }
    }

    /// Nobody asks it.
    private final class Unscored: TextScorer {
        func scores(of texts: [WrittenText]) throws -> [Double] { texts.map { _ in .nan } }
    }
}
