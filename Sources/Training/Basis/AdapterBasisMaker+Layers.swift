import COpenBLAS
import Core
import LanguageModel

/// Makes the factors of adapters on the matrices of layers.
///
/// V whitens the inputs of a matrix on public text, as at `final`. U depends on the matrix. The output of some matrices is added to the residual
/// stream, and so reaches the head, as far as the layers above leave the stream unchanged. Their U are the same directions as at `final`, seen
/// through the final norm. For other matrices, U are random signs or the matrix's own singular vectors, scaled to the usual length of its outputs.
extension AdapterBasisMaker {
    /// - Parameters:
    ///   - places: places of the adapters.
    ///   - others: as for `makeBasis`.
    /// - Returns: the factors for each place, in the order of `places`.
    /// - Throws: as `makeBasis`; `TrainingError` for output directions that a place can't have.
    public static func makeBases(
        source: ModelSource, task: TaskSpec, texts: [String], places: [AdapterPlace], options: Options = Options(),
        progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }
    ) throws -> [AdapterBasis] {
        var made: [AdapterPlace: AdapterBasis] = [:]
        let maps = try AdaptedMap.find(places, in: source)
        for map in maps { try map.check(options) }
        if !maps.isEmpty {
            let maker = try LayerBasisMaker(source: source, task: task, texts: texts, options: options)
            for (map, basis) in zip(maps, try maker.bases(of: maps, progress: progress)) { made[map.place] = basis }
        }
        if places.contains(.final) {
            made[.final] = try makeBasis(source: source, task: task, texts: texts, options: options, progress: progress)
        }
        return places.compactMap { made[$0] }
    }
}

/// A matrix that gets an adapter.
private struct AdaptedMap {
    let place: AdapterPlace
    let layer: Int
    let module: LayerModule
    let space: InputSpace
    let outputs, inputs: Int

    static func find(_ places: [AdapterPlace], in source: ModelSource) throws(TrainingError) -> [AdaptedMap] {
        let sizes = LayerSizes(source.configuration)
        let names = source.configuration.description.names
        let wanted = Dictionary(places.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        var known: [String: AdaptedMap] = [:]
        for layer in 0..<source.configuration.layerCount {
            for module in LayerModule.matrices where sizes.has(module) {
                let tensor = LayerTensor(module)
                guard let place = wanted[names.name(tensor, layer: layer)], let space = InputSpace(of: tensor) else { continue }
                let shape = sizes.shape(module)
                known[place.name] = AdaptedMap(
                    place: place, layer: layer, module: module, space: space, outputs: shape.outputs, inputs: shape.inputs)
            }
        }
        var maps: [AdaptedMap] = []
        for place in places where place != .final {
            guard let map = known[place.name] else {
                throw TrainingError(.badTensors, "\(place) is no matrix of a layer, where an adapter could be")
            }
            maps.append(map)
        }
        return maps
    }

    func check(_ options: AdapterBasisMaker.Options) throws(TrainingError) {
        for (count, width, what) in [(options.inputs, inputs, "inputs"), (options.outputs, outputs, "outputs")] {
            guard (1...min(width, AdapterBasis.rankMax)).contains(count) else {
                throw TrainingError(
                    .badTensors, "an adapter at \(place) can have 1 to \(min(width, AdapterBasis.rankMax)) \(what), not \(count)")
            }
        }
        guard options.tau > 0, options.tau.isFinite else {
            throw TrainingError(.numerical, "τ is \(options.tau); it must be above 0 (0.05 is usual)")
        }
    }

    /// Key of the second moment of the matrix's inputs.
    var key: Int { layer * InputSpace.allCases.count + space.rawValue }
}

private final class LayerBasisMaker {
    /// Largest number of positions of public text that are read.
    private static let positionsMax = 1 << 14
    private static let batchRows = 1024
    /// Largest number of bytes of second moments in memory at once. For the rest, the text goes through the model again.
    private static let momentBytesMax = 3 << 29
    /// Number of sums among which texts are divided. It is fixed, so that any number of threads makes the same basis.
    private static let lanes = 2

    private let source: ModelSource
    private let task: TaskSpec
    private let texts: [String]
    private let options: AdapterBasisMaker.Options
    private let encoder: TaskEncoder
    private let model: TrainableModel
    private let set: ExampleSet
    private let batches: [Range<Int>]

