import Core

extension RunSpec {
    /// The run's privacy if each round is one release of all of a worker's examples, so that rounds alone tell what was spent.
    var privacyOfRounds: Privacy? { batchSize == RunSpecLimits.allExamples ? privacy : nil }
}

/// What a ledger's bytes have revealed of an example, as far as the ledger tells.
package struct PrivacyReport: Codable, Hashable, Sendable {
    /// ε of the worker whose examples were read in most rounds, at `delta`. Nil if samples read some of the examples: how often each was read then
    /// follows from their number, which only the worker knows.
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
        // A worker that was restarted is another machine with the same examples. Retracted and void rounds have revealed theirs too.
        let names = Dictionary(uniqueKeysWithValues: archive.machines.map { ($0.machine, $0.name) })
        var releases: [String: Int] = [:]
        for case .round(let round) in archive.entries.lazy.map(\.record) {
            for contribution in round.contributions where contribution.validCount > 0 {
                releases[names[contribution.machine.rawValue] ?? "", default: 0] += 1
            }
        }
        epsilon = privacy.epsilon(releases: releases.values.max() ?? 0)
    }

    var text: String {
        let spent = epsilon.map { "ε = \(fixed($0, 2)) of \(budget) at δ = \(delta) for any example of any worker" }
        let noise = "clipped at \(clip), noise \(noiseMultiplier) times that"
        return "\(spent ?? "at most ε = \(budget) at δ = \(delta) for any example; each worker's log has its own"), \(noise)"
    }
}
