import COpenBLAS
import Core
import Kernels
import LanguageModel

/// Measures how far trained tensors have moved from the base, as parts of their own norms.
///
/// If a matrix has moved by half of its norm, the model's other abilities suffer, whatever the task's loss says. An adapter begins at 0, so its own
/// norm says nothing. On a matrix W, its movement is that of W, ‖U·C·Vᵀ‖/‖W‖. At `final` there is no matrix. Its movement there is the ratio of what
/// it adds to a state, U·C·Vᵀ·n, to the state n, both as root mean squares. V whitens the states of public text, so the second moment of Vᵀ·n is the
/// identity, and the numerator is ‖U·C‖. The denominator is the norm of the final norm's weights.
public struct Movement {
    private let base: ParameterProbe
    private let model: TrainableModel
    /// The adapters on matrices, by their slots.
    private let matrices: [Int: AdaptedMatrix]

    /// Reads the matrices that have an adapter once, for their norms.
    ///
    /// - Parameter parameters: the base's parameters.
    /// - Throws: `ModelError` from the model's files.
    public init(from parameters: Parameters, model: TrainableModel, threads: Int = 1) throws {
        base = ParameterProbe(parameters)
        self.model = model
        matrices = try AdaptedMatrix.all(parameters.tensors, of: model, threads: threads)
    }

    /// Returns the matrix that has moved most, and its movement; nil if nothing can be compared. Vectors are left out, because some are almost 0.
    ///
    /// - Parameter parameters: the parameters that the model computes with.
    public func largest(in parameters: Parameters) -> (name: String, part: Double)? {
        let parts = base.relativeChanges(in: parameters)
        var found: (name: String, part: Double)?
        for (slot, tensor) in parameters.tensors.enumerated() {
            guard case .matrix = tensor.shape else { continue }
            let part: Double? =
                switch tensor.place {
                case nil: parts[slot]
                case .tensor: matrices[slot]?.part
                case .final: finalPart
                }
            if let part, part > found?.part ?? -1 { found = (tensor.name, part) }
        }
        return found
    }

    private var finalPart: Double? {
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

/// An adapter on a matrix W, with what its movement needs.
private struct AdaptedMatrix {
    /// Number of elements of W that are read at once.
    private static let elementsAtOnce = 1 << 18

    private let adapter: Adapter
    /// UᵀU and VᵀV, row-major; only the upper triangles are filled.
    private let outputs, inputs: [Double]
    /// ‖W‖².
    private let size: Double

    /// Returns the adapters on matrices among trained tensors, by their slots.
    static func all(_ tensors: [TrainedTensor], of model: TrainableModel, threads: Int) throws -> [Int: AdaptedMatrix] {
        let adapted = tensors.enumerated().compactMap { slot, tensor -> (slot: Int, name: String, adapter: Adapter)? in
            guard case .tensor(let name, _)? = tensor.place, let adapter = model.adapter(at: slot) else { return nil }
            return (slot, name, adapter)
        }
        let source = model.source
        let failure = FirstError()
        var made = [AdaptedMatrix?](repeating: nil, count: adapted.count)
        made.withUnsafeMutableBufferPointer { made in
            nonisolated(unsafe) let out = made
            forEachChunk(of: adapted.count, size: 1, threads: threads) { chunk in
                for i in chunk { failure.capture { out[i] = try AdaptedMatrix(adapted[i].adapter, on: adapted[i].name, of: source) } }
            }
        }
        try failure.rethrow()
        var found: [Int: AdaptedMatrix] = [:]
        for (own, matrix) in zip(adapted, made) { found[own.slot] = matrix }
        return found
    }

    private init(_ adapter: Adapter, on name: String, of source: ModelSource) throws(ModelError) {
        self.adapter = adapter
        outputs = Self.products(adapter.outputs, count: adapter.outputCount, width: adapter.outputWidth)
        inputs = Self.products(adapter.inputs, count: adapter.inputCount, width: adapter.inputWidth)
        size = try Self.squaredNorm(of: name, in: source)
    }

    /// ‖U·C·Vᵀ‖/‖W‖, where ‖U·C·Vᵀ‖² = tr(Cᵀ·(UᵀU)·C·(VᵀV)); nil if W is 0.
    var part: Double? {
        guard size > 0 else { return nil }
        let count = adapter.outputCount * adapter.inputCount
        let (p, r) = (blasint(adapter.outputCount), blasint(adapter.inputCount))
        let c = (0..<count).map { Double(adapter.coordinates.pointer[$0]) }
        var left = [Double](repeating: 0, count: count)
        cblas_dsymm(CblasRowMajor, CblasLeft, CblasUpper, p, r, 1, outputs, p, c, r, 0, &left, r)
        var both = [Double](repeating: 0, count: count)
        cblas_dsymm(CblasRowMajor, CblasRight, CblasUpper, p, r, 1, inputs, r, left, r, 0, &both, r)
        return (max(dot(c, both), 0) / size).squareRoot()
    }

    /// Returns the inner products of vectors that lie one after the other: the upper triangle of a matrix.
    private static func products(_ vectors: ScratchBuffer<Float>, count: Int, width: Int) -> [Double] {
        let wide = (0..<count * width).map { Double(vectors.pointer[$0]) }
        var products = [Double](repeating: 0, count: count * count)
        cblas_dsyrk(
            CblasRowMajor, CblasUpper, CblasNoTrans, blasint(count), blasint(width), 1, wide, blasint(width), 0, &products, blasint(count))
        return products
    }

    private static func squaredNorm(of name: String, in source: ModelSource) throws(ModelError) -> Double {
        guard case .matrix(let rows, let columns)? = source.shape(of: name) else { return 0 }
        let rowsAtOnce = max(elementsAtOnce / max(columns, 1), 1)
        let block = ScratchBuffer<Float>(capacity: rowsAtOnce * columns)
        var sum = 0.0
        for first in stride(from: 0, to: rows, by: rowsAtOnce) {
            let range = first..<min(first + rowsAtOnce, rows)
            try source.copyFloats(name, rows: range, into: block.pointer)
            for row in 0..<range.count {
                let own = block.pointer + row * columns
                sum += Double(ob_dot(own, own, columns))
            }
        }
        return sum
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