    init(source: ModelSource, task: TaskSpec, texts: [String], options: AdapterBasisMaker.Options) throws {
        self.source = source
        self.task = task
        self.texts = texts
        self.options = options
        encoder = try TaskEncoder(task: task, model: source)
        let publicTexts = texts.isEmpty ? try RandomTexts(source: source, seed: options.seed).texts : texts
        var positions = 0
        let examples = try encoder.encodePublicText(publicTexts).prefix { example in
            defer { positions += example.sequences.reduce(0) { $0 + $1.tokens.count } }
            return positions < Self.positionsMax
        }
        guard !examples.isEmpty else { throw TrainingError(.noExamples, "no public text has a token to learn from; give longer ones") }
        model = try TrainableModel(source: source)
        let set = try ExampleSet(Array(examples), for: source.configuration)
        try set.prepare(model)
        self.set = set
        var (batches, rows) = ([Range<Int>](), Self.batchRows)
        for example in 0..<set.count {
            if rows >= Self.batchRows {
                batches.append(example..<example)
                rows = 0
            }
            batches[batches.count - 1] = batches[batches.count - 1].lowerBound..<example + 1
            rows += set.ranges[example].reduce(0) { $0 + set.sequences[$1].length }
        }
        self.batches = batches
    }

    func bases(of maps: [AdaptedMap], progress: (_ done: Int, _ total: Int) -> Bool) throws -> [AdapterBasis] {
        var bases: [AdapterBasis] = []
        var head: HeadDirections?
        for group in groups(of: maps) {
            let measured = try measure(group, progress: progress)
            let known = try head ?? HeadDirections(self.parts, streamSize: measured.streamSize)
            head = known
            // Computing the eigenvalues of some thousand inputs takes seconds.
            var made = [AdapterBasis?](repeating: nil, count: group.count)
            let failure = FirstError()
            made.withUnsafeMutableBufferPointer { made in
                nonisolated(unsafe) let out = made
                nonisolated(unsafe) let own = self
                nonisolated(unsafe) let moments = measured.moments
                let head = known
                forEachChunk(of: group.count, size: 1, threads: options.threads) { chunk in
                    for i in chunk {
                        failure.capture {
                            guard let moment = moments[group[i].key] else { return }
                            out[i] = try own.basis(of: group[i], moment.mean(), head)
                        }
                    }
                }
            }
            try failure.rethrow()
            bases += made.compactMap { $0 }
        }
        return bases
    }

    private var parts: HeadDirections.Parts { (source, task, texts, options, encoder, model) }

    /// Groups neighbouring matrices whose second moments fit in memory.
    private func groups(of maps: [AdaptedMap]) -> [[AdaptedMap]] {
        var groups: [[AdaptedMap]] = []
        var keys = Set<Int>()
        var bytes = Int.max
        for map in maps {
            let size = Self.lanes * map.inputs * map.inputs * MemoryLayout<Double>.stride
            if bytes > Self.momentBytesMax - (keys.contains(map.key) ? 0 : size) {
                groups.append([])
                keys = []
                bytes = 0
            }
            if keys.insert(map.key).inserted { bytes += size }
            groups[groups.count - 1].append(map)
        }
        return groups
    }

    // MARK: What the maps read

    private final class Moments: @unchecked Sendable {  // of one thread at a time
        var moments: [Int: SecondMoment] = [:]
        var squares = 0.0
        var count = 0
    }

