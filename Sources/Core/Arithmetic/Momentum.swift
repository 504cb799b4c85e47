/// Nesterov's momentum with a rising fraction: μ_t = min(t/(t+3), cap) in the t-th round since the run began or last went back (the rise: Su,
/// Boyd & Candès 2014, "A differential equation for modeling Nesterov's accelerated gradient method"). docs/reference/arithmetic.md says what a step does
/// with it.
public struct Momentum: Hashable, Sendable {
    /// μ is an integer in units of 2^−16.
    static let fractionBits = 16

    /// The largest μ, 0…2^16.
    let cap: Int64

    /// - Parameter cap: as in the run spec, above 0 to 1; it is rounded down to a multiple of 2^−16.
    public init(cap: Double) {
        // Exact: a power of two only moves the exponent.
        self.cap = cap > 0 ? Int64(min(cap, 1) * Double(1 << Self.fractionBits)) : 0
    }

    /// t of the round that follows another one in force.
    ///
    /// Numbers of void rounds are not used again, so a gap says that the run went back. The velocity is then of steps that were too large, or of
    /// a rate that was only tried: it begins anew, as t = 0 means. (Without that a run whose rate the guard has halved to nothing would coast on
    /// from where it went back to, the same way every time, and might go back for ever.)
    ///
    /// - Parameters:
    ///   - t: that of the round before.
    ///   - before: nil before the first.
    static func count(_ t: Int, of before: RoundRecord?, to round: RoundRecord) -> Int {
        if let before, before.round &+ 1 == round.round { t + 1 } else { 0 }
    }

    /// μ_t; 0 before the first round.
    func fraction(at t: Int) -> Int64 {
        t > 0 ? min(Int64(t) << Int64(Self.fractionBits) / Int64(t + 3), cap) : 0
    }

    /// μ·v, rounded to nearest, halves upwards.
    static func product(_ fraction: Int64, _ v: Int32) -> Int64 {
        (fraction * Int64(v) + 1 << (Int64(fractionBits) - 1)) >> Int64(fractionBits)
    }
}
