import Core
import Training

extension Settings {
    /// Whether bytes are clipped and get noise.
    var isPrivate: Bool { (try? number(.privacyEpsilon)) ?? 0 > 0 }

    /// Derives δ and the noise of a private run from what the run plans, unless they are given.
    ///
    /// - Parameters:
    ///   - all: number of training examples; nil: as many as the training file has.
    ///   - workers: number of workers that share them; nil for a coordinator, which has no data.
    /// - Throws: `SettingsError` if the noise can't be planned without the workers' numbers of examples.
    mutating func derivePrivacy(examples all: Int?, workers: Int?) throws {
        guard isPrivate else { return }
        var examples: Int?
        if let workers, let path = optionalText(.trainFile) { examples = (try (all ?? DataFile.read(path).count) + workers - 1) / workers }
        if let examples, source(.privacyDelta) == .standard {
            derive(
                .privacyDelta, .number(min(1 / Double(examples), RunSpecLimits.privacyDelta.upperBound)), from: "1/\(examples), a worker's examples")
        }
        guard !has(.privacyNoise) else { return }
        let rounds = try integer(.rounds)
        let batch = try integer(.batchSize)
        var releases = rounds
        if batch != RunSpecLimits.allExamples {
            guard let examples, let workers else {
                throw SettingsError.usage(
                    "how often a sample reads an example follows from the workers' numbers of examples, which a coordinator does not know: give --privacy-noise, or --batch-size all"
                )
            }
            // Each example is read once in an epoch, and an epoch may begin or end within a batch.
            let share = (try integer(.samplesPerRound) + workers - 1) / workers
            let batches = rounds * ((share + (try integer(.samplesPerBatch)) - 1) / (try integer(.samplesPerBatch)))
            releases = (batches * batch + examples - 1) / examples + 1
        }
        let noise = PrivacyLoss.noiseMultiplier(epsilon: try number(.privacyEpsilon), delta: try number(.privacyDelta), releases: releases)
        let limits = RunSpecLimits.noiseMultiplier
        guard noise <= limits.upperBound else {
            throw SettingsError.usage(
                "\(releases) releases with ε = \(try number(.privacyEpsilon)) need a noise multiplier of \(noise), and nothing could be learned; give fewer --rounds or a larger --privacy-epsilon"
            )
        }
        derive(.privacyNoise, .number(max(noise, limits.lowerBound)), from: "for \(releases) releases within the budget")
    }

    /// The privacy part of the run's specification; nil if the run is not private.
    func privacy() throws(SettingsError) -> Privacy? {
        guard isPrivate else { return nil }
        return Privacy(
            clip: try number(.privacyClip), noiseMultiplier: try number(.privacyNoise), epsilon: try number(.privacyEpsilon),
            delta: try number(.privacyDelta))
    }
}
