import ArgumentParser
import Core
import LanguageModel
import Training

struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data",
        abstract: "Look at data as a run would.",
        discussion: joined(
            """
              onebyte data preview reviews.jsonl --model SmolLM2.gguf \\
                --template '{text} It was' --label '0= terrible' --label '1= great'
              onebyte data split reviews.jsonl --split 80/10/10
            """),
        subcommands: [Preview.self, Split.self])

    struct Preview: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check a data file, and show examples as the model sees them, with what is learnt in [brackets].",
            discussion: joined(
                """
                A classification, with the words for its labels:

                  onebyte data preview reviews.jsonl --model SmolLM2.gguf \\
                    --template '{text} It was' --label '0= terrible' --label '1= great'

                The task of a run file, the first 5 examples of the second worker of three:

                  onebyte data preview reviews.jsonl --config run.toml --shard 2/3 --count 5
                """))

        @Argument(help: ArgumentHelp("JSON lines, CSV or TSV: text and label, prompt and completion, messages, or text.", valueName: "file"))
        var file: String
        @OptionGroup var config: ConfigFlags
        @OptionGroup var model: SettingFlags<ModelSettings>
        @OptionGroup var task: SettingFlags<TaskSettings>
        @Option(help: ArgumentHelp("Only this worker's part, such as 2/3.", valueName: "i/n")) var shard: DataShard?
        @Option(help: ArgumentHelp("Examples to show.", valueName: "number")) var count = 3

        func run() throws {
            var settings = try Settings(file: config.config, flags: model.settings + task.settings + [.trainFile: [file]])
            for text in settings.otherPlaces([.model]) { standardError.write("note: \(text)") }
            // A local cluster does the same.
            try settings.deriveFromModelAndData()
            let task = try settings.resolveTask()
            if config.printConfig { return standardOutput.writeContents(settings.annotated) }
            let source = try openModel(try settings.text(.model))
            let encoder = try TaskEncoder(task: task, model: source)
            let records = try DataFile.read(file, shard: shard ?? .whole)
            let data = try encoder.encode(records)
            for (number, example) in data.examples.prefix(max(0, count)).enumerated() {
                standardOutput.write("── example \(number + 1)")
                standardOutput.writeRaw(ExampleText(example, tokenizer: try source.tokenizer, colour: standardOutput.hasColour).text + "\n")
            }
            let trained = data.examples.reduce(0) { $0 + $1.sequences.reduce(0) { $0 + $1.targets.count } }
            standardOutput.write("──")
            standardOutput.write(
                "\(grouped(data.examples.count)) examples (\(task.kind.rawValue)), \(grouped(data.tokenCount)) tokens, \(grouped(trained)) of them learnt"
            )
            standardOutput.write(LengthSummary(data.examples.map(\.tokenCount)).text)
            if let labels = LabelCounts(data.examples, task).text { standardOutput.write(labels) }
            if case .derived(let reason)? = settings.source(.maxLength) {
                standardOutput.write(
                    "maximum length: \(task.maxLength) tokens, in a local cluster (\(reason)); a coordinator takes \(MaximumLength.usual) unless it is told otherwise (--max-length)"
                )
            }
            for line in data.remarks { standardOutput.write(line) }
        }
    }
}

/// Lengths of examples.
package struct LengthSummary {
    private let sorted: [Int]

    package init(_ lengths: [Int]) { sorted = lengths.sorted() }

    /// Returns the smallest length that the given number of 100 examples don't exceed.
    package func percentile(_ percent: Int) -> Int {
        guard !sorted.isEmpty else { return 0 }
        return sorted[max(0, (sorted.count * percent + 99) / 100 - 1)]
    }

    var text: String {
        "tokens: half of the examples have at most \(percentile(50)), 95 of 100 at most \(percentile(95)), the longest \(percentile(100))"
    }
}

/// Counts of the labels.
struct LabelCounts {
    /// Nil if there are no labels.
    let text: String?

