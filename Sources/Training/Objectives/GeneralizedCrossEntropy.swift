import Glibc
import LanguageModel

/// The loss L_q = (1 − p^q) / q, where p is the probability of the right class. It lies between cross-entropy (q → 0) and the expected
/// number of errors (q = 1). It flattens the steep part of cross-entropy, so that badly misclassified examples, which are often
/// mislabelled, count less (Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS
/// 2018, equation 6).
package struct GeneralizedCrossEntropy: Hashable, Sendable {
    /// q, 0…1; 0 means cross-entropy itself.
    package let q: Double

    package init(q: Double) { self.q = q }

    /// Returns L_q.
    ///
    /// - Parameter crossEntropy: −log p.
    package func loss(_ crossEntropy: Double) -> Double { q == 0 ? crossEntropy : -expm1(-q * crossEntropy) / q }

    /// Returns the loss of a choice between scores, and its derivative with respect to each score.
    func choice(_ scores: [Double], _ correct: Int) -> (loss: Double, weights: [Double]) {
        let total = scores.withUnsafeBufferPointer { ForwardPass.logSumExp($0) }
        let own = total - scores[correct]
        let slope = slope(own)
        return (loss(own), scores.indices.map { slope * (exp(scores[$0] - total) - ($0 == correct ? 1 : 0)) })
    }

    /// Returns ∂loss/∂crossEntropy = p^q.
    package func slope(_ crossEntropy: Double) -> Double { q == 0 ? 1 : exp(-q * crossEntropy) }
}
