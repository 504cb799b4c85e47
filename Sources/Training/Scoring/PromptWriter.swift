import Core
import LanguageModel

/// Lets a model write after prompts, taking the likeliest token each time: its answers, for people to read.
public final class PromptWriter {
    private let texts: TextWriter

    /// - Parameters:
    ///   - examples: prompts, as `TaskEncoder` makes them for a task with `writing`.
    ///   - memoryLimit: bytes of hidden states that are kept of written texts.
    /// - Throws: `TrainingError` for an example that is not a prompt; errors from the model's files.
    public init(
        model: TrainableModel, examples: [Example], writing: Writing, tokenizer: Tokenizer, memoryLimit: Int = 2 << 30, threads: Int = 1
    ) throws {
        texts = try TextWriter(
            model: model, examples: examples, writing: writing, tokenizer: tokenizer, scorer: Unscored(), memoryLimit: memoryLimit, threads: threads)
    }

    /// Computes the states of all prompts in advance.
    ///
    /// - Parameter progress: receives the prompts done and their number. Returning false stops the work with `TrainingError.cancelled`.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws { try texts.writer.fill(progress: progress) }

    /// Returns what the model writes after each prompt, and whether the text ended for lack of room; nil if logits were not finite.
    public func write() throws -> [(text: String, isCut: Bool)?] {
        try texts.writer.write(prompts: Array(texts.prompts.indices)).map { $0.isBroken ? nil : (texts.text(of: $0), $0.isCut) }
    }

    /// A placeholder that is never asked for a score.
    private final class Unscored: TextScorer {
        func scores(of texts: [WrittenText]) throws -> [Double] { texts.map { _ in .nan } }
    }
}
