/// One step from the parameters of one ledger position to those of the next.
public enum HistoryChange: Hashable, Sendable {
    /// A new round: add its delta.
    case apply(RoundRecord)
    /// A round became void: take its delta out.
    case revert(RoundRecord)
    /// Some of a round's contributions were retracted: take the first's delta out and put the second's in; both have the
    /// same (M, E).
    case replace(RoundRecord, with: RoundRecord)
}
