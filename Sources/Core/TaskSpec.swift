/// How an example becomes tokens and a loss.
public struct TaskSpec: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
        /// `text` + `label`: the template with its label word; the loss is over the label words.
        case classification
        /// `prompt` + `completion`: mean token loss on the completion.
        case completion
        /// `messages`: the model's chat template; mean token loss on the assistant's turns.
        case chat
        /// `text`: mean token loss on all of it.
        case text
    }

    public var kind: Kind
    /// For `classification`: the prompt, with `{text}`, or another field of the example in braces, where the field's text goes.
    public var template: String?
    /// For `classification`: label → word, in the order of the classes.
    public var labels: [LabelWord]?
    /// Longest sequence in tokens; a longer text is cut so that the template and the label word stay whole.
    public var maxLength: Int
    /// The score that is optimised in place of the kind's own loss; nil: that loss.
    public var objective: Objective?
    /// How the model writes the texts that the objective `command` scores; nil for all other objectives.
    public var writing: Writing?
    /// q, above 0 to 1, of the generalized cross-entropy (1 − p^q)/q, with p the right class's probability (Zhang & Sabuncu 2018). It replaces −log p
    /// in training and in the validation loss, which steers the run. Held-out losses stay −log p. Nil: −log p everywhere.
    public var generalizedCrossEntropy: Double?

    private enum CodingKeys: String, CodingKey {
        case kind, template, labels, maxLength, objective, writing, generalizedCrossEntropy
    }

    public init(
        kind: Kind, template: String? = nil, labels: [LabelWord]? = nil, maxLength: Int, objective: Objective? = nil, writing: Writing? = nil,
        generalizedCrossEntropy: Double? = nil
    ) {
        self.writing = writing
        self.generalizedCrossEntropy = generalizedCrossEntropy
        self.kind = kind
        self.template = template
        self.labels = labels
        self.maxLength = maxLength
        self.objective = objective
    }
}

/// How a model writes the texts that an outside program scores. It always writes the most likely token.
public struct Writing: Codable, Hashable, Sendable {
    public static let maxTokensRange = 1...4096
    public static let defaultMaxTokens = 16

    /// Largest number of new tokens.
    public var maxTokens: Int
    /// True: a line break ends the text too. Nil: only the model's own end of text does.
    public var stopsAtNewline: Bool?

    private enum CodingKeys: String, CodingKey { case maxTokens, stopsAtNewline }

    public init(maxTokens: Int = Writing.defaultMaxTokens, stopsAtNewline: Bool? = nil) {
        self.maxTokens = maxTokens
        self.stopsAtNewline = stopsAtNewline
    }
}

/// A verbaliser: the word that the model is to write for a label, such as ` great` for label `1`.
public struct LabelWord: Codable, Hashable, Sendable {
    public var label: String
    public var word: String

    private enum CodingKeys: String, CodingKey { case label, word }

    public init(label: String, word: String) {
        self.label = label
        self.word = word
    }
}
