import LanguageModel

/// Whether examples were among those from which a mean was made: the likelihood-ratio test of an attacker who knows the mean up to noise, and other
/// examples of the same kind.
///
/// With μ and Σ the mean and covariance of an example's vector v, an observation of the mean of n vectors is about normal with mean μ and covariance
/// A = Σ/n + noise. If example x is among them, the mean is μ + d, d = (v(x) − μ)/n. The logarithm of the ratio of the two densities at y is
/// dᵀA⁻¹(y − μ) − ½·dᵀA⁻¹d. No test of the same size finds more members (Neyman & Pearson), as far as the normal distribution holds.
package struct MembershipTest {
    private let mean: [Double]
    private let factor: CholeskyFactor
    private let residual: [Double]
    private let count: Double

    /// - Parameters:
    ///   - observed: the mean with noise, D numbers.
    ///   - noise: variance of the noise of each of them.
    ///   - reference: vectors of examples that are not among the n; row-major with D numbers each.
    ///   - count: n.
    /// - Throws: `TrainingError` if the covariance can't be inverted, as without any noise.
    package init(observed: [Double], noise: [Double], reference: [Float], count: Int) throws {
        let width = observed.count
        let moment = SecondMoment(width: width)
        reference.withUnsafeBufferPointer { rows in
            guard let start = rows.baseAddress else { return }
            moment.add(start, stride: width, rows: rows.count / width)
        }
        var mean = [Double](repeating: 0, count: width)
        let rows = max(reference.count / width, 1)
        for row in 0..<reference.count / width { for i in 0..<width { mean[i] += Double(reference[row * width + i]) / Double(rows) } }
        let covariance = moment.covariance()
        for i in 0..<width {
            for j in i..<width { covariance[i, j] /= Double(count) }
            covariance[i, i] += noise[i]
        }
        factor = try CholeskyFactor(covariance, what: "the covariance of the bytes")
        residual = factor.solveLower(zip(observed, mean).map { $0 - $1 })
        self.mean = mean
        self.count = Double(count)
    }

    /// Returns the logarithm of the likelihood ratio: above 0, the example looks like a member.
    package func score(_ vector: some Collection<Float>) -> Double {
        let change = factor.solveLower(zip(vector, mean).map { (Double($0) - $1) / count })
        return zip(change, residual).reduce(0) { $0 + $1.0 * $1.1 - $1.0 * $1.0 / 2 }
    }
}

/// The same test by the attacker whom differential privacy is about: he knows all of the machine's other examples, and the noise alone is left.
///
/// Without the others' vectors, an observation is v(x)/n + noise if x is a member, and noise if nothing is in its place. The logarithm of the ratio of
/// the two densities at r is Σ (v_i·r_i/n − v_i²/2n²)/variance_i. In a private run the area under the curve can be at most Φ(√ρ), but for rounding.
package struct InformedMembershipTest {
    /// The observation without all members' vectors.
    private let residual: [Double]
    private let noise: [Double]
    private let count: Double

    /// - Parameters:
    ///   - observed: the mean with noise, D numbers.
    ///   - noise: variance of the noise of each of them, above 0.
    ///   - members: the vectors of all members that say anything, D numbers each.
    ///   - count: n, the number by which their sum was divided.
    package init(observed: [Double], noise: [Double], members: some Collection<[Float]>, count: Int) {
        var rest = observed
        for vector in members { for i in rest.indices { rest[i] -= Double(vector[i]) / Double(count) } }
        residual = rest
        self.noise = noise
        self.count = Double(count)
    }

    /// Returns the logarithm of the likelihood ratio for one example.
    ///
    /// - Parameter isMember: whether it is one. The attacker does not know it: he sees the observation without the others', which a member is still in.
    package func score(_ vector: [Float], isMember: Bool) -> Double {
        vector.indices.reduce(0) { sum, i in
            let part = Double(vector[i]) / count
            let seen = residual[i] + (isMember ? part : 0)
            return sum + part * (seen - part / 2) / noise[i]
        }
    }
}

/// How well scores tell members from others.
package struct MembershipResult: Codable, Hashable, Sendable {
    package var members: Int
    package var others: Int
    /// Probability that a member's score is above that of another example; ½ by chance.
    package var auc: Double
    /// Standard error of the area if the scores meant nothing.
    package var aucErrorByChance: Double
    /// The largest difference between the part of members and the part of others above a threshold. By chance it is a little above 0.
    package var advantage: Double
    /// Part of the members above the threshold that one in a hundred others exceeds.
    package var foundAtOnePercent: Double

    private enum CodingKeys: String, CodingKey {
        case members, others, auc, advantage
        case aucErrorByChance = "auc_error_by_chance"
        case foundAtOnePercent = "found_at_one_percent"
    }

    /// - Parameters:
    ///   - members: scores of the members. A score that is not a number tells nothing and counts as 0.
    ///   - others: scores of the others, in the same way.
    package init(members: [Double], others: [Double]) {
        (self.members, self.others) = (members.count, others.count)
        let (m, n) = (Double(max(members.count, 1)), Double(max(others.count, 1)))
        aucErrorByChance = ((m + n + 1) / (12 * m * n)).squareRoot()
        let all = (members.map { ($0.isNaN ? 0 : $0, true) } + others.map { ($0.isNaN ? 0 : $0, false) }).sorted { $0.0 > $1.0 }
        var (found, wrong) = (0.0, 0.0)
        (auc, advantage, foundAtOnePercent) = (0, 0, 0)
        var start = 0
        while start < all.count {
            // Equal scores are passed together.
            var end = start
            var (more, moreWrong) = (0.0, 0.0)
            while end < all.count, all[end].0 == all[start].0 {
                if all[end].1 { more += 1 } else { moreWrong += 1 }
                end += 1
            }
            auc += moreWrong * (found + more / 2)
            (found, wrong) = (found + more, wrong + moreWrong)
            advantage = max(advantage, found / m - wrong / n)
            if wrong <= n / 100 { foundAtOnePercent = found / m }
            start = end
        }
        auc /= m * n
    }
}
