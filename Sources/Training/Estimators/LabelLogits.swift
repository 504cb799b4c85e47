import Core
import Glibc
import Kernels
import LanguageModel

/// Logits of choices between single tokens in a model with an adapter at `final`, computed without the hidden state or the head.
///
/// The logit of token t is L₀ + (E_t·U)·C·x, where n is the frozen final state, x = Vᵀn, and L₀ = E_t·n plus the head's bias. x and L₀ are
/// kept, so an example costs some thousand multiply-adds.
final class LabelLogits {
    private static let batchExamples = 32

    private let model: TrainableModel
    private let cache: PrefixCache
    private let adapter: FinalAdapter
    private let pool: PassPool
    private let threads: Int
    /// Number of each token that is a class of some example.
    private let numbers: [Int32: Int]
    /// E_t·U of each of these tokens: p numbers per token.
    private let tokenOutputs: ScratchBuffer<Float>
    /// x of each example: r numbers per example.
    private let inputs: ScratchBuffer<Float>
    /// L₀ of each example's classes, beginning at the example's place in `offsets`.
    private let baseLogits: ScratchBuffer<Float>
    private let offsets: [Int]
    private var isKnown: [Bool]

    init(model: TrainableModel, cache: PrefixCache, adapter: FinalAdapter, pool: PassPool, threads: Int) {
        self.model = model
        self.cache = cache
        self.adapter = adapter
        self.pool = pool
        self.threads = threads
        var numbers: [Int32: Int] = [:]
        var offsets: [Int] = []
        var total = 0
        for example in cache.set.examples {
            offsets.append(total)
            guard case .candidates(let tokens, _) = example.objective else { continue }
            total += tokens.count
            for token in tokens where numbers[token] == nil { numbers[token] = numbers.count }
        }
        let width = model.sizes.embedding
        tokenOutputs = ScratchBuffer(capacity: numbers.count * adapter.outputCount)
        for (token, number) in numbers {
            for i in 0..<adapter.outputCount {
                tokenOutputs.pointer[number * adapter.outputCount + i] =
                    model.headRow(token).map { ob_dot($0, adapter.outputs.pointer + i * width, width) } ?? .nan
            }
        }
        self.numbers = numbers
        self.offsets = offsets
        inputs = ScratchBuffer(capacity: numbers.isEmpty ? 0 : cache.set.count * adapter.inputCount)
        baseLogits = ScratchBuffer(capacity: total)
        isKnown = Array(repeating: false, count: cache.set.count)
    }

    /// Computes x and L₀ of those examples that are choices between tokens and have not been prepared yet.
    func prepare(_ examples: some Sequence<Int>) throws {
        var missing: [Int] = []
        for example in examples where !isKnown[example] {
            guard case .candidates = cache.set.examples[example].objective else { continue }
            isKnown[example] = true
            missing.append(example)
        }
        guard !missing.isEmpty else { return }
        let failure = FirstError()
        nonisolated(unsafe) let own = self
        let all = missing
        forEachChunk(of: all.count, size: Self.batchExamples, threads: threads) { chunk in
            failure.capture { try own.pool.with { try own.compute(all[chunk], $0.pass) } }
        }
        do { try failure.rethrow() } catch {
            for example in missing { isKnown[example] = false }
            throw error
        }
    }

    private func compute(_ examples: ArraySlice<Int>, _ pass: ForwardPass) throws {
        pass.begin(directions: nil)
        for example in examples { _ = pass.add(segmentOf: pass.add(cache.sequence(cache.set.ranges[example].lowerBound))) }
        try pass.runToFinalNorm()
        pass.finalNorm(adapts: false)
        let width = model.sizes.embedding
        for (row, example) in examples.enumerated() {
            guard case .candidates(let tokens, _) = cache.set.examples[example].objective else { continue }
            let state = pass.normed.pointer + row * width
            adapter.project(state, into: inputs.pointer + example * adapter.inputCount)
            for (c, token) in tokens.enumerated() {
                baseLogits.pointer[offsets[example] + c] =
                    model.headRow(token).map { ob_dot(state, $0, width) + (model.headBias?[Int(token)] ?? 0) } ?? .nan
            }
        }
    }

    /// x of a prepared example: r numbers.
    func input(of example: Int) -> UnsafePointer<Float> { UnsafePointer(inputs.pointer + example * adapter.inputCount) }

    /// Returns the logits of an example's classes.
    ///
    /// - Parameter outputs: C·x, p numbers.
    func scores(of example: Int, tokens: [Int32], outputs: [Float]) -> [Double] {
        let softcap = Double(model.description.head.softcap)
        return tokens.enumerated().map { c, token in
            var logit = Double(baseLogits.pointer[offsets[example] + c])
            let own = self.outputs(of: token)
            for i in outputs.indices { logit += Double(own[i]) * Double(outputs[i]) }
            return softcap > 0 ? softcap * tanh(logit / softcap) : logit
        }
    }

    /// E_t·U: p numbers.
    func outputs(of token: Int32) -> UnsafePointer<Float> {
        UnsafePointer(tokenOutputs.pointer + (numbers[token] ?? 0) * adapter.outputCount)
    }
}