    /// - Returns: the second moments by `AdaptedMap.key`, and the root mean square of the residual stream before the final norm.
    private func measure(
        _ maps: [AdaptedMap], progress: (_ done: Int, _ total: Int) -> Bool
    ) throws -> (moments: [Int: SecondMoment], streamSize: Double) {
        let lanes = (0..<Self.lanes).map { _ in Moments() }
        for lane in lanes { for map in maps where lane.moments[map.key] == nil { lane.moments[map.key] = SecondMoment(width: map.inputs) } }
        let passes = lanes.map { _ in ForwardPass(model: model) }
        for (pass, lane) in zip(passes, lanes) {
            pass.observer = { layer, space, x, stride, rows in
                lane.moments[layer * InputSpace.allCases.count + space.rawValue]?.add(x, stride: stride, rows: rows)
            }
        }
        let failure = FirstError()
        for start in stride(from: 0, to: batches.count, by: Self.lanes) {
            let some = Array(batches[start..<min(start + Self.lanes, batches.count)])
            nonisolated(unsafe) let own = self
            nonisolated(unsafe) let work = passes
            forEachChunk(of: some.count, size: 1, threads: options.threads) { chunk in
                for lane in chunk { failure.capture { try own.run(some[lane], work[lane], lanes[lane]) } }
            }
            try failure.rethrow()
            guard progress(min(start + Self.lanes, batches.count), batches.count) else {
                throw TrainingError(.cancelled, "stopped while public text was read")
            }
        }
        for lane in lanes.dropFirst() {
            for (key, moment) in lane.moments { lanes[0].moments[key]?.add(moment) }
            lanes[0].squares += lane.squares
            lanes[0].count += lane.count
        }
        return (lanes[0].moments, (lanes[0].squares / Double(max(lanes[0].count, 1))).squareRoot())
    }

    private func run(_ examples: Range<Int>, _ pass: ForwardPass, _ moments: Moments) throws(ModelError) {
        pass.begin(directions: nil)
        for example in examples {
            for index in set.ranges[example] {
                let own = set.sequences[index]
                let sequence = ForwardPass.Sequence(length: own.length, reads: set.reads(of: own), tokens: set.tokens(of: own), hidden: nil)
                _ = pass.add(segmentOf: pass.add(sequence))
            }
        }
        try pass.runFromEmbeddings(to: model.configuration.layerCount)
        let count = pass.segmentReads * model.sizes.hidden
        for i in 0..<count { moments.squares += Double(pass.x.pointer[i]) * Double(pass.x.pointer[i]) }
        moments.count += count
    }

    // MARK: Factors

    private func basis(of map: AdaptedMap, _ moment: SymmetricMatrix, _ head: HeadDirections) throws -> AdapterBasis {
        let inputs = try AdapterBasisMaker.whitening(moment, count: options.inputs, tau: options.tau, what: "the inputs of \(map.place)")
        let outputs: [[Double]]
        switch try head.kind(of: map) {
        case .labels, .loss: outputs = head.outputs
        case .seed: outputs = scaled(randomOutputs(map), to: try usualOutput(of: map, moment))
        case .singular: outputs = scaled(try singularOutputs(map), to: try usualOutput(of: map, moment))
        }
        return AdapterBasis(
            place: map.place.name, outputs: try FixedPointVectors(rounding: outputs), inputs: try FixedPointVectors(rounding: inputs))
    }

    private func scaled(_ vectors: [[Double]], to length: Double) -> [[Double]] { vectors.map { $0.map { $0 * length } } }

    private func weights(of map: AdaptedMap) throws -> [Double] {
        let floats = ScratchBuffer<Float>(capacity: map.outputs * map.inputs)
        try source.copyFloats(map.place.name, into: floats.pointer)
        return (0..<map.outputs * map.inputs).map { Double(floats.pointer[$0]) }
    }

    /// Returns the root mean square length of W·x: √trace(W·S·Wᵀ).
    private func usualOutput(of map: AdaptedMap, _ moment: SymmetricMatrix) throws -> Double {
        let (m, n) = (map.outputs, map.inputs)
        let w = try weights(of: map)
        var product = [Double](repeating: 0, count: m * n)
        cblas_dsymm(
            CblasRowMajor, CblasRight, CblasUpper, blasint(m), blasint(n), 1, moment.upper.pointer, blasint(n), w, blasint(n), 0, &product, blasint(n)
        )
        return max(dot(product, w), 0).squareRoot()
    }

    /// Returns the leading left singular vectors of W, which are the leading eigenvectors of W·Wᵀ.
    private func singularOutputs(_ map: AdaptedMap) throws -> [[Double]] {
        let gram = SymmetricMatrix(size: map.outputs)
        cblas_dsyrk(
            CblasRowMajor, CblasUpper, CblasNoTrans, blasint(map.outputs), blasint(map.inputs), 1, try weights(of: map), blasint(map.inputs), 0,
            gram.upper.pointer, blasint(map.outputs))
        let eigen = try gram.eigen("\(map.place)")
        return (0..<options.outputs).map { eigen.vector($0) }
    }

