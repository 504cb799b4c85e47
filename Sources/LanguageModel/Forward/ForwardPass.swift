import Core
import Kernels

/// One thread's forward pass over packed batches: the scratch of it, and the plan of the batch at hand.
///
/// A batch is a list of *sequences* (token sequences, each with the hidden states at the model's entry) and of *segments*: a segment
/// is one sequence seen through θ + εz, θ − εz or θ itself. Segments of a direction stand together, those with + before those
/// with −. Rows are packed without padding, in one of three layouts: `sequences` (what all directions on a sequence share),
/// `segments` (all rows of each segment) and `reads` (of each segment only the positions that its loss reads, which
/// is all that the last layer needs beyond its keys and values).
final class ForwardPass {
    struct Sequence {
        /// Positions 0 ..< length; later ones can't reach what the loss reads.
        let length: Int
        /// In rising order, `length − 1` being the last. Stays valid as long as the batch.
        let reads: UnsafeBufferPointer<Int32>
        /// Where a pass starts from tokens; may be empty otherwise.
        let tokens: UnsafeBufferPointer<Int32>
        /// `length` rows (only those of `reads` where the entry is the final norm) at the model's entry; nil for tokens.
        let hidden: UnsafePointer<Float>?
        fileprivate(set) var row = 0
        fileprivate(set) var readRow = 0
    }

    struct Segment {
        let sequence: Int
        /// In the direction batch; −1 where the sign is 0.
        let direction: Int
        /// +1, −1, or 0 for the parameters as they are.
        let sign: Float
        fileprivate(set) var row = 0
        fileprivate(set) var readRow = 0
    }

    enum Layout { case sequences, segments, reads }

    /// The rows of one direction: those with + and those with −, in both of the segments' layouts.
    struct Group {
        let direction: Int
        var plusRows: Range<Int>
        var minusRows: Range<Int>
        var plusReads: Range<Int>
        var minusReads: Range<Int>

        /// All its rows, and how many of them, which come first, have the sign +.
        func rows(_ layout: Layout) -> (all: Range<Int>, plus: Int) {
            layout == .reads
                ? (plusReads.lowerBound..<minusReads.upperBound, plusReads.count) : (plusRows.lowerBound..<minusRows.upperBound, plusRows.count)
        }
    }

    /// Sees the inputs of a layer's linear maps at the positions that matter: rows `stride` apart.
    typealias Observer = (_ layer: Int, _ space: InputSpace, _ x: UnsafePointer<Float>, _ stride: Int, _ rows: Int) -> Void

    let model: TrainableModel
    let sizes: LayerSizes
    let epsilon: Float  // of the RMSNorms
    var observer: Observer?

    private(set) var sequences: [Sequence] = []
    private(set) var segments: [Segment] = []
    private(set) var groups: [Group] = []
    private(set) var sequenceRows = 0
    private(set) var sequenceReads = 0
    private(set) var segmentRows = 0
    private(set) var segmentReads = 0
    var directions: DirectionBatch?
    /// `int8` wants `model.prepareByteWeights` and a clean segment of every sequence.
    var arithmetic = ForwardArithmetic.float

    let x = ScratchBuffer<Float>()
    let normed = ScratchBuffer<Float>()
    let readNormed = ScratchBuffer<Float>()
    let projections = ScratchBuffer<Float>()
    let queries = ScratchBuffer<Float>()
    let segmentKeys = ScratchBuffer<Float>()
    let segmentQueries = ScratchBuffer<Float>()
    let scores = ScratchBuffer<Float>()
    let rowScales = ScratchBuffer<Float>()
    let attended = ScratchBuffer<Float>()
    let inner = ScratchBuffer<Float>()
    let perturbedNorm = ScratchBuffer<Float>()
    let difference = ScratchBuffer<Float>()
    let logits = ScratchBuffer<Float>()
    let positions = ScratchBuffer<Int32>()
    let targetTokens = ScratchBuffer<Int32>()
    let classScores = ScratchBuffer<Double>()
    let logProbability = ScratchBuffer<Double>()
    /// Whether no other token of the vocabulary is likelier than the target.
    let isLikeliest = ScratchBuffer<Bool>()
    let partSums = ScratchBuffer<Double>()
    let cleanProduct = ScratchBuffer<Float>()
    let quantisedRows = ScratchBuffer<UInt8>()
    let quantisedScales = ScratchBuffer<Float>()
    let cleanPointers = ScratchBuffer<UnsafePointer<Float>?>()
    let madeMatrix = ScratchBuffer<Float>()
    let madeUp = ScratchBuffer<Float>()
    let denseElements = ScratchBuffer<Int8>()
    let denseUpElements = ScratchBuffer<Int8>()
    let panels = ScratchBuffer<Float>()
    let rowTerms = RowTerms()
    let upTerms = RowTerms()
    let madeNorm = ScratchBuffer<Float>()

    init(model: TrainableModel) {
        self.model = model
        sizes = model.sizes
        epsilon = Float(model.configuration.rmsEpsilon)
    }

    // MARK: The batch

    func begin(directions: DirectionBatch?) {
        self.directions = directions
        sequences.removeAll(keepingCapacity: true)
        segments.removeAll(keepingCapacity: true)
        groups.removeAll(keepingCapacity: true)
        sequenceRows = 0
        sequenceReads = 0
        segmentRows = 0
        segmentReads = 0
    }

