#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// The accountant: how much Gaussian mechanisms reveal together.
///
/// It counts in ρ of zero-concentrated differential privacy (Bun & Steinke 2016), which means Rényi differential privacy of order α with ρ·α for
/// every α > 1.
/// - Noise of σ times the sensitivity costs ρ = 1/2σ². This holds for the discrete Gaussian too, also in many dimensions (Canonne, Kamath & Steinke
///   2020, "The Discrete Gaussian for Differential Privacy", theorems 4 and 14).
/// - Losses add up, even if each mechanism is chosen from the results before it, and if a run stops where a limit would be passed (Feldman & Zrnic
///   2021, "Individual Privacy Accounting via a Rényi Filter", theorem 4.3).
/// - Nothing is gained by the choice of the batches: no amplification by subsampling is claimed.
public enum PrivacyLoss {
    /// Returns ρ of one Gaussian mechanism.
    public static func rho(noiseMultiplier: Double) -> Double { 1 / (2 * noiseMultiplier * noiseMultiplier) }

    /// Returns the least ε for which ρ implies (ε, δ): the infimum over α > 1 of ρα + ln((α − 1)/α) − (ln δ + ln α)/(α − 1) (Canonne, Kamath &
    /// Steinke 2020, proposition 12).
    ///
    /// - Parameter delta: above 0, below 1.
    public static func epsilon(rho: Double, delta: Double) -> Double {
        guard rho > 0 else { return 0 }
        guard rho.isFinite else { return .infinity }
        // The bound falls and then rises with α. A golden-section search over ln(α − 1) finds its lowest point; every α gives a valid bound.
        let ratio = (5.0.squareRoot() - 1) / 2
        var (low, high) = (-30.0, 30.0)
        var (left, right) = (high - ratio * (high - low), low + ratio * (high - low))
        var (atLeft, atRight) = (bound(left, rho, delta), bound(right, rho, delta))
        for _ in 0..<100 {
            if atLeft <= atRight {
                (high, right, atRight) = (right, left, atLeft)
                left = high - ratio * (high - low)
                atLeft = bound(left, rho, delta)
            } else {
                (low, left, atLeft) = (left, right, atRight)
                right = low + ratio * (high - low)
                atRight = bound(right, rho, delta)
            }
        }
        return max(0, min(atLeft, atRight))
    }

    /// - Parameter x: ln(α − 1).
    private static func bound(_ x: Double, _ rho: Double, _ delta: Double) -> Double {
        let excess = exp(x)
        let order = 1 + excess
        return rho * order - log1p(1 / excess) - (log(delta) + log1p(excess)) / excess
    }

    /// Returns the largest ρ that implies (ε, δ), to twelve digits.
    public static func rho(epsilon: Double, delta: Double) -> Double {
        var (low, high) = (0.0, epsilon + 1)
        for _ in 0..<200 where high - low > 1e-12 * high {
            let middle = (low + high) / 2
            if Self.epsilon(rho: middle, delta: delta) <= epsilon { low = middle } else { high = middle }
        }
        return low
    }

    /// Returns the least noise multiplier, rounded up to four digits, with which so many releases stay within (ε, δ).
    ///
    /// - Parameter releases: at least 1. Plans may have more of them than an `Int` can count.
    public static func noiseMultiplier(epsilon: Double, delta: Double, releases: Double) -> Double {
        let exact = (releases / (2 * rho(epsilon: epsilon, delta: delta))).squareRoot()
        guard exact.isFinite else { return .infinity }
        let digits = pow(10, 3 - floor(log10(exact)))
        return (exact * digits).rounded(.up) / digits
    }
}
