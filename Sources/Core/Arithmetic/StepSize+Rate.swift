extension StepSize {
    /// Returns the step size nearest to `rate` = lr_t·2^S/n, with a multiplier in 2^15…2^16 − 1. The relative error is at most 2^−16.
    ///
    /// It is `.zero` if the rate is not above 0 or is too small for the exponent, and the largest step size if the rate is too large.
    public static func nearest(rate: Double) -> StepSize {
        guard rate > 0, !rate.isNaN else { return .zero }
        let largest = StepSize(multiplier: .max, exponent: .max)
        guard rate.isFinite else { return largest }
        var exponent = Int(rate.exponent) - 15
        var multiplier = (rate * Double(sign: .plus, exponent: -exponent, significand: 1)).rounded(.toNearestOrEven)
        if multiplier == 65536 {
            multiplier = 32768
            exponent += 1
        }
        guard exponent >= Int(Int8.min) else { return .zero }
        guard exponent <= Int(Int8.max) else { return largest }
        return StepSize(multiplier: UInt16(multiplier), exponent: Int8(exponent))
    }

    /// M·2^E.
    public var value: Double { Double(multiplier) * Double(sign: .plus, exponent: Int(exponent), significand: 1) }
}
