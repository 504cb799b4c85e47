import LanguageModel

/// What became of a file.
public struct EncodedData: Hashable, Sendable {
    public internal(set) var examples: [Example] = []
    /// Examples that were longer than the maximum length, each once, whatever they lost.
    public internal(set) var truncated = 0
    /// Examples whose prompt or text lost its end, and how many tokens these ends were.
    public internal(set) var cutPrompts = Cut()
    /// Examples whose completion or last turns lost their end, and how many tokens these ends were.
    public internal(set) var cutAnswers = Cut()
    /// Examples left out, since no token to learn from was left in them.
    public internal(set) var skipped = 0
    /// Examples whose prompt and answer, written together, would be other tokens than written apart, by what would make them the same.
    public internal(set) var splitBoundaries: [BoundaryRemedy: Int] = [:]
    /// Examples whose label word begins with a letter right after a letter.
    public internal(set) var joinedWords = 0
    /// Examples whose text spells control tokens, which are read as plain text; and the first such token.
    public internal(set) var spelledTokens: (count: Int, token: String)? {
        get { spelledCount > 0 ? (spelledCount, spelledToken) : nil }
        set {
            spelledCount = newValue?.count ?? 0
            spelledToken = newValue?.token ?? ""
        }
    }
    private var spelledCount = 0
    private var spelledToken = ""
    /// Fields that records have and the task does not read, in the order of their first appearance.
    public internal(set) var unusedFields: [String] = []
    /// Texts of the task (its template, its label words) that hold a backslash and an n where a line break may be meant.
    public internal(set) var escapedLineBreaks: [String] = []

    public struct Cut: Hashable, Sendable {
        public internal(set) var examples = 0
        public internal(set) var tokens = 0

        mutating func add(_ tokens: Int) {
            examples += 1
            self.tokens += tokens
        }
    }

    /// What was tried on an example and makes the tokens of prompt and answer the same, written together or apart.
    public enum BoundaryRemedy: Hashable, Sendable {
        /// The answer begins with a space.
        case leadingSpace
        /// The white space at the prompt's end moves to the answer's beginning.
        case moveSpace
        /// Neither does.
        case none
    }

    public var tokenCount: Int { examples.reduce(0) { $0 + $1.tokenCount } }

    mutating func append(_ example: Example?) {
        if let example { examples.append(example) } else { skipped += 1 }
    }

    mutating func note(unused names: [String]) {
        for name in names where !unusedFields.contains(name) { unusedFields.append(name) }
    }
}
