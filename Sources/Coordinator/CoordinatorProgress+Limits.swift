import Core
import Transport

extension CoordinatorProgress {
    /// Whether every number is one that a coordinator could have written. A file of events may have been altered, and its reader continues counting
    /// from these numbers.
    var isPlausible: Bool {
        guard time.isFinite, abs(time) < Self.latestTime else { return false }
        switch event {
        case .listening(let listening): return RunSpecLimits.rounds.contains(listening.rounds) && listening.samples < Self.most
        case .round(let round):
            return (0...ProtocolLimits.samplesPerRound).contains(round.samples) && (0...round.samples).contains(round.noValue)
                && (0...round.noValue).contains(round.leftOut ?? 0)
                && (0...Int(Int32.max)).contains(round.effectiveRounds) && round.samplesSoFar < Self.most && round.traffic.isPlausible(Self.most)
                && round.seconds.isFinite && (0..<Self.latestTime).contains(round.seconds)
        case .worker(let worker): return Self.areParts([worker.progress]) && worker.bytes ?? 0 < Self.most
        case .evaluation(let heldOut):
            return Self.areParts([heldOut.accuracy, heldOut.bestThresholdAccuracy, heldOut.auc, heldOut.validation?.accuracy])
        case .hold(let held): return held.count.map { (held.workers.count...Int(Int32.max)).contains($0) } ?? true
        case .finished(let finished): return finished.traffic.isPlausible(Self.most)
        case .reading, .greeted, .refused, .joined, .left, .waiting, .late, .trial, .digests, .connection, .warning: return true
        }
    }

    /// Seconds since 1970. This is in the year 5138.
    private static let latestTime = 1e11
    /// Largest number of bytes or samples of one process. A sum of some thousand of these stays within 64 bits.
    private static let most: UInt64 = 1 << 50

    private static func areParts(_ values: [Double?]) -> Bool { values.allSatisfy { $0.map { (0...1).contains($0) } ?? true } }
}

extension Traffic {
    fileprivate func isPlausible(_ most: UInt64) -> Bool {
        [sent.rounds, sent.control, received.rounds, received.control].allSatisfy { $0.bytes < most && $0.messages < most }
    }
}
