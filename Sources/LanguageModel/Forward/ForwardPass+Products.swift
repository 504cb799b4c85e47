import Core
import Kernels

/// The matrix products of a layer with the perturbations of every segment. A perturbation is a rank-one term beside a product, a dense
/// change of its weights, or part of a product in 8-bit integers.
extension ForwardPass {
    /// Padding between rows of the feed-forward layer's inner states. Rows whose length is a multiple of a page would evict each other from
    /// the cache.
    private static let rowPadding = 16

    // MARK: Weights

    /// Returns a layer in F32; nil if it is not kept.
    func floats(of layer: Int) -> LayerWeights? { frozen?.floats ?? model.residentLayer(layer) }

    /// Returns a matrix in the form that a product reads: the floats or integers that are kept, or, for a frozen layer that is not kept,
    /// floats made in `made`. Those stay until the next matrix is made there.
    private func matrix(_ module: LayerModule, of layer: Int, made: ScratchBuffer<Float>) throws(ModelError) -> ob_matrix {
        let (outputs, inputs) = sizes.shape(module)
        if let kept = floats(of: layer) { return ob_matrix(kept[module], outputs: outputs, inputs: inputs) }
        let slot = slot(layer, module)
        if slot >= 0, let parameters = model.parameters { return ob_matrix(parameters, at: slot, outputs: outputs, inputs: inputs) }
        let out = made.reserve(outputs * inputs)
        try model.copyFloats(LayerTensor(module), of: layer, into: out)
        return ob_matrix(out, outputs: outputs, inputs: inputs)
    }

    /// Returns the layer's 8-bit matrices if the pass uses them. A pass without directions, or with dense ones, does not: it has no
    /// differences from clean rows.
    private func byteWeights(_ layer: Int) -> Int8Weights? {
        precision == .int8 && directions?.isRank1 == true ? model.byteLayer(layer) : nil
    }

    // MARK: Linear maps

    /// Computes y = accumulate·y + x·wᵀ + bias for some of a layer's matrices, with the perturbations of every segment. The matrices read
    /// the same x and are adjacent in the layer; their outputs lie side by side. In the layout `sequences`, whose rows all directions
    /// share, nothing is perturbed.
    func project(
        _ modules: [LayerModule], of layer: Int, _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, into y: UnsafeMutablePointer<Float>,
        _ yStride: Int, accumulate: Bool = false, layout: Layout
    ) throws(ModelError) {
        let isPerturbed = directions != nil && layout != .sequences && modules.contains { slot(layer, $0) >= 0 }
        if let quantised = frozen?.quantised {
            quantisedProduct(modules, of: quantised, x, xStride, rows, into: y, yStride, accumulate: accumulate)
        } else if layout != .sequences, let bytes = byteWeights(layer), let kept = model.residentLayer(layer) {
            differentialProduct(
                x, xStride, kept[modules[0]], modules.compactMap { bytes[$0] }, into: y, yStride, accumulate: accumulate, layout: layout)
            var done = 0
            for module in modules {
                // For a gate and its up, `activate` adds the terms.
                if !isGatedPair(modules) { correct(y + done, yStride, module, of: layer, from: x, xStride, rows, layout: layout) }
                done += sizes.shape(module).outputs
            }
        } else if !isPerturbed, let kept = floats(of: layer) {
            let outputs = modules.reduce(0) { $0 + sizes.shape($1).outputs }
            plainProduct(
                ob_matrix(kept[modules[0]], outputs: outputs, inputs: sizes.shape(modules[0]).inputs), x, xStride, rows, into: y, yStride,
                accumulate: accumulate)
        } else {
            var done = 0
            for module in modules {
                product(
                    try matrix(module, of: layer, made: madeMatrix), slot: slot(layer, module), x, xStride, rows, into: y + done, yStride,
                    accumulate: accumulate, layout: layout)
                done += sizes.shape(module).outputs
            }
        }
        if model.hasAdapters(layer) { addAdapters(modules, of: layer, x, xStride, rows, to: y, yStride, layout: layout) }
        var done = 0
        for module in modules {
            if sizes.hasBias(module) { try addBias(module, of: layer, to: y + done, yStride, rows: rows, layout: layout) }
            done += sizes.shape(module).outputs
        }
    }

    private func isGatedPair(_ modules: [LayerModule]) -> Bool { modules.first == .gate }

