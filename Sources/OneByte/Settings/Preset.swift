import Core
import Training

/// What people want of a run, with the settings that are known to be best for it (docs/guide/presets.md). Each value stands in for a default.
package enum Preset: String, CaseIterable, Sendable {
    /// One of a few labels for a text.
    case classify
    /// Texts like those of the data.
    case generate
    /// Texts that a program likes.
    case score

    package var values: [SettingKey: SettingValue] {
        switch self {
        case .classify:
            // Many bytes on a matrix of few numbers: docs/research/learning.md, "Adapters".
            [
                .kind: .text(TaskSpec.Kind.classification.rawValue), .train: .texts(["adapter:final"]), .rounds: .integer(64),
                .samplesPerRound: .integer(64), .batchSize: .integer(RunSpecLimits.allExamples),
            ]
        case .generate:
            [
                .train: .texts(["adapter:final"]), .rounds: .integer(64), .samplesPerRound: .integer(256), .samplesPerBatch: .integer(64),
                .batchSize: .integer(32),
            ]
        case .score:
            // What examples/friendlier.toml does. A score has steps, so that ε is large and a sample reads several prompts.
            [
                .kind: .text(TaskSpec.Kind.completion.rawValue), .objective: .text(Objective.command.rawValue), .rounds: .integer(12),
                .samplesPerRound: .integer(128), .batchSize: .integer(8), .samplesPerBatch: .integer(32), .evaluateEvery: .integer(6),
            ]
        }
    }
}
