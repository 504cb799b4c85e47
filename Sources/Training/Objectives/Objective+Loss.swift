import Core
import LanguageModel

/// A model's outcome on an example, as scores without derivatives see it.
struct Outcome: Hashable, Sendable {
    /// The likeliest class and the right one; nil if there are no classes.
    let predicted: Int?
    let correct: Int?
    /// Whether the right class, or every token of the completion, is the likeliest.
    let isRight: Bool
}

extension Objective {
    /// Returns 1 − score of these examples; NaN if there are none.
    func loss(of outcomes: some Collection<Outcome>) -> Double {
        guard !outcomes.isEmpty else { return .nan }
        switch self {
        case .accuracy, .exactMatch: return 1 - Double(outcomes.count { $0.isRight }) / Double(outcomes.count)
        case .f1: return 1 - Self.macroF1(outcomes)
        // This score needs texts that the model writes: see `ScoreEstimator`.
        case .command: return .nan
        }
    }

    private static func macroF1(_ outcomes: some Collection<Outcome>) -> Double {
        var hits: [Int: Int] = [:]
        var predicted: [Int: Int] = [:]
        var correct: [Int: Int] = [:]
        for outcome in outcomes {
            guard let guess = outcome.predicted, let truth = outcome.correct else { continue }
            predicted[guess, default: 0] += 1
            correct[truth, default: 0] += 1
            if guess == truth { hits[guess, default: 0] += 1 }
        }
        let classes = Set(predicted.keys).union(correct.keys).sorted()
        guard !classes.isEmpty else { return 0 }
        let scores = classes.map { 2 * Double(hits[$0] ?? 0) / Double((predicted[$0] ?? 0) + (correct[$0] ?? 0)) }
        return scores.reduce(0, +) / Double(classes.count)
    }
}
