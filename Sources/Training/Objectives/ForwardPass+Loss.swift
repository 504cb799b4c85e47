import Glibc
import LanguageModel

/// Losses of a batch that went through the model's layers.
extension ForwardPass {
    /// Computes loss and class scores of each instance of the batch. The final norm's input must be in `x`.
    ///
    /// - Parameter report: called once per instance, in order, with the loss (not finite if the arithmetic failed); for a choice between
    ///   classes the scores (log-probabilities up to a constant), valid during the call only; and the outcome.
    func losses(
        of instances: [Instance], in set: ExampleSet,
        report: (_ instance: Int, _ loss: Double, _ scores: UnsafeBufferPointer<Double>, _ outcome: Outcome) -> Void
    ) {
        finalNorm()
        if set.needsFullVocabulary {
            let targets = targetTokens.reserve(segmentReads)
            for instance in instances {
                for (i, index) in set.ranges[instance.example].enumerated() {
                    let own = set.targets(of: set.sequences[index])
                    let row = segments[instance.firstSegment + i].readRow
                    for (j, token) in own.enumerated() { targets[row + j] = token }
                }
            }
            logProbabilities(of: targets)
        }
        for (i, instance) in instances.enumerated() {
            let example = set.examples[instance.example]
            switch example.objective {
            case .candidates(let tokens, let correct):
                let scores = classScores.reserve(tokens.count)
                logits(of: segments[instance.firstSegment], tokens: tokens, into: scores)
                let buffer = UnsafeBufferPointer(start: scores, count: tokens.count)
                report(i, Self.logSumExp(buffer) - buffer[correct], buffer, Self.choice(of: buffer, correct: correct))
            case .options(let correct):
                let scores = classScores.reserve(example.sequences.count)
                for c in example.sequences.indices {
                    scores[c] = rows(of: segments[instance.firstSegment + c], .reads).reduce(0.0) { $0 + logProbability.pointer[$1] }
                }
                let buffer = UnsafeBufferPointer(start: scores, count: example.sequences.count)
                report(i, Self.logSumExp(buffer) - buffer[correct], buffer, Self.choice(of: buffer, correct: correct))
            case .tokens:
                var sum = 0.0
                var count = 0
                var isRight = true
                for c in example.sequences.indices {
                    for row in rows(of: segments[instance.firstSegment + c], .reads) {
                        sum -= logProbability.pointer[row]
                        isRight = isRight && isLikeliest.pointer[row]
                        count += 1
                    }
                }
                report(
                    i, sum / Double(count), UnsafeBufferPointer(start: nil, count: 0),
                    Outcome(predicted: nil, correct: nil, isRight: isRight))
            case .text:  // no `ExampleSet` holds one
                report(i, .nan, UnsafeBufferPointer(start: nil, count: 0), Outcome(predicted: nil, correct: nil, isRight: false))
            }
        }
    }

    /// Returns the class with the highest score, or the first of several; no class if a score is not a number.
    static func choice(of scores: UnsafeBufferPointer<Double>, correct: Int) -> Outcome {
        guard !scores.contains(where: \.isNaN) else { return Outcome(predicted: nil, correct: correct, isRight: false) }
        let predicted = scores.indices.reduce(0) { scores[$1] > scores[$0] ? $1 : $0 }
        return Outcome(predicted: predicted, correct: correct, isRight: predicted == correct)
    }

    static func logSumExp(_ x: UnsafeBufferPointer<Double>) -> Double {
        var largest = -Double.infinity
        for value in x {
            if value.isNaN { return .nan }
            largest = max(largest, value)
        }
        return largest + log(x.reduce(0.0) { $0 + exp($1 - largest) })
    }
}
