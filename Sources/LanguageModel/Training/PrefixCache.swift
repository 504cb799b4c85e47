import Core
import Glibc

/// The hidden states of a set of examples at the model's entry, computed once: below it nothing ever changes (DESIGN §7 "Frozen is
/// cheap"). Rows are F32, all positions of a sequence up to the last one that its loss reads (only the read ones where the
/// entry is the final norm). They live in memory, or where that would take more than the limit in a mapped file that a
/// restart finds again.
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

    /// Rows of one thread's batch: enough that reading a layer from its file is small beside computing with it.
    private static let batchRows = 1024

    public let set: ExampleSet
    /// What the storage takes.
    public let byteCount: Int
    /// What went wrong with a file that was there, for the log: the states are then computed again.
    public private(set) var warnings: [String] = []

    let model: TrainableModel
    private let pool: PassPool
    private let threads: Int
    private let offsets: [Int]  // in floats, for each sequence
    private let storage: Storage
    private var ready: [Bool]
    private var readyCount = 0

    private enum Storage {
        case none
        case memory(ScratchBuffer<Float>)
        case file(PrefixFile)
    }

    /// - Throws: `TrainingError` where there are no examples or where the file can't be made, `ModelError` from the model's files.
    public init(model: TrainableModel, set: ExampleSet, options: Options = Options()) throws {
        guard set.count > 0 else { throw TrainingError(.noExamples, "there are no examples") }
        self.model = model
        self.set = set
        pool = PassPool(model)
        threads = max(options.threads, 1)
        try set.prepare(model)

        let width = model.sizes.hidden
        var offsets: [Int] = []
        var total = 0
        if case .layer(let layer) = model.entry {
            let readsOnly = layer == model.configuration.layerCount
            for sequence in set.sequences {
                offsets.append(total)
                total += (readsOnly ? sequence.reads.count : sequence.length) * width
            }
        }
        self.offsets = offsets
        byteCount = total * MemoryLayout<Float>.stride
        ready = Array(repeating: total == 0, count: set.sequences.count)
        if total == 0 {
            storage = .none
        } else if byteCount > options.memoryLimit, let directory = options.directory {
            let key = Self.key(model: model, set: set, base: options.baseDigest)
            let (file, warning) = try PrefixFile.open(directory: directory, key: key, floatCount: total)
            if let warning { warnings.append(warning) }
            storage = .file(file)
            if file.isComplete { ready = Array(repeating: true, count: ready.count) }
        } else {
            storage = .memory(ScratchBuffer(capacity: total))
        }
        readyCount = ready.count { $0 }
    }

    /// Everything that the states depend on.
    private static func key(model: TrainableModel, set: ExampleSet, base: Digest?) -> Digest {
        var hash = SHA256()
        hash.update(Array("onebyte prefix cache 1".utf8))
        hash.update(base?.bytes ?? [])
        func add(_ values: some Sequence<Int32>) {
            hash.update(values.flatMap { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } })
        }
        let entry: Int32 = if case .layer(let layer) = model.entry { Int32(layer) } else { -1 }
        add([entry, Int32(model.sizes.hidden), Int32(model.configuration.layerCount)])
        for sequence in set.sequences {
            add([Int32(sequence.length), Int32(sequence.reads.count)])
            add(set.reads(of: sequence))
            add(set.tokens(of: sequence).prefix(sequence.length))
        }
        return hash.finalize()
    }

    /// Whether nothing is left to compute.
    public var isFilled: Bool { readyCount == ready.count }

    /// Computes what is missing, in big batches.
    ///
    /// - Parameter progress: called after each batch with the positions done and all that were missing; false stops the filling, and
    ///   what is done stays.
    /// - Throws: `TrainingError.cancelled` after such a stop; an error of the model's files.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws {
        try fill(sequences: ready.indices.filter { !ready[$0] }, progress: progress)
    }

    /// Computes what these examples miss, if anything.
    func ensure(_ examples: some Sequence<Int>) throws {
        guard !isFilled else { return }
        var missing: [Int] = []
        for example in Set(examples).sorted() { missing += set.ranges[example].filter { !ready[$0] } }
        try fill(sequences: missing) { _, _ in true }
    }

    /// The states of a sequence, once they are computed; nil where a pass starts from tokens.
    func states(_ sequence: Int) -> UnsafePointer<Float>? { base.map { UnsafePointer($0) + offsets[sequence] } }

    private var base: UnsafeMutablePointer<Float>? {
        switch storage {
        case .none: nil
        case .memory(let buffer): buffer.pointer
        case .file(let file): file.floats
        }
    }

    private func fill(sequences missing: [Int], progress: (_ done: Int, _ total: Int) -> Bool) throws {
        guard case .layer(let layer) = model.entry, let base, !missing.isEmpty else { return }
        let total = missing.reduce(0) { $0 + set.sequences[$1].length }
        var done = 0
        var next = missing.startIndex
        while next < missing.endIndex {
            // One batch for each thread, of about the same number of rows.
            var batches: [Range<Int>] = []
            let left = total - done
            let rows = min(Self.batchRows, max(left / threads, 1))
            while next < missing.endIndex, batches.count < threads {
                let start = next
                var sum = 0
                while next < missing.endIndex, sum < rows {
                    sum += set.sequences[missing[next]].length
                    next += 1
                }
                batches.append(start..<next)
                done += sum
            }
            let failure = FirstError()
            nonisolated(unsafe) let out = base
            nonisolated(unsafe) let cache = self
            let work = batches
            forEachChunk(of: work.count, size: 1, threads: threads) { chunk in
                failure.capture {
                    try cache.pool.with { try cache.compute(missing[work[chunk.lowerBound]], to: layer, $0, into: out) }
                }
            }
            try failure.rethrow()
            for batch in batches {
                for sequence in missing[batch] { ready[sequence] = true }
                readyCount += batch.count
            }
            guard progress(done, total) else {
                throw TrainingError(.cancelled, "stopped while the examples' hidden states were computed")
            }
        }
        if isFilled, case .file(let file) = storage { try file.complete() }
    }

    private func compute(
        _ sequences: ArraySlice<Int>, to layer: Int, _ workspace: PassPool.Workspace, into out: UnsafeMutablePointer<Float>
    ) throws(ModelError) {
        let pass = workspace.pass
        let width = model.sizes.hidden
        pass.begin(directions: nil)
        for index in sequences {
            let sequence = set.sequences[index]
            let number = pass.add(
                ForwardPass.Sequence(length: sequence.length, reads: set.reads(of: sequence), tokens: set.tokens(of: sequence), hidden: nil))
            _ = pass.add(segmentOf: number)
        }
        try pass.runFromEmbeddings(to: layer, scratch: workspace.layer)
        let layout: ForwardPass.Layout = layer == model.configuration.layerCount ? .reads : .segments
        for (i, index) in sequences.enumerated() {
            let rows = pass.rows(of: pass.segments[i], layout)
            (out + offsets[index]).update(from: pass.x.pointer + rows.lowerBound * width, count: rows.count * width)
        }
    }
}
