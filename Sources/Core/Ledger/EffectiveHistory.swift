/// The rounds that decide the parameters, after rewinds and retractions, and the changes that each further record makes. To fold a record and apply
/// its changes to the parameters gives exactly the result of a replay of `rounds` from the base (tests show it).
public struct EffectiveHistory: Sendable {
    private struct Slot: Sendable {
        /// The round without its retracted contributions.
        var record: RoundRecord
        /// The contributions that retractions took out.
        var retracted: [Contribution] = []
        var isVoid = false
    }
    /// The rounds by their numbers. Numbers begin at 0, have no gaps and are never used again.
    private var slots: [Slot] = []
    /// Number of rounds that decide the parameters.
    public private(set) var effectiveRounds = 0
    /// Whether no round follows.
    public private(set) var isFinal = false
    private var isEnded = false

    public init() {}

    /// The number of the next round.
    public var nextRound: RoundNumber { RoundNumber(slots.count) }

    /// The rounds that decide the parameters, in ascending order.
    public var rounds: [RoundRecord] { slots.lazy.filter { !$0.isVoid }.map(\.record) }

    /// Folds one record in. Returns the changes that it makes, in the order in which they must be applied.
    public mutating func fold(_ record: LedgerRecord) throws(HistoryError) -> [HistoryChange] {
        switch record {
        case .round(let round):
            guard round.round == nextRound else { throw .round(round.round, expected: nextRound) }
            slots.append(Slot(record: round))
            effectiveRounds += 1
            return [.apply(round)]
        case .retraction(let retraction):
            guard retraction.rounds.upperBound <= nextRound else { throw .range(retraction.rounds, rounds: nextRound) }
            var changes: [HistoryChange] = []
            for index in retraction.rounds.map(Int.init) {
                let old = slots[index].record
                let new = old.removing(retraction.machine)
                guard new.contributions.count < old.contributions.count else { continue }
                slots[index].record = new
                slots[index].retracted += old.contributions.filter { $0.machine == retraction.machine }
                if !slots[index].isVoid { changes.append(.replace(old, with: new)) }
            }
            return changes
        case .restoration(let restoration):
            guard restoration.rounds.upperBound <= nextRound else { throw .range(restoration.rounds, rounds: nextRound) }
            var changes: [HistoryChange] = []
            for index in restoration.rounds.map(Int.init) {
                let back = slots[index].retracted.filter { $0.machine == restoration.machine }
                guard !back.isEmpty else { continue }
                let old = slots[index].record
                slots[index].record = old.adding(back)
                slots[index].retracted.removeAll { $0.machine == restoration.machine }
                if !slots[index].isVoid { changes.append(.replace(old, with: slots[index].record)) }
            }
            return changes
        case .rewind(let rewind):
            guard rewind.round <= nextRound else { throw .round(rewind.round, expected: nextRound) }
            // After the end, a rewind takes the end back.
            isFinal = (isFinal && !isEnded) || rewind.isFinal
            isEnded = false
            var changes: [HistoryChange] = []
            for index in slots.indices.dropFirst(Int(rewind.round)).reversed() where !slots[index].isVoid {
                slots[index].isVoid = true
                effectiveRounds -= 1
                changes.append(.revert(slots[index].record))
            }
            return changes
        case .end:
            isEnded = true
            return []
        default: return []
        }
    }
}

/// The reason why a record can't follow the history so far.
public enum HistoryError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The round is not the next one.
    case round(RoundNumber, expected: RoundNumber)
    /// A retraction or a rewind names rounds that do not exist yet.
    case range(Range<RoundNumber>, rounds: RoundNumber)

    public var description: String {
        switch self {
        case .round(let round, let expected): "round \(round) where round \(expected) is next"
        case .range(let range, let rounds): "rounds \(range), but there are \(rounds)"
        }
    }
}
