import Core

/// Reads more often the examples that gave large projected gradients, and weighs what they give by 1/(n·p), so that the mean stays that of
/// reading all n alike: its noise falls where few examples have most of the gradient (Zhao & Zhang, "Stochastic optimization with importance
/// sampling for regularized loss minimization", ICML 2015; Katharopoulos & Fleuret, "Not all samples are created equal", ICML 2018).
///
/// What is drawn follows from what this machine found before, so a sample that is computed again may read another example.
package struct ImportanceSampling {
    /// The part of the draws that follow the magnitudes; the others are uniform, so that no weight is above 1/(1 − share) and every
    /// example is looked at again.
    let share: Double
    private let exampleCount: Int
    /// A slow root mean square of an example's projected gradients; 0 where none was seen. A binary tree of sums: the children of node i
    /// are 2i and 2i + 1, the examples are its last level.
    private var sums: [Double]
    private var isSeen: [Bool]
    private let firstLeaf: Int

    /// - Parameter share: 0 ..< 1.
    package init(exampleCount: Int, share: Double) {
        self.share = share
        self.exampleCount = exampleCount
        var leaves = 1
        while leaves < exampleCount { leaves *= 2 }
        firstLeaf = leaves
        sums = Array(repeating: 0, count: 2 * leaves)
        isSeen = Array(repeating: false, count: exampleCount)
    }

    /// Of one draw.
    package func probability(of example: Int) -> Double {
        let uniform = 1 / Double(exampleCount)
        return sums[1] > 0 ? (1 - share) * uniform + share * sums[firstLeaf + example] / sums[1] : uniform
    }

    /// What the projected gradients of a draw of `example` count for.
    package func weight(of example: Int) -> Double { 1 / (Double(exampleCount) * probability(of: example)) }

    package func draw(using random: inout some RandomNumberGenerator) -> Int {
        guard sums[1] > 0, Double.random(in: 0..<1, using: &random) < share else { return Int.random(in: 0..<exampleCount, using: &random) }
        var rest = Double.random(in: 0..<sums[1], using: &random)
        var node = 1
        while node < firstLeaf {
            node *= 2
            // The sums are rounded, so what is left may be all of the left child where the right one has nothing.
            if rest >= sums[node], sums[node + 1] > 0 {
                rest -= sums[node]
                node += 1
            }
        }
        return min(node - firstLeaf, exampleCount - 1)
    }

    /// Takes into account what a draw of `example` gave, before it is weighed; few samples move its magnitude a little, many more.
    package mutating func observe(_ example: Int, _ gradients: some Sequence<Float>) {
        var sum = 0.0
        var count = 0.0
        for g in gradients where g.isFinite {
            sum += Double(g) * Double(g)
            count += 1
        }
        guard count > 0 else { return }
        let found = (sum / count).squareRoot()
        let leaf = firstLeaf + example
        sums[leaf] = isSeen[example] ? sums[leaf] + (found - sums[leaf]) * count / (count + 16) : found
        isSeen[example] = true
        var node = leaf / 2
        while node > 0 {
            sums[node] = sums[2 * node] + sums[2 * node + 1]
            node /= 2
        }
    }
}
