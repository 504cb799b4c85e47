import Core
import Kernels

/// One thread's forward pass over packed batches: its scratch memory, and the plan of the batch at hand.
///
/// A batch is a list of *sequences* (token sequences, each with the hidden states at the model's entry) and a list of *segments*. A segment
/// is one sequence seen through θ + εz, θ − εz or θ itself. The segments of a direction stand together, those with + before those with −.
/// Rows are packed without padding in one of three layouts: `sequences` (what all directions on a sequence share), `segments` (all rows of
/// each segment) and `reads` (only the positions of each segment that its loss reads, which is all that the last layer needs beyond its
/// keys and values).
package final class ForwardPass {
    package struct Sequence {
        /// Number of positions. Later ones can't affect what the loss reads.
        package let length: Int
        /// Positions that the loss reads, in rising order; the last is `length − 1`. Must stay valid as long as the batch.
        package let reads: UnsafeBufferPointer<Int32>
        /// Tokens of the whole text; may be empty if the pass does not start from them and no text is longer than `length`.
        package let tokens: UnsafeBufferPointer<Int32>
        /// `length` rows at the model's entry, or only those of `reads` if the entry is the final norm; nil if the pass starts from tokens.
        package let hidden: UnsafePointer<Float>?
        package fileprivate(set) var row = 0
        package fileprivate(set) var readRow = 0
        /// Number of tokens of the whole text, as far as it is known.
        package var textLength: Int { max(length, tokens.count) }

        package init(
            length: Int, reads: UnsafeBufferPointer<Int32>, tokens: UnsafeBufferPointer<Int32>, hidden: UnsafePointer<Float>?
        ) {
            self.length = length
            self.reads = reads
            self.tokens = tokens
            self.hidden = hidden
        }
    }

    package struct Segment {
        package let sequence: Int
        /// Position in the direction batch; −1 if the sign is 0.
        package let direction: Int
        /// +1, −1, or 0 for θ itself.
        package let sign: Float
        package fileprivate(set) var row = 0
        package fileprivate(set) var readRow = 0
    }

    package enum Layout { case sequences, segments, reads }

    /// The rows of one direction, those with + and those with −, in the layouts `segments` and `reads`.
    package struct Group {
        package let direction: Int
        package var plusRows: Range<Int>
        package var minusRows: Range<Int>
        package var plusReads: Range<Int>
        package var minusReads: Range<Int>

        /// All rows of the direction, and the number of those with the sign +, which come first.
        package func rows(_ layout: Layout) -> (all: Range<Int>, plus: Int) {
            layout == .reads
                ? (plusReads.lowerBound..<minusReads.upperBound, plusReads.count) : (plusRows.lowerBound..<minusRows.upperBound, plusRows.count)
        }
    }

    /// Receives the inputs of a layer's linear maps at the positions that matter, in rows `stride` floats apart.
    package typealias Observer = (_ layer: Int, _ space: InputSpace, _ x: UnsafePointer<Float>, _ stride: Int, _ rows: Int) -> Void

    package let model: TrainableModel
    package let sizes: LayerSizes
    package let description: ModelDescription
    package var observer: Observer?
    /// Set where texts are written token by token. The closure keeps the new keys and values of each layer and fills `output` with the
    /// attention of each query. Rows then stand at `rowPositions` of texts with `rowTextLengths` tokens, and all of them go through all layers.
    package var keptAttention: ((Attention) -> Void)?
    /// Number of threads that share a product without directions. More than 1 helps a single text; many texts are better shared out among
    /// passes.
    package var threads = 1
    /// Weights of the layer that runs next, where the caller has made them for several passes; nil if the pass takes the model's. No direction
    /// may change anything in that layer.
    package var frozen: FrozenLayer?

    package private(set) var sequences: [Sequence] = []
    package private(set) var segments: [Segment] = []
    package private(set) var groups: [Group] = []
    package private(set) var sequenceRows = 0
    package private(set) var sequenceReads = 0
    package private(set) var segmentRows = 0
    package private(set) var segmentReads = 0
    package var directions: DirectionBatch?
    /// `int8` needs `model.prepareInt8Weights` and a clean segment for every sequence.
    package var precision = Precision.float

    package let x = ScratchBuffer<Float>()
    package let normed = ScratchBuffer<Float>()
    package let readNormed = ScratchBuffer<Float>()
    package let projections = ScratchBuffer<Float>()
    package let queries = ScratchBuffer<Float>()
    package let segmentKeys = ScratchBuffer<Float>()
    package let segmentQueries = ScratchBuffer<Float>()
    package let scores = ScratchBuffer<Float>()
    package let rowScales = ScratchBuffer<Float>()
    package let attended = ScratchBuffer<Float>()
    package let inner = ScratchBuffer<Float>()
    package let perturbedNorm = ScratchBuffer<Float>()
    package let perturbedBias = ScratchBuffer<Float>()
    package let difference = ScratchBuffer<Float>()
    package let logits = ScratchBuffer<Float>()
    package let positions = ScratchBuffer<Int32>()
    package let rowPositions = ScratchBuffer<Int32>()
    package let rowTextLengths = ScratchBuffer<Int32>()
    package let rotaryRows = ScratchBuffer<Int32>()
    package let branch = ScratchBuffer<Float>()
    package let embedded = ScratchBuffer<Float>()
    package let targetTokens = ScratchBuffer<Int32>()
    package let classScores = ScratchBuffer<Double>()
    package let logProbability = ScratchBuffer<Double>()
    /// Whether no other token of the vocabulary is likelier than the target.
    package let isLikeliest = ScratchBuffer<Bool>()
    package let partSums = ScratchBuffer<Double>()
    package let cleanProduct = ScratchBuffer<Float>()
    package let quantisedRows = ScratchBuffer<UInt8>()
    package let quantisedScales = ScratchBuffer<Float>()
    package let cleanPointers = ScratchBuffer<UnsafePointer<Float>?>()
    package let madeMatrix = ScratchBuffer<Float>()
    package let madeUp = ScratchBuffer<Float>()
    package let denseElements = ScratchBuffer<Int8>()
    package let denseUpElements = ScratchBuffer<Int8>()
    package let panels = ScratchBuffer<Float>()
    package let rowTerms = RowTerms()
    package let upTerms = RowTerms()
    package let madeVectors = ScratchBuffer<Float>()
    package let adapterInputs = ScratchBuffer<Float>()
    /// Vᵀ·x of each module's rows.
    let projectedInputs = LayerModule.allCases.map { _ in ScratchBuffer<Float>(capacity: 0) }
    package let capSlopes = ScratchBuffer<Float>()

    package init(model: TrainableModel) {
        self.model = model
        sizes = model.sizes
        description = model.configuration.description
    }

    // MARK: The batch

    package func begin(directions: DirectionBatch?) {
        sequences.removeAll(keepingCapacity: true)
        sequenceRows = 0
        sequenceReads = 0
        begin(segmentsOf: directions)
    }

    /// Adds a sequence and returns its number in this batch.
    package func add(_ sequence: Sequence) -> Int {
        var sequence = sequence
        sequence.row = sequenceRows
        sequence.readRow = sequenceReads
        sequenceRows += sequence.length
        sequenceReads += sequence.reads.count
        sequences.append(sequence)
        return sequences.count - 1
    }

    /// Adds a segment and returns its number. Segments of one direction must be added one after the other, all with + first; segments with
    /// sign 0 must follow all others.
    package func add(segmentOf sequence: Int, direction: Int = -1, sign: Float = 0) -> Int {
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

    /// Runs `body` with one clean segment per sequence instead of the batch's own segments.
    func withCleanSegments<R>(_ body: () throws(ModelError) -> R) throws(ModelError) -> R {
        let own = (segments, groups, segmentRows, segmentReads, directions)
        defer { (segments, groups, segmentRows, segmentReads, directions) = own }
        begin(segmentsOf: nil)
        for sequence in sequences.indices { _ = add(segmentOf: sequence) }
        return try body()
    }

    private func begin(segmentsOf directions: DirectionBatch?) {
        self.directions = directions
        segments.removeAll(keepingCapacity: true)
        groups.removeAll(keepingCapacity: true)
        segmentRows = 0
        segmentReads = 0
    }

    // MARK: From the entry to the final norm's input

    /// Carries the batch through the model's trained part. Afterwards `x` holds the final norm's input in the layout `reads`.
    package func runToFinalNorm() throws(ModelError) {
        let layerCount = model.configuration.layerCount
        switch model.entry {
        case .tokens:
            try enterFromTokens()
            for layer in 0..<layerCount { try run(layer, shared: false) }
        case .layer(layerCount):
            enterReads()
        case .layer(let first):
            let perturbsNorm = directions != nil && (slot(first, .inputNorm) >= 0 || slot(first, .inputNorm, isBias: true) >= 0)
            let shared = !perturbsNorm && (directions == nil || directions?.isRank1 == true)
            if !shared { expand() }
            if shared, let module = lastWriter(first) {
                try run(first, sharingUpTo: module)
            } else {
                try run(first, shared: shared)
            }
            for layer in (first + 1)..<max(layerCount, first + 1) { try run(layer, shared: false) }
        }
    }

    /// Carries sequences (one clean segment each) from the embeddings to the input of `layer`. Afterwards `x` holds `segmentRows` rows, or
    /// `segmentReads` rows if `layer` is the final norm.
    package func runFromEmbeddings(to layer: Int) throws(ModelError) {
        try embedSequences()
        for below in 0..<layer { try run(below, shared: false) }
    }

    package func slot(_ layer: Int, _ module: LayerModule, isBias: Bool = false) -> Int {
        model.layerSlots[layer][LayerTensor(module, isBias: isBias).index]
    }

    // MARK: Entering

    /// Copies the entry's rows into `x`, once for each segment.
    func expand() {
        let h = sizes.hidden
        let x = x.reserve(segmentRows * h)
        for segment in segments {
            let sequence = sequences[segment.sequence]
            guard let hidden = sequence.hidden else { continue }
            (x + segment.row * h).update(from: hidden, count: sequence.length * h)
        }
    }

    /// Copies the read positions into `x` where the entry is the final norm's input.
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
