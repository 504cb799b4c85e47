import LanguageModel

/// An example in the form that the forward pass takes: token sequences, and what its loss reads from them.
public struct Example: Hashable, Sendable {
    /// One sequence; for `.options`, one per class.
    public let sequences: [TokenSequence]
    /// What the example's loss is.
    public let objective: ExampleObjective

    public init(sequences: [TokenSequence], objective: ExampleObjective) {
        self.sequences = sequences
        self.objective = objective
    }

    /// Number of tokens of all sequences.
    public var tokenCount: Int { sequences.reduce(0) { $0 + $1.tokens.count } }
}

/// Tokens, and the targets that a loss reads from them.
public struct TokenSequence: Hashable, Sendable {
    public let tokens: [Int32]
    /// The hidden states that the loss reads, in rising order: the state at `position` predicts `token`.
    public let targets: [Target]

    /// A token to predict, and the position whose state predicts it.
    public struct Target: Hashable, Sendable {
        public let position: Int
        public let token: Int32
        public init(position: Int, token: Int32) {
            self.position = position
            self.token = token
        }
    }

    public init(tokens: [Int32], targets: [Target]) {
        self.tokens = tokens
        self.targets = targets
    }
}

/// The loss of an example.
public enum ExampleObjective: Hashable, Sendable {
    /// A softmax over single-token label words at the sequence's only target position, whose `token` is the right one. Loss: −log p(right).
    case candidates([Int32], correct: Int)
    /// Label words of several tokens. Class c's score is the sum of the full-vocabulary log-probabilities of the targets of `sequences[c]`.
    /// Loss: −log softmax(scores)[correct].
    case options(correct: Int)
    /// The mean over the targets of −log p(token) under the full vocabulary.
    case tokens
    /// A prompt after which the model writes; an external program scores the text.
    case text(WritingPrompt)
}

/// What the program that scores a text is told of its prompt.
public struct WritingPrompt: Hashable, Sendable {
    public let prompt: String
    /// Further fields of the example's record, such as its label.
    let fields: [JSON.Member]

    /// The further fields as one JSON object.
    package var fieldsText: String { JSON.object(fields).text(indent: 0) }

    /// Creates a prompt without further fields.
    public init(_ prompt: String) { self.init(prompt, fields: []) }

    init(_ prompt: String, fields: [JSON.Member]) {
        self.prompt = prompt
        self.fields = fields
    }
}
