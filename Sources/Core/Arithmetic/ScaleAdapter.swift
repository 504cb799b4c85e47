#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Chooses the rounds' scale exponent S so that the mean |q| stays near a target.
///
/// It follows a slow mean of |g|. The exponent moves by one when that mean is clearly outside the target's octave (the band
/// is wider than the step, so a stationary stream never swings to and fro), by more where it has hardly seen a byte yet, and
/// at once where a few bytes show that it is far off. The ledger records each round's S, so nothing here decides the
/// parameters.
public struct ScaleAdapter: Hashable, Codable, Sendable {
    /// With ε = 1e-3 and an unshaped direction |g| is 10–35, which is near the usual target as it stands.
    public static let initialExponent: Int8 = 0
    /// Bytes over which the slow mean forgets.
    static let memoryBytes = 2048.0
    /// Bytes between two changes by one.
    static let bytesBetweenChanges = 1024
    /// Until this many have been seen, fewer bytes do for a change, and a change may be by more than one.
    static let startUpBytes = 512
    /// The fewest bytes that any change is based on.
    static let bytesToChange = 16
    /// Mean |q| to the target at which the exponent moves: an octave around it and a margin at both ends.
    static let band = 0.85 * 0.5.squareRoot()...1.2 * 2.0.squareRoot()
    /// Above this mean |q| most bytes are clipped, and the mean says too little.
    static let clippedMean = 100.0

    /// The targets that it can hold: the band's upper end must lie below `clippedMean`, or it would leave by a jump and swing to
    /// and fro. 100/(1.2·√2) = 58.9.
    public static let targets = 1...Int(clippedMean / band.upperBound)

    /// The mean |q| to keep.
    public let target: Int
    /// S of the next round.
    public private(set) var exponent: Int8
    /// The slow mean of |q|·2^S over the bytes seen.
    private var meanMagnitude = 0.0
    private var bytesSeen = 0
    private var bytesSinceChange = 0
    /// The last bytes made with the present exponent: number and Σ|q|.
    private var recentBytes = 0
    private var recentSum = 0.0

    public init(target: Int, exponent: Int8 = ScaleAdapter.initialExponent) {
        self.target = min(max(target, Self.targets.lowerBound), Self.targets.upperBound)
        self.exponent = exponent
    }

    /// Takes a committed round into account.
    public mutating func observe(_ round: RoundRecord) {
        let magnitude = round.magnitude
        observe(sum: magnitude.sum, count: magnitude.count, scaleExponent: round.scaleExponent)
    }

    /// Takes bytes into account that were made with `scaleExponent`, which may be that of an earlier round.
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
            // What came before says little about now.
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
        // A plain mean at first, which turns into one that forgets.
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

    /// By how much to jump where the last bytes' mean is several octaves from the target.
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
