/// A change that leads from the parameters of one ledger position to those of the next.
public enum HistoryChange: Hashable, Sendable {
    /// A new round: add its delta.
    case apply(RoundRecord)
    /// A round that became void: take its delta out.
    case revert(RoundRecord)
    /// A round of which some contributions were retracted: take the first record's delta out and put the second's in. Both have the same (M, E).
    case replace(RoundRecord, with: RoundRecord)
}
