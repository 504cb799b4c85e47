import Glibc
import LanguageModel

/// L_q = (1 − p^q) / q, p being the probability of the right class: between cross-entropy (q → 0) and the expected number of errors
/// (q = 1). The steep part of cross-entropy, where an example is far from right and often mislabelled, is taken off (Zhang & Sabuncu,
/// "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018, equation 6).
package struct GeneralizedCrossEntropy: Hashable, Sendable {
    /// 0…1; 0: cross-entropy itself.
    package let q: Double

    package init(q: Double) { self.q = q }

    /// - Parameter crossEntropy: −log p.
    package func loss(_ crossEntropy: Double) -> Double { q == 0 ? crossEntropy : -expm1(-q * crossEntropy) / q }

    /// The loss of a choice between scores, and its derivative with respect to each.
    func choice(_ scores: [Double], _ correct: Int) -> (loss: Double, weights: [Double]) {
        let total = scores.withUnsafeBufferPointer { ForwardPass.logSumExp($0) }
        let own = total - scores[correct]
        let slope = slope(own)
        return (loss(own), scores.indices.map { slope * (exp(scores[$0] - total) - ($0 == correct ? 1 : 0)) })
    }

    /// ∂loss/∂crossEntropy = p^q.
    package func slope(_ crossEntropy: Double) -> Double { q == 0 ? 1 : exp(-q * crossEntropy) }
}
