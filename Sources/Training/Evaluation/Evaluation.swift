import Core
import Glibc
import LanguageModel

/// The results of a model on a set of held-out examples.
public struct Evaluation: Sendable {
    /// The result of one example.
    public struct Item: Sendable {
        /// Loss of the example.
        public let loss: Double
        /// For a choice between classes: a score per class (its log-probability up to a constant), and the right class.
        public let scores: [Double]
        public let correct: Int?

        /// Whether the right class, or every token of the completion, is the likeliest.
        public let isRight: Bool
        /// Number of tokens that the loss is a mean over; 0 if it is not a mean token loss.
        public let tokens: Int

        package init(loss: Double, scores: [Double], correct: Int?, isRight: Bool = false, tokens: Int = 0) {
            self.isRight = isRight
            self.tokens = tokens
            self.loss = loss
            self.scores = scores
            self.correct = correct
        }

        /// The class with the highest score, or the first of several; nil if a score is not a number.
        public var predicted: Int? {
            guard !scores.isEmpty, !scores.contains(where: \.isNaN) else { return nil }
            return scores.indices.reduce(0) { scores[$1] > scores[$0] ? $1 : $0 }
        }
    }

    /// A confidence interval with its two ends.
    public struct Interval: Hashable, Sendable, Codable {
        public let lower: Double
        public let upper: Double
    }

    /// Results in the order of the examples.
    public let items: [Item]
    /// Mean of the examples' losses, in which a long example counts as much as a short one. If the run has an objective: 1 − its score over
    /// all examples.
    public let meanLoss: Double
    /// Part of the examples that is classified right; nil if the objective has no classes.
    public let accuracy: Double?
    /// 95 % Wilson score interval of the accuracy.
    public let accuracyInterval: Interval?
    /// The accuracy after the best constants were added to the class scores, never below `accuracy`. A gain beyond this number is more than
    /// the removal of a bias between label words. The constants are chosen on these same examples.
    public let accuracyAtBestThreshold: Double?
    /// Whether each example with classes is right at that threshold; empty if there is no such threshold.
    public let isRightAtBestThreshold: [Bool]
    /// Area under the ROC curve for two classes; nil if one of them is missing.
    public let areaUnderCurve: Double?
    /// Perplexity per token, exp(Σ −log p / tokens) over all tokens of all examples, if the loss is a mean token loss. Unlike in
    /// `meanLoss`, a long example counts for more than a short one.
    public let perplexity: Double?
    /// Number of tokens that the perplexity is over; 0 if there is none.
    public let tokenCount: Int
    /// Mean of an external program's scores with its 95 % interval (by the normal distribution); nil for other objectives. A single score
    /// has no interval.
    public let score: Double?
    public let scoreInterval: Interval?

    /// Creates the results of texts that an external program has scored; the loss is −score.
    package init(scores: [Double]) {
        items = scores.map { Item(loss: -$0, scores: [], correct: nil) }
        let count = Double(scores.count)
        let mean = scores.reduce(0, +) / count
        let variance = scores.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / max(count - 1, 1)
        let half = 1.96 * (variance / count).squareRoot()
        (meanLoss, score, scoreInterval) = (-mean, mean, scores.count > 1 ? Interval(lower: mean - half, upper: mean + half) : nil)
        tokenCount = 0
        (accuracy, accuracyInterval, accuracyAtBestThreshold, areaUnderCurve, perplexity) = (nil, nil, nil, nil, nil)
        isRightAtBestThreshold = []
    }

