import Core
import Kernels

/// The adapter at `final`: on its way to the head, the final norm's output n becomes n + U·C·Vᵀ·n. U and V are frozen; C follows the
/// parameters.
package final class FinalAdapter: @unchecked Sendable {  // C is written while nobody computes with it
    /// p, the number of vectors in U.
    package let outputCount: Int
    /// r, the number of vectors in V.
    package let inputCount: Int
    /// Position of C among the model's trained tensors.
    package let slot: Int
    /// U: p vectors of the model's width, one after the other.
    package let outputs: ScratchBuffer<Float>
    /// V: r vectors of the model's width, one after the other.
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

    /// Computes x = Vᵀ·n of a state: r numbers. They do not depend on what else is computed at the same time.
    package func project(_ state: UnsafePointer<Float>, into x: UnsafeMutablePointer<Float>) {
        for j in 0..<inputCount { x[j] = ob_dot(state, inputs.pointer + j * width, width) }
    }

    /// Adds U·(C + scale·Z)·x to a state. Z is p×r; nil counts as zeros.
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
    /// Returns the adapter at `final` among trained tensors; nil if there is none.
    ///
    /// - Throws: `ModelError` if the basis lacks the adapter or has it with other ranks, or if a tensor is an adapter at any other place.
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
    /// Replaces n by n + U·(C ± εZ)·Vᵀ·n in all rows of `normed`, in the layout `reads`.
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
