import Core

/// The projected gradients of a machine's samples.
public struct ProjectedGradients: Sendable {
    /// For each sample (L(θ+εz) − L(θ−εz)) / 2ε, or (L(θ+εz) − L(θ)) / ε of a one-sided estimator; NaN where a loss was not finite.
    public var values: [Float]
    /// Mean over the samples whose losses are finite of (L(θ+εz) + L(θ−εz)) / 2, or of L(θ); NaN where none is.
    public var meanLoss: Double
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
            let g = (plus - other) / (estimator == .oneSided ? epsilon : 2 * epsilon)
            values.append(g.isFinite ? Float(g) : .nan)
            if (plus + other).isFinite {
                sum += estimator == .oneSided ? other : (plus + other) / 2
                finite += 1
            }
        }
        if finite > 0 { meanLoss = sum / Double(finite) }
    }
}

/// Tries the directions of samples: by the loss of given tokens (`Estimator`), by the gradient of the adapter at `final`
/// (`FinalAdapterEstimator`), or by what a program thinks of the model's texts (`ScoreEstimator`).
public protocol GradientEstimator: AnyObject {
    /// - Parameters:
    ///   - machine: whose directions they are.
    ///   - samples: their numbers; they need not have been handed out in order.
    func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) throws -> ProjectedGradients
}