    /// Returns the sequence's number in this batch.
    func add(_ sequence: Sequence) -> Int {
        var sequence = sequence
        sequence.row = sequenceRows
        sequence.readRow = sequenceReads
        sequenceRows += sequence.length
        sequenceReads += sequence.reads.count
        sequences.append(sequence)
        return sequences.count - 1
    }

    /// Segments of one direction must be added one after the other, all with + first; those with sign 0 behind all others.
    func add(segmentOf sequence: Int, direction: Int = -1, sign: Float = 0) -> Int {
        var segment = Segment(sequence: sequence, direction: direction, sign: sign)
        segment.row = segmentRows
        segment.readRow = segmentReads
        segmentRows += sequences[sequence].length
        segmentReads += sequences[sequence].reads.count
        segments.append(segment)
        if direction >= 0 {
            if groups.last?.direction != direction {
                groups.append(
                    Group(
                        direction: direction, plusRows: segment.row..<segment.row, minusRows: segment.row..<segment.row,
                        plusReads: segment.readRow..<segment.readRow, minusReads: segment.readRow..<segment.readRow))
            }
            let last = groups.count - 1
            if sign > 0 {
                groups[last].plusRows = groups[last].plusRows.lowerBound..<segmentRows
                groups[last].plusReads = groups[last].plusReads.lowerBound..<segmentReads
                groups[last].minusRows = segmentRows..<segmentRows
                groups[last].minusReads = segmentReads..<segmentReads
            } else {
                groups[last].minusRows = groups[last].minusRows.lowerBound..<segmentRows
                groups[last].minusReads = groups[last].minusReads.lowerBound..<segmentReads
            }
        }
        return segments.count - 1
    }

    // MARK: From the entry to the final norm's input

    /// Carries the batch through the model's trained part. Afterwards `x` holds the final norm's input in the layout `reads`.
    func runToFinalNorm() throws(ModelError) {
        let layerCount = model.configuration.layerCount
        switch model.entry {
        case .tokens:
            try enterFromTokens()
            for layer in 0..<layerCount { try run(layer, shared: false) }
        case .layer(layerCount):
            enterReads()
        case .layer(let first):
            let perturbsNorm = directions != nil && slot(first, .inputNorm) >= 0
            let shared = !perturbsNorm && (directions == nil || directions?.isRank1 == true)
            if !shared { expand() }
            try run(first, shared: shared)
            for layer in (first + 1)..<max(layerCount, first + 1) { try run(layer, shared: false) }
        }
    }

    /// Carries sequences (one clean segment each) from the embeddings to the input of `layer`. Afterwards `x` holds `segmentRows` rows, or
    /// `segmentReads` where `layer` is the final norm.
    func runFromEmbeddings(to layer: Int) throws(ModelError) {
        try embedSequences()
        for below in 0..<layer { try run(below, shared: false) }
    }

    func slot(_ layer: Int, _ tensor: LayerTensor) -> Int { model.layerSlots[layer][tensor.rawValue] }

    // MARK: Entering

    func embedSequences() throws(ModelError) {
        let x = x.reserve(sequenceRows * sizes.hidden)
        for sequence in sequences {
            let own = UnsafeBufferPointer(rebasing: sequence.tokens[..<sequence.length])
            try model.embed(own, into: x + sequence.row * sizes.hidden)
        }
    }

    /// Embeddings of every segment, perturbed.
    private func enterFromTokens() throws(ModelError) {
        let h = sizes.hidden
        let x = x.reserve(segmentRows * h)
        for segment in segments {
            let sequence = sequences[segment.sequence]
            let own = UnsafeBufferPointer(rebasing: sequence.tokens[..<sequence.length])
            let rows = x + segment.row * h
            try model.embed(own, into: rows)
            guard let directions, segment.direction >= 0 else { continue }
            let slot = model.embeddingSlot
            let scale = segment.sign * directions.scales[slot]
            for (i, token) in own.enumerated() {
                if directions.isRank1 {
                    let a = Float(directions.a(slot, segment.direction)[Int(token)])
                    onebyte_add_scaled_i8(rows + i * h, directions.b(slot, segment.direction), scale * a, h)
                } else {
                    let range = Int(token) * h..<(Int(token) + 1) * h
                    onebyte_add_scaled_i8(rows + i * h, directions.elements(slot, segment.direction, range, into: denseElements), scale, h)
                }
            }
        }
    }

    /// x: the entry's rows once for each segment.
    private func expand() {
        let h = sizes.hidden
        let x = x.reserve(segmentRows * h)
        for segment in segments {
            let sequence = sequences[segment.sequence]
            guard let hidden = sequence.hidden else { continue }
            (x + segment.row * h).update(from: hidden, count: sequence.length * h)
        }
    }

    /// The entry is the final norm's input and holds the read positions only.
    private func enterReads() {
        let h = sizes.hidden
        let x = x.reserve(segmentReads * h)
        for segment in segments {
            let sequence = sequences[segment.sequence]
            guard let hidden = sequence.hidden else { continue }
            (x + segment.readRow * h).update(from: hidden, count: sequence.reads.count * h)
        }
    }
}
