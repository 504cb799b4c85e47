import Glibc

/// A rotary position embedding (Su et al., arXiv 2104.09864): which elements of a head are rotated together, and how fast.
package struct Rotation: Hashable, Sendable {
    /// How frequencies differ from θ^(−2i/width).
    package enum Scaling: Hashable, Sendable {
        case none
        /// Divides all frequencies by a factor.
        case linear(factor: Double)
        /// Divides low frequencies by a factor and keeps high ones (Llama 3.1).
        case llama3(factor: Double, lowFactor: Double, highFactor: Double, length: Double)
        /// As `llama3`, with a linear ramp between two frequencies (YaRN: Peng et al., arXiv 2309.00071).
        case yarn(factor: Double, fast: Double, slow: Double, length: Double, truncates: Bool)
        /// Divides each frequency by a factor of its own: LongRoPE (Ding et al., arXiv 2402.13753), and the `rope_freqs` of GGUF files.
        case factors([Double])
    }

    /// How longer texts are rotated: all of their positions, not only the later ones.
    package struct LongTexts: Hashable, Sendable {
        /// Divisors of the frequencies.
        package var factors: [Double]
        /// Number of tokens up to which a text is rotated as usual.
        package var length: Int

        package init(factors: [Double], length: Int) {
            self.factors = factors
            self.length = length
        }
    }

    package var theta: Double
    /// Number of elements of each head that are rotated; the others stay.
    package var width: Int
    /// Whether the two elements of a pair are neighbours instead of half of the width apart.
    package var isInterleaved = false
    package var scaling = Scaling.none
    /// Multiplier of cosines and sines.
    package var amplitude = 1.0
    /// Nil if the length of a text makes no difference.
    package var longTexts: LongTexts?

    /// Radians from one position to the next, for each pair.
    package var frequencies: [Double] { frequencies(scaling) }

    /// The same for long texts.
    package var longFrequencies: [Double] { frequencies(longTexts.map { .factors($0.factors) } ?? scaling) }

    private func frequencies(_ scaling: Scaling) -> [Double] {
        let plain = (0..<width / 2).map { pow(theta, -2 * Double($0) / Double(width)) }
        switch scaling {
        case .none: return plain
        case .linear(let factor): return plain.map { $0 / factor }
        case .factors(let factors): return zip(plain, factors).map { $0 / $1 }
        case .llama3(let factor, let lowFactor, let highFactor, let length):
            return plain.map { frequency in
                let turns = length * frequency / (2 * .pi)
                if turns < lowFactor { return frequency / factor }
                if turns > highFactor { return frequency }
                let smooth = (turns - lowFactor) / (highFactor - lowFactor)
                return (1 - smooth) * frequency / factor + smooth * frequency
            }
        case .yarn(let factor, let fast, let slow, let length, let truncates):
            // The pair that makes this many turns over the original length.
            func pair(_ turns: Double) -> Double { Double(width) * log(length / (turns * 2 * .pi)) / (2 * log(theta)) }
            let low = max(truncates ? pair(fast).rounded(.down) : pair(fast), 0)
            var high = min(truncates ? pair(slow).rounded(.up) : pair(slow), Double(width - 1))
            if low == high { high += 0.001 }
            return plain.enumerated().map { i, frequency in
                let ramp = min(max((Double(i) - low) / (high - low), 0), 1)
                return frequency / factor * ramp + frequency * (1 - ramp)
            }
        }
    }
}