    /// Computes y = accumulate·y + x·wᵀ for one matrix with the perturbations of every segment.
    func product(
        _ matrix: ob_matrix, slot: Int, _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, into y: UnsafeMutablePointer<Float>,
        _ yStride: Int, accumulate: Bool = false, layout: Layout
    ) {
        var w = matrix
        let panels = panels.reserve(ob_product_scratch(w.inputs))
        func part(_ range: Range<Int>, plus: Int = 0) {
            ob_product(
                x + range.lowerBound * xStride, xStride, range.count, plus, &w, nil, y + range.lowerBound * yStride, yStride,
                accumulate ? 1 : 0, panels)
        }
        if layout != .sequences, setTerms(rowTerms, slot: slot, x, xStride, inputs: w.inputs, layout: layout, rows: rows) {
            var terms = rowTerms.terms
            ob_product(x, xStride, rows, rows, &w, &terms, y, yStride, accumulate ? 1 : 0, panels)
        } else if let directions, !directions.isRank1, slot >= 0, layout != .sequences {
            w.direction_scale = directions.scales[slot]
            for group in groups {
                w.direction = directions.elements(slot, group.direction, 0..<w.outputs * w.inputs, into: denseElements)
                let rows = group.rows(layout)
                part(rows.all, plus: rows.plus)
            }
            w.direction = nil
            part(cleanRows(layout))
        } else {
            part(0..<rows)
        }
    }

    /// Computes y = accumulate·y + x·wᵀ for floats on all of the pass's threads.
    package func plainProduct(
        _ w: ob_matrix, _ x: UnsafePointer<Float>, _ xStride: Int, _ rows: Int, into y: UnsafeMutablePointer<Float>, _ yStride: Int,
        accumulate: Bool = false
    ) {
        nonisolated(unsafe) let (x, w, y) = (x, w, y)
        forEachPart(of: w.outputs, inputs: w.inputs) { range, panels in
            var part = w.rows(range)
            ob_product(x, xStride, rows, rows, &part, nil, y + range.lowerBound, yStride, accumulate ? 1 : 0, panels)
        }
    }

    /// Splits a product's outputs into parts, one per thread, and gives each its scratch.
    private func forEachPart(of outputs: Int, inputs: Int, _ body: @Sendable (Range<Int>, UnsafeMutablePointer<Float>) -> Void) {
        guard threads > 1 else { return body(0..<outputs, panels.reserve(ob_product_scratch(inputs))) }
        let share = (outputs + threads - 1) / threads
        let size = (share + 31) / 32 * 32  // whole panels
        let scratch = (ob_product_scratch(inputs) + 15) / 16 * 16  // on a cache line each
        nonisolated(unsafe) let panels = panels.reserve(threads * scratch)
        forEachChunk(of: outputs, size: size, threads: threads) { range in body(range, panels + range.lowerBound / size * scratch) }
    }

    // MARK: Feed-forward layer

    /// Computes the feed-forward layer's activations; returns their rows and the distance between rows in floats.
    func innerStates(
        _ layer: Int, _ x: UnsafePointer<Float>, _ rows: Int, layout: Layout
    ) throws(ModelError) -> (UnsafePointer<Float>, stride: Int) {
        let f = sizes.feedForward
        let kind = description.activation.kernel
        if !description.isGated {
            let stride = f + Self.rowPadding
            let inner = inner.reserve(rows * stride)
            try project([.up], of: layer, x, sizes.hidden, rows, into: inner, stride, layout: layout)
            for row in 0..<rows {
                if let x = description.layers[layer].xielu {
                    ob_xielu(inner + row * stride, f, x.plus, x.minus, x.beta, x.epsilon)
                } else {
                    ob_activate(inner + row * stride, f, kind)
                }
            }
            return (UnsafePointer(inner), stride)
        }
        let isAdapted = model.adapter(layer, .gate) != nil || model.adapter(layer, .up) != nil
        if byteWeights(layer) == nil, !sizes.hasBias(.gate), !sizes.hasBias(.up), !isAdapted {
            let stride = f + Self.rowPadding
            let inner = inner.reserve(rows * stride)
            if let quantised = frozen?.quantised {
                quantisedGatedProduct(of: quantised, x, rows, into: inner, stride)
                return (UnsafePointer(inner), stride)
            }
            try gatedProduct(layer, x, rows, into: inner, stride, layout: layout)
            return (UnsafePointer(inner), stride)
        }
        let inner = inner.reserve(rows * 2 * f)
        try project([.gate, .up], of: layer, x, sizes.hidden, rows, into: inner, 2 * f, layout: layout)
        activate(inner, of: layer, from: x, rows, layout: layout)
        return (UnsafePointer(inner), 2 * f)
    }

