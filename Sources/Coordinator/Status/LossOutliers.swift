import Glibc

/// Finds workers whose training loss is out of line with the others', such as workers with wrong labels.
///
/// All workers have the same parameters, so their losses differ by their data and by chance alone. Let m be the median of the smoothed losses
/// of the workers that train, and s the largest of 1.4826·MAD (the median absolute deviation, which estimates a standard deviation), a tenth
/// of |m|, the standard error of the worker's own loss, and 0.02. A worker is *far* if its loss is more than 6·s above m, or 3·s where the
/// distance has grown by s since its first report. A far worker need not be wrong. Its share may hold harder examples, or more of a label
/// that the base model does not expect; then its loss falls with the others' as the model learns. The loss of wrong labels rises. So a worker
/// is out of line if, eight or more rounds after its first report, it is far and its loss has not fallen by more than chance and a quarter of
/// the others' fall, at two reports in a row. It is in line again below 2·s.
///
/// Median and MAD tolerate just under half of the workers being wrong (Rousseeuw and Croux, *Alternatives to the Median Absolute Deviation*, 1993).
/// With two workers, nobody can tell which one is wrong.
public enum LossOutliers {
    public static let workersNeeded = 3
    /// Ratio of a normal distribution's standard deviation to its MAD.
    static let madToDeviation = 1.4826
    static let far = 3.0
    static let farWithoutGrowth = 6.0
    static let near = 2.0
    /// Smallest s, as a part of |m| and in itself.
    static let smallestPart = 0.1
    static let smallest = 0.02
    /// Smallest fall of an honest worker's loss, as a part of the others' fall.
    static let honestPart = 0.25
    /// Rounds between a worker's first report and a judgement.
    static let roundsNeeded = 8
    static let wordsInARow = 2

    /// A worker's smoothed loss, and the scatter of its reports.
    public struct Track: Sendable {
        /// Weight of a new report, once there are a few.
        static let weight = 0.4
        /// Number of reports that a smoothed loss is worth.
        static let effectiveWords = 4.0

        /// Mean of the first reports, later smoothed.
        public private(set) var loss: Double
        public private(set) var words = 1
        private let first: Double
        private var last: Double
        /// m at the first judgement, and the round then.
        var firstMiddle: Double?
        /// Mean square of the difference between two reports in a row.
        private var squares = 0.0
        var firstRound = 0
        var strikes = 0
        public internal(set) var isOutOfLine = false

        init(_ loss: Double) {
            self.loss = loss
            first = loss
            last = loss
        }

        mutating func take(_ new: Double) {
            words += 1
            let weight = max(1 / Double(words), Self.weight)
            let square = (new - last) * (new - last)
            squares += max(1 / Double(words - 1), Self.weight) * (square - squares)
            loss += weight * (new - loss)
            last = new
        }

        /// Fall of the loss since the first report.
        var fall: Double { first - last }

        /// Standard deviation of a report: half the mean square of successive differences is its variance (von Neumann).
        var deviation: Double { (squares / 2).squareRoot() }
        /// Standard error of the smoothed loss.
        var standardError: Double { deviation / min(Double(words), Self.effectiveWords).squareRoot() }
    }

    /// The workers' common figures: m and 1.4826·MAD. Nil for too few workers.
    struct Field: Sendable {
        let middle: Double
        let deviation: Double

        /// - Parameter losses: smoothed losses of all workers that train and have reported recently.
        init?(_ losses: [Double]) {
            guard losses.count >= workersNeeded, let middle = median(losses) else { return nil }
            self.middle = middle
            deviation = madToDeviation * (median(losses.map { abs($0 - middle) }) ?? 0)
        }
    }

    /// Judges one worker that has just reported.
    ///
    /// - Parameters:
    ///   - track: the worker's own track, which is judged.
    ///   - round: number of rounds committed so far.
    static func judge(_ track: inout Track, in field: Field?, round: Int) {
        guard let field else {
            (track.strikes, track.isOutOfLine) = (0, false)
            return
        }
        guard let firstMiddle = track.firstMiddle else {
            (track.firstMiddle, track.firstRound) = (field.middle, round)
            return
        }
        let scale = max(field.deviation, smallestPart * abs(field.middle), track.standardError, smallest)
        let excess = track.loss - field.middle
        let othersFall = firstMiddle - field.middle
        let hasGrown = othersFall - track.fall > scale
        let isFar = excess > (hasGrown ? far : farWithoutGrowth) * scale
        if isFar, track.fall <= honestPart * max(0, othersFall) + track.deviation, round >= track.firstRound + roundsNeeded {
            track.strikes += 1
        } else if excess < near * scale || !track.isOutOfLine {
            track.strikes = 0
        }
        track.isOutOfLine = track.strikes >= wordsInARow
    }

    public static func median(_ values: [Double]) -> Double? {
        guard !values.isEmpty else { return nil }
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}

/// Finds workers that compute far more slowly than the others, because every round waits for them. Their rate is below half of the median, and more
/// than 3·1.4826·MAD below it on a logarithmic scale.
public struct RateOutliers: Sendable {
    private let field: LossOutliers.Field?

    /// - Parameter rates: samples per second of all workers that train.
    public init(_ rates: [Double]) { field = .init(rates.filter { $0 > 0 }.map(log2)) }

    public func isSlow(_ rate: Double) -> Bool {
        guard let field, rate > 0 else { return false }
        return field.middle - log2(rate) > max(1, LossOutliers.far * field.deviation)
    }
}
