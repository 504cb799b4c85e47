import Core
import Kernels

/// The adapter at `final`: the final norm's output n becomes n + U·C·Vᵀ·n on its way to the head. U and V are frozen, C follows the
/// parameters.
package final class FinalAdapter: @unchecked Sendable {  // C is written while nobody computes with it
    /// p: the vectors of U.
    package let outputCount: Int
    /// r: the vectors of V.
    package let inputCount: Int
    /// C among the model's trained tensors.
    package let slot: Int
    /// U, vector after vector of the model's width.
    package let outputs: ScratchBuffer<Float>
    /// V, vector after vector of the model's width.
    package let inputs: ScratchBuffer<Float>
    /// C, p×r.
    package let coordinates: ScratchBuffer<Float>
    private let width: Int

    fileprivate init(slot: Int, basis: AdapterBasis, width: Int) {
        self.slot = slot
        self.width = width
        outputCount = basis.outputs.count
        inputCount = basis.inputs.count
        outputs = ScratchBuffer(basis.outputs.floats())
        inputs = ScratchBuffer(basis.inputs.floats())
        coordinates = ScratchBuffer(capacity: outputCount * inputCount)
    }

    /// Vᵀ·n of a state, r numbers. They do not depend on what else is computed at the same time.
    package func project(_ state: UnsafePointer<Float>, into x: UnsafeMutablePointer<Float>) {
        for j in 0..<inputCount { x[j] = ob_dot(state, inputs.pointer + j * width, width) }
    }

    /// Adds U·(C + scale·Z)·x to a state; Z, p×r, counts as zeros where it is nil.
    package func adapt(
        _ state: UnsafeMutablePointer<Float>, projection x: UnsafePointer<Float>, direction: UnsafePointer<Int8>? = nil, scale: Float = 0
    ) {
        for i in 0..<outputCount {
            var y = ob_dot(coordinates.pointer + i * inputCount, x, inputCount)
            if let direction { y += scale * ob_dot_i8(x, direction + i * inputCount, inputCount) }
            ob_add_scaled(state, outputs.pointer + i * width, y, width)
        }
    }
}

extension ModelSource {
    /// The adapter at `final` among trained tensors; nil where there is none.
    ///
    /// - Throws: `ModelError` where the basis does not have it as it is trained, or for an adapter at any other place.
    func finalAdapter(of tensors: [TrainedTensor], basis: RunBasis?) throws(ModelError) -> FinalAdapter? {
        var adapter: FinalAdapter?
        for (slot, tensor) in tensors.enumerated() {
            guard let place = tensor.place else { continue }
            guard place == .final else {
                throw ModelError(.unsupported, file: path, subject: tensor.name, "adapters can be placed at final only")
            }
            let width = LayerSizes(configuration).embedding
            guard let own = basis?.adapters.first(where: { $0.place == place.name }), own.shape == tensor.shape,
                own.outputs.length == width, own.inputs.length == width
            else {
                throw ModelError(
                    .badRequest, file: path, subject: tensor.name, "the basis does not hold the factors of this adapter",
                    remedy: "give the basis that the run was made with")
            }
            adapter = FinalAdapter(slot: slot, basis: own, width: width)
        }
        return adapter
    }
}

extension ForwardPass {
    /// n + U·(C ± εZ)·Vᵀ·n for all rows of `normed`, in the layout `reads`.
    func adaptFinalStates(_ adapter: FinalAdapter) {
        let h = sizes.embedding
        let x = adapterInputs.reserve(adapter.inputCount)
        for segment in segments {
            let isPerturbed = segment.direction >= 0
            let direction = isPerturbed ? directions?.vector(adapter.slot, segment.direction) : nil
            let scale = isPerturbed ? segment.sign * (directions?.scales[adapter.slot] ?? 0) : 0
            for row in rows(of: segment, .reads) {
                let state = normed.pointer + row * h
                adapter.project(state, into: x)
                adapter.adapt(state, projection: x, direction: direction, scale: scale)
            }
        }
    }
}
