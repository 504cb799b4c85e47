import Core
import Kernels

/// An adapter in the forward pass: it adds U·C·Vᵀ·x to y. On a linear map, x is the map's input and y its output. At `final`, both are the final
/// norm's output on its way to the head. U and V are frozen; C follows the parameters.
package final class Adapter: @unchecked Sendable {  // C is written while nobody computes with it
    /// p, the number of vectors in U.
    package let outputCount: Int
    /// r, the number of vectors in V.
    package let inputCount: Int
    /// Position of C among the model's trained tensors.
    package let slot: Int
    /// U: p vectors of `outputWidth`, one after the other.
    package let outputs: ScratchBuffer<Float>
    /// V: r vectors of `inputWidth`, one after the other.
    package let inputs: ScratchBuffer<Float>
    /// C, p×r.
    package let coordinates: ScratchBuffer<Float>
    /// m and n, the widths of the output and the input.
    package let outputWidth, inputWidth: Int

    fileprivate init(slot: Int, basis: AdapterBasis) {
        self.slot = slot
        outputWidth = basis.outputs.length
        inputWidth = basis.inputs.length
        outputCount = basis.outputs.count
        inputCount = basis.inputs.count
        outputs = ScratchBuffer(basis.outputs.floats())
        inputs = ScratchBuffer(basis.inputs.floats())
        coordinates = ScratchBuffer(capacity: outputCount * inputCount)
    }

    /// Computes Vᵀ·x of one row: r numbers. They do not depend on what else is computed at the same time.
    package func project(_ row: UnsafePointer<Float>, into x: UnsafeMutablePointer<Float>) {
        for j in 0..<inputCount { x[j] = ob_dot(row, inputs.pointer + j * inputWidth, inputWidth) }
    }

    /// V as a matrix, for computing Vᵀ·x.
    var projection: ob_matrix { ob_matrix(inputs.pointer, outputs: inputCount, inputs: inputWidth) }

    /// Adds U·(C + scale·Z)·x to a row. Z is p×r; nil counts as zeros.
    package func adapt(
        _ row: UnsafeMutablePointer<Float>, projection x: UnsafePointer<Float>, direction: UnsafePointer<Int8>? = nil, scale: Float = 0
    ) {
        for i in 0..<outputCount {
            var y = ob_dot(coordinates.pointer + i * inputCount, x, inputCount)
            if let direction { y += scale * ob_dot_i8(x, direction + i * inputCount, inputCount) }
            ob_add_scaled(row, outputs.pointer + i * outputWidth, y, outputWidth)
        }
    }

    /// Adds scale·U·Z·x to a row.
    func perturb(_ row: UnsafeMutablePointer<Float>, projection x: UnsafePointer<Float>, direction: UnsafePointer<Int8>, scale: Float) {
        for i in 0..<outputCount {
            let y = scale * ob_dot_i8(x, direction + i * inputCount, inputCount)
            ob_add_scaled(row, outputs.pointer + i * outputWidth, y, outputWidth)
        }
    }
}

extension ModelSource {
    /// Returns the adapters among trained tensors, by the names of their places.
    ///
    /// - Throws: `ModelError` if the basis lacks an adapter or has it in another shape.
    func adapters(of tensors: [TrainedTensor], basis: RunBasis?) throws(ModelError) -> [String: Adapter] {
        var adapters: [String: Adapter] = [:]
        for (slot, tensor) in tensors.enumerated() {
            guard let place = tensor.place else { continue }
            guard let own = basis?.adapter(at: place.name), own.shape == tensor.shape, let width = widths(of: place),
                own.outputs.length == width.outputs, own.inputs.length == width.inputs
            else {
                throw ModelError(
                    .badRequest, file: path, subject: tensor.name, "the basis does not hold the factors of this adapter",
                    remedy: "give the basis that the run was made with")
            }
            adapters[place.name] = Adapter(slot: slot, basis: own)
        }
        return adapters
    }

    /// Returns the widths of an adapter's output and input at a place; nil if no adapter can be there.
    public func widths(of place: AdapterPlace) -> (outputs: Int, inputs: Int)? {
        switch place {
        case .final:
            let width = LayerSizes(configuration).embedding
            return (width, width)
        case .tensor(let name, _):
            guard case .matrix(let rows, let columns)? = shape(of: name) else { return nil }
            return (rows, columns)
        }
    }
}

extension ForwardPass {
    /// Replaces n by n + U·(C ± εZ)·Vᵀ·n in all rows of `normed`, in the layout `reads`.
    func adaptFinalStates(_ adapter: Adapter) {
        let h = sizes.embedding
        let x = adapterInputs.reserve(adapter.inputCount)
        for segment in segments {
            let (direction, scale) = perturbation(of: adapter, for: segment)
            for row in rows(of: segment, .reads) {
                let state = normed.pointer + row * h
                adapter.project(state, into: x)
                adapter.adapt(state, projection: x, direction: direction, scale: scale)
            }
        }
    }

    /// Returns a segment's Z, and ±ε.
    private func perturbation(of adapter: Adapter, for segment: Segment) -> (direction: UnsafePointer<Int8>?, scale: Float) {
        guard let directions, segment.direction >= 0 else { return (nil, 0) }
        return (directions.vector(adapter.slot, segment.direction), segment.sign * directions.scales[adapter.slot])
    }

    /// Adds U·(C ± εZ)·Vᵀ·x of some of a layer's matrices, whose outputs lie side by side. In the layout `sequences`, ±εZ is left out.
    func addAdapters(
        _ modules: [LayerModule], of layer: Int, _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, to y: UnsafeMutablePointer<Float>,
        _ yStride: Int, layout: Layout
    ) {
        var done = 0
        for module in modules {
            defer { done += sizes.shape(module).outputs }
            guard let adapter = model.adapter(layer, module) else { continue }
            let projected = project(x, xStride, rows, module, adapter)
            let r = adapter.inputCount
            if layout == .sequences {
                for row in 0..<rows { adapter.adapt(y + row * yStride + done, projection: projected + row * r) }
                continue
            }
            for segment in segments {
                let (direction, scale) = perturbation(of: adapter, for: segment)
                for row in self.rows(of: segment, layout) {
                    adapter.adapt(y + row * yStride + done, projection: projected + row * r, direction: direction, scale: scale)
                }
            }
        }
    }

    /// Returns Vᵀ·x of rows of a matrix's input, r numbers each. They are valid until the next call for this matrix.
    private func project(
        _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, _ module: LayerModule, _ adapter: Adapter
    ) -> UnsafePointer<Float> {
        let r = adapter.inputCount
        let out = projectedInputs[module.rawValue].reserve(rows * r)
        plainProduct(adapter.projection, x, xStride, rows, into: out, r)
        return UnsafePointer(out)
    }

    /// Adds ±ε·U·Z·Vᵀ·x to a segment's copy of shared rows. The first of them is row `first` of the last call of `addAdapters`.
    func perturbCopy(
        _ module: LayerModule, of layer: Int, _ segment: Segment, firstRow first: Int, rows: Int, to y: UnsafeMutablePointer<Float>, _ yStride: Int,
        scaledBy factor: Float = 1
    ) {
        guard let adapter = model.adapter(layer, module), case let (direction?, scale) = perturbation(of: adapter, for: segment) else { return }
        let projected = projectedInputs[module.rawValue].pointer
        for row in 0..<rows {
            adapter.perturb(
                y + row * yStride, projection: projected + (first + row) * adapter.inputCount, direction: direction, scale: factor * scale)
        }
    }
}
