import Core
import Kernels

/// A layer's matrices in 8-bit integers with a scale for each block of 32 inputs (quantised.h). Q4_0, Q4_1 and Q8_0 are taken as they lie in
/// their file, and lose nothing; all other types are rounded.
final class QuantisedLayer: @unchecked Sendable {  // written while nobody computes with it
    private final class Matrix {
        let outputs, inputs: Int
        let panels: ScratchBuffer<UInt8>
        var isNarrow = false

        init(outputs: Int, inputs: Int) {
            self.outputs = outputs
            self.inputs = inputs
            let count = (outputs + Self.panelOutputs - 1) / Self.panelOutputs
            panels = ScratchBuffer(capacity: count * ob_quantised_panel_bytes(inputs))
        }

        static var panelOutputs: Int { Int(OB_QUANTISED_PANEL) }

        var product: ob_quantised_matrix {
            ob_quantised_matrix(outputs: outputs, inputs: inputs, panels: panels.pointer, is_narrow: isNarrow ? 1 : 0)
        }
    }

    /// Panels that a thread packs at a time.
    private static let panelsAtOnce = 4

    private let matrices: [LayerModule: Matrix]

    init(_ sizes: LayerSizes) {
        matrices = Dictionary(
            uniqueKeysWithValues: LayerModule.matrices.filter(sizes.has).map {
                let (outputs, inputs) = sizes.shape($0)
                return ($0, Matrix(outputs: outputs, inputs: inputs))
            })
    }

    /// The matrix of a module, for the products of quantised.h; nil if the layer does not have it.
    subscript(_ module: LayerModule) -> ob_quantised_matrix? { matrices[module]?.product }

    /// Packs the matrices of a frozen layer.
    func pack(_ layer: Int, of model: TrainableModel, threads: Int) throws(ModelError) {
        for (module, matrix) in matrices {
            let tensor = try model.source.storedTensor(model.description.names.name(LayerTensor(module), layer: layer))
            matrix.isNarrow = tensor.isPackedAsStored && tensor.type != .q8_0
            let bytes = ob_quantised_panel_bytes(matrix.inputs)
            nonisolated(unsafe) let panels = matrix.panels.pointer
            let outputs = matrix.outputs
            forEachChunk(of: outputs, size: Self.panelsAtOnce * Matrix.panelOutputs, threads: threads) { range in
                let floats = ScratchBuffer<Float>()
                for output in stride(from: range.lowerBound, to: range.upperBound, by: Matrix.panelOutputs) {
                    let rows = output..<min(output + Matrix.panelOutputs, range.upperBound)
                    tensor.pack(rows: rows, into: panels + output / Matrix.panelOutputs * bytes, scratch: floats)
                }
            }
        }
    }
}

extension StoredTensor {
    /// Whether 8-bit weights are read from the file's own blocks, without rounding.
    package var isPackedAsStored: Bool {
        ob_quantised_reads(type.rawValue) != 0 && !view.isTransposed && view.offset == 0 && scales.isEmpty && change == nil
    }

    /// Packs up to 16 rows of a matrix as a panel of 8-bit weights.
    fileprivate func pack(rows: Range<Int>, into panel: UnsafeMutableRawPointer, scratch: ScratchBuffer<Float>) {
        withExtendedLifetime(file) {
            var pointers: [UnsafeRawPointer?]
            if isPackedAsStored {
                guard let base = file.bytes.baseAddress?.advanced(by: offset) else { return }
                let rowBytes = columns / type.blockElements * type.blockBytes
                pointers = rows.map { base + view.storedRow($0) * rowBytes }
            } else {
                let floats = scratch.reserve(rows.count * columns)
                copyFloats(rows: rows, into: floats)
                pointers = rows.indices.map { UnsafeRawPointer(floats + ($0 - rows.lowerBound) * columns) }
            }
            ob_quantise_panel(isPackedAsStored ? type.rawValue : ElementType.f32.rawValue, &pointers, rows.count, columns, panel)
        }
    }
}
