import Core
import Glibc
import Kernels

/// Lets a model write: one token after the other, with the keys and values of earlier positions kept.
///
/// It holds every layer and the head in F32, since each token reads all of them. One thread at a time.
public final class Generator {
    public struct Options: Sendable {
        public var maxTokens: Int
        /// 0: always the likeliest token.
        public var temperature: Double
        /// Of the likeliest tokens that together have this probability one is drawn (nucleus sampling, Holtzman et al.,
        /// arXiv 1904.09751); 1: of all.
        public var topP: Double
        public var seed: UInt64
        /// Any of these ends the text; it is not part of it.
        public var stopTokens: [Int32]

        public init(maxTokens: Int = 128, temperature: Double = 0, topP: Double = 1, seed: UInt64 = 0, stopTokens: [Int32] = []) {
            self.maxTokens = maxTokens
            self.temperature = temperature
            self.topP = topP
            self.seed = seed
            self.stopTokens = stopTokens
        }
    }

    /// Rows of a prompt that go through the layers at once.
    private static let promptRows = 512

    public let model: TrainableModel
    private var keyValues: [ScratchBuffer<Float>]
    private var used = 0
    private var room = 0
    private let x = ScratchBuffer<Float>()
    private let normed = ScratchBuffer<Float>()
    private let projected = ScratchBuffer<Float>()
    private let attended = ScratchBuffer<Float>()
    private let inner = ScratchBuffer<Float>()
    private let scores = ScratchBuffer<Float>()
    private let positions = ScratchBuffer<Int32>()
    private let tokenScratch = ScratchBuffer<Int32>()
    private let logits: ScratchBuffer<Float>

    public init(model: TrainableModel) throws(ModelError) {
        self.model = model
        try model.prepareAllLayers()
        try model.prepareFullHead()
        keyValues = (0..<model.configuration.layerCount).map { _ in ScratchBuffer() }
        logits = ScratchBuffer(capacity: model.configuration.vocabularySize)
    }

    /// Continues the prompt.
    ///
    /// - Parameter onToken: called with each token as soon as it is known; false ends the text after it.
    /// - Returns: the new tokens.
    /// - Throws: `TrainingError` for an empty prompt, one with tokens outside the vocabulary, or one that leaves no room in the model's
    ///   context.
    public func generate(
        prompt: [Int32], options: Options = Options(), onToken: (Int32) -> Bool = { _ in true }
    ) throws -> [Int32] {
        let context = model.configuration.contextLength
        let length = min(prompt.count + min(max(options.maxTokens, 0), context), context)
        try begin(prompt, room: length)
        var random = SplitMix64(state: options.seed)
        var text: [Int32] = []
        while text.count < options.maxTokens {
            let token = choose(options, &random)
            if options.stopTokens.contains(token) { break }
            text.append(token)
            guard onToken(token), text.count < options.maxTokens, used < length else { break }
            try advance([token])
        }
        return text
    }

    /// The logits of the token that follows, for the whole vocabulary.
    public func nextLogits(after prompt: [Int32]) throws -> [Float] {
        try begin(prompt, room: prompt.count)
        return Array(UnsafeBufferPointer(start: logits.pointer, count: model.configuration.vocabularySize))
    }

    private func begin(_ prompt: [Int32], room: Int) throws {
        let c = model.configuration
        guard !prompt.isEmpty else {
            throw TrainingError(.badExample, "the prompt is empty; a model begins from at least one token")
        }
        if let token = prompt.first(where: { $0 < 0 || Int($0) >= c.vocabularySize }) {
            throw TrainingError(.badExample, "token \(token) of the prompt is not in the model's vocabulary of \(c.vocabularySize)")
        }
        guard prompt.count <= c.contextLength else {
            throw TrainingError(.badExample, "the prompt has \(prompt.count) tokens, the model takes \(c.contextLength)")
        }
        model.preparePositions(room)
        for layer in keyValues { layer.reserve(room * 2 * model.sizes.keyValue) }
        self.room = room
        used = 0
        for start in stride(from: 0, to: prompt.count, by: Self.promptRows) {
            try advance(Array(prompt[start..<min(start + Self.promptRows, prompt.count)]))
        }
    }

