import Core
import LanguageModel

/// Measures how far trained tensors have moved from the base, as parts of their own norms.
///
/// If a matrix has moved by half of its norm, the model's other abilities suffer, whatever the task's loss says. An adapter begins at 0, so its own
/// norm says nothing. Its movement is the ratio of what it adds to a state, U·C·Vᵀ·n, to the state n, both as root mean squares. V whitens the
/// states of public text, so the second moment of Vᵀ·n is the identity, and the numerator is ‖U·C‖. The denominator is the norm of the final norm's
/// weights.
public struct Movement {
    private let base: ParameterProbe
    private let names: [String]
    private let isMatrix: [Bool]
    private let model: TrainableModel

    /// - Parameter parameters: the base's parameters.
    public init(from parameters: Parameters, model: TrainableModel) {
        base = ParameterProbe(parameters)
        names = parameters.tensors.map(\.name)
        isMatrix = parameters.tensors.map { if case .matrix = $0.shape { true } else { false } }
        self.model = model
    }

    /// Returns the matrix that has moved most, and its movement; nil if nothing can be compared. Vectors are left out, because some are almost 0.
    ///
    /// - Parameter parameters: the parameters that the model computes with.
    public func largest(in parameters: Parameters) -> (name: String, part: Double)? {
        let parts = base.relativeChanges(in: parameters)
        var found: (name: String, part: Double)?
        for (slot, name) in names.enumerated() where isMatrix[slot] {
            let part = slot == model.finalAdapter?.slot ? adapterPart : parts[slot]
            if let part, part > found?.part ?? -1 { found = (name, part) }
        }
        return found
    }

    private var adapterPart: Double? {
        guard let adapter = model.finalAdapter else { return nil }
        let width = model.sizes.embedding
        var sum = 0.0
        for j in 0..<adapter.inputCount {
            for k in 0..<width {
                var moved: Float = 0
                for i in 0..<adapter.outputCount {
                    moved += adapter.outputs.pointer[i * width + k] * adapter.coordinates.pointer[i * adapter.inputCount + j]
                }
                sum += Double(moved) * Double(moved)
            }
        }
        var state = Double(width)
        if let weights = model.floats(.finalNorm) { state = (0..<width).reduce(0) { $0 + Double(weights[$1]) * Double(weights[$1]) } }
        return state > 0 ? (sum / state).squareRoot() : nil
    }
}

extension Evaluation {
    /// The merit of each example, which training should increase. With classes it is 1 if the class is right at the best threshold, else 0. That
    /// ignores a bias for one label's word. Otherwise it is minus the loss.
    var merits: [Double] { isRightAtBestThreshold.isEmpty ? items.map { -$0.loss } : isRightAtBestThreshold.map { $0 ? 1 : 0 } }
}

/// Mean and standard error of the change of some numbers, each compared with its own earlier value; NaN if unknown.
struct PairedChange {
    let mean: Double
    let error: Double

    init(_ now: [Double], since base: [Double]?) {
        guard let base, base.count == now.count, now.count > 1 else {
            (mean, error) = (.nan, .nan)
            return
        }
        let changes = zip(now, base).map { $0 - $1 }
        let mean = changes.reduce(0, +) / Double(changes.count)
        let variance = changes.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(changes.count - 1)
        self.mean = mean
        error = (variance / Double(changes.count)).squareRoot()
    }
}
