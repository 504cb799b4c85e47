import Kernels

/// A layer's matrices in 8-bit integers with one scale per output, for products of differences.
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

        /// Computes y = (accumulate·y) + from + q·wᵀ for consecutive quantised rows; `from` and y begin at this matrix's outputs.
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

    /// The packed matrix of a module; nil for a norm.
    subscript(_ module: LayerModule) -> Matrix? { matrices[module] }

    /// Packs a matrix again after its weights have changed.
    func pack(_ module: LayerModule, of weights: LayerWeights) {
        guard let matrix = matrices[module] else { return }
        ob_difference_pack(
            weights[module], matrix.outputs, matrix.inputs, matrix.packed.pointer, matrix.scales.pointer, matrix.offsets.pointer)
    }
}