    init(_ examples: [Example], _ task: TaskSpec) {
        let labels = (task.labels ?? []).map(\.label)
        var counts = Array(repeating: 0, count: labels.count)
        for example in examples {
            switch example.objective {
            case .candidates(_, let correct), .options(let correct): if counts.indices.contains(correct) { counts[correct] += 1 }
            case .tokens, .text: break
            }
        }
        guard task.kind == .classification, !labels.isEmpty else {
            text = nil
            return
        }
        let parts = zip(labels, counts).map {
            "\(printable($0, onOneLine: true)) \(grouped($1)) (\(percent(Double($1) / Double(max(examples.count, 1)))))"
        }
        text = "labels: " + parts.joined(separator: ", ")
    }
}

extension DataShard: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

/// An example as the model sees it: tokens with bars between them, and brackets around what is learnt.
struct ExampleText {
    let text: String

    init(_ example: Example, tokenizer: Tokenizer, colour: Bool) {
        func shown(_ token: Int32) -> String {
            let text = tokenizer.token(token) ?? "#\(token)"
            var shown = ""
            // Works on scalars, because a combining mark may be a token of its own.
            for scalar in text.unicodeScalars {
                switch scalar {
                case "\n": shown += "⏎"
                case "\t": shown += "⇥"
                case " ": shown += "·"
                default: shown.unicodeScalars.append(scalar)
                }
            }
            return printable(shown)
        }
        func marked(_ token: Int32) -> String {
            colour ? "\u{1B}[1;32m[\(shown(token))]\u{1B}[0m" : "[\(shown(token))]"
        }
        var lines = example.sequences.map { sequence in
            let learnt = Set(sequence.targets.map(\.position))
            var parts: [String] = []
            for (index, token) in sequence.tokens.enumerated() {
                parts.append(learnt.contains(index - 1) ? marked(token) : shown(token))
            }
            // A single-token label word is predicted and not part of the sequence.
            for target in sequence.targets where target.position + 1 == sequence.tokens.count { parts.append(marked(target.token)) }
            return parts.joined(separator: "|")
        }
        switch example.objective {
        case .candidates(let words, let correct):
            lines.append("  one of " + words.enumerated().map { $0 == correct ? marked($1) : shown($1) }.joined(separator: ", "))
        case .options(let correct): lines[correct] += "   ← right"
        case .tokens: break
        case .text: lines[0] += "|" + (colour ? "\u{1B}[1;32m[…]\u{1B}[0m" : "[…]")
        }
        text = lines.joined(separator: "\n")
    }
}

extension EscapedBreak {
    /// What is wrong with a text that holds it, and what to do.
    var remark: String {
        let (letter, meant) =
            switch self {
            case .lineBreak: ("an n", "a line break")
            case .tab: ("a t", "a tab")
            }
        return "holds a backslash and \(letter), not \(meant); in bash and zsh, $'…' makes \(meant) of them"
    }
}

extension EncodedData {
    /// What the user of a private worker should know about records that don't fit the run's task; nil if all do.
    var misfitRemark: String? {
        guard let (count, first) = misfits else { return nil }
        return
            "\(counted(count, "example does", "examples do")) not fit the run's task and \(count == 1 ? "counts" : "count") as saying nothing, because a private run must not tell; the first: \(first)"
    }

