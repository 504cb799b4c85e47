import Coordinator
import LanguageModel
import Training

/// What a model makes of held-out data, as events and reports hold it.
package struct HeldOutScore: Codable, Hashable, Sendable {
    /// Of the parameters before this round; absent for a model that no run made.
    package var round: Int?
    package var examples: Int
    /// Nil where it is not finite, which JSON has no spelling for: the run has diverged.
    package var loss: Double?
    /// Absent for tasks without labels, like the three that follow.
    package var accuracy: Double?
    /// 95 %, by Wilson's score.
    package var accuracyInterval: [Double]?
    /// With the best constant between the labels, chosen on these very examples: what is left of a gain over this is more than
    /// a bias for one label word going away.
    package var accuracyBestThreshold: Double?
    package var auc: Double?
    /// The mean of an outside program's scores, which is −loss; absent elsewhere.
    package var score: Double?
    /// 95 %, by the normal distribution; absent where only the mean is known, as in a run's own report.
    package var scoreInterval: [Double]?

    package init(_ heldOut: CoordinatorProgress.HeldOut, isScored: Bool = false) {
        round = Int(heldOut.round)
        examples = Int(heldOut.examples)
        loss = heldOut.loss.flatMap(\.finite)
        accuracy = heldOut.accuracy
        accuracyInterval = accuracy.map { accuracy in
            let right = Int((accuracy * Double(heldOut.examples)).rounded())
            let interval = Evaluation.wilson(successes: right, of: Int(heldOut.examples))
            return [interval.lower, interval.upper]
        }
        accuracyBestThreshold = heldOut.bestThresholdAccuracy
        auc = heldOut.auc
        score = isScored ? loss.map { -$0 } : nil
    }

    package init(_ evaluation: Evaluation, round: Int? = nil) {
        self.round = round
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
        case round, examples, loss, accuracy
        case accuracyInterval = "accuracy_interval"
        case accuracyBestThreshold = "accuracy_best_threshold"
        case auc, score
        case scoreInterval = "score_interval"
    }

    private var lossText: String { loss.map { "loss \(fixed($0, 4))" } ?? "no finite loss" }

    /// For a line that has little room.
    package var brief: String {
        if let score { return "score \(fixed(score, 4))" }
        let accuracy = accuracy.map { "accuracy \(percent($0)), " } ?? ""
        return "\(accuracy)\(lossText)"
    }

    /// All of it.
    package var text: String {
        var parts: [String] = []
        if let accuracy, let interval = accuracyInterval, interval.count == 2 {
            parts.append("accuracy \(percent(accuracy)) (\(percent(interval[0])) … \(percent(interval[1])))")
        }
        if let best = accuracyBestThreshold { parts.append("\(percent(best)) at the best threshold") }
        if let score {
            let interval = scoreInterval.map { " (\(fixed($0[0], 4)) … \(fixed($0[1], 4)))" } ?? ""
            parts.append("score \(fixed(score, 4))\(interval)")
        } else {
            parts.append(lossText)
        }
        return parts.joined(separator: ", ") + ", \(grouped(examples)) examples"
    }
}

extension Double {
    fileprivate var finite: Double? { isFinite ? self : nil }
}
