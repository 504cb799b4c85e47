import Core
import LanguageModel
import Training

extension Settings {
    /// Derives settings from the model and the data, unless they are given. Files that can't be read are skipped, because later steps report them.
    ///
    /// - Throws: `SettingsError` for a setting that is wrong.
    mutating func deriveFromModelAndData() throws {
        guard let model = optionalText(.model), let source = try? ModelSource.open(model, log: { _ in }) else { return }
        if !isGiven(.train), objectiveNeedsTexts {
            derive(
                .train, .texts(["layers.\(source.configuration.layerCount - 1)"]), from: "the last layer, since the objective is a score of texts")
        }
        // A length that follows from private examples would tell of them.
        guard try !isGiven(.maxLength) && !isPrivate, let path = optionalText(.trainFile), let task = try? resolveTask() else { return }
        var whole = task
        whole.maxLength = source.configuration.contextLength
        guard let records = try? DataFile.read(path), let encoder = try? TaskEncoder(task: whole, model: source) else { return }
        let some = stride(from: 0, to: records.count, by: records.count / Self.recordsToMeasure + 1).map { records[$0] }
        guard let data = try? encoder.encode(some) else { return }
        let written = task.writing?.maxTokens ?? 0
        let lengths = data.examples.map { ($0.sequences.map(\.tokens.count).max() ?? 0) + written }
        let length = min(MaximumLength.forLengths(lengths), source.configuration.contextLength, RunSpecLimits.maxLength.upperBound)
        guard length > MaximumLength.usual else { return }
        let measured = some.count < records.count ? " (of which \(grouped(some.count)) were measured)" : ""
        let needed = LengthSummary(lengths).percentile(95)
        let examples = "examples in \(path)\(measured)"
        let reason =
            if needed > length {
                // Longer ones were cut at the context when they were measured.
                needed == source.configuration.contextLength
                    ? "the most without asking for more; more than 5 of 100 \(examples) fill the model's context of \(grouped(needed)) tokens"
                    : "the most without asking for more; 95 of 100 \(examples) have up to \(grouped(needed)) tokens"
            } else if length == source.configuration.contextLength {
                "the model's context, which more than 5 of 100 \(examples) fill"
            } else {
                "95 of 100 \(examples) are no longer"
            }
        derive(.maxLength, .integer(length), from: reason)
    }

    /// Largest number of examples whose lengths are measured.
    private static let recordsToMeasure = 2000
}

/// The default of the maximum length, in tokens.
package enum MaximumLength {
    /// The usual maximum. It costs nothing for short examples, and is long enough for a few that are longer than most.
    package static let usual = 128
    /// The largest default. Beyond it, hidden states take more memory than most machines have.
    private static let most = 1024

    /// Returns the length that 95 of 100 examples need, but at least the usual one.
    package static func forLengths(_ lengths: [Int]) -> Int {
        min(max(usual, LengthSummary(lengths).percentile(95)), most)
    }
}
