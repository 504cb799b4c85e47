import Core
import LanguageModel

/// The examples made from a file, and what happened to them.
public struct EncodedData: Hashable, Sendable {
    /// The task's kind.
    public internal(set) var kind = TaskSpec.Kind.text
    /// The examples, in the order of their records.
    public internal(set) var examples: [Example] = []
    /// For each record its example; nil if the record has nothing to learn from, or does not fit the task (`TaskEncoder.encodePrivately`).
    public internal(set) var ofRecords: [Example?] = []
    /// Number of records that don't fit the task, and what is wrong with the first of them.
    public internal(set) var misfits: (count: Int, first: DataError)? {
        get { firstMisfit.map { (misfitCount, $0) } }
        set { (misfitCount, firstMisfit) = (newValue?.count ?? 0, newValue?.first) }
    }
    private var misfitCount = 0
    private var firstMisfit: DataError?
    /// Number of examples that were longer than the maximum length; each counts once.
    public internal(set) var truncated = 0
    /// Examples whose prompt or text lost its end, and the number of tokens lost.
    public internal(set) var cutPrompts = Cut()
    /// Examples whose completion or last turns lost their end, and the number of tokens lost.
    public internal(set) var cutAnswers = Cut()
    /// Number of examples left out because they had no token left to learn from.
    public internal(set) var skipped = 0
    /// Number of examples whose prompt and answer give other tokens when written together than when written apart, by the remedy.
    public internal(set) var splitBoundaries: [BoundaryRemedy: Int] = [:]
    /// Number of examples whose label word begins with a letter directly after a letter.
    public internal(set) var joinedWords = 0
    /// Number of examples whose completion begins with a letter directly after a letter.
    public internal(set) var joinedAnswers = 0
    /// Number of examples whose text spells control tokens, which are read as plain text, and the first such token.
    public internal(set) var spelledTokens: (count: Int, token: String)? {
        get { spelledCount > 0 ? (spelledCount, spelledToken) : nil }
        set {
            spelledCount = newValue?.count ?? 0
            spelledToken = newValue?.token ?? ""
        }
    }
    private var spelledCount = 0
    private var spelledToken = ""
    /// Number of examples with characters that the model has no tokens for, and the first such character.
    public internal(set) var lackingTokens: (count: Int, character: Unicode.Scalar)? {
        get { lackingCharacter.map { (lackingCount, $0) } }
        set { (lackingCount, lackingCharacter) = (newValue?.count ?? 0, newValue?.character) }
    }
    private var lackingCount = 0
    private var lackingCharacter: Unicode.Scalar?
    /// Whether a character that the model has no tokens for becomes its unknown token; otherwise it is left out.
    public internal(set) var hasUnknownToken = false
    /// Whether completions are learnt without a token that ends them, because the model's files name none.
    public internal(set) var lacksEnd = false
    /// Whether the chat template writes the date, so that the same conversation has other tokens on another day.
    public internal(set) var writesDate = false
    /// Number of conversations of which the chat template leaves out words, such as the reasoning of earlier turns.
    public internal(set) var shortenedByTemplate = 0
    /// The parts of a data set that the records say they belong to, by the field that says so. A file of several parts was probably to be split.
    public internal(set) var splits: [String: Set<String>] = [:]
    /// Fields that records have and the task does not read, in the order of their first appearance.
    public internal(set) var unusedFields: [String] = []
    /// Fields that the template writes and that alone tell the answer in every example.
    public internal(set) var tellingFields: [String] = []
    /// Texts of the task (its template and label words) that hold a backslash and a letter where a line break or a tab may be meant.
    public internal(set) var escapedLineBreaks: [String] = []

    /// A count of shortened examples and of the tokens that they lost.
    public struct Cut: Hashable, Sendable {
        public internal(set) var examples = 0
        public internal(set) var tokens = 0

        mutating func add(_ tokens: Int) {
            examples += 1
            self.tokens += tokens
        }
    }

    /// A change that was tried on an example and gives prompt and answer the same tokens, written together or apart.
    public enum BoundaryRemedy: Hashable, Sendable {
        /// Begin the answer with a space.
        case leadingSpace
        /// Move the white space at the prompt's end to the answer's beginning.
        case moveSpace
        /// No change that was tried helps.
        case none
    }

    public var tokenCount: Int { examples.reduce(0) { $0 + $1.tokenCount } }

    mutating func append(_ example: Example?) {
        ofRecords.append(example)
        if let example { examples.append(example) } else { skipped += 1 }
    }

    /// More parts than these are no parts of a data set but something else.
    private static let splitsMax = 8

    /// The records' parts where there are several, each in alphabetical order.
    package var mixedSplits: [(field: String, parts: [String])] {
        splits.filter { (2...Self.splitsMax).contains($0.value.count) }.sorted { $0.key < $1.key }.map { ($0.key, $0.value.sorted()) }
    }

    mutating func note(splitOf record: (field: String, part: String)?) {
        guard let record, splits[record.field]?.count ?? 0 <= Self.splitsMax else { return }
        splits[record.field, default: []].insert(record.part)
    }

    mutating func note(unused names: [String]) {
        for name in names where !unusedFields.contains(name) { unusedFields.append(name) }
    }
}
