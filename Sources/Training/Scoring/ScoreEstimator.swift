import Core
import LanguageModel

/// Two-sided projected gradients of the score that an external program gives to the model's texts. For each sample, θ + εz and θ − εz both
/// write after the sample's prompts, and the loss is −(mean score). Nothing here needs a derivative, or even a number from the model: its
/// texts are enough.
///
/// Call it from one thread at a time; it uses `threads` threads inside.
public final class ScoreEstimator: GradientEstimator {
    private let texts: TextWriter
    private let options: EstimatorOptions
    public let exampleCount: Int
    private let batchSize: Int
    private let directions: Directions
    private var order: ExampleOrder

    /// - Parameters:
    ///   - examples: prompts, as `TaskEncoder` makes them for the objective `command`.
    ///   - memoryLimit: bytes of hidden states that are kept of written texts.
    ///   - options: `objective` has no effect here.
    /// - Throws: `TrainingError` for invalid options or examples; errors from the model's files.
    public convenience init(
        model: TrainableModel, directions: Directions, examples: [Example], writing: Writing, tokenizer: Tokenizer, program: ScoringProgram,
        memoryLimit: Int = 2 << 30, options: EstimatorOptions
    ) throws {
        try self.init(
            model: model, directions: directions, examples: examples, writing: writing, tokenizer: tokenizer, scorer: program,
            memoryLimit: memoryLimit, options: options)
    }

    package init(
        model: TrainableModel, directions: Directions, examples: [Example], writing: Writing, tokenizer: Tokenizer, scorer: any TextScorer,
        memoryLimit: Int = 2 << 30, options: EstimatorOptions
    ) throws {
        try options.check()
        guard model.parameters != nil, !model.trained.isEmpty else {
            throw TrainingError(.badTensors, "the model has no trained tensors")
        }
        guard options.precision == .float else {
            throw TrainingError(.badTensors, "8-bit products are not for texts that a program scores; use float precision")
        }
        self.options = options
        exampleCount = examples.count
        batchSize = options.batchSize(of: examples.count)
        self.directions = directions
        texts = try TextWriter(
            model: model, examples: examples, writing: writing, tokenizer: tokenizer, scorer: scorer, memoryLimit: memoryLimit,
            threads: options.threads)
        order = ExampleOrder(
            exampleCount: examples.count, batchSize: batchSize, samplesPerBatch: options.samplesPerBatch,
            seed: options.orderSeed)
    }

    /// Computes the prompts' states of the frozen layers in advance.
    ///
    /// - Parameter progress: receives the prompts done and their number. Returning false stops the work with `TrainingError.cancelled`.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws { try texts.writer.fill(progress: progress) }

    public func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) throws -> ProjectedGradients {
        let each = batchSize
        var prompts: [[Int]] = []
        for sample in samples { prompts.append((0..<each).map { order.example(machine: machine, sample: sample, $0) }) }
        let lines = try texts.writer.write(
            samples: samples.map { SampleName(machine: machine, sample: $0) }, prompts: prompts, directions: directions,
            epsilon: options.epsilon)
        let scores = try texts.scores(of: lines)
        var losses: [LossPair] = []
        for sample in 0..<samples.count {
            let own = scores[2 * each * sample..<2 * each * (sample + 1)]
            losses.append(
                LossPair(plus: -own.prefix(each).reduce(0, +) / Double(each), other: -own.suffix(each).reduce(0, +) / Double(each)))
        }
        return ProjectedGradients(losses: losses, epsilon: options.epsilon)
    }

    public func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
    ) throws {
        let lines = try texts.writer.write(
            samples: samples.map { SampleName(machine: machine, sample: $0) }, prompts: samples.map { _ in examples }, directions: directions,
            epsilon: options.epsilon)
        let scores = try texts.scores(of: lines)
        for (i, example) in examples.enumerated() {
            try visit(
                example,
                (0..<samples.count).map { sample in
                    let first = 2 * examples.count * sample + i
                    return LossPair(plus: -scores[first], other: -scores[first + examples.count]).projectedGradient(
                        epsilon: options.epsilon, .twoSided)
                })
        }
    }
}

/// Lets a model write after held-out prompts, and has the texts scored.
public final class ScoreEvaluator: HeldOutEvaluator {
    private let texts: TextWriter

    /// - Parameters: the same as for `ScoreEstimator`.
    public init(
        model: TrainableModel, examples: [Example], writing: Writing, tokenizer: Tokenizer, program: ScoringProgram,
        memoryLimit: Int = 2 << 30, threads: Int = 1
    ) throws {
        texts = try TextWriter(
            model: model, examples: examples, writing: writing, tokenizer: tokenizer, scorer: program, memoryLimit: memoryLimit, threads: threads)
    }

    /// Computes the prompts' states of the frozen layers in advance, as `ScoreEstimator.fill` does.
    public func fill(progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws { try texts.writer.fill(progress: progress) }

    public func evaluate() throws -> Evaluation { Evaluation(scores: try measure().map(\.score)) }

    /// Returns each prompt, the model's text after it, and its score; NaN if logits were not finite.
    public func measure() throws -> [(prompt: String, text: String, score: Double)] {
        let lines = try texts.writer.write(prompts: Array(texts.prompts.indices))
        return zip(lines, try texts.scores(of: lines)).map { (texts.prompts[$0.prompt].prompt, texts.text(of: $0), $1) }
    }
}
