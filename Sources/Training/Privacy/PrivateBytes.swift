import Core

/// Makes a machine's bytes in a private run: clips, adds noise from the operating system's generator, and keeps the account.
package struct PrivateBytes {
    let privacy: Privacy
    let account: PrivacyAccount
    private let batches: SampleBatches

    package init(_ privacy: Privacy, account: PrivacyAccount, exampleCount: Int, options: EstimatorOptions) {
        self.privacy = privacy
        self.account = account
        batches = SampleBatches(exampleCount: exampleCount, options: options)
    }

    /// How much was spent, for displays.
    package var status: PrivacyStatus {
        PrivacyStatus(epsilon: account.epsilon(privacy), delta: account.budget?.delta ?? privacy.delta, isSpent: account.isSpent)
    }

    /// Returns the private projected gradients of samples; nil once the budget is spent. What was paid for once is never given back, even if
    /// nobody wants the bytes any more.
    ///
    /// - Parameter isOver: whether the rest is not wanted any more. It is asked before each batch.
    package func projectedGradients(
        _ machine: MachineID, _ samples: Range<SampleNumber>, _ estimator: any GradientEstimator, isOver: () -> Bool
    ) throws -> [Double]? {
        let batches = batches.of(machine, samples)
        var releases: [Int: Int] = [:]
        for batch in batches { for example in batch.counts.keys { releases[example, default: 0] += 1 } }
        guard try account.pay(for: releases, privacy) else { return nil }
        var generator = SystemRandomNumberGenerator()
        var found: [Double] = []
        for batch in batches {
            if isOver() { break }
            found += try Self.release(batch, machine, privacy, estimator, using: &generator)
        }
        return found
    }

    /// Returns one batch's projected gradients with noise.
    package static func release(
        _ batch: SampleBatch, _ machine: MachineID, _ privacy: Privacy, _ estimator: any GradientEstimator,
        using generator: inout some RandomNumberGenerator
    ) throws -> [Double] {
        try sum(batch, machine, privacy, estimator)
            .released(noiseMultiplier: privacy.noiseMultiplier, divisor: batch.exampleCount, using: &generator)
    }

    /// Returns the sum over a batch's examples, each clipped once as a vector over all of the batch's samples.
    package static func sum(_ batch: SampleBatch, _ machine: MachineID, _ privacy: Privacy, _ estimator: any GradientEstimator) throws -> ClippedSum {
        var sum = ClippedSum(clip: privacy.clip * Double(batch.samples.count).squareRoot(), count: batch.samples.count)
        try estimator.visitExamples(batch.counts.keys.sorted(), machine: machine, samples: batch.samples) { example, gradients in
            sum.add(gradients, times: batch.counts[example] ?? 0)
        }
        return sum
    }
}

/// Neighbouring samples that read the same examples. In a private run their bytes are one release.
package struct SampleBatch: Hashable {
    package let samples: Range<SampleNumber>
    /// How often the batch holds each of its examples.
    package let counts: [Int: Int]

    package init(samples: Range<SampleNumber>, counts: [Int: Int]) {
        self.samples = samples
        self.counts = counts
    }

    /// Number of examples, repetitions included.
    package var exampleCount: Int { counts.values.reduce(0, +) }
}

/// Splits samples into batches, as `ExampleOrder` says.
package struct SampleBatches {
    private let exampleCount: Int
    private let options: EstimatorOptions

    package init(exampleCount: Int, options: EstimatorOptions) {
        self.exampleCount = exampleCount
        self.options = options
    }

    package func of(_ machine: MachineID, _ samples: Range<SampleNumber>) -> [SampleBatch] {
        guard options.batchSize > 0 else {
            return samples.isEmpty
                ? [] : [SampleBatch(samples: samples, counts: Dictionary(uniqueKeysWithValues: (0..<exampleCount).map { ($0, 1) }))]
        }
        var order = ExampleOrder(
            exampleCount: exampleCount, batchSize: options.batchSize, samplesPerBatch: options.samplesPerBatch, seed: options.orderSeed)
        var batches: [SampleBatch] = []
        var start = samples.lowerBound
        let share = UInt64(options.samplesPerBatch)
        while start < samples.upperBound {
            let next = SampleNumber(min(UInt64(samples.upperBound), (UInt64(start) / share + 1) * share))
            var counts: [Int: Int] = [:]
            for i in 0..<options.batchSize { counts[order.example(machine: machine, sample: start, i), default: 0] += 1 }
            batches.append(SampleBatch(samples: start..<next, counts: counts))
            start = next
        }
        return batches
    }
}
