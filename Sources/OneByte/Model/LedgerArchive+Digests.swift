import Core
import LanguageModel
import Training

/// The comparison of a ledger's digest records with parameters built from the base.
struct DigestComparison {
    /// Number of records compared with the replay.
    var compared = 0
    /// Records that differ, with the digest of the replay.
    var differing: [(record: DigestRecord, replayed: Digest)] = []
    /// Rounds after the last parameters that a digest record covers; nothing confirms them.
    var uncovered: [RoundNumber] = []
    /// Digest of the parameters after the last record.
    var last: Digest
}

extension LedgerArchive {
    /// Builds the parameters from the base alone, record by record. Each digest record is compared at its own position, with the rewinds
    /// and retractions before it and none of the later ones.
    ///
    /// - Throws: `ProcessFailure` `.configuration` if `source` is not the run's base.
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