    /// Returns vectors of random signs, made orthonormal.
    private func randomOutputs(_ map: AdaptedMap) -> [[Double]] {
        let seed = options.seed &+ UInt64(map.place.adapterIndex) << 32
        return AdapterBasisMaker.randomVectors(
            count: options.outputs, width: map.outputs, seed: seed, trace: Double(map.outputs), inner: dot)
    }
}

/// The output directions of matrices that add to the residual stream, derived from the head.
private struct HeadDirections {
    typealias Parts = (
        source: ModelSource, task: TaskSpec, texts: [String], options: AdapterBasisMaker.Options, encoder: TaskEncoder, model: TrainableModel
    )

    /// The requested directions; nil for those that suit each place.
    private let wanted: AdapterBasisMaker.OutputDirections?
    /// The directions that suit a matrix that adds to the stream.
    private let kindOfWriters: AdapterBasisMaker.OutputDirections
    /// Whether the output of such a matrix reaches the head, apart from the effect of the layers between.
    private let isStreamPlain: Bool
    /// The vectors for `kindOfWriters`, if that is labels or loss.
    let outputs: [[Double]]

    /// - Parameter streamSize: root mean square of the residual stream before the final norm.
    init(_ parts: Parts, streamSize: Double) throws {
        let d = parts.source.configuration.description
        wanted = parts.options.outputDirections
        isStreamPlain =
            d.embedding.projectedWidth == nil
            && d.norms.isDisjoint(with: [.attentionOutputNorm, .attentionSumNorm, .feedForwardOutputNorm, .feedForwardSumNorm])
        let isClassification = parts.task.kind == .classification
        if wanted == .labels, !isClassification {
            throw TrainingError(.badTensors, "outputs by labels are for classifications; take loss, seed or singular")
        }
        if wanted == .loss, isClassification || parts.texts.isEmpty {
            throw TrainingError(.badTensors, "outputs by loss are for token losses with public text; take labels, seed or singular")
        }
        kindOfWriters = wanted ?? (!isStreamPlain ? .seed : isClassification ? .labels : parts.texts.isEmpty ? .seed : .loss)
        guard isStreamPlain, kindOfWriters == .labels || kindOfWriters == .loss else {
            outputs = []
            return
        }
        let weights = Self.normWeights(parts.model)
        let size = d.head.hasNorm ? streamSize / Double(d.residualScale) : 1 / Double(d.residualScale)
        if kindOfWriters == .labels {
            let vectors = try HeadMetric(source: parts.source, weights: weights).labelOutputs(parts.encoder.distinguishingTokens)
            outputs = vectors.map { $0.map { $0 * size } }
            return
        }
        let states = try PublicStates(
            source: parts.source, examples: try parts.encoder.encodePublicText(parts.texts), threads: parts.options.threads,
            progress: { _, _ in true })
        let moment = try states.gradientMoment()
        for i in 0..<moment.size {
            for j in i..<moment.size { moment[i, j] *= Double(weights[i]) * Double(weights[j]) / (size * size) }
        }
        outputs = try AdapterBasisMaker.whitening(moment, count: parts.options.outputs, tau: parts.options.tau, what: "the loss's gradients")
    }

    private static func normWeights(_ model: TrainableModel) -> [Float] {
        let width = model.sizes.embedding
        guard let weights = model.floats(.finalNorm), model.configuration.has(.finalNorm) else { return Array(repeating: 1, count: width) }
        return (0..<width).map { weights[$0] }
    }

    /// - Throws: `TrainingError` if a place can't have the requested directions.
    func kind(of map: AdaptedMap) throws(TrainingError) -> AdapterBasisMaker.OutputDirections {
        let isWriter = map.module == .output || map.module == .down
        if wanted == .labels || wanted == .loss, !isWriter || !isStreamPlain {
            throw TrainingError(
                .badTensors,
                "\(map.place) does not add to what the head reads, so its outputs can't point along \(wanted?.rawValue ?? ""); take seed or singular"
            )
        }
        return isWriter ? kindOfWriters : wanted ?? .singular
    }
}
