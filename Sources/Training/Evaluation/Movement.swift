import Core
import LanguageModel

/// How far trained tensors have moved from the base, as parts of their own norms.
///
/// A matrix that has moved by half its norm is another matrix: what else the model could do goes with it, whatever the task's loss says. An
/// adapter begins at 0, so that its own norm says nothing: what counts is what it adds to a state, U·C·Vᵀ·n, beside the state n. V whitens
/// the states of public text, so that the mean square of Vᵀ·n is the unit matrix, and the root mean square of what is added is ‖U·C‖.
/// That of n is the norm of the final norm's weights.
public struct Movement {
    private let base: ParameterProbe
    private let names: [String]
    private let isMatrix: [Bool]
    private let model: TrainableModel

    /// - Parameter parameters: the base's.
    public init(from parameters: Parameters, model: TrainableModel) {
        base = ParameterProbe(parameters)
        names = parameters.tensors.map(\.name)
        isMatrix = parameters.tensors.map { if case .matrix = $0.shape { true } else { false } }
        self.model = model
    }

    /// The tensor that has moved most, and by what part; nil where nothing can be compared. Vectors are left out: some are almost 0.
    ///
    /// - Parameter parameters: those that the model computes with.
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
    /// What training is to make larger, example by example: 1 where the class is right at the best threshold, which is blind to a bias for one
    /// label's word; elsewhere minus the loss.
    var merits: [Double] { isRightAtBestThreshold.isEmpty ? items.map { -$0.loss } : isRightAtBestThreshold.map { $0 ? 1 : 0 } }
}

/// Mean and standard error of the change of some numbers, each beside itself as it was; NaN where that is not known.
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
