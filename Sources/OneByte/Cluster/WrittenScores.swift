import Core
import LanguageModel
import Training

/// Scores of what the base and a run's model write after some of the prompts that judge the run, compared with the wanted texts.
package struct WrittenScores: Codable, Hashable, Sendable {
    package var before: TextScores
    package var after: TextScores

    /// Number of prompts: few, because writing takes longer than measuring a loss. `onebyte generate --file` writes all.
    static let promptsMost = 20

    package init(before: TextScores, after: TextScores) {
        self.before = before
        self.after = after
    }

    /// - Parameter records: the data that judge the run. The first ones with a wanted text are written.
    /// - Returns: nil if the task has no prompts with wanted texts.
    /// - Throws: `ProcessFailure` for a prompt that leaves no room for writing; errors from model and ledger.
    init?(of archive: LedgerArchive, on source: ModelSource, _ records: [DataRecord], threads: Int) throws {
        let spec = archive.summary.spec
        guard [.completion, .chat].contains(spec.task.kind), spec.task.objective != .command else { return nil }
        let some = Array(records.lazy.filter { $0.wantedText != nil }.prefix(Self.promptsMost))
        guard !some.isEmpty else { return nil }
        let prompts = try WrittenTexts(some, spec.task, source, maxTokens: nil, tells: false)
        func scores(_ model: TrainableModel) throws -> TextScores {
            TextScores(zip(try prompts.write(model, threads: threads), some).map { (written: $0 ?? "", wanted: $1.wantedText ?? "") })
        }
        before = try scores(TrainableModel(source: source))
        after = try scores(TrainableModel(source: source, parameters: archive.replay(on: source, threads: threads), basis: archive.basis))
    }
}
