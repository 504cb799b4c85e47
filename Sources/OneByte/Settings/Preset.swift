import Core
import Training

/// A purpose of a run, with the best known settings for it (docs/guide/presets.md). Its values replace only defaults.
package enum Preset: String, CaseIterable, Sendable {
    /// Choosing one of a few labels for a text.
    case classify
    /// Writing texts like those of the data.
    case generate
    /// Writing texts to which a program gives high scores.
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
            // The settings of examples/friendlier.toml. Scores have steps, so ε is large and a sample reads several prompts.
            [
                .kind: .text(TaskSpec.Kind.completion.rawValue), .objective: .text(Objective.command.rawValue), .rounds: .integer(12),
                .samplesPerRound: .integer(128), .batchSize: .integer(8), .samplesPerBatch: .integer(32), .evaluateEvery: .integer(6),
            ]
        }
    }
}