    /// Computes activation(x·gateᵀ)·(x·upᵀ) with the perturbations of both, in one product.
    private func gatedProduct(
        _ layer: Int, _ x: UnsafePointer<Float>, _ rows: Int, into y: UnsafeMutablePointer<Float>, _ yStride: Int, layout: Layout
    ) throws(ModelError) {
        var gate = try matrix(.gate, of: layer, made: madeMatrix)
        var up = try matrix(.up, of: layer, made: madeUp)
        let h = sizes.hidden
        let kind = description.activation.kernel
        let gateSlot = slot(layer, .gate)
        let upSlot = slot(layer, .up)
        guard let directions, gateSlot >= 0 || upSlot >= 0 else {
            nonisolated(unsafe) let (x, y, gate, up) = (x, y, gate, up)
            return forEachPart(of: gate.outputs, inputs: h) { range, panels in
                var (gate, up) = (gate.rows(range), up.rows(range))
                ob_gated_product(kind, x, h, rows, rows, &gate, &up, nil, nil, y + range.lowerBound, yStride, panels)
            }
        }
        let panels = panels.reserve(ob_product_scratch(h))
        func product(
            _ range: Range<Int>, plus: Int = 0, _ gateTerms: UnsafePointer<ob_rank1_terms>? = nil,
            _ upTerms: UnsafePointer<ob_rank1_terms>? = nil
        ) {
            ob_gated_product(
                kind, x + range.lowerBound * h, h, range.count, plus, &gate, &up, gateTerms, upTerms, y + range.lowerBound * yStride, yStride, panels)
        }
        if directions.isRank1 {
            setTerms(rowTerms, slot: gateSlot, x, h, inputs: h, layout: layout, rows: rows)
            setTerms(upTerms, slot: upSlot, x, h, inputs: h, layout: layout, rows: rows)
            var (gateTerms, upTerms) = (rowTerms.terms, upTerms.terms)
            return product(0..<rows, &gateTerms, &upTerms)
        }
        let count = gate.outputs * h
        if gateSlot >= 0 { gate.direction_scale = directions.scales[gateSlot] }
        if upSlot >= 0 { up.direction_scale = directions.scales[upSlot] }
        for group in groups {
            gate.direction = gateSlot >= 0 ? directions.elements(gateSlot, group.direction, 0..<count, into: denseElements) : nil
            up.direction = upSlot >= 0 ? directions.elements(upSlot, group.direction, 0..<count, into: denseUpElements) : nil
            let rows = group.rows(layout)
            product(rows.all, plus: rows.plus)
        }
        gate.direction = nil
        up.direction = nil
        product(cleanRows(layout))
    }

    /// Sets ± ε(x·b)a for each row of each segment, if the matrix is trained with `rank1` directions. Returns false if no row has such a
    /// term.
    @discardableResult
    private func setTerms(
        _ out: RowTerms, slot: Int, _ x: UnsafePointer<Float>, _ xStride: Int, inputs: Int, layout: Layout, rows count: Int
    ) -> Bool {
        out.reserve(count)
        guard let directions, directions.isRank1, slot >= 0 else { return false }
        for segment in segments where segment.direction >= 0 {
            out.set(
                rows(of: segment, layout), x, stride: xStride, inputs: inputs, a: directions.a(slot, segment.direction),
                b: directions.b(slot, segment.direction), scale: segment.sign * directions.scales[slot])
        }
        return true
    }

    /// Adds the rank-one terms to a product of differences.
    private func correct(
        _ y: UnsafeMutablePointer<Float>, _ yStride: Int, _ module: LayerModule, of layer: Int, from x: UnsafePointer<Float>, _ xStride: Int,
        _ rows: Int, layout: Layout
    ) {
        let (outputs, inputs) = sizes.shape(module)
        guard setTerms(rowTerms, slot: slot(layer, module), x, xStride, inputs: inputs, layout: layout, rows: rows) else { return }
        let terms = rowTerms.terms
        for row in 0..<rows {
            if let a = terms.a[row] { ob_add_scaled_i8(y + row * yStride, a, terms.scales[row], outputs) }
        }
    }

    /// Replaces the gates by activation(gate)·up; for products of differences it first adds the rank-one terms of both.
    private func activate(_ inner: UnsafeMutablePointer<Float>, of layer: Int, from x: UnsafePointer<Float>, _ rows: Int, layout: Layout) {
        let f = sizes.feedForward
        let h = sizes.hidden
        let hasTerms = byteWeights(layer) != nil
        setTerms(rowTerms, slot: hasTerms ? slot(layer, .gate) : -1, x, h, inputs: h, layout: layout, rows: rows)
        setTerms(upTerms, slot: hasTerms ? slot(layer, .up) : -1, x, h, inputs: h, layout: layout, rows: rows)
        let (gateTerms, upTerms) = (rowTerms.terms, upTerms.terms)
        let kind = description.activation.kernel
        for row in 0..<rows {
            let gate = inner + row * 2 * f
            ob_gated_rank1(kind, gate, gateTerms.a[row], gateTerms.scales[row], gate + f, upTerms.a[row], upTerms.scales[row], gate, f)
        }
    }
}

extension ob_matrix {
    /// Returns the matrix with a range of its outputs.
    fileprivate func rows(_ range: Range<Int>) -> ob_matrix {
        var part = self
        part.outputs = range.count
        let offset = range.lowerBound * (stride > 0 ? stride : inputs)
        part.floats = floats.map { $0 + offset }
        part.fixed = fixed.map { $0 + offset }
        return part
    }
}

extension ModelDescription.Activation {
    /// The kernels' code for the activation.
    var kernel: Int32 {
        switch self {
        case .silu: Int32(OB_SILU)
        case .gelu: Int32(OB_GELU)
        case .geluTanh: Int32(OB_GELU_TANH)
        case .relu: Int32(OB_RELU)
        case .reluSquared: Int32(OB_RELU_SQUARED)
        }
    }
}
