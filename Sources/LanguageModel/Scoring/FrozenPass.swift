import Kernels
import Synchronization

/// Carries new tokens of many paths through the frozen layers in one batch, with the keys and values of what stands before
/// them taken from the tree. One thread's; the scratch of it.
final class FrozenPass {
    private let model: TrainableModel
    private let x = ScratchBuffer<Float>()
    private let normed = ScratchBuffer<Float>()
    private let projected = ScratchBuffer<Float>()
    private let attended = ScratchBuffer<Float>()
    private let inner = ScratchBuffer<Float>()
    private let scores = ScratchBuffer<Float>()
    private let pathKeyValues = ScratchBuffer<Float>()
    private let positions = ScratchBuffer<Int32>()
    private let tokens = ScratchBuffer<Int32>()

    init(model: TrainableModel) { self.model = model }

    /// Fills the states of these nodes.
    func run(_ nodes: ArraySlice<PathTree.Node>, in tree: PathTree, layers: Int) throws(ModelError) {
        let s = model.sizes
        let h = s.hidden
        let rows = nodes.reduce(0) { $0 + $1.tokens.count }
        let longest = nodes.reduce(0) { max($0, $1.length) }
        let x = x.reserve(rows * h)
        let at = positions.reserve(rows)
        let ids = tokens.reserve(rows)
        var row = 0
        for node in nodes {
            for (i, token) in node.tokens.enumerated() {
                ids[row] = token
                at[row] = Int32(node.start + i)
                row += 1
            }
        }
        try model.embed(UnsafeBufferPointer(start: ids, count: rows), into: x)

        let epsilon = Float(model.configuration.rmsEpsilon)
        let scale = 1 / Float(s.headDimension).squareRoot()
        let kvw = 2 * s.keyValue
        let width = s.query + kvw
        let f = s.feedForward
        let rotary = model.rotary
        let normed = normed.reserve(rows * h)
        let projected = projected.reserve(rows * width)
        let attended = attended.reserve(rows * s.query)
        let inner = inner.reserve(rows * 2 * f)
        let scores = scores.reserve(longest)
        let gathered = pathKeyValues.reserve(longest * kvw)
        let paths = nodes.map(\.path)
        for layer in 0..<layers {
            guard let w = model.residentLayer(layer) else { continue }
            onebyte_rms_norm(x, w[.inputNorm], normed, rows, h, epsilon)
            multiply(normed, xStride: h, rows: rows, by: w[.query], outputs: width, inputs: h, into: projected, yStride: width)
            let key = projected + s.query
            onebyte_rope(projected, width, at, rows, s.heads, s.headDimension, rotary.cosine, rotary.sine)
            onebyte_rope(key, width, at, rows, s.keyValueHeads, s.headDimension, rotary.cosine, rotary.sine)
            var row = 0
            for (node, path) in zip(nodes, paths) {
                guard let own = tree.keyValues(of: node, layer: layer) else { continue }
                for i in node.tokens.indices { (own + i * kvw).update(from: key + (row + i) * width, count: kvw) }
                var all = UnsafePointer(own)
                if node.parent != nil {
                    for part in path {
                        guard let from = tree.keyValues(of: part, layer: layer) else { continue }
                        (gathered + part.start * kvw).update(from: from, count: part.tokens.count * kvw)
                    }
                    all = UnsafePointer(gathered)
                }
                for i in node.tokens.indices {
                    onebyte_attend(
                        projected + (row + i) * width, all, kvw, all + s.keyValue, kvw, node.start + i + 1, s.heads, s.keyValueHeads,
                        s.headDimension, scale, scores, attended + (row + i) * s.query)
                }
                row += node.tokens.count
            }
            multiply(
                attended, xStride: s.query, rows: rows, by: w[.output], outputs: h, inputs: s.query, into: x, yStride: h, accumulate: true)
            onebyte_rms_norm(x, w[.postNorm], normed, rows, h, epsilon)
            multiply(normed, xStride: h, rows: rows, by: w[.gate], outputs: 2 * f, inputs: h, into: inner, yStride: 2 * f)
            onebyte_swiglu(inner, inner + f, 2 * f, inner, 2 * f, rows, f)
            multiply(inner, xStride: 2 * f, rows: rows, by: w[.down], outputs: h, inputs: f, into: x, yStride: h, accumulate: true)
        }
        row = 0
        for node in nodes {
            row += node.tokens.count
            let kept = tree.hiddenRows(of: node)
            tree.hidden(of: node)?.update(from: x + (row - kept) * h, count: kept * h)
        }
    }
}

/// Lent to the threads that compute, and kept.
final class FrozenPassPool: Sendable {
    private let model: TrainableModel
    private let idle = Mutex<[Lent]>([])

    private struct Lent: @unchecked Sendable {  // used by the thread that it is lent to
        let pass: FrozenPass
    }

    init(_ model: TrainableModel) { self.model = model }

    func with<R>(_ body: (FrozenPass) throws -> R) rethrows -> R {
        let lent = idle.withLock { $0.popLast() } ?? Lent(pass: FrozenPass(model: model))
        defer { idle.withLock { $0.append(lent) } }
        return try body(lent.pass)
    }
}
