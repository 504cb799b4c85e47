import Core
import Glibc
import LanguageModel

/// The hidden states of a set of examples at the model's entry. They are computed once, since nothing below the entry ever changes.
///
/// Rows are F32: all positions of a sequence up to the last one that its loss reads, or only the positions read if the entry is the final
/// norm. The states live in memory, or beyond the memory limit in a mapped file that a restarted process finds again.
///
/// The states are computed in fixed *blocks* of examples, whatever the order of requests and the number of threads. The last bits of a row
/// depend on which rows share its matrix products, and a cache that is filled on demand must give the same bytes as one that was filled in
/// advance.
///
/// Use it from one thread at a time.
public final class PrefixCache {
    /// Where states are kept, and who computes them.
    public struct Options: Sendable {
        /// Bytes of states above which they go to a file.
        public var memoryLimit: Int
        /// Directory of that file; nil keeps everything in memory, whatever its size.
        public var directory: String?
        /// Digest of the base model's manifest, a part of the file's name and key.
        public var baseDigest: Digest?
        /// Number of threads that compute missing states.
        public var threads: Int
        /// Precision of the layers' products (`FrozenLayer`).
        public var precision: Precision

        public init(
            memoryLimit: Int = 2 << 30, directory: String? = nil, baseDigest: Digest? = nil, threads: Int = 1, precision: Precision = .float
        ) {
            self.memoryLimit = memoryLimit
            self.directory = directory
            self.baseDigest = baseDigest
            self.threads = threads
            self.precision = precision
        }
    }

    /// The examples whose states are cached.
    public let set: ExampleSet
    /// Bytes of storage.
    public let byteCount: Int
    /// Problems with an existing file, for the log. Its states are computed again.
    public private(set) var warnings: [String] = []
    /// Whether requested examples that are missing are replaced by available ones, so that nobody waits for them. The examples read then
    /// depend on timing.
    public var replacesMissing = false
    /// Called after each piece of work with the computed part, 0…1. Returning false stops the work; what is done stays. Estimators whose
    /// samples take long call it too.
    public var onProgress: ((Double) -> Bool)?

    let model: TrainableModel
    let pool: PassPool
    let threads: Int
    let precision: Precision
    /// The examples in the order in which they are computed, and in which they are best requested.
    let order: [Int]
    /// Ranges of `order` that go through the model together.
    let blocks: [Range<Int>]
    private let blockOf: [Int]  // for each example
    private let offsets: [Int]  // in floats, for each sequence
    private let storage: Storage
    private var isReady: [Bool]  // for each block
    package private(set) var readyBlocks = 0
    private(set) var readyPositions = 0
    private(set) var readyExamples: [Int] = []
    /// Blocks on their way up through the layers.
    var underway: [PrefixBlock] = []
    /// Weights of the layer at hand, whose memory serves all layers; nil once nothing is missing.
    var frozen: FrozenLayer?

    private enum Storage {
        case none
        case memory(ScratchBuffer<Float>)
        case file(PrefixFile)
    }

    /// - Parameter order: order in which the examples are computed, each once; nil means their order in the set.
    /// - Throws: `TrainingError` if there are no examples or the file can't be made; `ModelError` from the model's files.
    public init(model: TrainableModel, set: ExampleSet, order: [Int]? = nil, options: Options = Options()) throws {
        guard set.count > 0 else { throw TrainingError(.noExamples, "there are no examples") }
        let order = order ?? Array(0..<set.count)
        precondition(order.count == set.count)
        self.model = model
        self.set = set
        self.order = order
        pool = PassPool(model)
        threads = max(options.threads, 1)
        precision = options.precision
        try set.prepare(model)

        let width = model.sizes.hidden
        var offsets = Array(repeating: 0, count: set.sequences.count)
        var blocks: [Range<Int>] = []
        var blockStarts: [Int] = []
        var blockOf = Array(repeating: 0, count: set.count)
        var total = 0
        if case .layer(let layer) = model.entry {
            let readsOnly = layer == model.configuration.layerCount
            let most = Self.blockRows(model)
            var rows = 0
            for (place, example) in order.enumerated() {
                if blocks.isEmpty || rows >= most {
                    blocks.append(place..<place)
                    blockStarts.append(total)
                    rows = 0
                }
                blocks[blocks.count - 1] = blocks[blocks.count - 1].lowerBound..<place + 1
                blockOf[example] = blocks.count - 1
                for index in set.ranges[example] {
                    let sequence = set.sequences[index]
                    offsets[index] = total
                    total += (readsOnly ? sequence.reads.count : sequence.length) * width
                    rows += sequence.length
                }
            }
        }
        self.offsets = offsets
        self.blocks = blocks
        self.blockOf = blockOf
        byteCount = total * MemoryLayout<Float>.stride
        isReady = Array(repeating: false, count: blocks.count)
        if total == 0 {
            storage = .none
        } else if byteCount > options.memoryLimit, let directory = options.directory {
            let key = Self.key(model: model, set: set, order: order, options)
            let (file, warning) = try PrefixFile.open(
                directory: directory, key: key, blocks: zip(blockStarts, blockStarts.dropFirst() + [total]).map { $0..<$1 })
            if let warning { warnings.append(warning) }
            storage = .file(file)
            for block in blocks.indices where file.holds(block) { markReady(block) }
            underway = file.underway(of: self)
        } else {
            storage = .memory(ScratchBuffer(capacity: total))
        }
    }

