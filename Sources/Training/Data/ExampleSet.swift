import Core
import LanguageModel

/// Examples that were checked against a model's limits and laid out for the forward pass.
public final class ExampleSet: @unchecked Sendable {  // written in init only
    struct Sequence {
        let tokens: Range<Int>
        let reads: Range<Int>
        /// Number of positions that can affect what the loss reads: up to the last one read.
        let length: Int
    }

    public let examples: [Example]
    let sequences: [Sequence]
    /// Range of each example's sequences.
    let ranges: [Range<Int>]
    private let tokens: ScratchBuffer<Int32>
    private let reads: ScratchBuffer<Int32>
    private let targets: ScratchBuffer<Int32>

    /// Number of examples.
    public var count: Int { examples.count }
    /// Number of positions that a pass goes through, over all examples.
    public let positionCount: Int
    /// Number of positions that losses read, over all examples.
    let readCount: Int
    /// Number of tokens of the longest text.
    let longestText: Int
    let needsFullVocabulary: Bool
    /// Whether every example's loss is a mean token loss.
    let hasTokenLosses: Bool
    /// Whether every example's loss is that of a choice between classes.
    let hasClasses: Bool
    /// Whether every example is a choice between single tokens.
    var hasLabelTokensAlone: Bool { !needsFullVocabulary }

    /// - Throws: `TrainingError` for an example that the model can't take, with its number (from 1).
    public init(_ examples: [Example], for model: ModelConfiguration) throws(TrainingError) {
        self.examples = examples
        var sequences: [Sequence] = []
        var ranges: [Range<Int>] = []
        var tokens: [Int32] = []
        var reads: [Int32] = []
        var targets: [Int32] = []
        var full = false
        for (i, example) in examples.enumerated() {
            if let wrong = Self.problem(of: example, for: model) { throw TrainingError(.badExample, "example \(i + 1): \(wrong)") }
            let first = sequences.count
            for sequence in example.sequences {
                let tokenStart = tokens.count
                let readStart = reads.count
                tokens += sequence.tokens
                reads += sequence.targets.map { Int32($0.position) }
                targets += sequence.targets.map(\.token)
                let last = sequence.targets.last?.position ?? 0
                sequences.append(Sequence(tokens: tokenStart..<tokens.count, reads: readStart..<reads.count, length: last + 1))
            }
            ranges.append(first..<sequences.count)
            if case .candidates = example.objective {} else { full = true }
        }
        self.sequences = sequences
        self.ranges = ranges
        self.tokens = ScratchBuffer(tokens)
        self.reads = ScratchBuffer(reads)
        self.targets = ScratchBuffer(targets)
        positionCount = sequences.reduce(0) { $0 + $1.length }
        readCount = reads.count
        longestText = sequences.reduce(0) { max($0, $1.tokens.count) }
        needsFullVocabulary = full
        hasTokenLosses = examples.allSatisfy { $0.objective == .tokens }
        hasClasses = examples.allSatisfy {
            switch $0.objective {
            case .candidates, .options: true
            case .tokens, .text: false
            }
        }
    }

    static func problem(of example: Example, for model: ModelConfiguration) -> String? {
        guard !example.sequences.isEmpty else { return "has no tokens" }
        for sequence in example.sequences {
            if let token = sequence.tokens.first(where: { $0 < 0 || Int($0) >= model.vocabularySize }) {
                return "token \(token) is not in the model's vocabulary of \(model.vocabularySize)"
            }
            guard sequence.tokens.count <= model.contextLength else {
                return "is \(sequence.tokens.count) tokens long, the model takes \(model.contextLength)"
            }
            guard !sequence.targets.isEmpty else { return "has no position that its loss reads" }
            var before = -1
            for target in sequence.targets {
                guard target.position > before, target.position < sequence.tokens.count else {
                    return "its target positions don't rise within its \(sequence.tokens.count) tokens"
                }
                guard target.token >= 0, Int(target.token) < model.vocabularySize else {
                    return "target token \(target.token) is not in the model's vocabulary of \(model.vocabularySize)"
                }
                before = target.position
            }
        }
        switch example.objective {
        case .candidates(let tokens, let correct):
            guard example.sequences.count == 1, example.sequences[0].targets.count == 1 else {
                return "a choice between tokens needs one sequence with one target"
            }
            guard tokens.indices.contains(correct) else { return "its right class \(correct) is none of \(tokens.count)" }
            if let token = tokens.first(where: { $0 < 0 || Int($0) >= model.vocabularySize }) {
                return "candidate token \(token) is not in the model's vocabulary of \(model.vocabularySize)"
            }
        case .options(let correct):
            guard example.sequences.indices.contains(correct) else {
                return "its right class \(correct) is none of \(example.sequences.count)"
            }
        case .tokens: break
        case .text: return "is a prompt to write after and has no loss of its own"
        }
        return nil
    }

    func tokens(of sequence: Sequence) -> UnsafeBufferPointer<Int32> {
        UnsafeBufferPointer(start: tokens.pointer + sequence.tokens.lowerBound, count: sequence.tokens.count)
    }

    func reads(of sequence: Sequence) -> UnsafeBufferPointer<Int32> {
        UnsafeBufferPointer(start: reads.pointer + sequence.reads.lowerBound, count: sequence.reads.count)
    }

    func targets(of sequence: Sequence) -> UnsafeBufferPointer<Int32> {
        UnsafeBufferPointer(start: targets.pointer + sequence.reads.lowerBound, count: sequence.reads.count)
    }

    /// Prepares the model for all of these examples.
    func prepare(_ model: TrainableModel) throws(ModelError) {
        model.preparePositions(longestText)
        if needsFullVocabulary { try model.prepareFullHead() }
        var candidates = Set<Int32>()
        for example in examples {
            if case .candidates(let tokens, _) = example.objective { candidates.formUnion(tokens) }
        }
        try model.prepareHead(tokens: candidates.sorted())
    }
}
