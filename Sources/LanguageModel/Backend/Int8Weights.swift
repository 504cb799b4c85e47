import Kernels

/// In which numbers a pass computes its matrix products.
public enum Precision: String, Sendable, CaseIterable {
    /// F32.
    case float
    /// What a direction's rows differ by from those of θ in 8-bit integers, the rows of θ in F32 (`ForwardPass.differentialProduct`).
    case int8
}

/// A layer's matrices in bytes, for products of differences: a scale for each output.
package final class Int8Weights: @unchecked Sendable {  // written while nobody computes with it
    package struct Matrix {
        let outputs, inputs: Int
        fileprivate let packed: ScratchBuffer<Int8>
        fileprivate let scales: ScratchBuffer<Float>
        fileprivate let offsets: ScratchBuffer<Int32>

        fileprivate init(outputs: Int, inputs: Int) {
            self.outputs = outputs
            self.inputs = inputs
            let panel = OB_DIFFERENCE_PANEL
            let padded = (outputs + panel - 1) / panel * panel
            packed = ScratchBuffer(capacity: padded * ob_difference_bytes(inputs))
            scales = ScratchBuffer(capacity: padded)
            offsets = ScratchBuffer(capacity: padded)
        }

        /// y = (accumulate·y) + from + q·wᵀ for quantised rows that follow each other; `from` and y are where this matrix's outputs are.
        func multiply(
            _ rows: UnsafePointer<UInt8>, scales rowScales: UnsafePointer<Float>, count: Int,
            from: UnsafePointer<UnsafePointer<Float>?>, into y: UnsafeMutablePointer<Float>, yStride: Int, accumulate: Bool
        ) {
            ob_difference_product(
                rows, rowScales, count, packed.pointer, scales.pointer, offsets.pointer, outputs, inputs, from, y, yStride, accumulate ? 1 : 0)
        }
    }

    private let matrices: [LayerModule: Matrix]

    init(_ weights: LayerWeights) {
        matrices = Dictionary(
            uniqueKeysWithValues: LayerModule.matrices.filter(weights.sizes.has).map {
                let (outputs, inputs) = weights.sizes.shape($0)
                return ($0, Matrix(outputs: outputs, inputs: inputs))
            })
        for module in matrices.keys { pack(module, of: weights) }
    }

    /// Nil for a norm.
    subscript(_ module: LayerModule) -> Matrix? { matrices[module] }

    /// Takes over what a matrix has become.
    func pack(_ module: LayerModule, of weights: LayerWeights) {
        guard let matrix = matrices[module] else { return }
        ob_difference_pack(
            weights[module], matrix.outputs, matrix.inputs, matrix.packed.pointer, matrix.scales.pointer, matrix.offsets.pointer)
    }
}
