import Core
import LanguageModel
import Training

/// Texts that a model writes after the prompts of a file, always with the likeliest token.
struct WrittenTexts {
    static let standardMaxTokens = 64

    private let examples: [Example]
    private let writing: Writing
    private let tells: Bool

    /// Encodes the prompts, once for all models that continue them. Notes on standard error what was cut.
    ///
    /// - Parameters:
    ///   - maxTokens: nil for the number of the task's objective, or 64 without one.
    ///   - tells: false writes no notes.
    /// - Throws: `ProcessFailure` that names the line of a prompt that leaves no room for writing.
    init(_ records: [DataRecord], _ task: TaskSpec, _ source: ModelSource, maxTokens: Int?, tells: Bool = true) throws {
        self.tells = tells
        var task = task
        let known = task.writing
        writing = Writing(maxTokens: maxTokens ?? known?.maxTokens ?? Self.standardMaxTokens, stopsAtNewline: known?.stopsAtNewline)
        (task.objective, task.writing) = (.command, writing)
        var encoder = try TaskEncoder(task: task, model: source)
        if known == nil { encoder.reading = .predicting }
        let data = try encoder.encode(records)
        for remark in tells ? data.remarks : [] { standardError.write("note: \(remark)") }
        guard data.examples.count == records.count else {
            // A prompt that leaves no room for writing is reported by its line number, not left out.
            for record in records {
                do { _ = try encoder.encode([record]) } catch { throw ProcessFailure(ExitStatus(error), "\(record.place): \(error)") }
            }
            throw ProcessFailure(.internalError, "\(data.examples.count) prompts of \(records.count) records")
        }
        examples = data.examples
    }

    /// Returns a text for each record; nil if the model's numbers were not finite.
    func write(_ model: TrainableModel, threads: Int) throws -> [String?] {
        let writer = try PromptWriter(
            model: model, examples: examples, writing: writing, tokenizer: try model.source.tokenizer, threads: threads)
        var meter = Meter("reading the prompts")
        try writer.fill { done, total in meter.show(done, of: total) }
        meter.end()
        let written = try writer.write()
        let cut = written.count { $0?.isCut == true }
        if cut > 0, tells {
            standardError.write(
                "note: \(grouped(cut)) of \(grouped(written.count)) texts were cut at \(writing.maxTokens) tokens (--max-tokens) or at the model's context"
            )
        }
        return written.map { $0?.text }
    }
}
