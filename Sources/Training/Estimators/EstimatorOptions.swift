import Core
import LanguageModel

/// Settings of an estimator.
public struct EstimatorOptions: Sendable {
    /// ε of θ ± εz.
    public var epsilon: Double
    /// Examples per sample; 0 means all examples.
    public var batchSize: Int
    /// Number of neighbouring samples that read the same examples, each along its own direction. What all directions on an example
    /// have in common is computed once for all of them: in the last layer, the keys and values of all positions are half of an
    /// example's cost.
    public var samplesPerBatch: Int
    /// Whether the loss at θ + εz is compared with that at θ − εz (two-sided) or at θ (one-sided).
    public var estimator: EstimatorKind
    /// q of `GeneralizedCrossEntropy`; 0 means cross-entropy. Other values need examples with classes.
    public var generalizedCrossEntropy: Double
    /// Seed of the order of the examples; private to the worker.
    public var orderSeed: UInt64
    /// Number of threads that a call uses.
    public var threads: Int
    /// Score that replaces the task's own loss. A score changes in steps, so its samples want several examples and a larger ε.
    public var objective: Objective?
    /// Number format of the matrix products. Each worker may choose its own, since only its bytes reach the ledger. `int8` needs `rank1`
    /// directions and a clean pass of each example.
    public var precision: Precision

    public init(
        epsilon: Double = 1e-3, batchSize: Int = 1, samplesPerBatch: Int = 1, estimator: EstimatorKind = .twoSided,
        generalizedCrossEntropy: Double = 0, orderSeed: UInt64 = 0, threads: Int = 1, objective: Objective? = nil,
        precision: Precision = .float
    ) {
        self.epsilon = epsilon
        self.batchSize = batchSize
        self.samplesPerBatch = samplesPerBatch
        self.estimator = estimator
        self.generalizedCrossEntropy = generalizedCrossEntropy
        self.orderSeed = orderSeed
        self.threads = threads
        self.objective = objective
        self.precision = precision
    }

    /// Splits samples into runs of neighbours that read the same examples. Only the first and the last may be part of a whole batch.
    package func batches(of samples: Range<SampleNumber>) -> [Range<SampleNumber>] {
        guard batchSize > 0 else { return samples.isEmpty ? [] : [samples] }
        let share = UInt64(samplesPerBatch)
        var batches: [Range<SampleNumber>] = []
        var start = samples.lowerBound
        while start < samples.upperBound {
            let next = SampleNumber(min(UInt64(samples.upperBound), (UInt64(start) / share + 1) * share))
            batches.append(start..<next)
            start = next
        }
        return batches
    }

    /// Examples per sample where there are `exampleCount` examples.
    func batchSize(of exampleCount: Int) -> Int { batchSize == 0 ? exampleCount : batchSize }

    /// - Throws: `TrainingError` for the first invalid option, or one that these examples can't have.
    func check(for set: ExampleSet) throws(TrainingError) {
        try check()
        guard set.hasClasses || generalizedCrossEntropy == 0 else {
            throw TrainingError(.badExample, "the generalized cross-entropy needs examples with classes")
        }
    }

    /// - Throws: `TrainingError` for the first invalid option.
    func check() throws(TrainingError) {
        guard epsilon > 0, epsilon.isFinite else {
            throw TrainingError(.numerical, "ε is \(epsilon); it must be above 0 (1e-3 is usual)")
        }
        guard batchSize >= 0, samplesPerBatch > 0 else {
            throw TrainingError(.noExamples, "a sample needs at least one example")
        }
        guard (0...1).contains(generalizedCrossEntropy) else {
            throw TrainingError(.numerical, "q of the generalized cross-entropy is \(generalizedCrossEntropy); it must be 0…1")
        }
        guard objective == nil || generalizedCrossEntropy == 0 else {
            throw TrainingError(.badExample, "the generalized cross-entropy is for the loss, not for an objective in its place")
        }
    }
}
