import Core
import Kernels

/// Norms and biases: vectors to which each segment adds its own ±εz where they are trained.
extension ForwardPass {
    /// The weights and the bias of a norm, and their slots among the trained tensors.
    struct NormVectors {
        var weight: UnsafePointer<Float>?
        var bias: UnsafePointer<Float>?
        var weightSlot = -1
        var biasSlot = -1

        var isTrained: Bool { weightSlot >= 0 || biasSlot >= 0 }
    }

    /// Returns the vectors of a layer's norm. An RMS norm without weights gets ones.
    func vectors(_ module: LayerModule, of layer: Int) throws(ModelError) -> NormVectors {
        var found = NormVectors(weightSlot: slot(layer, module), biasSlot: slot(layer, module, isBias: true))
        let width = sizes.shape(module).outputs
        let weight = LayerTensor(module)
        let bias = LayerTensor(module, isBias: true)
        if let kept = floats(of: layer) {
            found.weight = sizes.has(module) ? kept[weight].map { UnsafePointer($0) } : nil
            found.bias = kept[bias].map { UnsafePointer($0) }
        } else {
            let made = madeVectors.reserve(2 * width)
            if sizes.has(module) {
                try model.copyFloats(weight, of: layer, into: made)
                found.weight = UnsafePointer(made)
            }
            if sizes.hasBias(module) {
                try model.copyFloats(bias, of: layer, into: made + width)
                found.bias = UnsafePointer(made + width)
            }
        }
        if found.weight == nil, description.norm.kind == .rms { found.weight = ones(width) }
        return found
    }

    private func ones(_ width: Int) -> UnsafePointer<Float> {
        let ones = perturbedNorm.reserve(width)
        ones.update(repeating: 1, count: width)
        return UnsafePointer(ones)
    }

    /// Normalises rows in a layout. `input` and `out` may be the same.
    package func normalise(
        _ input: UnsafePointer<Float>, _ module: LayerModule, of layer: Int, layout: Layout, rows: Int, into out: UnsafeMutablePointer<Float>
    ) throws(ModelError) {
        normalise(input, try vectors(module, of: layer), layout: layout, rows: rows, into: out)
    }

    /// Normalises rows in a layout by a norm outside the layers.
    package func normalise(
        _ input: UnsafePointer<Float>, _ weight: ModelTensor, _ bias: ModelTensor, layout: Layout, rows: Int, into out: UnsafeMutablePointer<Float>
    ) {
        var vectors = NormVectors(weightSlot: model.slot(weight), biasSlot: model.slot(bias))
        vectors.weight = model.floats(weight).map { UnsafePointer($0) }
        vectors.bias = model.floats(bias).map { UnsafePointer($0) }
        if vectors.weight == nil, description.norm.kind == .rms { vectors.weight = ones(sizes.hidden) }
        normalise(input, vectors, layout: layout, rows: rows, into: out)
    }

    private func normalise(
        _ input: UnsafePointer<Float>, _ vectors: NormVectors, layout: Layout, rows: Int, into out: UnsafeMutablePointer<Float>
    ) {
        let h = sizes.hidden
        guard directions != nil, vectors.isTrained, layout != .sequences else { return norm(input, vectors, into: out, rows, width: h) }
        for segment in segments {
            let range = self.rows(of: segment, layout)
            norm(
                input + range.lowerBound * h, perturbed(vectors, for: segment, width: h), into: out + range.lowerBound * h, range.count, width: h)
        }
    }

    /// Returns a norm's vectors ± εz, valid until the next call.
    func perturbed(_ vectors: NormVectors, for segment: Segment, width: Int) -> NormVectors {
        guard let directions, segment.direction >= 0, vectors.isTrained else { return vectors }
        var own = vectors
        func add(_ slot: Int, _ vector: inout UnsafePointer<Float>?, in buffer: ScratchBuffer<Float>) {
            guard slot >= 0, let from = vector else { return }
            let out = buffer.reserve(width)
            let z = directions.vector(slot, segment.direction)
            ob_sum_scaled_i8(from, z, segment.sign * directions.scales[slot], out, width)
            vector = UnsafePointer(out)
        }
        add(vectors.weightSlot, &own.weight, in: perturbedNorm)
        add(vectors.biasSlot, &own.bias, in: perturbedBias)
        return own
    }

    /// Normalises consecutive rows, each `width` wide.
    func norm(_ x: UnsafePointer<Float>, _ vectors: NormVectors, into y: UnsafeMutablePointer<Float>, _ rows: Int, width: Int) {
        let epsilon = Float(description.norm.epsilon)
        switch description.norm.kind {
        case .rms: if let weight = vectors.weight { ob_rms_norm(x, weight, y, rows, width, epsilon) }
        case .layer: ob_layer_norm(x, vectors.weight, vectors.bias, y, rows, width, epsilon)
        }
    }

    /// Adds the biases of a module's outputs to rows in a layout.
    func addBias(
        _ module: LayerModule, of layer: Int, to y: UnsafeMutablePointer<Float>, _ yStride: Int, rows: Int, layout: Layout
    ) throws(ModelError) {
        let width = sizes.shape(module).outputs
        let tensor = LayerTensor(module, isBias: true)
        let bias: UnsafePointer<Float>
        if let kept = floats(of: layer)?[tensor] {
            bias = UnsafePointer(kept)
        } else {
            let made = madeVectors.reserve(width)
            try model.copyFloats(tensor, of: layer, into: made)
            bias = UnsafePointer(made)
        }
        for row in 0..<rows { ob_add_scaled(y + row * yStride, bias, 1, width) }
        guard layout != .sequences else { return }
        for segment in segments {
            for row in self.rows(of: segment, layout) {
                addDirection(of: segment, slot: slot(layer, module, isBias: true), width: width, to: y + row * yStride)
            }
        }
    }

    /// Adds ±εz of a vector, if it is trained.
    func addDirection(of segment: Segment, slot: Int, width: Int, to y: UnsafeMutablePointer<Float>) {
        guard let directions, segment.direction >= 0, slot >= 0 else { return }
        ob_add_scaled_i8(y, directions.vector(slot, segment.direction), segment.sign * directions.scales[slot], width)
    }
}
