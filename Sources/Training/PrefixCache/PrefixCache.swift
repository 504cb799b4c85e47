import Core
import Glibc
import LanguageModel

/// The hidden states of a set of examples at the model's entry, computed once: below it nothing ever changes. Rows are F32, all positions of a sequence up to the last one that its loss reads (only the read ones where the
/// entry is the final norm). They live in memory, or where that would take more than the limit in a mapped file that a
/// restart finds again.
///
/// They are computed in *blocks* of examples that are fixed beforehand, whoever asks, whenever, on however many threads: the last bits of a
/// row depend on which rows share its matrix products, and a cache that was filled on demand must give the same bytes as one that
/// was filled before.
///
/// One thread at a time.
public final class PrefixCache {
    public struct Options: Sendable {
        /// Beyond this many bytes the states go to a file.
        public var memoryLimit: Int
        /// Where that file goes; nil keeps everything in memory whatever it takes.
        public var directory: String?
        /// The digest of the base model's manifest: part of the file's name and key.
        public var baseDigest: Digest?
        public var threads: Int

        public init(memoryLimit: Int = 2 << 30, directory: String? = nil, baseDigest: Digest? = nil, threads: Int = 1) {
            self.memoryLimit = memoryLimit
            self.directory = directory
            self.baseDigest = baseDigest
            self.threads = threads
        }
    }

    public let set: ExampleSet
    /// What the storage takes.
    public let byteCount: Int
    /// What went wrong with a file that was there, for the log: the states are then computed again.
    public private(set) var warnings: [String] = []
    /// Examples that are asked for and are not there are replaced by some that are, so that nobody waits for them. Which ones are read then
    /// depends on the clock.
    public var replacesMissing = false
    /// Called after each piece of work with the part that is there, 0…1; false stops it, and what is done stays. Estimators whose samples
    /// take long ask it, too.
    public var onProgress: ((Double) -> Bool)?

    let model: TrainableModel
    let pool: PassPool
    let threads: Int
    /// The examples in the order in which they are computed, and are best asked for.
    let order: [Int]
    /// Of `order`: what goes through the model together.
    let blocks: [Range<Int>]
    private let blockOf: [Int]  // for each example
    private let offsets: [Int]  // in floats, for each sequence
    private let storage: Storage
    private var isReady: [Bool]  // for each block
    package private(set) var readyBlocks = 0
    private(set) var readyPositions = 0
    private(set) var readyExamples: [Int] = []
    /// Blocks on their way up through the layers, a slice at a time.
    var underway: [PrefixBlock] = []

    private enum Storage {
        case none
        case memory(ScratchBuffer<Float>)
        case file(PrefixFile)
    }

    /// - Parameter order: in which the examples are computed, each once; nil: as they are in the set.
    /// - Throws: `TrainingError` where there are no examples or where the file can't be made, `ModelError` from the model's files.
    public init(model: TrainableModel, set: ExampleSet, order: [Int]? = nil, options: Options = Options()) throws {
        guard set.count > 0 else { throw TrainingError(.noExamples, "there are no examples") }
        let order = order ?? Array(0..<set.count)
        precondition(order.count == set.count)
        self.model = model
        self.set = set
        self.order = order
        pool = PassPool(model)
        threads = max(options.threads, 1)
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
            let key = Self.key(model: model, set: set, order: order, base: options.baseDigest)
            let (file, warning) = try PrefixFile.open(
                directory: directory, key: key, blocks: zip(blockStarts, blockStarts.dropFirst() + [total]).map { $0..<$1 })
            if let warning { warnings.append(warning) }
            storage = .file(file)
            for block in blocks.indices where file.holds(block) { markReady(block) }
        } else {
            storage = .memory(ScratchBuffer(capacity: total))
        }
    }

    /// Rows of a block: enough that reading a layer from its file is small beside computing with it, few enough that one layer of a small model
    /// takes some hundredths of a second. A constant of the model: the states depend on it.
    private static func blockRows(_ model: TrainableModel) -> Int {
        let layer = model.sizes.tensors.reduce(0) { $0 + model.sizes.count($1) }
        return max(64, min(256, (1 << 30) / max(layer, 1)))
    }

    /// Everything that the states depend on.
    private static func key(model: TrainableModel, set: ExampleSet, order: [Int], base: Digest?) -> Digest {
        var hash = SHA256()
        hash.update(Array("onebyte prefix cache 4".utf8))
        hash.update(base?.bytes ?? [])
        // What the tensors' values don't say of the computation.
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

    /// The part of all positions that is there, 0…1.
    public var filledPart: Double { isFilled ? 1 : Double(readyPositions) / Double(max(set.positionCount, 1)) }

    /// Examples that are there.
    public var readyCount: Int { isFilled ? set.count : readyExamples.count }

    /// What it takes of the process's own memory.
    public var memoryBytes: Int { if case .memory = storage { byteCount } else { 0 } }

    /// The states of a sequence, once they are computed; nil where a pass starts from tokens.
    func states(_ sequence: Int) -> UnsafePointer<Float>? { base.map { UnsafePointer($0) + offsets[sequence] } }

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

    /// The first block from this one on that is not there.
    func missingBlock(from first: Int) -> Int? { isReady[first...].firstIndex(of: false) }

    /// Where the states of a sequence go.
    func room(for sequence: Int) -> UnsafeMutablePointer<Float>? { base.map { $0 + offsets[sequence] } }

    /// The block's states are in their place.
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
