extension Parameters {
    /// Follows a ledger: brings the parameters from one of its positions to a later one. Rounds that come one after the other go through the
    /// kernels together.
    public func apply(_ changes: [HistoryChange], directions: Directions, threads: Int) {
        var rounds: [RoundRecord] = []
        func applyRounds() {
            guard !rounds.isEmpty else { return }
            apply(rounds, directions: directions, threads: threads)
            rounds.removeAll()
        }
        for change in changes {
            switch change {
            case .apply(let round): rounds.append(round)
            case .revert(let round):
                applyRounds()
                revert(round, directions: directions, threads: threads)
            case .replace(let old, let new):
                applyRounds()
                replace(old, with: new, directions: directions, threads: threads)
            }
        }
        applyRounds()
    }
}