    package init(items: [Item], tokenLosses: Bool, objective: Objective? = nil) {
        self.items = items
        (score, scoreInterval) = (nil, nil)
        let count = Double(items.count)
        let mean = items.reduce(0) { $0 + $1.loss } / count
        meanLoss =
            if let objective, mean.isFinite {
                objective.loss(of: items.map { Outcome(predicted: $0.predicted, correct: $0.correct, isRight: $0.isRight) })
            } else {
                mean
            }
        let tokens = tokenLosses ? items.reduce(0) { $0 + $1.tokens } : 0
        tokenCount = tokens
        perplexity = tokens > 0 ? exp(items.reduce(0) { $0 + $1.loss * Double($1.tokens) } / Double(tokens)) : nil
        let judged = items.filter { $0.correct != nil && !$0.scores.isEmpty }
        guard !judged.isEmpty else {
            accuracy = nil
            accuracyInterval = nil
            accuracyAtBestThreshold = nil
            isRightAtBestThreshold = []
            areaUnderCurve = nil
            return
        }
        let right = judged.count { $0.predicted == $0.correct }
        accuracy = Double(right) / Double(judged.count)
        accuracyInterval = Self.wilson(successes: right, of: judged.count)
        let classes = judged.map(\.scores.count).max() ?? 0
        let uniform = judged.allSatisfy { $0.scores.count == classes }
        if judged.contains(where: { $0.scores.contains(where: \.isNaN) }) {
            // There is no threshold between scores that are not numbers.
            accuracyAtBestThreshold = nil
            isRightAtBestThreshold = []
            areaUnderCurve = nil
        } else if uniform, classes == 2 {
            isRightAtBestThreshold = Self.rightAtBestThreshold(judged)
            accuracyAtBestThreshold = max(Self.part(isRightAtBestThreshold), accuracy ?? 0)
            areaUnderCurve = Self.areaUnderCurve(judged)
        } else {
            isRightAtBestThreshold = uniform ? Self.rightAtBestBiases(judged, classes: classes) : judged.map { $0.predicted == $0.correct }
            accuracyAtBestThreshold = uniform ? Self.part(isRightAtBestThreshold) : accuracy
            areaUnderCurve = nil
        }
    }

    /// Returns Wilson's score interval at 95 % (Wilson, 1927).
    package static func wilson(successes: Int, of count: Int) -> Interval {
        let z = 1.959963984540054
        let n = Double(count)
        let p = Double(successes) / n
        let centre = p + z * z / (2 * n)
        let spread = z * (p * (1 - p) / n + z * z / (4 * n * n)).squareRoot()
        let scale = 1 + z * z / n
        return Interval(lower: max(0, (centre - spread) / scale), upper: min(1, (centre + spread) / scale))
    }

    /// Returns which examples are right at the best threshold of the score differences, for two classes.
    private static func rightAtBestThreshold(_ items: [Item]) -> [Bool] {
        let sorted = items.map { (difference: $0.scores[1] - $0.scores[0], positive: $0.correct == 1) }
            .filter { !$0.difference.isNaN }
            .sorted { $0.difference < $1.difference }
        // Everything above the threshold counts as class 1. It begins below all items.
        var right = sorted.count { $0.positive }
        var best = right
        var cut = -Double.infinity
        for (i, item) in sorted.enumerated() {
            right += item.positive ? -1 : 1
            if right > best, i + 1 == sorted.count || sorted[i + 1].difference > item.difference { (best, cut) = (right, item.difference) }
        }
        return items.map { item in
            let difference = item.scores[1] - item.scores[0]
            return difference.isNaN ? false : (difference > cut || cut == -.infinity) == (item.correct == 1)
        }
    }

    private static func part(_ flags: [Bool]) -> Double { Double(flags.count { $0 }) / Double(max(flags.count, 1)) }

