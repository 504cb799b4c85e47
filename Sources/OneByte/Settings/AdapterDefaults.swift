import Core
import Foundation

/// Defaults of runs that train adapters, used where no setting is given. Formulas and tables: docs/research/learning.md, "Adapters".
enum AdapterDefaults {
    /// Number of bytes from which a run can learn more inputs and takes smaller steps.
    private static let longRunBytes = 65_536

    /// Returns r = 2√bytes, rounded to a power of two within 16…256, or up to 512 in a long run.
    static func inputs(bytes: Int) -> Int {
        let exponent = (log2(2 * Double(max(bytes, 1)).squareRoot())).rounded()
        return Int(exp2(min(max(exponent, 4), bytes >= longRunBytes ? 9 : 8)))
    }

    /// Returns the learning rate 2fK(1 − μ)·min(1, n/N).
    ///
    /// The largest stable step for a curvature L is 2/L; the curvature of a softmax over K labels in whitened coordinates is 1/K. Momentum
    /// μ multiplies a step by 1/(1 − μ). n samples of a block of N carry n/N of the gradient. f is 1.5, or 1 for texts and long runs. Bytes
    /// that are s rounds late take steps that are s + 1 times smaller. Without public text, random tokens take its place; they vary less
    /// than text does, so that V is too large, and a fifteenth of the rate was best.
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

    /// Whether only adapters are trained.
    var trainsOnlyAdapters: Bool { ((try? texts(.train)) ?? []).allSatisfy { $0.hasPrefix(RunSpec.adapterPrefix) } }

    /// Whether adapters sit on matrices of layers, not only at `final`.
    var adaptsLayers: Bool {
        ((try? texts(.train)) ?? []).contains { $0.hasPrefix(RunSpec.adapterPrefix) && $0 != RunSpec.adapterPrefix + AdapterPlace.finalName }
    }

    /// Whether the task has labels. Its kind may not be known yet, but only a classification has label words.
    var isClassification: Bool { has(.labels) }

    /// Whether the objective scores the model's texts, or a given text as a whole.
    var objectiveNeedsTexts: Bool {
        [Objective.command, .exactMatch].map(\.rawValue).contains(optionalText(.objective) ?? "")
    }

    /// Number of bytes of all contributions, one per sample.
    var plannedBytes: Int {
        let (bytes, overflow) = ((try? integer(.rounds)) ?? 0).multipliedReportingOverflow(by: (try? integer(.samplesPerRound)) ?? 0)
        return overflow ? .max : bytes
    }
}
