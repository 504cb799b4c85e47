/// Draws from the discrete Gaussian N_ℤ(0, σ²): integer x with a probability proportional to exp(−x²/2σ²) (Canonne, Kamath & Steinke 2020, "The
/// Discrete Gaussian for Differential Privacy", algorithms 1 to 3).
///
/// Every step is exact integer arithmetic. So the low bits of the noise reveal nothing, as they may with floating-point noise (Mironov 2012, "On
/// Significance of the Least Significant Bits for Differential Privacy").
package struct DiscreteGaussian {
    /// Upper bound of σ. With it all products stay within 128 bits.
    package static let sigmaMax: UInt64 = 1 << 28
    /// A Laplace draw beyond this many scales would be accepted with a probability below e^−2000; it is drawn again.
    private static let scalesMax: UInt64 = 64

    package let sigma: UInt64

    /// - Parameter sigma: rounded up to a whole number. Values outside 1…`sigmaMax` are moved to the nearest. The largest noise multiplier of a run
    ///   stays below the limit (`DiscreteGaussianTests/limits`).
    package init(sigma: Double) { self.sigma = UInt64(max(1, min(sigma.rounded(.up), Double(Self.sigmaMax)))) }

    /// Returns one draw.
    package func draw(using generator: inout some RandomNumberGenerator) -> Int64 {
        let (scale, variance) = (sigma + 1, UInt128(sigma) * UInt128(sigma))
        while true {
            let magnitude = Self.laplaceMagnitude(scale: scale, using: &generator)
            let isNegative = Bool.random(using: &generator)
            // Otherwise 0 would be twice as likely.
            if isNegative, magnitude == 0 { continue }
            guard magnitude <= Self.scalesMax * scale else { continue }
            // exp(−(|x| − σ²/t)²/2σ²) as a fraction of integers.
            let reach = UInt128(magnitude) * UInt128(scale)
            let distance = reach > variance ? reach - variance : variance - reach
            let whole = 2 * variance * UInt128(scale) * UInt128(scale)
            guard Self.bernoulli(expMinus: distance * distance, over: whole, using: &generator) else { continue }
            return isNegative ? -Int64(magnitude) : Int64(magnitude)
        }
    }

    /// Returns x ≥ 0 with a probability proportional to exp(−x/scale).
    private static func laplaceMagnitude(scale: UInt64, using generator: inout some RandomNumberGenerator) -> UInt64 {
        while true {
            let rest = UInt64.random(in: 0..<scale, using: &generator)
            guard bernoulli(expMinus: UInt128(rest), over: UInt128(scale), using: &generator) else { continue }
            var wholes: UInt64 = 0
            while wholes <= scalesMax, bernoulli(expMinus: 1, over: 1, using: &generator) { wholes += 1 }
            return rest + scale * wholes
        }
    }

    /// Returns true with the probability exp(−numerator/denominator).
    package static func bernoulli(
        expMinus numerator: UInt128, over denominator: UInt128, using generator: inout some RandomNumberGenerator
    ) -> Bool {
        for _ in 0..<(numerator / denominator) {
            guard smallBernoulli(expMinus: 1, over: 1, using: &generator) else { return false }
        }
        return smallBernoulli(expMinus: numerator % denominator, over: denominator, using: &generator)
    }

    /// The same for a fraction of at most 1: draw with the probabilities γ/1, γ/2, γ/3, … until one fails.
    private static func smallBernoulli(
        expMinus numerator: UInt128, over denominator: UInt128, using generator: inout some RandomNumberGenerator
    ) -> Bool {
        var count: UInt128 = 1
        while UInt128.random(in: 0..<(denominator * count), using: &generator) < numerator { count += 1 }
        return count % 2 == 1
    }
}
