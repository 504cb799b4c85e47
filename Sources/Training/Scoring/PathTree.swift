import Core
import LanguageModel

/// States of the frozen layers for prompts and for the texts written after them. Below the first trained layer the states depend on the
/// tokens alone. So a path that was written once costs nothing there when another direction, the other sign or a later round writes it
/// again.
///
/// Call it from one thread at a time; it uses `threads` threads inside.
package final class PathTree {
    /// A prompt, or one token written after its parent.
    package final class Node {
        let tokens: [Int32]
        /// Number of tokens before this node's own.
        let start: Int
        /// Nil for a prompt. A parent is removed together with its children, never before.
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

        /// Number of tokens of the path that ends here.
        var length: Int { start + tokens.count }

        /// The nodes from the prompt to this one.
        var path: [Node] {
            var nodes = [self]
            while let parent = nodes[nodes.count - 1].parent { nodes.append(parent) }
            return nodes.reversed()
        }

        /// The tokens written after the prompt.
        package var written: [Int32] { path.dropFirst().flatMap(\.tokens) }
    }

    /// Rows in one thread's batch: enough that reading a layer's weights costs little beside computing with them.
    private static let batchRows = 512
    /// Part of the limit that stays in use after old paths were removed.
    private static let keptPart = 0.75

    let model: TrainableModel
    let prompts: [[Int32]]
    /// Number of layers below the entry; nil if a pass begins at the tokens, and nothing is kept.
    let frozenLayers: Int?
    /// Whether the entry is the final norm, which reads only a path's last position.
    let readsLastOnly: Bool
    private let memoryLimit: Int
    private let threads: Int
    private let pool: FrozenPassPool
    private var roots: [Node?]
    private var byteCount = 0
    private var clock = 0

    /// - Parameter memoryLimit: bytes; the least recently used paths are removed first. A single call may use more.
    init(model: TrainableModel, prompts: [[Int32]], memoryLimit: Int, threads: Int) throws(ModelError) {
        self.model = model
        self.prompts = prompts
        self.memoryLimit = memoryLimit
        self.threads = max(threads, 1)
        roots = Array(repeating: nil, count: prompts.count)
        pool = FrozenPassPool(model)
        // Each token goes through all layers; making a layer or reading it from its file each time would cost more than the rest.
        try model.prepareAllLayers()
        if case .layer(let layer) = model.entry {
            frozenLayers = layer
            readsLastOnly = layer == model.configuration.layerCount
        } else {
            frozenLayers = nil
            readsLastOnly = false
        }
    }

    /// Begins a call. If memory is over the limit, the oldest paths are removed; what the call uses becomes the youngest.
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

    /// Computes the states of those nodes that lack them. Their parents must have theirs.
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

    // MARK: Layout of a node's states

    private var keyValueWidth: Int { 2 * model.sizes.keyValue }

    private func floatCount(of node: Node, layers: Int) -> Int {
        node.tokens.count * layers * keyValueWidth + hiddenRows(of: node) * model.sizes.hidden
    }

    func hiddenRows(of node: Node) -> Int { readsLastOnly ? 1 : node.tokens.count }

    /// Keys and values of the node's own tokens in a frozen layer.
    func keyValues(of node: Node, layer: Int) -> UnsafeMutablePointer<Float>? {
        node.states.map { $0.pointer + layer * node.tokens.count * keyValueWidth }
    }

    /// States at the entry of the node's own tokens, or of its last token if only that is read.
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
        // A parent is used whenever a child is, so a removed node takes only nodes with it that are as old or older.
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
