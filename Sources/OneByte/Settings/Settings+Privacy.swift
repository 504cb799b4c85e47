import Core
import Training

extension Settings {
    /// Whether bytes are clipped and get noise.
    var isPrivate: Bool { get throws(SettingsError) { try number(.privacyEpsilon) > 0 } }

    /// The largest default of δ.
    private static let usualDelta = 1e-5

    /// Derives δ and the noise of a private run from what the run plans, unless they are given.
    ///
    /// - Parameters:
    ///   - all: number of training examples; nil: as many as the training file has.
    ///   - workers: number of workers that share them; nil for a coordinator, which has no data.
    /// - Throws: `SettingsError` if the noise can't be planned without the workers' numbers of examples, or would be above its limit.
    package mutating func derivePrivacy(examples all: Int?, workers: Int?) throws {
        guard try isPrivate else { return }
        var shares: (fewest: Int, most: Int)?
        if let workers, let path = optionalText(.trainFile) {
            let count = try all ?? DataFile.read(path).count
            shares = (max(1, count / workers), (count + workers - 1) / workers)
        }
        if let shares, source(.privacyDelta) == .standard {
            let part = 1 / (10 * Double(shares.most))
            if part < Self.usualDelta { derive(.privacyDelta, .number(part), from: "a tenth of 1/\(shares.most), a worker's examples") }
        }
        guard !has(.privacyNoise) else { return }
        let releases = try plannedReleases(workers: workers, fewestExamples: shares?.fewest)
        let noise = PrivacyLoss.noiseMultiplier(epsilon: try number(.privacyEpsilon), delta: try number(.privacyDelta), releases: releases)
        let limits = RunSpecLimits.noiseMultiplier
        guard noise <= limits.upperBound else {
            throw SettingsError.usage(
                "\(fixed(releases, 0)) releases with ε = \(try number(.privacyEpsilon)) need a noise multiplier of \(noise), and nothing could be learned; give fewer --rounds or a larger --privacy-epsilon"
            )
        }
        derive(.privacyNoise, .number(max(noise, limits.lowerBound)), from: "for \(fixed(releases, 0)) releases within the budget")
    }

    /// The number of releases of any one example, with the trials of the rate that a forecast counts.
    private func plannedReleases(workers: Int?, fewestExamples: Int?) throws -> Double {
        let trials = try integer(.rateTrials)
        let rounds = TimeLeft(TimeLeft.Plan(rounds: try integer(.rounds), trialRounds: trials > 0 ? trials : nil)).roundsLeft
        let batch = try integer(.batchSize)
        guard batch != RunSpecLimits.allExamples else { return Double(rounds) }
        guard let workers, let fewestExamples else {
            throw SettingsError.usage(
                "how often a sample reads an example follows from the workers' numbers of examples, which a coordinator does not know: give --privacy-noise, or --batch-size all"
            )
        }
        return PlannedReleases(
            rounds: rounds, samplesPerRound: try integer(.samplesPerRound), samplesPerBatch: try integer(.samplesPerBatch), batchSize: batch,
            workers: workers, examples: fewestExamples, isAhead: try integer(.staleness) > 0, isTimeBoxed: try number(.roundSeconds) > 0
        ).most
    }

    /// The privacy part of the run's specification; nil if the run is not private.
    func privacy() throws(SettingsError) -> Privacy? {
        guard try isPrivate else { return nil }
        return Privacy(
            clip: try number(.privacyClip), noiseMultiplier: try number(.privacyNoise), epsilon: try number(.privacyEpsilon),
            delta: try number(.privacyDelta))
    }
}