    /// Remarks for the user about what happened to the file.
    var remarks: [String] {
        var lines: [String] = []
        if truncated > 0 { lines.append("\(counted(truncated, "example is", "examples are")) too long and cut (--max-length): \(losses)") }
        if skipped > 0 {
            lines.append("\(counted(skipped, "example has", "examples have")) nothing to learn from and \(skipped == 1 ? "is" : "are") left out")
        }
        if joinedWords > 0 {
            lines.append(
                "\(counted(joinedWords, "example", "examples")): a label's word is run into the letters before it; let the word begin with a space, as in --label '1= great'"
            )
        }
        if joinedAnswers > 0 {
            lines.append(
                "\(counted(joinedAnswers, "example", "examples")): the answer is run into the letters before it; if it is a word of its own, let it begin with a space"
            )
        }
        for field in tellingFields {
            lines.append(
                "in every example {\(field)} alone tells the \(kind == .classification ? "label" : "completion"); if it was made from it, take {\(field)} out of the template"
            )
        }
        if let count = splitBoundaries[.leadingSpace] { lines.append("\(boundary(count)); let the answer begin with a space") }
        if let count = splitBoundaries[.moveSpace] {
            lines.append("\(boundary(count)); move the white space at the prompt's end to the answer's beginning")
        }
        if let count = splitBoundaries[.none] { lines.append("\(boundary(count)); they are read apart, as they are when the model is asked") }
        if let (count, token) = spelledTokens {
            lines.append(
                "\(counted(count, "example spells", "examples spell")) control tokens such as \(quoted(token)), which are read as plain text; \(spellingRemedy)"
            )
        }
        if let (count, character) = lackingTokens {
            let code = String(character.value, radix: 16, uppercase: true)
            let shown = "\(quoted(String(character))) (U+\(String(repeating: "0", count: max(0, 4 - code.count)))\(code))"
            lines.append(
                "\(counted(count, "example holds", "examples hold")) characters that the model has no tokens for, such as \(shown); they are \(hasUnknownToken ? "read as its token for unknown text" : "left out")"
            )
        }
        if lacksEnd {
            lines.append(
                "the model's files name no token that ends a text, so completions are learnt without one, and the model does not learn where to stop; name an eos_token in tokenizer_config.json"
            )
        }
        if writesDate {
            lines.append("the chat template writes today's date: on another day the same conversations have other tokens, and other losses")
        }
        if shortenedByTemplate > 0 {
            lines.append(
                "\(counted(shortenedByTemplate, "conversation has", "conversations have")) words that the chat template leaves out, such as the reasoning of earlier turns; they are neither read nor learnt"
            )
        }
        for (field, parts) in mixedSplits {
            lines.append(
                "by their field \(quoted(field)), the examples belong to \(parts.map { quoted($0) }.joined(separator: ", ")), and all of them are read; to keep the parts apart, make a file of each"
            )
        }
        for text in escapedLineBreaks {
            if let found = EscapedBreak(text) { lines.append("\(quoted(text)) \(found.remark)") }
        }
        if !unusedFields.isEmpty {
            lines.append("not used: \(unusedFields.prefix(20).map { quoted($0) }.joined(separator: ", "))\(unusedFields.count > 20 ? ", …" : "")")
        }
        return lines
    }

    private var spellingRemedy: String {
        switch kind {
        case .chat: "only the chat template writes control tokens, so that no message can end its own turn"
        case .text: "if they stand between texts, give each text a line of its own"
        case .classification, .completion: "write conversations as \"messages\", and the model's chat template writes these tokens"
        }
    }

    private var losses: String {
        var parts: [String] = []
        if cutAnswers.examples > 0 {
            parts.append("\(counted(cutAnswers.examples, "answer", "answers")) lost \(counted(cutAnswers.tokens, "token", "tokens"))")
        }
        if cutPrompts.examples > 0 {
            parts.append(
                "\(counted(cutPrompts.examples, "prompt or text", "prompts or texts")) lost \(counted(cutPrompts.tokens, "token", "tokens"))")
        }
        return parts.joined(separator: ", ")
    }

    private func boundary(_ count: Int) -> String {
        "\(counted(count, "example", "examples")): the tokens of prompt and answer written together differ"
    }

    private func counted(_ count: Int, _ one: String, _ many: String) -> String { "\(grouped(count)) \(count == 1 ? one : many)" }

    /// Quotes text, so that no control character of the data reaches the terminal.
    private func quoted(_ text: String) -> String { text.debugDescription }
}
