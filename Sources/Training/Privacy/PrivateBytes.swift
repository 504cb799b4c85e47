import Core

/// Makes a machine's bytes in a private run: clips, adds noise from the operating system's generator, and keeps the account.
package struct PrivateBytes {
    let privacy: Privacy
    let account: PrivacyAccount
    /// The largest ρ of an example that run and host allow.
    private let limit: Double
    private let batches: SampleBatches
    /// For each record its example's number at the estimator.
    private let examples: [Int?]

    /// - Parameter examples: for each of the worker's records the number of its example; nil for a record that says nothing. All records count as
    ///   examples, so that their number alone decides what is read and by what a sum is divided.
    package init(_ privacy: Privacy, account: PrivacyAccount, examples: [Int?], options: EstimatorOptions) {
        self.privacy = privacy
        self.account = account
        self.examples = examples
        limit = account.limit(privacy)
        batches = SampleBatches(exampleCount: examples.count, options: options)
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
        guard try account.pay(for: releases, each: privacy.rhoOfRelease, limit: limit) else { return nil }
        var generator = SystemRandomNumberGenerator()
        var found: [Double] = []
        for batch in batches {
            if isOver() { break }
            found += try sum(batch, machine, estimator)
                .released(noiseMultiplier: privacy.noiseMultiplier, divisor: batch.exampleCount, using: &generator)
        }
        return found
    }

    /// Returns the sum over a batch's examples, each clipped once as a vector over all of the batch's samples. Records that say nothing add
    /// nothing.
    package func sum(_ batch: SampleBatch, _ machine: MachineID, _ estimator: any GradientEstimator) throws -> ClippedSum {
        var sum = ClippedSum(clip: privacy.clip * Double(batch.samples.count).squareRoot(), count: batch.samples.count)
        var times: [Int: Int] = [:]
        for (record, count) in batch.counts { if let example = examples[record] { times[example] = count } }
        guard !times.isEmpty else { return sum }
        try estimator.visitExamples(times.keys.sorted(), machine: machine, samples: batch.samples) { example, gradients in
            sum.add(gradients, times: times[example] ?? 0)
        }
        return sum
    }
}

/// The estimator of a private worker none of whose records has anything to learn from. Its bytes are noise alone: that it has nothing to add must not
/// show.
final class NothingToLearn: GradientEstimator {
    let exampleCount = 0

    func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) -> ProjectedGradients {
        ProjectedGradients(values: Array(repeating: .nan, count: samples.count), meanLoss: .nan)
    }

    func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
    ) {}
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
        var order = ExampleOrder(
            exampleCount: exampleCount, batchSize: options.batchSize, samplesPerBatch: options.samplesPerBatch, seed: options.orderSeed)
        return options.batches(of: samples).map { samples in
            guard options.batchSize > 0 else {
                return SampleBatch(samples: samples, counts: Dictionary(uniqueKeysWithValues: (0..<exampleCount).map { ($0, 1) }))
            }
            var counts: [Int: Int] = [:]
            for i in 0..<options.batchSize { counts[order.example(machine: machine, sample: samples.lowerBound, i), default: 0] += 1 }
            return SampleBatch(samples: samples, counts: counts)
        }
    }
}
