import Core
import Foundation

/// What a run of adapters takes where no setting says otherwise. The formulas and their tables: docs/research/learning.md, "Adapters".
enum AdapterDefaults {
    /// From so many bytes on a run can learn more inputs, and takes smaller steps.
    private static let longRunBytes = 65_536

    /// r = 2√bytes, to the nearest power of two within 16…256, or 512 of a long run.
    static func inputs(bytes: Int) -> Int {
        let exponent = (log2(2 * Double(max(bytes, 1)).squareRoot())).rounded()
        return Int(exp2(min(max(exponent, 4), bytes >= longRunBytes ? 9 : 8)))
    }

    /// 2fK(1 − μ)·min(1, n/N): 2/L is the largest stable step for a curvature L, which of a softmax over K labels is 1/K in coordinates that
    /// are whitened; momentum multiplies a step by 1/(1 − μ); and n samples of a block of N say n/N of the gradient. f = 1.5, or 1 for
    /// texts and long runs. Bytes that are s rounds late take a step that is s + 1 times smaller. Without public text the random tokens in its
    /// place vary less than text does, so that V is too large; a fifteenth of the rate was best there.
    static func learningRate(_ settings: Settings) -> Double {
        let labels = settings.isClassification ? max(settings.table(.labels)?.count ?? 2, 2) : 1
        let outputs = settings.isClassification ? labels - 1 : (try? settings.integer(.adapterOutputs)) ?? 1
        let coordinates = outputs * ((try? settings.integer(.adapterInputs)) ?? 1)
        var block = 1
        while block < coordinates { block *= 2 }
        let momentum = (try? settings.number(.momentum)) ?? 0
        let usual = settings.isClassification && settings.plannedBytes < longRunBytes ? 1.5 : 1
        let factor = settings.publicText != .none ? usual : usual / 15
        let samples = Double((try? settings.integer(.samplesPerRound)) ?? 1)
        var late = 0.0
        if case .integer(let rounds)? = settings.given(.staleness) { late = Double(rounds) }
        return 2 * factor * Double(labels) * max(1 - momentum, 0.05) * min(1, samples / Double(block)) / (late + 1)
    }
}

extension Settings {
    static let sinceOnlyAdapters = "since only adapters are trained"

    /// Whether all that is trained are adapters.
    var trainsOnlyAdapters: Bool { ((try? texts(.train)) ?? []).allSatisfy { $0.hasPrefix(RunSpec.adapterPrefix) } }

    /// Whether adapters sit on matrices of layers, and not at `final` alone.
    var adaptsLayers: Bool {
        ((try? texts(.train)) ?? []).contains { $0.hasPrefix(RunSpec.adapterPrefix) && $0 != RunSpec.adapterPrefix + AdapterPlace.finalName }
    }

    /// Whether the task has labels. Its kind may still have to be found out, but only a classification has label words.
    var isClassification: Bool { has(.labels) }

    /// Whether the objective is a score of what the model writes, or of a text as a whole.
    var objectiveNeedsTexts: Bool {
        [Objective.command, .exactMatch].map(\.rawValue).contains(optionalText(.objective) ?? "")
    }

    /// The bytes of all contributions, one a sample.
    var plannedBytes: Int {
        let (bytes, overflow) = ((try? integer(.rounds)) ?? 0).multipliedReportingOverflow(by: (try? integer(.samplesPerRound)) ?? 0)
        return overflow ? .max : bytes
    }
}
