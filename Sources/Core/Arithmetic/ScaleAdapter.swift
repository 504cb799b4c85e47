#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Chooses the rounds' scale exponent S so that the mean |q| stays near a target.
///
/// It follows a slow mean of |g|. The exponent moves by one when that mean is clearly outside the target's octave. The band is wider than the step,
/// so that a stationary stream never swings to and fro. The exponent moves by more while hardly any bytes have been seen, and at once if a few bytes
/// show that it is far off. The ledger records each round's S, so this choice is no part of the parameters' arithmetic.
public struct ScaleAdapter: Hashable, Codable, Sendable {
    /// With ε = 1e-3 and an unshaped direction |g| is 10–35, so the exponent 0 is near the usual target.
    public static let initialExponent: Int8 = 0
    /// Number of bytes after which the slow mean forgets.
    static let memoryBytes = 2048.0
    /// Least number of bytes between two changes by one.
    static let bytesBetweenChanges = 1024
    /// Until this many bytes have been seen, fewer bytes are enough for a change, and a change may be by more than one.
    static let startUpBytes = 512
    /// Least number of bytes that any change is based on.
    static let bytesToChange = 16
    /// Ratio of the mean |q| to the target within which the exponent stays: an octave and a margin at both ends.
    static let band = 0.85 * 0.5.squareRoot()...1.2 * 2.0.squareRoot()
    /// Above this mean |q| most bytes are clipped, and the mean tells too little.
    static let clippedMean = 100.0

    /// The targets that can be held. The band's upper end must lie below `clippedMean`; otherwise the exponent would leave the band by a jump and
    /// swing to and fro. 100/(1.2·√2) = 58.9.
    public static let targets = 1...Int(clippedMean / band.upperBound)

    /// The mean |q| to hold.
    public let target: Int
    /// S of the next round.
    public private(set) var exponent: Int8
    /// The slow mean of |q|·2^S over the bytes seen.
    private var meanMagnitude = 0.0
    private var bytesSeen = 0
    private var bytesSinceChange = 0
    /// Number and Σ|q| of the last bytes that were made with the present exponent.
    private var recentBytes = 0
    private var recentSum = 0.0

    /// - Parameters:
    ///   - target: the mean |q| to hold; it is limited to `targets`.
    ///   - exponent: S of the first round.
    public init(target: Int, exponent: Int8 = ScaleAdapter.initialExponent) {
        self.target = min(max(target, Self.targets.lowerBound), Self.targets.upperBound)
        self.exponent = exponent
    }

    /// Takes the bytes of a committed round into account.
    public mutating func observe(_ round: RoundRecord) {
        let magnitude = round.magnitude
        observe(sum: magnitude.sum, count: magnitude.count, scaleExponent: round.scaleExponent)
    }

    /// Takes bytes into account that were made with `scaleExponent`. It may be the exponent of an earlier round.
    public mutating func observe(_ bytes: some Sequence<Int8>, scaleExponent: Int8) {
        var sum = 0
        var count = 0
        for q in bytes where q != Contribution.noValue {
            sum += abs(Int(q))
            count += 1
        }
        observe(sum: Double(sum), count: count, scaleExponent: scaleExponent)
    }

    private mutating func observe(sum: Double, count: Int, scaleExponent: Int8) {
        guard count > 0 else { return }
        let isStartingUp = bytesSeen <= Self.startUpBytes
        remember(sum: sum, count: count, scaleExponent: scaleExponent)
        if let jump = jumpWhereFarOff() {
            change(by: jump)
            // Earlier bytes tell little about the present ones.
            bytesSeen = 0
            return
        }
        guard bytesSinceChange >= (isStartingUp ? Self.bytesToChange : Self.bytesBetweenChanges) else { return }
        let ratio = meanMagnitude * exp2(-Double(exponent)) / Double(target)
        guard ratio > 0, !Self.band.contains(ratio) else { return }
        change(by: isStartingUp ? Int(log2(ratio).rounded()) : ratio > 1 ? 1 : -1)
    }

    private mutating func remember(sum: Double, count: Int, scaleExponent: Int8) {
        bytesSeen += count
        bytesSinceChange += count
        // Begins as a plain mean and turns into one that forgets.
        let weight = max(Double(count) / Double(bytesSeen), 1 - exp(-Double(count) / Self.memoryBytes))
        let magnitude = sum / Double(count) * exp2(Double(scaleExponent))
        meanMagnitude += (magnitude - meanMagnitude) * weight

        guard scaleExponent == exponent else { return }
        if recentBytes >= 2 * Self.bytesToChange {
            recentBytes /= 2
            recentSum /= 2
        }
        recentBytes += count
        recentSum += sum
    }

    /// Returns the number of octaves to jump if the last bytes' mean is several octaves from the target.
    private func jumpWhereFarOff() -> Int? {
        guard recentBytes >= Self.bytesToChange else { return nil }
        let ratio = recentSum / Double(recentBytes) / Double(target)
        if ratio * Double(target) > Self.clippedMean { return max(2, Int(log2(ratio).rounded())) }
        if recentSum == 0 { return -5 }
        return ratio < 1.0 / 6 ? Int(log2(ratio).rounded()) : nil
    }

    private mutating func change(by difference: Int) {
        exponent = Int8(clamping: Int(exponent) + difference)
        bytesSinceChange = 0
        recentBytes = 0
        recentSum = 0
    }
}
