import Core

extension RunSpec {
    /// The run's privacy if each round is one release of all of a worker's examples, so that rounds alone tell what was spent.
    var privacyOfRounds: Privacy? { batchSize == RunSpecLimits.allExamples ? privacy : nil }
}

/// What a ledger's bytes have cost an example. A worker may have paid for more: answers that never came into the ledger cost as much, and each
/// worker's account has the truth.
package struct PrivacyReport: Codable, Hashable, Sendable {
    /// ε of the worker that has most contributions, at `delta`; no more than the budget, after which bytes cost nothing. Nil if samples read some of
    /// the examples: how often each was read then follows from their number, which only the worker knows.
    package var epsilon: Double?
    package var delta: Double
    /// The run's limit for each worker.
    package var budget: Double
    package var clip: Double
    package var noiseMultiplier: Double

    enum CodingKeys: String, CodingKey {
        case epsilon, delta, budget, clip
        case noiseMultiplier = "noise_multiplier"
    }

    init?(_ archive: LedgerArchive) {
        guard let privacy = archive.summary.spec.privacy else { return nil }
        (delta, budget, clip, noiseMultiplier) = (privacy.delta, privacy.epsilon, privacy.clip, privacy.noiseMultiplier)
        guard archive.summary.spec.privacyOfRounds != nil else { return }
        // A worker that was restarted is another machine with the same examples. Retracted and void rounds have revealed theirs too, and so have
        // bytes that a filter has made "no value".
        let names = Dictionary(uniqueKeysWithValues: archive.machines.map { ($0.machine, $0.name) })
        var releases: [String: Int] = [:]
        for case .round(let round) in archive.entries.lazy.map(\.record) {
            for contribution in round.contributions {
                releases[names[contribution.machine.rawValue] ?? "", default: 0] += 1
            }
        }
        epsilon = min(privacy.epsilon(releases: releases.values.max() ?? 0), budget)
    }

    var text: String {
        let spent = epsilon.map {
            "ε = \(fixed($0, 2)) of \(budget) at δ = \(delta) for any example, of the ledger's bytes; a worker's account has the truth"
        }
        let noise = "clipped at \(clip), noise \(noiseMultiplier) times that"
        return "\(spent ?? "at most ε = \(budget) at δ = \(delta) for any example; each worker's log has its own"), \(noise)"
    }
}
