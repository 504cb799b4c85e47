import Core
import LanguageModel

/// What the frozen part of a model makes of prompts and of the texts written after them: below the first trained layer it is a
/// function of the tokens alone, so a path that was once written costs nothing there when another direction, the other sign or a
/// later round writes it again.
///
/// One thread at a time; it uses `threads` inside.
package final class PathTree {
    /// A prompt, or one token written after its parent.
    package final class Node {
        let tokens: [Int32]
        /// Tokens before this node's own.
        let start: Int
        /// Nil for a prompt. A parent is forgotten with its children, never before.
        unowned let parent: Node?
        fileprivate(set) var children: [Int32: Node] = [:]
        /// Keys and values of each frozen layer, then the hidden states at the entry; nil until they are computed.
        fileprivate(set) var states: ScratchBuffer<Float>?
        fileprivate var lastUse = 0

        init(tokens: [Int32], parent: Node?) {
            self.tokens = tokens
            self.parent = parent
            start = parent.map { $0.length } ?? 0
        }

        /// Of the path that ends here.
        var length: Int { start + tokens.count }

        /// From the prompt to this node.
        var path: [Node] {
            var nodes = [self]
            while let parent = nodes[nodes.count - 1].parent { nodes.append(parent) }
            return nodes.reversed()
        }

        /// The tokens written after the prompt.
        package var written: [Int32] { path.dropFirst().flatMap(\.tokens) }
    }

    /// Rows of one thread's batch: enough that reading a layer's weights is small beside computing with them.
    private static let batchRows = 512
    /// What is left of the limit when something had to go.
    private static let keptPart = 0.75

    let model: TrainableModel
    let prompts: [[Int32]]
    /// Layers below the entry; nil where a pass begins at the tokens, and nothing is kept.
    let frozenLayers: Int?
    /// The entry is the final norm, which reads a path's last position only.
    let readsLastOnly: Bool
    private let memoryLimit: Int
    private let threads: Int
    private let pool: FrozenPassPool
    private var roots: [Node?]
    private var byteCount = 0
    private var clock = 0

    /// - Parameter memoryLimit: bytes; what was not used for longest goes first. One call may need more for itself.
    init(model: TrainableModel, prompts: [[Int32]], memoryLimit: Int, threads: Int) throws(ModelError) {
        self.model = model
        self.prompts = prompts
        self.memoryLimit = memoryLimit
        self.threads = max(threads, 1)
        roots = Array(repeating: nil, count: prompts.count)
        pool = FrozenPassPool(model)
        // A token goes through all of them: making one or reading it from its file each time would cost more than the rest.
        try model.prepareAllLayers()
        if case .layer(let layer) = model.entry {
            frozenLayers = layer
            readsLastOnly = layer == model.configuration.layerCount
        } else {
            frozenLayers = nil
            readsLastOnly = false
        }
    }

    /// Begins a call: what it uses is younger than all that was there, and the oldest goes where that is too much.
    func beginCall() {
        if byteCount > memoryLimit { forgetOldest() }
        clock += 1
    }

    func root(_ prompt: Int) -> Node {
        let node = roots[prompt] ?? Node(tokens: prompts[prompt], parent: nil)
        roots[prompt] = node
        node.lastUse = clock
        return node
    }

    func child(of node: Node, _ token: Int32) -> Node {
        let child = node.children[token] ?? Node(tokens: [token], parent: node)
        node.children[token] = child
        child.lastUse = clock
        return child
    }

    /// Computes the states of the nodes that lack them; their parents' must be there.
    func compute(_ nodes: [Node]) throws {
        guard let layers = frozenLayers else { return }
        var seen = Set<ObjectIdentifier>()
        let missing = nodes.filter { $0.states == nil && seen.insert(ObjectIdentifier($0)).inserted }
        guard !missing.isEmpty else { return }
        let total = missing.reduce(0) { $0 + $1.tokens.count }
        let share = min(Self.batchRows, (total + threads - 1) / threads)
        var batches: [Range<Int>] = []
        var start = 0
        var rows = 0
        for (i, node) in missing.enumerated() {
            node.states = ScratchBuffer(capacity: floatCount(of: node, layers: layers))
            byteCount += floatCount(of: node, layers: layers) * MemoryLayout<Float>.stride
            rows += node.tokens.count
            if rows >= share || i == missing.count - 1 {
                batches.append(start..<i + 1)
                (start, rows) = (i + 1, 0)
            }
        }
        let failure = FirstError()
        let work = batches
        nonisolated(unsafe) let own = self
        nonisolated(unsafe) let all = missing
        forEachChunk(of: work.count, size: 1, threads: threads) { chunk in
            failure.capture { try own.pool.with { try $0.run(all[work[chunk.lowerBound]], in: own, layers: layers) } }
        }
        do {
            try failure.rethrow()
        } catch {
            for node in missing {
                node.states = nil
                byteCount -= floatCount(of: node, layers: layers) * MemoryLayout<Float>.stride
            }
            throw error
        }
    }

    // MARK: Where a node's states lie

    private var keyValueWidth: Int { 2 * model.sizes.keyValue }

    private func floatCount(of node: Node, layers: Int) -> Int {
        node.tokens.count * layers * keyValueWidth + hiddenRows(of: node) * model.sizes.hidden
    }

    func hiddenRows(of node: Node) -> Int { readsLastOnly ? 1 : node.tokens.count }

    /// Keys and values of the node's own tokens in a frozen layer.
    func keyValues(of node: Node, layer: Int) -> UnsafeMutablePointer<Float>? {
        node.states.map { $0.pointer + layer * node.tokens.count * keyValueWidth }
    }

    /// The states at the entry of the node's own tokens (of its last one where only that is read).
    func hidden(of node: Node) -> UnsafeMutablePointer<Float>? {
        guard let layers = frozenLayers else { return nil }
        return keyValues(of: node, layer: layers)
    }

    // MARK: Memory

    private func forgetOldest() {
        guard let layers = frozenLayers else { return }
        var uses: [(lastUse: Int, bytes: Int)] = []
        func visit(_ node: Node) {
            if node.states != nil { uses.append((node.lastUse, floatCount(of: node, layers: layers) * MemoryLayout<Float>.stride)) }
            for child in node.children.values { visit(child) }
        }
        for root in roots { if let root { visit(root) } }
        uses.sort { $0.lastUse < $1.lastUse }
        var excess = byteCount - Int(Double(memoryLimit) * Self.keptPart)
        var limit = -1
        for use in uses where excess > 0 {
            excess -= use.bytes
            limit = use.lastUse
        }
        // A parent was used whenever a child was, so what goes takes only what is as old or older with it.
        func prune(_ node: Node) {
            node.children = node.children.filter { $0.value.lastUse > limit }
            for child in node.children.values { prune(child) }
        }
        for i in roots.indices {
            guard let root = roots[i] else { continue }
            if root.lastUse <= limit { roots[i] = nil } else { prune(root) }
        }
        byteCount = 0
        func count(_ node: Node) {
            if node.states != nil { byteCount += floatCount(of: node, layers: layers) * MemoryLayout<Float>.stride }
            for child in node.children.values { count(child) }
        }
        for root in roots { if let root { count(root) } }
    }
}
