/// How a direction z is made from random bits (docs/reference/arithmetic.md).
public enum PerturbationFamily: String, Codable, Hashable, Sendable, CaseIterable {
    /// zᵢⱼ = aᵢ·bⱼ with random signs; one GEMM serves many directions.
    case rank1
    /// Random signs over all elements: SPSA as Spall (1992) wrote it.
    case rademacher
    /// Values from an 8-bit table of the normal distribution: MeZO's distribution, to 5 fraction bits.
    case gaussian
}
