import Core
import Foundation
import LanguageModel
import Testing
import Training

struct DiscreteGaussianTests {
    @Test("Draws have the frequencies of exp(−x²/2σ²)", arguments: [1, 2, 5] as [UInt64])
    func frequencies(_ sigma: UInt64) {
        var random = SplitMix64(state: 11 + sigma)
        let noise = DiscreteGaussian(sigma: Double(sigma))
        let count = 40_000
        var seen: [Int64: Int] = [:]
        for _ in 0..<count { seen[noise.draw(using: &random), default: 0] += 1 }
        let weights = (-40...40).map { exp(-Double($0 * $0) / (2 * Double(sigma * sigma))) }
        let whole = weights.reduce(0, +)
        // χ² over all values that are expected at least 20 times.
        var (chiSquared, cells) = (0.0, 0)
        for (x, weight) in zip(Int64(-40)...40, weights) {
            let expected = weight / whole * Double(count)
            guard expected >= 20 else { continue }
            chiSquared += pow(Double(seen[x] ?? 0) - expected, 2) / expected
            cells += 1
        }
        #expect(cells > 5)
        #expect(chiSquared < Double(cells) + 5 * (2 * Double(cells)).squareRoot(), "\(chiSquared) of \(cells)")
    }

    @Test("At the sizes in use, draws have σ's deviation and all low bits", arguments: [1 << 18, 3_000_000, 1 << 28] as [UInt64])
    func moments(_ sigma: UInt64) {
        var random = SplitMix64(state: sigma)
        let noise = DiscreteGaussian(sigma: Double(sigma))
        let count = 4000
        let draws = (0..<count).map { _ in noise.draw(using: &random) }
        let mean = draws.reduce(0.0) { $0 + Double($1) } / Double(count) / Double(sigma)
        let square = draws.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(count) / Double(sigma) / Double(sigma)
        let fourth = draws.reduce(0.0) { $0 + pow(Double($1) / Double(sigma), 4) } / Double(count)
        #expect(abs(mean) < 0.08 && abs(square - 1) < 0.12 && abs(fourth - 3) < 1, "\(mean) \(square) \(fourth)")
        let odd = draws.count { $0 & 1 == 1 }
        #expect(abs(odd - count / 2) < 160, "\(odd)")
    }

    @Test("Bernoulli(exp(−γ)) has its probability")
    func bernoulli() {
        var random = SplitMix64(state: 3)
        for (numerator, denominator) in [(0, 1), (1, 3), (1, 1), (5, 2)] as [(UInt128, UInt128)] {
            let count = 20_000
            let hits = (0..<count).count { _ in DiscreteGaussian.bernoulli(expMinus: numerator, over: denominator, using: &random) }
            let expected = exp(-Double(numerator) / Double(denominator))
            #expect(abs(Double(hits) / Double(count) - expected) < 0.018)
        }
        // A distance so large that it never happens ends at once.
        #expect(!DiscreteGaussian.bernoulli(expMinus: .max, over: 1, using: &random))
    }

    @Test("σ is rounded up and stays within its limits, which no run's noise reaches")
    func limits() {
        #expect(DiscreteGaussian(sigma: 4.001).sigma == 5 && DiscreteGaussian(sigma: 7).sigma == 7)
        #expect(DiscreteGaussian(sigma: -1).sigma == 1 && DiscreteGaussian(sigma: 0.3).sigma == 1)
        for huge in [1e30, .infinity, Double(DiscreteGaussian.sigmaMax) + 1] {
            #expect(DiscreteGaussian(sigma: huge).sigma == DiscreteGaussian.sigmaMax)
        }
        // Noise that were moved to the limit would be less than what was paid for.
        #expect(RunSpecLimits.noiseMultiplier.upperBound * Double(ClippedSum.unit) < Double(DiscreteGaussian.sigmaMax))
    }
}
