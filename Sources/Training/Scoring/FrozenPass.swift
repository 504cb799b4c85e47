import LanguageModel
import Synchronization

/// Carries new tokens of many paths through the frozen layers in one batch. The keys and values of the earlier tokens come from the tree.
/// Each thread has its own pass and scratch.
final class FrozenPass {
    private let pass: IncrementalPass
    private let scores = ScratchBuffer<Float>()
    private let pathKeyValues = ScratchBuffer<Float>()

    init(model: TrainableModel) { pass = IncrementalPass(model: model) }

    /// Fills the states of these nodes.
    func run(_ nodes: ArraySlice<PathTree.Node>, in tree: PathTree, layers: Int) throws(ModelError) {
        let s = pass.model.sizes
        let longest = nodes.reduce(0) { max($0, $1.length) }
        let kvw = 2 * s.keyValue
        let scores = scores.reserve(longest)
        let gathered = pathKeyValues.reserve(longest * kvw)
        let paths = nodes.map(\.path)
        let tokens = nodes.flatMap { node in node.tokens.enumerated().map { (token: $1, position: node.start + $0, textLength: node.length) } }
        let x = try pass.run(tokens, layers: layers) { attention in
            var row = 0
            for (node, path) in zip(nodes, paths) {
                guard let own = tree.keyValues(of: node, layer: attention.layer) else { continue }
                for i in node.tokens.indices { (own + i * kvw).update(from: attention.keyValues + (row + i) * attention.stride, count: kvw) }
                var all = UnsafePointer(own)
                if node.parent != nil {
                    for part in path {
                        guard let from = tree.keyValues(of: part, layer: attention.layer) else { continue }
                        (gathered + part.start * kvw).update(from: from, count: part.tokens.count * kvw)
                    }
                    all = UnsafePointer(gathered)
                }
                for i in node.tokens.indices { attention.attend(row: row + i, in: all, count: node.start + i + 1, scores: scores) }
                row += node.tokens.count
            }
        }
        var row = 0
        for node in nodes {
            row += node.tokens.count
            let kept = tree.hiddenRows(of: node)
            tree.hidden(of: node)?.update(from: x + (row - kept) * s.hidden, count: kept * s.hidden)
        }
    }
}

/// A pool of passes that are lent to the threads that compute.
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
