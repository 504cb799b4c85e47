import Glibc

/// Σ v_i over examples, each v_i clipped once as a vector, on a grid of integers. No rounding of a floating-point sum can make one example count for
/// more than `unit`.
package struct ClippedSum {
    /// The largest length of one example's vector, in steps of the grid.
    package static let unit: Int64 = 1 << 18

    /// The length at which a vector is clipped, in the units of the vectors.
    package let clip: Double
    /// Σ v_i in steps of clip/`unit`.
    package private(set) var sum: [Int64]

    /// - Parameters:
    ///   - clip: above 0.
    ///   - count: number of elements of each vector.
    package init(clip: Double, count: Int) {
        self.clip = clip
        sum = Array(repeating: 0, count: count)
    }

    /// Adds one example's vector. Its length afterwards is at most `unit`, in integers. A vector with an element that is not finite counts as zero.
    ///
    /// - Parameter times: how often the batch holds the example; the multiple is clipped as one vector.
    package mutating func add(_ vector: [Double], times: Int = 1) {
        let clipped = Self.clipped(vector.map { $0 * Double(times) }, at: clip)
        for (i, value) in clipped.enumerated() { sum[i] += value }
    }

    /// Returns the vector in steps of the grid, with a length of at most `unit`.
    package static func clipped(_ vector: [Double], at clip: Double) -> [Int64] {
        let largest = vector.reduce(0) { max($0, abs($1)) }
        guard largest > 0, vector.allSatisfy(\.isFinite) else { return Array(repeating: 0, count: vector.count) }
        // Squares of large elements would overflow.
        let relative = vector.map { $0 / largest }
        let length = relative.reduce(0) { $0 + $1 * $1 }.squareRoot()
        var factor = Double(unit) * min(largest / clip, 1 / length)
        let nearest = relative.map { Int64(($0 * factor).rounded()) }
        if fits(nearest) { return nearest }
        // Towards zero, a vector becomes no longer, but for the last bit of `factor`.
        while true {
            let shorter = relative.map { Int64(($0 * factor).rounded(.towardZero)) }
            if fits(shorter) { return shorter }
            factor *= 1 - 0x1p-40
        }
    }

    private static func fits(_ vector: [Int64]) -> Bool { vector.reduce(Int64(0)) { $0 + $1 * $1 } <= unit * unit }

    /// Returns (Σ v_i + noise)/`divisor`, in the units of the vectors.
    ///
    /// - Parameter noiseMultiplier: σ as a multiple of `clip`. The noise is a discrete Gaussian on the grid, rounded up to a whole step.
    package func released(noiseMultiplier: Double, divisor: Int, using generator: inout some RandomNumberGenerator) -> [Double] {
        let noise = DiscreteGaussian(sigma: noiseMultiplier * Double(Self.unit))
        let step = clip / Double(Self.unit) / Double(divisor)
        return sum.map { Double($0 + noise.draw(using: &generator)) * step }
    }
}
