import Core

/// The projected gradients of a machine's samples.
public struct ProjectedGradients: Sendable {
    /// For each sample (L(θ+εz) − L(θ−εz)) / 2ε, or (L(θ+εz) − L(θ)) / ε if the estimator is one-sided; NaN if a loss was not finite.
    public var values: [Float]
    /// Mean of (L(θ+εz) + L(θ−εz)) / 2, or of L(θ) if one-sided, over the samples whose losses are finite; NaN if there are none.
    public var meanLoss: Double

    package init(values: [Float], meanLoss: Double) {
        self.values = values
        self.meanLoss = meanLoss
    }
}

extension LossPair {
    /// (L(θ+εz) − L(θ−εz)) / 2ε, or (L(θ+εz) − L(θ)) / ε.
    func projectedGradient(epsilon: Double, _ estimator: EstimatorKind) -> Double {
        (plus - other) / (estimator == .oneSided ? epsilon : 2 * epsilon)
    }
}

extension ProjectedGradients {
    /// - Parameter losses: the two losses of each sample.
    init(losses: some Collection<LossPair>, epsilon: Double, estimator: EstimatorKind = .twoSided) {
        self.init(values: [], meanLoss: .nan)
        values.reserveCapacity(losses.count)
        var sum = 0.0
        var finite = 0
        for pair in losses {
            let (plus, other) = (pair.plus, pair.other)
            let g = pair.projectedGradient(epsilon: epsilon, estimator)
            values.append(g.isFinite ? Float(g) : .nan)
            if (plus + other).isFinite {
                sum += estimator == .oneSided ? other : (plus + other) / 2
                finite += 1
            }
        }
        if finite > 0 { meanLoss = sum / Double(finite) }
    }
}

/// Estimates the projected gradients of samples: from the loss of given tokens (`Estimator`), from the gradient of the adapter at `final`
/// (`FinalAdapterEstimator`), or from a program's score of the model's texts (`ScoreEstimator`).
public protocol GradientEstimator: AnyObject {
    /// Number of the worker's examples.
    var exampleCount: Int { get }
    /// Returns the projected gradients of samples, in the order of their numbers.
    ///
    /// - Parameters:
    ///   - machine: the machine whose directions are tried.
    ///   - samples: numbers of the samples; they may come in any order from call to call.
    func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) throws -> ProjectedGradients

    /// Computes the projected gradients of single examples, along all samples' directions. Their mean over a sample's examples is the sample's
    /// projected gradient, up to the last bits of a sum.
    ///
    /// - Parameters:
    ///   - examples: different examples, whatever the samples' own are.
    ///   - samples: numbers of the samples, at least one.
    ///   - visit: called for each example, in the order given, with one number per sample. Numbers of a loss that was not finite are not finite.
    func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void) throws
}