    /// Takes in tokens after the ones that are there; afterwards `logits` are those of the token that follows.
    private func advance(_ tokens: [Int32]) throws(ModelError) {
        let s = model.sizes
        let h = s.hidden
        let rows = tokens.count
        let x = x.reserve(rows * h)
        let at = positions.reserve(rows)
        for r in 0..<rows { at[r] = Int32(used + r) }
        let ids = tokenScratch.reserve(rows)
        for (r, token) in tokens.enumerated() { ids[r] = token }
        try model.embed(UnsafeBufferPointer(start: ids, count: rows), into: x)

        let epsilon = Float(model.configuration.rmsEpsilon)
        let scale = 1 / Float(s.headDimension).squareRoot()
        let width = s.query + 2 * s.keyValue
        let rotary = model.rotary
        let normed = normed.reserve(rows * h)
        let projected = projected.reserve(rows * width)
        let attended = attended.reserve(rows * s.query)
        let inner = inner.reserve(rows * 2 * s.feedForward)
        let scores = scores.reserve(room)
        for (layer, cache) in keyValues.enumerated() {
            guard let w = model.residentLayer(layer) else { continue }
            onebyte_rms_norm(x, w[.inputNorm], normed, rows, h, epsilon)
            multiply(normed, xStride: h, rows: rows, by: w[.query], outputs: width, inputs: h, into: projected, yStride: width)
            let key = projected + s.query
            onebyte_rope(projected, width, at, rows, s.heads, s.headDimension, rotary.cosine, rotary.sine)
            onebyte_rope(key, width, at, rows, s.keyValueHeads, s.headDimension, rotary.cosine, rotary.sine)
            let kv = cache.pointer
            for r in 0..<rows { (kv + (used + r) * 2 * s.keyValue).update(from: key + r * width, count: 2 * s.keyValue) }
            for r in 0..<rows {
                onebyte_attend(
                    projected + r * width, kv, 2 * s.keyValue, kv + s.keyValue, 2 * s.keyValue, used + r + 1, s.heads, s.keyValueHeads,
                    s.headDimension, scale, scores, attended + r * s.query)
            }
            multiply(
                attended, xStride: s.query, rows: rows, by: w[.output], outputs: h, inputs: s.query, into: x, yStride: h, accumulate: true)
            onebyte_rms_norm(x, w[.postNorm], normed, rows, h, epsilon)
            let f = s.feedForward
            multiply(normed, xStride: h, rows: rows, by: w[.gate], outputs: 2 * f, inputs: h, into: inner, yStride: 2 * f)
            onebyte_swiglu(inner, inner + f, 2 * f, inner, 2 * f, rows, f)
            multiply(inner, xStride: 2 * f, rows: rows, by: w[.down], outputs: h, inputs: f, into: x, yStride: h, accumulate: true)
        }
        used += rows
        let last = x + (rows - 1) * h
        onebyte_rms_norm(last, model.finalNorm.pointer, normed, 1, h, epsilon)
        guard let head = model.fullHeadPointer else { return }
        let vocabulary = model.configuration.vocabularySize
        multiply(normed, xStride: h, rows: 1, by: head, outputs: vocabulary, inputs: h, into: logits.pointer, yStride: vocabulary)
    }

    private func choose(_ options: Options, _ random: inout SplitMix64) -> Int32 {
        let all = UnsafeBufferPointer(start: logits.pointer, count: model.configuration.vocabularySize)
        var best = 0
        for i in all.indices where all[i] > all[best] { best = i }
        guard options.temperature > 0 else { return Int32(best) }
        let largest = Double(all[best])
        var candidates = all.enumerated().map { (token: $0, weight: exp((Double($1) - largest) / options.temperature)) }
        if options.topP < 1 {
            candidates.sort { ($0.weight, $1.token) > ($1.weight, $0.token) }
            let goal = options.topP * candidates.reduce(0) { $0 + $1.weight }
            var sum = 0.0
            var kept = 0
            while kept < candidates.count, sum < goal || kept == 0 {
                sum += candidates[kept].weight
                kept += 1
            }
            candidates.removeSubrange(kept...)
        }
        var left = Double.random(in: 0..<1, using: &random) * candidates.reduce(0) { $0 + $1.weight }
        for candidate in candidates {
            left -= candidate.weight
            if left < 0 { return Int32(candidate.token) }
        }
        return Int32(candidates.last?.token ?? best)
    }
}
