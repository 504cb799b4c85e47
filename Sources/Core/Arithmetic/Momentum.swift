/// Nesterov's momentum with a rising fraction: μ_t = min(t/(t+3), cap) in the t-th round since the run began or last went back. The rise is that of
/// Su, Boyd & Candès 2014, "A differential equation for modeling Nesterov's accelerated gradient method". docs/reference/arithmetic.md defines the
/// step.
public struct Momentum: Hashable, Sendable {
    /// μ is an integer in units of 2^−16.
    static let fractionBits = 16

    /// The largest μ, 0…2^16.
    let cap: Int64

    /// - Parameter cap: the run spec's `momentum`, above 0 to 1. It is rounded down to a multiple of 2^−16.
    public init(cap: Double) {
        // A power of two only moves the exponent, so this is exact.
        self.cap = cap > 0 ? Int64(min(cap, 1) * Double(1 << Self.fractionBits)) : 0
    }

    /// Returns t of a round that follows another one in force.
    ///
    /// Numbers of void rounds are not used again, so a gap between two numbers says that the run went back. The velocity was then built from steps
    /// that were too large, or from a rate that was only on trial. So it starts again from 0, which t = 0 means. (Otherwise a run whose guard has
    /// halved the rate to nothing would coast on in the same way each time it went back, and it might go back for ever.)
    ///
    /// - Parameters:
    ///   - t: t of the round before.
    ///   - before: the round before; nil if there is none.
    ///   - round: the round whose t is returned.
    static func count(_ t: Int, of before: RoundRecord?, to round: RoundRecord) -> Int {
        if let before, before.round &+ 1 == round.round { t + 1 } else { 0 }
    }

    /// Returns μ_t in units of 2^−16. It is 0 for t = 0.
    func fraction(at t: Int) -> Int64 {
        t > 0 ? min(Int64(t) << Int64(Self.fractionBits) / Int64(t + 3), cap) : 0
    }

    /// Returns μ·v, rounded to nearest, halves upwards.
    static func product(_ fraction: Int64, _ v: Int32) -> Int64 {
        (fraction * Int64(v) + 1 << (Int64(fractionBits) - 1)) >> Int64(fractionBits)
    }
}
