#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

extension RunSpec {
    /// Returns lr_t, the factor of the mean over the round's samples. It is a float, but that does no harm: only the step that the coordinator makes
    /// of it is recorded and decides the parameters.
    ///
    /// - Parameters:
    ///   - round: number of rounds in force before it.
    ///   - rateShift: the rate is multiplied by 2^rateShift.
    public func learningRate(round: RoundNumber, rateShift: Int = 0) -> Double {
        let t = Double(round)
        let shifted = learningRate * exp2(Double(rateShift))
        if t < Double(warmupRounds) { return shifted * (t + 1) / Double(warmupRounds) }
        let done = rounds > warmupRounds ? (t - Double(warmupRounds)) / Double(rounds - warmupRounds) : 0
        return switch schedule {
        case .constant: shifted
        case .linear: shifted * max(0, 1 - done)
        case .cosine: shifted * 0.5 * (1 + cos(.pi * min(1, done)))
        }
    }
}

extension RunSpec {
    /// Returns the step of a round: the (M, E) nearest to lr_t·2^S/n. It follows from what the ledger holds, so every reader of the ledger can check
    /// it.
    ///
    /// - Parameters:
    ///   - before: number of rounds in force before it.
    ///   - rateShift: the rate is multiplied by 2^rateShift.
    ///   - scaleExponent: S of the round.
    ///   - validBytes: n, the number of the round's bytes that have a value.
    public func step(roundsInForce before: Int, rateShift: Int, scaleExponent: Int8, validBytes: Int) -> StepSize {
        guard validBytes > 0 else { return .zero }
        let rate = learningRate(round: RoundNumber(clamping: before), rateShift: rateShift)
        return .nearest(rate: rate * Double(sign: .plus, exponent: Int(scaleExponent), significand: 1) / Double(validBytes))
    }
}

extension Contribution {
    /// Returns the same projected gradients in units of 2^`new` instead of 2^`old`, for bytes that come a round late.
    func requantised(from old: Int8, to new: Int8) -> Contribution {
        guard old != new else { return self }
        let scaled = bytes.map { q in
            ByteCodec.decode(q, scaleExponent: old).map { ByteCodec.encode($0, scaleExponent: new) } ?? Self.noValue
        }
        return Contribution(machine: machine, firstSample: firstSample, bytes: scaled)
    }
}
