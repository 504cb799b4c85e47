/// Chooses `count` places, each as often in the mean as its score is a part of all scores, by one random number (systematic resampling,
/// Kitagawa 1996), and says what to multiply each one's loss by, so that the mean over the chosen is in the mean that over all
/// (Katharopoulos & Fleuret, "Not All Samples Are Created Equal: Deep Learning with Importance Sampling", ICML 2018).
///
/// - Parameters:
///   - scores: one for each place, not negative. One that is below a thousandth of the mean counts as that much, for every place must be
///     possible; where a score is not finite, or all are 0, all count the same.
///   - point: 0..<1.
package func importanceSample(_ count: Int, by scores: some Collection<Double>, point: Double) -> [(place: Int, weight: Double)] {
    let mean = scores.reduce(0, +) / Double(max(scores.count, 1))
    let isUsable = mean.isFinite && mean > 0
    let usable = scores.map { isUsable ? max($0, mean / 1000) : 1 }
    let total = usable.reduce(0, +)
    var chosen: [(place: Int, weight: Double)] = []
    chosen.reserveCapacity(count)
    var sum = 0.0
    for (place, score) in usable.enumerated() {
        sum += score
        let isLast = place == usable.count - 1
        while chosen.count < count, isLast || (Double(chosen.count) + point) / Double(count) * total < sum {
            chosen.append((place, total / (Double(usable.count) * score)))
        }
    }
    return chosen
}
