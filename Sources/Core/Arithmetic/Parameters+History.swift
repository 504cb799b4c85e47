extension Parameters {
    /// Brings the parameters from one position of a ledger to a later one. Neighbouring rounds go through the kernels together.
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
