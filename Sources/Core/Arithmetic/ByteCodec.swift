/// The code of a projected gradient g in one byte: q = clamp(round(g·2^−S), −127, 127), ties to even. −128 says 'no value'.
public enum ByteCodec {
    /// The largest |q|.
    public static let largest = 127

    /// Returns the byte of g at scale exponent S, or `Contribution.noValue` if g is not finite.
    public static func encode(_ g: Double, scaleExponent: Int8) -> Int8 {
        guard g.isFinite else { return Contribution.noValue }
        // A power of two only moves the exponent. So this is exact, except where the result is far below ½ or far above 127.
        let scaled = g * Double(sign: .plus, exponent: -Int(scaleExponent), significand: 1)
        return Int8(min(max(scaled.rounded(.toNearestOrEven), -127), 127))
    }

    public static func encode(_ g: Float, scaleExponent: Int8) -> Int8 {
        encode(Double(g), scaleExponent: scaleExponent)
    }

    /// Returns the projected gradient q·2^S, or nil for 'no value'.
    public static func decode(_ q: Int8, scaleExponent: Int8) -> Double? {
        guard q != Contribution.noValue else { return nil }
        return Double(q) * Double(sign: .plus, exponent: Int(scaleExponent), significand: 1)
    }
}
