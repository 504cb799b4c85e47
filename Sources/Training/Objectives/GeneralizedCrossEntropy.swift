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

    /// Returns ∂loss/∂crossEntropy = p^q.
    package func slope(_ crossEntropy: Double) -> Double { q == 0 ? 1 : exp(-q * crossEntropy) }
}
