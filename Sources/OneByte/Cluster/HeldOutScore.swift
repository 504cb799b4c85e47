import Coordinator
import Core
import LanguageModel
import Training

/// A model's scores on data that judge it, as events and reports hold them.
package struct HeldOutScore: Codable, Hashable, Sendable {
    /// The scored parameters are those before this round; nil for a model outside a run.
    package var round: Int?
    package var examples: Int
    /// Nil if the loss is not finite (JSON has no notation for that): the run has diverged.
    package var loss: Double?
    /// Perplexity per token, over all tokens of all examples. Nil if the loss is not a token loss, and in a run's own report.
    package var perplexity: Double?
    /// Number of tokens that the perplexity is over.
    package var tokens: Int?
    /// What `loss` is a mean of, in words; nil in a run's events.
    package var lossMeaning: String?
    /// Nil for tasks without labels, like the next three.
    package var accuracy: Double?
    /// 95 % interval, by Wilson's score.
    package var accuracyInterval: [Double]?
    /// Accuracy with the best constant between the labels, chosen on these same examples. A gain beyond it is more than the removal of a
    /// bias for one label word.
    package var accuracyBestThreshold: Double?
    package var auc: Double?
    /// Mean of an external program's scores, which is −loss; nil for other objectives.
    package var score: Double?
    /// 95 % interval by the normal distribution; nil if only the mean is known, as in a run's own report.
    package var scoreInterval: [Double]?
    /// Confusion matrix of a classification; nil in a run's own report.
    package var confusion: Confusion?
    /// Mean gain of the examples since the base, each compared with itself, and its 95 % interval by the normal distribution. The gain is in the
    /// part that is right at the best threshold; without labels, in minus the loss. Nil if the same process did not measure the base.
    package var gain: Double?
    package var gainInterval: [Double]?

    package init(_ heldOut: CoordinatorProgress.HeldOut, isScored: Bool = false) {
        round = Int(heldOut.round)
        examples = Int(heldOut.examples)
        loss = heldOut.loss.flatMap(\.finite)
        accuracy = heldOut.accuracy
        accuracyInterval =
            heldOut.examples == 0
            ? nil
            : accuracy.map { accuracy in
                let right = whole(accuracy * Double(heldOut.examples))
                let interval = Evaluation.wilson(successes: right, of: Int(heldOut.examples))
                return [interval.lower, interval.upper]
            }
        accuracyBestThreshold = heldOut.bestThresholdAccuracy
        auc = heldOut.auc
        score = isScored ? loss.map { -$0 } : nil
        if let gain = heldOut.gain, let error = heldOut.gainError {
            self.gain = gain
            gainInterval = [gain - 1.96 * error, gain + 1.96 * error]
        }
    }

    /// Takes an evaluator's own report.
    init(_ report: EvaluationReport) {
        self.init(CoordinatorProgress.HeldOut(machine: MachineID(0), name: "", report))
    }

    package init(_ evaluation: Evaluation, of task: TaskSpec, round: Int? = nil) {
        self.round = round
        lossMeaning = task.lossMeaning
        perplexity = evaluation.perplexity?.finite
        tokens = perplexity == nil ? nil : evaluation.tokenCount
        examples = evaluation.items.count
        loss = evaluation.meanLoss.finite
        accuracy = evaluation.accuracy
        accuracyInterval = evaluation.accuracyInterval.map { [$0.lower, $0.upper] }
        accuracyBestThreshold = evaluation.accuracyAtBestThreshold
        auc = evaluation.areaUnderCurve
        score = evaluation.score?.finite
        scoreInterval = score == nil ? nil : evaluation.scoreInterval.map { [$0.lower, $0.upper] }
    }

    enum CodingKeys: String, CodingKey {
        case round, examples, loss, perplexity, tokens
        case lossMeaning = "loss_is"
        case accuracy
        case accuracyInterval = "accuracy_interval"
        case accuracyBestThreshold = "accuracy_best_threshold"
        case auc, score
        case scoreInterval = "score_interval"
        case confusion, gain
        case gainInterval = "gain_interval"
    }

    /// A sentence that says whether anything was learnt; nil if unknown.
    package var learnt: String? {
        guard let gain, let interval = gainInterval, interval.count == 2 else { return nil }
        let isNoise = interval[0] <= 0 && interval[1] >= 0
        let verdict = isNoise ? "nothing beyond noise" : gain > 0 ? "yes" : "the opposite"
        func signed(_ value: Double, _ places: Int) -> String { (value < 0 ? "−" : "+") + fixed(abs(value), places) }
        guard accuracyBestThreshold != nil else {
            return
                "\(verdict): \(score == nil ? "minus the loss" : "the score") \(signed(gain, 4)) on average, 95 % interval \(signed(interval[0], 4)) to \(signed(interval[1], 4))"
        }
        let points = [gain, interval[0], interval[1]].map { signed($0 * 100, 1) }
        return "\(verdict): accuracy at the best threshold \(points[0]) points, 95 % interval \(points[1]) to \(points[2])"
    }

    private var lossText: String { loss.map { "loss \(fixed($0, 4))" } ?? "no finite loss" }

    /// The scores for a line with little room.
    package var brief: String {
        if let score { return "score \(fixed(score, 4))" }
        let accuracy = accuracy.map { "accuracy \(percent($0)), " } ?? ""
        return "\(accuracy)\(lossText)"
    }

    /// All scores as text.
    package var text: String {
        var parts: [String] = []
        if let accuracy, let interval = accuracyInterval, interval.count == 2 {
            parts.append("accuracy \(percent(accuracy)) (95 % interval: \(percent(interval[0])) … \(percent(interval[1])))")
        }
        if let best = accuracyBestThreshold { parts.append("\(percent(best)) at the threshold that is best for these examples") }
        if let score {
            let interval = scoreInterval.map { " (95 % interval: \(fixed($0[0], 4)) … \(fixed($0[1], 4)))" } ?? ""
            parts.append("mean score \(fixed(score, 4))\(interval)")
        } else {
            parts.append(lossText + (lossMeaning.map { " (\($0))" } ?? ""))
        }
        if let perplexity, let tokens { parts.append("perplexity per token \(fixed(perplexity, 2)) (\(grouped(tokens)) tokens)") }
        return parts.joined(separator: ", ") + ", \(grouped(examples)) examples"
    }
}

extension Double {
    fileprivate var finite: Double? { isFinite ? self : nil }
}

extension TaskSpec {
    /// The meaning of the loss that judges this task, for people, because two losses with the same name may be different means.
    package var lossMeaning: String {
        switch objective {
        case .accuracy: "1 − accuracy"
        case .f1: "1 − F1, the mean of all classes' F1"
        case .exactMatch: "1 − the part of examples whose every token is the likeliest"
        case .command: "minus the mean score"
        case nil where kind == .classification: "mean over examples of −log p of the right label"
        case nil: "mean over examples of each one's mean −log p of a token"
        }
    }
}
