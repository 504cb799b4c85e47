import Core
import LanguageModel
import Training

/// What became of a ledger's digest records when its parameters were built from the base.
struct DigestComparison {
    /// Records that were held against the replay.
    var compared = 0
    /// Those that say something else, with what the replay gives.
    var differing: [(record: DigestRecord, replayed: Digest)] = []
    /// Rounds behind the last parameters that a digest record names: nothing vouches for them.
    var uncovered: [RoundNumber] = []
    /// Of the parameters after the last record.
    var last: Digest
}

extension LedgerArchive {
    /// Builds the parameters from the base alone, record by record, and holds every digest record against them at its own position, with
    /// the rewinds and retractions that came before it and none of those behind it.
    ///
    /// - Throws: `ProcessFailure` `.configuration` where `source` is not the run's base.
    func compareDigests(on source: ModelSource, threads: Int) throws -> DigestComparison {
        try checkBase(source, threads: threads)
        let tensors = try source.trainedTensors(matching: summary.spec.train, basis: basis)
        let parameters = try source.makeParameters(tensors)
        let directions = try Directions(summary.spec, tensors: tensors)
        var reported: [UInt64: [DigestRecord]] = [:]
        for case .digest(let record) in entries.lazy.map(\.record) { reported[record.position, default: []].append(record) }

        var comparison = DigestComparison(last: Digest.sha256([]))
        var followed = EffectiveHistory()
        var changes: [HistoryChange] = []
        for entry in entries {
            changes += try followed.fold(entry.record)
            if case .round(let round) = entry.record { comparison.uncovered.append(round.round) }
            guard let records = reported[entry.position.records] else { continue }
            parameters.apply(changes, directions: directions, threads: threads)
            changes = []
            let digest = parameters.digest(threads: threads)
            comparison.compared += records.count
            comparison.uncovered = []
            for record in records where record.digest != digest { comparison.differing.append((record, digest)) }
        }
        parameters.apply(changes, directions: directions, threads: threads)
        comparison.last = parameters.digest(threads: threads)
        return comparison
    }
}
