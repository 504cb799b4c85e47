import Core
import Glibc
import Kernels

/// Lets a model write one token after the other. The keys and values of earlier positions are kept.
///
/// It holds every layer and the head in F32, since each token reads all of them. Use it from one thread at a time.
public final class Generator {
    /// How tokens are chosen, and where a text ends.
    public struct Options: Sendable {
        /// Largest number of tokens to write.
        public var maxTokens: Int
        /// 0 always takes the likeliest token.
        public var temperature: Double
        /// The token is drawn from the likeliest ones that together have this probability (nucleus sampling, Holtzman et al., arXiv
        /// 1904.09751); 1 draws from all.
        public var topP: Double
        /// Seed of the draws; has no effect at temperature 0.
        public var seed: UInt64
        /// Tokens that end the text; they are not part of it.
        public var stopTokens: [Int32]

        public init(maxTokens: Int = 128, temperature: Double = 0, topP: Double = 1, seed: UInt64 = 0, stopTokens: [Int32] = []) {
            self.maxTokens = maxTokens
            self.temperature = temperature
            self.topP = topP
            self.seed = seed
            self.stopTokens = stopTokens
        }
    }

    /// Number of a prompt's rows that go through the layers at once.
    private static let promptRows = 512

    public let model: TrainableModel
    private var keyValues: [ScratchBuffer<Float>]
    private var used = 0
    private var room = 0
    private let pass: IncrementalPass
    private let scores = ScratchBuffer<Float>()
    private let logits: ScratchBuffer<Float>

    /// - Parameter threads: number of threads that share the products of a token.
    public init(model: TrainableModel, threads: Int = 1) throws(ModelError) {
        self.model = model
        pass = IncrementalPass(model: model, threads: threads)
        try model.prepareAllLayers()
        try model.prepareFullHead()
        keyValues = (0..<model.configuration.layerCount).map { _ in ScratchBuffer() }
        logits = ScratchBuffer(capacity: model.configuration.vocabularySize)
    }

    /// Continues the prompt.
    ///
    /// - Parameter onToken: called with each token as soon as it is known. Returning false ends the text after it.
    /// - Returns: the new tokens.
    /// - Throws: `TrainingError` for an empty prompt, a prompt with tokens outside the vocabulary, or one that leaves no room in the
    ///   model's context; errors from the model's files.
    public func generate(
        prompt: [Int32], options: Options = Options(), onToken: (Int32) -> Bool = { _ in true }
    ) throws -> [Int32] {
        let context = model.configuration.contextLength
        let length = min(prompt.count + min(max(options.maxTokens, 0), context), context)
        try begin(prompt, room: length)
        var random = SplitMix64(state: options.seed)
        var text: [Int32] = []
        while text.count < options.maxTokens {
            let token = try choose(options, &random)
            if options.stopTokens.contains(token) { break }
            text.append(token)
            guard onToken(token), text.count < options.maxTokens, used < length else { break }
            if model.description.rotates(used + 1, otherwiseThan: used) {
                // Every key turns otherwise from here on.
                used = 0
                try fill(prompt + text)
            } else {
                try advance([token], textLength: used + 1)
            }
        }
        return text
    }

    /// Returns the logits of the whole vocabulary for the token after a prompt.
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
        try fill(prompt)
    }

    private func fill(_ text: [Int32]) throws(ModelError) {
        for start in stride(from: 0, to: text.count, by: Self.promptRows) {
            try advance(Array(text[start..<min(start + Self.promptRows, text.count)]), textLength: text.count)
        }
    }

    /// Adds tokens to the text; afterwards `logits` are those of the token that follows.
    private func advance(_ tokens: [Int32], textLength: Int) throws(ModelError) {
        let s = model.sizes
        let kvw = 2 * s.keyValue
        let rows = tokens.count
        let scores = scores.reserve(room)
        let x = try pass.run(
            tokens.enumerated().map { (token: $1, position: used + $0, textLength: textLength) }, layers: keyValues.count
        ) { attention in
            let kv = keyValues[attention.layer].pointer
            for r in 0..<rows { (kv + (used + r) * kvw).update(from: attention.keyValues + r * attention.stride, count: kvw) }
            for r in 0..<rows { attention.attend(row: r, in: kv, count: used + r + 1, scores: scores) }
        }
        used += rows
        pass.logits(after: x + (rows - 1) * s.hidden, into: logits.pointer)
    }

    private func choose(_ options: Options, _ random: inout SplitMix64) throws(TrainingError) -> Int32 {
        let all = UnsafeBufferPointer(start: logits.pointer, count: model.configuration.vocabularySize)
        var best = 0
        for i in all.indices where all[i] > all[best] { best = i }
        // Without this check a text of NaN would never end: no number is greater than NaN, so the first token would always be the
        // likeliest.
        guard all[best].isFinite else { throw TrainingError(.numerical, "the model's numbers are not finite; has the run diverged?") }
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