    /// Returns which examples are right with the best constants for several classes, found by coordinate ascent. It begins at the plain accuracy and
    /// never falls below it.
    private static func rightAtBestBiases(_ items: [Item], classes: Int) -> [Bool] {
        var biases = Array(repeating: 0.0, count: classes)
        func isRight(_ item: Item) -> Bool {
            (0..<classes).reduce(0) { item.scores[$1] + biases[$1] > item.scores[$0] + biases[$0] ? $1 : $0 } == item.correct
        }
        var best = items.count(where: isRight)
        let sweepsMax = 10
        for _ in 0..<sweepsMax {
            let before = best
            for c in 0..<classes {
                // Class c wins an item once its constant exceeds the lead of the others. The count changes only there.
                var events: [(lead: Double, change: Int)] = []
                var right = 0
                for item in items {
                    var rival = -1
                    for other in 0..<classes where other != c {
                        if rival < 0 || item.scores[other] + biases[other] > item.scores[rival] + biases[rival] { rival = other }
                    }
                    let lead = item.scores[rival] + biases[rival] - item.scores[c]
                    guard lead.isFinite else { continue }
                    if item.correct == rival {
                        right += 1
                        events.append((lead, -1))
                    } else if item.correct == c {
                        events.append((lead, 1))
                    }
                }
                events.sort { $0.lead < $1.lead }
                for (i, event) in events.enumerated() {
                    right += event.change
                    let next = i + 1 < events.count ? events[i + 1].lead : event.lead + 1
                    if right > best, next > event.lead {
                        biases[c] = (event.lead + next) / 2
                        best = right
                    }
                }
            }
            if best == before { break }
        }
        return items.map(isRight)
    }

    /// Returns the Mann–Whitney statistic: the probability that a positive scores above a negative, with ties as one half.
    private static func areaUnderCurve(_ items: [Item]) -> Double? {
        let sorted = items.map { (difference: $0.scores[1] - $0.scores[0], positive: $0.correct == 1) }
            .filter { !$0.difference.isNaN }
            .sorted { $0.difference < $1.difference }
        let positives = sorted.count { $0.positive }
        let negatives = sorted.count - positives
        guard positives > 0, negatives > 0 else { return nil }
        var wins = 0.0
        var below = 0
        var i = 0
        while i < sorted.count {
            var j = i
            var tiedPositives = 0
            while j < sorted.count, sorted[j].difference == sorted[i].difference {
                if sorted[j].positive { tiedPositives += 1 }
                j += 1
            }
            let tiedNegatives = j - i - tiedPositives
            wins += Double(tiedPositives) * (Double(below) + Double(tiedNegatives) / 2)
            below += tiedNegatives
            i = j
        }
        return wins / (Double(positives) * Double(negatives))
    }
}

/// Measures a model on examples: by their losses (`Evaluator`), or by a program's score (`ScoreEvaluator`).
public protocol HeldOutEvaluator: AnyObject {
    func evaluate() throws -> Evaluation
}

/// Measures a model by its losses on a set of examples.
public final class Evaluator: HeldOutEvaluator {
    public let model: TrainableModel
    public let cache: PrefixCache
    private let threads: Int
    private let objective: Objective?
    private let crossEntropy: GeneralizedCrossEntropy
    private let pool: PassPool

    /// - Parameters:
    ///   - objective: the run's objective, if it has one.
    ///   - generalizedCrossEntropy: q of the losses. 0 means cross-entropy, by which runs are compared.
    public init(model: TrainableModel, cache: PrefixCache, threads: Int = 1, objective: Objective? = nil, generalizedCrossEntropy: Double = 0) {
        self.objective = objective
        self.model = model
        self.cache = cache
        self.threads = max(threads, 1)
        crossEntropy = GeneralizedCrossEntropy(q: generalizedCrossEntropy)
        pool = PassPool(model)
    }

    /// Measures the model at its present parameters. Examples that the cache lacks are computed first.
    public func evaluate() throws -> Evaluation {
        if !cache.isFilled { try cache.fill() }
        let set = cache.set
        var items = [Evaluation.Item?](repeating: nil, count: set.count)
        try items.withUnsafeMutableBufferPointer { items in
            nonisolated(unsafe) let out = items
            let crossEntropy = crossEntropy
            try pool.forEachLoss(of: Array(0..<set.count), in: cache, threads: threads) { example, loss, scores, outcome in
                out[example] = Evaluation.Item(
                    loss: crossEntropy.loss(loss), scores: Array(scores), correct: outcome.correct, isRight: outcome.isRight,
                    tokens: set.hasTokenLosses ? set.examples[example].sequences.reduce(0) { $0 + $1.targets.count } : 0)
            }
        }
        return Evaluation(items: items.compactMap { $0 }, tokenLosses: set.hasTokenLosses, objective: objective)
    }
}
