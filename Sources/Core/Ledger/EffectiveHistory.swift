/// The rounds that decide the parameters, after rewinds and retractions, and the changes that each further record makes. To fold a record and apply
/// its changes to the parameters gives exactly the result of a replay of `rounds` from the base (tests show it).
public struct EffectiveHistory: Sendable {
    private struct Slot: Sendable {
        /// The round without its retracted contributions.
        var record: RoundRecord
        var isVoid = false
    }
    /// The rounds by their numbers. Numbers begin at 0, have no gaps and are never used again.
    private var slots: [Slot] = []
    /// Number of rounds that decide the parameters.
    public private(set) var effectiveRounds = 0
    /// Whether no round follows.
    public private(set) var isFinal = false

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
                if !slots[index].isVoid { changes.append(.replace(old, with: new)) }
            }
            return changes
        case .rewind(let rewind):
            guard rewind.round <= nextRound else { throw .round(rewind.round, expected: nextRound) }
            isFinal = isFinal || rewind.isFinal
            var changes: [HistoryChange] = []
            for index in slots.indices.dropFirst(Int(rewind.round)).reversed() where !slots[index].isVoid {
                slots[index].isVoid = true
                effectiveRounds -= 1
                changes.append(.revert(slots[index].record))
            }
            return changes
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