    /// Rows per block: enough that reading a layer from its file costs little beside computing with it, and few enough that one layer of a
    /// small model takes some hundredths of a second. It depends on nothing but the model, since the states depend on it.
    private static func blockRows(_ model: TrainableModel) -> Int {
        let layer = model.sizes.tensors.reduce(0) { $0 + model.sizes.count($1) }
        return max(64, min(256, (1 << 30) / max(layer, 1)))
    }

    /// Digest of everything that the states depend on.
    private static func key(model: TrainableModel, set: ExampleSet, order: [Int], _ options: Options) -> Digest {
        var hash = SHA256()
        hash.update(Array("onebyte prefix cache 4".utf8))
        hash.update(options.baseDigest?.bytes ?? [])
        if options.precision != .float {
            hash.update(Array(options.precision.rawValue.utf8))
            // Weights in 8 bits are the file's own blocks or are rounded from its values, so two files of equal values can differ.
            for name in model.source.tensorNames {
                let tensor = try? model.source.storedTensor(name)
                hash.update(Array("\(name) \(tensor.map { $0.isPackedAsStored ? $0.type.rawValue : -1 } ?? -1)\n".utf8))
            }
        }
        // Parts of the computation that the tensors' values do not determine.
        let configuration = model.configuration
        hash.update(Array(configuration.identity.utf8))
        func add(_ values: some Sequence<Int32>) {
            hash.update(values.flatMap { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } })
        }
        let entry: Int32 = if case .layer(let layer) = model.entry { Int32(layer) } else { -1 }
        add([entry, Int32(model.sizes.hidden), Int32(configuration.layerCount), Int32(blockRows(model))])
        for example in order {
            add([Int32(set.ranges[example].count)])
            for sequence in set.sequences[set.ranges[example]] {
                add([Int32(sequence.length), Int32(sequence.reads.count)])
                add(set.reads(of: sequence))
                add(set.tokens(of: sequence).prefix(sequence.length))
            }
        }
        return hash.finalize()
    }

    /// Whether nothing is left to compute.
    public var isFilled: Bool { readyBlocks == blocks.count }

    /// Computed part of all positions, 0…1. Positions underway count by the layers behind them.
    public var filledPart: Double { isFilled ? 1 : computedPositions / Double(max(set.positionCount, 1)) }

    /// Number of positions computed. Those underway count by the layers behind them.
    var computedPositions: Double {
        guard case .layer(let entry) = model.entry else { return Double(readyPositions) }
        return underway.reduce(Double(readyPositions)) { $0 + Double($1.positions * $1.layer) / Double(max(entry, 1)) }
    }

    /// Number of available examples.
    public var readyCount: Int { isFilled ? set.count : readyExamples.count }

    /// Bytes of the process's own memory that it uses.
    public var memoryBytes: Int { if case .memory = storage { byteCount } else { 0 } }

    /// The states of a sequence, once they are computed; nil if a pass starts from tokens.
    func states(_ sequence: Int) -> UnsafePointer<Float>? { base.map { UnsafePointer($0) + offsets[sequence] } }

    /// A copy of the states of an example's sequences, one after the other; empty until they are computed.
    package func states(ofExample example: Int) -> [Float] {
        guard case .layer(let entry) = model.entry, contains(example) else { return [] }
        let readsOnly = entry == model.configuration.layerCount
        return set.ranges[example].flatMap { index in
            let sequence = set.sequences[index]
            let rows = readsOnly ? sequence.reads.count : sequence.length
            return Array(UnsafeBufferPointer(start: states(index), count: rows * model.sizes.hidden))
        }
    }

    private var base: UnsafeMutablePointer<Float>? {
        switch storage {
        case .none: nil
        case .memory(let buffer): buffer.pointer
        case .file(let file): file.floats
        }
    }

    package var blockCount: Int { blocks.count }

    package func contains(_ example: Int) -> Bool { isFilled || isReady[blockOf[example]] }

    func block(of example: Int) -> Int { blockOf[example] }

    func sequences(of block: Int) -> [Int] { order[blocks[block]].flatMap { set.ranges[$0] } }

    func isReady(block: Int) -> Bool { isReady[block] }

    /// Keeps the blocks underway for the next process, if the cache is a file.
    func keepUnderway() { if case .file(let file) = storage { file.keep(underway) } }

    /// The place for a sequence's states.
    func room(for sequence: Int) -> UnsafeMutablePointer<Float>? { base.map { $0 + offsets[sequence] } }

    /// Has room made for a block's states before they are computed.
    func reserve(_ block: Int) throws(TrainingError) { if case .file(let file) = storage { try file.reserve(block) } }

    /// Marks a block as ready after its states were written.
    func finish(_ block: Int) throws {
        guard !isReady[block] else { return }
        markReady(block)
        if case .file(let file) = storage {
            file.checkIn(block)
            if isFilled { try file.complete() }
        }
    }

    private func markReady(_ block: Int) {
        isReady[block] = true
        readyBlocks += 1
        for example in order[blocks[block]] {
            readyExamples.append(example)
            readyPositions += set.sequences[set.ranges[example]].reduce(0) { $0 + $1.length }
        }
    }
}
