import Core
import LanguageModel
import Synchronization

/// Lets many versions of a model write at once. Each line is a prompt continued by the likeliest token of θ + εz, θ − εz or θ itself. Each
/// step is one batch; the states below the first trained layer come from the path tree.
///
/// Call it from one thread at a time; it uses `threads` threads inside.
package final class BatchWriter {
    /// The effect of a token on a text.
    package enum Ending: UInt8, Sendable {
        case continues
        /// Ends the text and is not part of it.
        case endOfText
        /// Ends the text, but may begin with some of it: what stands before a line break.
        case lineBreak
    }

    package struct Line {
        let prompt: Int
        /// +1, −1, or 0 for θ itself.
        let sign: Float
        package fileprivate(set) var node: PathTree.Node
        fileprivate(set) var isFinished = false
        /// Whether the line ended for lack of room, not by itself.
        fileprivate(set) var isCut = false
        /// Whether logits were not finite, so that there is no text.
        package fileprivate(set) var isBroken = false
    }

    /// Rows in a batch's products: enough for the matrix library's best rate.
    private static let batchRows = 512
    /// Number of lines per position of a batch from which one clean pass is cheaper than the whole head for each line.
    private static let cleanPassLinesMax = 2

    let model: TrainableModel
    let tree: PathTree
    private let maxTokens: Int
    private let endings: [Ending]
    /// Geometry of a head that is not trained. With it directions of rank one need few logits.
    private let geometry: HeadGeometry?
    private let threads: Int
    private let idle = Mutex<[Workspace]>([])
    private var directionBatches: [DirectionBatch] = []

    /// One thread's pass, and the scratch that its batch points into.
    private final class Workspace: @unchecked Sendable {  // used by the thread that it is lent to
        let pass: ForwardPass
        let hidden = ScratchBuffer<Float>()
        let tokens = ScratchBuffer<Int32>()
        let reads = ScratchBuffer<Int32>()
        let likeliest = ScratchBuffer<Int32>()

        init(_ model: TrainableModel) { pass = ForwardPass(model: model) }
    }

    /// - Parameter endings: endings by token; later tokens do not end a text.
    package init(
        model: TrainableModel, prompts: [[Int32]], maxTokens: Int, endings: [Ending], memoryLimit: Int, threads: Int
    ) throws {
        let c = model.configuration
        for (i, prompt) in prompts.enumerated() {
            if let token = prompt.first(where: { $0 < 0 || Int($0) >= c.vocabularySize }) {
                throw TrainingError(.badExample, "example \(i + 1): token \(token) is not in the model's vocabulary of \(c.vocabularySize)")
            }
            guard !prompt.isEmpty, prompt.count < c.contextLength else {
                throw TrainingError(.badExample, "example \(i + 1): the prompt has \(prompt.count) tokens, the model takes \(c.contextLength)")
            }
        }
        self.model = model
        self.maxTokens = maxTokens
        self.endings = endings
        self.threads = max(threads, 1)
        try model.prepareFullHead()
        model.preparePositions(min((prompts.map(\.count).max() ?? 1) + maxTokens, c.contextLength))
        geometry =
            model.trainsHead ? nil : model.fullHeadPointer.map { HeadGeometry(head: $0, count: c.vocabularySize, width: model.sizes.embedding) }
        tree = try PathTree(model: model, prompts: prompts, memoryLimit: memoryLimit, threads: threads)
    }

    /// Computes the states of all prompts in advance.
    func fill(progress: (_ done: Int, _ total: Int) -> Bool) throws {
        let step = 32
        tree.beginCall()
        for start in stride(from: 0, to: tree.prompts.count, by: step) {
            let end = min(start + step, tree.prompts.count)
            try tree.compute((start..<end).map { tree.root($0) })
            guard progress(end, tree.prompts.count) else {
                throw TrainingError(.cancelled, "stopped while the prompts' hidden states were computed")
            }
        }
    }

    /// Writes the texts of θ, one per prompt.
    package func write(prompts: [Int]) throws -> [Line] {
        tree.beginCall()
        var lines = prompts.map { Line(prompt: $0, sign: 0, node: tree.root($0)) }
        try write(&lines, each: 1, directions: nil)
        return lines
    }

    /// Writes texts along directions. For each sample there are first all lines with +, then all with −, each on the sample's prompts.
    ///
    /// - Parameter prompts: the prompts of each sample, the same number for all.
    package func write(samples: [SampleName], prompts: [[Int]], directions: Directions, epsilon: Double) throws -> [Line] {
        tree.beginCall()
        var lines: [Line] = []
        for own in prompts {
            for sign in [Float(1), -1] { lines += own.map { Line(prompt: $0, sign: sign, node: tree.root($0)) } }
        }
        guard let each = prompts.first.map({ 2 * $0.count }), each > 0 else { return [] }
        try write(&lines, each: each, directions: (samples, directions, epsilon))
        return lines
    }

    /// - Parameter each: number of lines in a unit that stays in one batch: all lines of a direction.
    private func write(
        _ lines: inout [Line], each: Int, directions: (samples: [SampleName], source: Directions, epsilon: Double)?
    ) throws {
        let units = lines.count / each
        guard units > 0 else { return }
        let size = unitsOfBatch(units, each: each, lines)
        if let directions {
            // All steps use the same directions, so they are made once.
            let chunks = (units + size - 1) / size
            while directionBatches.count < chunks {
                directionBatches.append(
                    DirectionBatch(directions: directions.source, tensors: model.trained, epsilon: directions.epsilon))
            }
            for chunk in 0..<chunks {
                directionBatches[chunk].prepare(Array(directions.samples[chunk * size..<min((chunk + 1) * size, units)]))
            }
        }
        var next = [Int32](repeating: 0, count: lines.count)
        for step in 0..<maxTokens {
            let active = lines.filter { !$0.isFinished }
            guard !active.isEmpty else { return }
            try tree.compute(active.map(\.node))
            let failure = FirstError()
            let now = lines
            next.withUnsafeMutableBufferPointer { next in
                nonisolated(unsafe) let out = next
                nonisolated(unsafe) let own = self
                nonisolated(unsafe) let lines = now
                forEachChunk(of: units, size: size, threads: threads) { chunk in
                    let batch = directions == nil ? nil : own.directionBatches[chunk.lowerBound / size]
                    failure.capture { try own.step(lines, chunk, each: each, batch, into: out) }
                }
            }
            try failure.rethrow()
            for i in lines.indices where !lines[i].isFinished { take(next[i], &lines[i], isLast: step == maxTokens - 1) }
        }
    }

    private func take(_ token: Int32, _ line: inout Line, isLast: Bool) {
        guard token >= 0 else {
            (line.isFinished, line.isBroken) = (true, true)
            return
        }
        let ending = endings.indices.contains(Int(token)) ? endings[Int(token)] : .continues
        if ending != .endOfText { line.node = tree.child(of: line.node, token) }
        line.isCut = ending == .continues && (isLast || line.node.length >= lengthMax(tree.prompts[line.prompt]))
        line.isFinished = ending != .continues || line.isCut
    }

    /// Number of tokens of the longest text that a prompt may become. A text does not grow to a length at which it would be rotated otherwise,
    /// because the states of its first tokens would no longer hold.
    private func lengthMax(_ prompt: [Int32]) -> Int {
        let usual = model.description.rotations.compactMap(\.longTexts?.length).filter { $0 >= prompt.count }
        return min(usual.min() ?? .max, model.configuration.contextLength)
    }

    /// Units per batch. The products of a batch have about `batchRows` rows, and the threads get even shares.
    private func unitsOfBatch(_ units: Int, each: Int, _ lines: [Line]) -> Int {
        let isTop = if case .layer(let layer) = model.entry { layer >= model.configuration.layerCount - 1 } else { false }
        let positions = isTop ? 1 : lines.reduce(0) { $0 + $1.node.length } / max(lines.count, 1)
        let most = max(Self.batchRows / (each * max(positions, 1)), 1)
        let share = (units + threads - 1) / threads
        let batches = (share + most - 1) / most
        return max((share + batches - 1) / batches, 1)
    }

    /// Computes the next token of each unfinished line of some units; −1 if its logits are not finite.
    private func step(
        _ lines: [Line], _ units: Range<Int>, each: Int, _ directions: DirectionBatch?, into next: UnsafeMutableBufferPointer<Int32>
    ) throws(ModelError) {
        let workspace = idle.withLock { $0.popLast() } ?? Workspace(model)
        defer { idle.withLock { $0.append(workspace) } }
        let pass = workspace.pass
        pass.begin(directions: directions)

        // Lines with the same prompt and the same text so far share their sequence.
        var placed: [ObjectIdentifier: Int] = [:]
        var nodes: [PathTree.Node] = []
        let range = units.lowerBound * each..<units.upperBound * each
        for i in range where !lines[i].isFinished {
            guard placed[ObjectIdentifier(lines[i].node)] == nil else { continue }
            placed[ObjectIdentifier(lines[i].node)] = nodes.count
            nodes.append(lines[i].node)
        }
        place(nodes, in: pass, workspace)

        var segments: [Int] = []
        for i in range where !lines[i].isFinished {
            guard let sequence = placed[ObjectIdentifier(lines[i].node)] else { continue }
            _ = pass.add(segmentOf: sequence, direction: directions == nil ? -1 : i / each - units.lowerBound, sign: lines[i].sign)
            segments.append(i)
        }
        guard !segments.isEmpty else { return }
        let tokens = workspace.likeliest.reserve(segments.count)
        // This pays off if several lines stand at the same position.
        if let geometry, directions?.isRank1 == true, segments.count >= Self.cleanPassLinesMax * nodes.count {
            let clean = pass.segments.map { segments.count + $0.sequence }
            for sequence in nodes.indices { _ = pass.add(segmentOf: sequence) }
            try pass.runToFinalNorm()
            pass.finalNorm()
            pass.likeliestTokens(near: clean, geometry, into: tokens)
        } else {
            try pass.runToFinalNorm()
            pass.finalNorm()
            pass.likeliestTokens(into: tokens)
        }
        for (segment, i) in segments.enumerated() { next[i] = tokens[segment] }
    }

    /// Adds each path to the batch as a sequence that is read at its end.
    private func place(_ nodes: [PathTree.Node], in pass: ForwardPass, _ workspace: Workspace) {
        let h = model.sizes.hidden
        let isFromTokens = tree.frozenLayers == nil
        let positions = nodes.reduce(0) { $0 + $1.length }
        let tokens = workspace.tokens.reserve(positions)
        let reads = workspace.reads.reserve(nodes.count)
        let hidden = workspace.hidden.reserve(isFromTokens ? 1 : (tree.readsLastOnly ? nodes.count : positions) * h)
        var at = 0
        var row = 0
        for (i, node) in nodes.enumerated() {
            reads[i] = Int32(node.length - 1)
            let own = (tokens: tokens + at, hidden: hidden + row * h)
            for part in node.path {
                for token in part.tokens {
                    tokens[at] = token
                    at += 1
                }
                guard let states = tree.hidden(of: part), !tree.readsLastOnly || part === node else { continue }
                let rows = tree.hiddenRows(of: part)
                (hidden + row * h).update(from: states, count: rows * h)
                row += rows
            }
            _ = pass.add(
                ForwardPass.Sequence(
                    length: node.length, reads: UnsafeBufferPointer(start: reads + i, count: 1),
                    tokens: UnsafeBufferPointer(start: own.tokens, count: node.length), hidden: isFromTokens ? nil : UnsafePointer(own.hidden)))
        }
    }
}
