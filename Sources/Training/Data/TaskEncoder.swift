import Core
import LanguageModel

/// Turns records into token sequences and objectives, as the run's task says.
///
/// A prompt and its answer are tokenised apart, as they are when the model is asked. The result is compared with the tokens of the two
/// written together, which is what the model saw in its training. Where the two differ, the separate tokens win and
/// `EncodedData.splitBoundaries` counts the example. A conversation is tokenised whole.
public struct TaskEncoder: Sendable {
    /// Smallest length in tokens: one to read and one to predict.
    public static let minimumLength = 2

    /// What records are read for.
    public enum Reading: Sendable {
        /// They are learnt, or measure what was learnt.
        case learning
        /// Only their inputs matter.
        case predicting
        /// A program scores the text that the model writes after their prompts, and is given their other fields.
        case scoring
    }

    public let task: TaskSpec
    /// What records are read for. It decides which of their fields are refused.
    public var reading: Reading
    let tokenizer: Tokenizer
    let chatTemplate: ChatTemplate?
    let template: Template?
    /// For classification: each class's word, with its leading space, and its tokens.
    let words: [Word]
    /// Number of tokens of the template with empty fields.
    let templateTokens: Int
    /// Characters that the model has no tokens for; nil if it has tokens for all.
    let lacking: LackingCharacters?
    /// Longest sequence that the model takes; nil if it is not known.
    private let contextLength: Int?

    struct Word: Sendable {
        let text: String
        let tokens: [Int32]
    }

    /// - Throws: `DataError` `.task` for an impossible template, label word or length.
    public init(task: TaskSpec, tokenizer: Tokenizer, chatTemplate: ChatTemplate? = nil, contextLength: Int? = nil) throws(DataError) {
        // A tokenizer's post-processor may put any number of special tokens in front.
        let shortest = Self.minimumLength + tokenizer.leadingTokens.count
        if let writing = task.writing, writing.maxTokens + shortest > task.maxLength + 1 {
            throw DataError(
                .task,
                "\(writing.maxTokens) new tokens leave no room for a prompt within a maximum length of \(task.maxLength); lower objective-max-tokens, or raise max-length"
            )
        }
        guard task.maxLength >= shortest else {
            throw DataError(.task, "the maximum length is \(task.maxLength) tokens; at least \(shortest) are needed")
        }
        reading = task.writing == nil ? .learning : .scoring
        self.task = task
        self.tokenizer = tokenizer
        self.chatTemplate = chatTemplate
        self.contextLength = contextLength
        lacking = LackingCharacters(tokenizer)
        switch task.kind {
        case .classification:
            guard let text = task.template, let labels = task.labels, labels.count >= 2 else {
                // Report both at once: a task that lacks one mostly lacks the other.
                let template = task.template == nil ? ["a template"] : []
                let words = (task.labels?.count ?? 0) < 2 ? ["a word for each of two or more labels"] : []
                throw DataError(.task, "a classification needs \((template + words).joined(separator: " and "))")
            }
            let (template, space) = try Template(text).splittingTrailingSpace()
            self.template = template
            try Self.check(template, answer: "label")
            words = try Self.words(of: labels, after: space, tokenizer: tokenizer)
        case .completion:
            let template = try Template(task.template ?? "{prompt}")
            try Self.check(template, answer: "completion")
            self.template = template
            words = []
        case .chat:
            guard chatTemplate != nil else {
                throw DataError(
                    .task, "the model has no chat template; write the chats as \"prompt\" and \"completion\" instead of \"messages\"")
            }
            template = nil
            words = []
        case .text:
            template = nil
            words = []
        }
        templateTokens = template.map { tokenizer.encode($0.filled(with: [:])).count } ?? 0
    }

    /// Refuses a template that contains the answer, because nothing would be left to learn.
    private static func check(_ template: Template, answer: String) throws(DataError) {
        guard template.fields.contains(answer) else { return }
        throw DataError(.task, "the template gives the answer away: it writes {\(answer)} into the prompt\ntake {\(answer)} out of it")
    }

    /// Encodes records in order.
    ///
    /// - Throws: `DataError` `.malformed` with `file:line` of the first bad record; `.task` if no record gives an example.
    public func encode(_ records: [DataRecord]) throws(DataError) -> EncodedData {
        var data = emptyData
        var telling = TellingFields()
        for record in records { try encode(record, into: &data, &telling) }
        guard !data.examples.isEmpty else {
            if task.writing != nil {
                throw DataError(
                    .task,
                    "no prompt leaves room to write within \(task.maxLength) tokens; raise max-length, or lower objective-max-tokens")
            }
            throw DataError(.task, "no example has a token to learn from within \(task.maxLength) tokens; raise max-length")
        }
        data.tellingFields = telling.found
        return data
    }

    /// Encodes the records of a worker in a private run. Whether the worker takes part, and with how many examples, must not depend on what a single
    /// record says: a record that does not fit the task is noted in `misfits` and says nothing.
    ///
    /// - Returns: data whose `ofRecords` has an element for each record.
    public func encodePrivately(_ records: [DataRecord]) -> EncodedData {
        var data = emptyData
        var telling = TellingFields()
        for (number, record) in records.enumerated() {
            let before = data.examples.count
            do throws(DataError) {
                try encode(record, into: &data, &telling)
            } catch {
                data.misfits = ((data.misfits?.count ?? 0) + 1, data.misfits?.first ?? error)
                data.examples.removeLast(data.examples.count - before)
                data.ofRecords.removeLast(data.ofRecords.count - number)
                data.ofRecords.append(nil)
            }
        }
        data.tellingFields = telling.found
        return data
    }

    private var emptyData: EncodedData {
        var data = EncodedData()
        data.kind = task.kind
        data.escapedLineBreaks = textsOfTheTask.filter { EscapedBreak($0) != nil }
        return data
    }

    private func encode(_ record: DataRecord, into data: inout EncodedData, _ telling: inout TellingFields) throws(DataError) {
        try record.checkMeaning(task.kind, used: usedFields, hasTemplate: task.template != nil, reading)
        data.note(splitOf: record.split(unless: usedFields))
        if let writing = task.writing {
            try prompt(record, writing, into: &data)
        } else {
            data.note(unused: record.names.filter { !usedFields.contains($0) })
            switch task.kind {
            case .classification: try classify(record, into: &data, &telling)
            case .completion: try complete(record, into: &data, &telling)
            case .chat: try converse(record, into: &data)
            case .text: try text(record, into: &data)
            }
        }
        if let contextLength, let longest = data.ofRecords.last??.sequences.map(\.tokens.count).max(), longest > contextLength {
            throw .at(
                record.place,
                "the example has \(longest) tokens, and the model takes \(contextLength)\na maximum length of \(contextLength) cuts such examples (max-length \(contextLength)); or shorten this one"
            )
        }
    }

    private var textsOfTheTask: [String] { [task.template].compactMap { $0 } + (task.labels ?? []).map(\.word) }

    /// Fields of a record that the task reads.
    private var usedFields: Set<String> {
        switch task.kind {
        case .classification: Set((template?.fields ?? []) + ["label"])
        case .completion: Set((template?.fields ?? []) + ["completion"])
        case .chat: ["messages", "tools"]
        case .text: ["text"]
        }
    }

    /// Puts public texts through the task's template, for making a basis: the trained layers see their usual inputs without anybody's
    /// examples. All fields of a classification's template take the same text; the other kinds take the text as it is.
    ///
    /// - Throws: `DataError` `.task` if the template alone is longer than the maximum length.
    public func encodePublicText(_ texts: [String]) throws(DataError) -> [Example] {
        var data = EncodedData()
        for (index, text) in texts.enumerated() {
            if task.kind == .classification, let template {
                let fields = Dictionary(uniqueKeysWithValues: template.fields.map { ($0, text) })
                let place = DataPlace(path: "public text", line: index + 1)
                let prompt = try fit(template, fields, reserving: longestWord, at: place, into: &data)
                if !prompt.isEmpty { data.append(labelled(prompt, correct: 0)) }
            } else {
                data.append(continuation(of: tokenizer.leadingTokens, with: tokenizer.encode(text), into: &data))
            }
        }
        return data.examples
    }

    /// For each class of a classification the first token by which its word differs from the beginnings of all others. If its word is the
    /// beginning of another, its last token.
    var distinguishingTokens: [Int32] {
        words.enumerated().map { c, word in
            let others = words.enumerated().filter { $0.offset != c }.map(\.element.tokens)
            let place = word.tokens.indices.first { place in
                others.allSatisfy { !$0.starts(with: word.tokens[...place]) }
            }
            return word.tokens[place ?? word.tokens.count - 1]
        }
    }

    // MARK: The four kinds

    private func classify(_ record: DataRecord, into data: inout EncodedData, _ telling: inout TellingFields) throws(DataError) {
        guard let template, let labels = task.labels else { return }
        let label = try record.classLabel()
        guard let correct = labels.firstIndex(where: { $0.label == label }) else {
            let known = labels.map { "\"\($0.label)\"" }.joined(separator: ", ")
            throw .at(
                record.place,
                label == "-1"
                    ? "the label \"-1\" has no word (known: \(known)); it mostly stands for a label that nobody knows\nleave such lines out, or add a word for it to the task's labels"
                    : "the label \"\(label)\" has no word (known: \(known)); add it to the task's labels, for instance \(JSON.string(label).text(indent: 0)) = \" word\""
            )
        }
        let values = try values(template, record)
        let text = template.filled(with: values)
        telling.note(values, label: label, classes: labels.count)
        note(text, in: &data)
        noteBoundaries(text, in: &data)
        let prompt = try fit(template, values, reserving: longestWord, at: record.place, into: &data)
        guard !prompt.isEmpty else { throw .at(record.place, "the prompt has no tokens; put words into the template") }
        data.append(labelled(prompt, correct: correct))
    }

    private func complete(_ record: DataRecord, into data: inout EncodedData, _ telling: inout TellingFields) throws(DataError) {
        guard let template else { return }
        let completion = try record.text("completion")
        let values = try values(template, record)
        let text = template.filled(with: values)
        telling.note(values, completion: completion)
        note(text + completion, in: &data)
        var answer = completionTokens(of: completion, after: text, into: &data)
        let room = task.maxLength - tokenizer.leadingTokens.count
        guard room > max(1, templateTokens) else {
            throw .at(record.place, "the template alone needs \(templateTokens) of \(task.maxLength) tokens; raise max-length")
        }
        // If prompt and completion don't both fit, each keeps at least half of the room, so that a long completion never displaces its
        // prompt. The template's own words stay, and so does at least one token to predict the completion's first token.
        let promptCount = tokenizer.encode(text).count
        let fits = promptCount + answer.count <= room
        let promptKept = fits ? promptCount : min(max(1, promptCount), max(room - answer.count, room / 2, templateTokens, 1))
        let answerKept = min(answer.count, room - promptKept)
        let isCut = answerKept < answer.count || promptKept < promptCount
        if answerKept < answer.count { data.cutAnswers.add(answer.count - answerKept) }
        answer.removeLast(answer.count - answerKept)
        let truncated = data.truncated
        let prompt = try fit(template, values, reserving: answer.count, at: record.place, into: &data)
        data.truncated = truncated + (isCut ? 1 : 0)
        data.append(continuation(of: prompt, with: answer, into: &data))
    }

    private func text(_ record: DataRecord, into data: inout EncodedData) throws(DataError) {
        let text = try record.text("text")
        note(text, in: &data)
        data.append(continuation(of: tokenizer.leadingTokens, with: tokenizer.encode(text) + tokenizer.trailingTokens, into: &data))
    }

    private func converse(_ record: DataRecord, into data: inout EncodedData) throws(DataError) {
        guard let chatTemplate else { return }
        let messages = try record.messages(template: chatTemplate)
        if messages.last?.role != "assistant", let completion = record.value("completion"), !completion.isNull, completion != "", completion != [] {
            throw .at(
                record.place,
                "\"completion\" stands beside \"messages\", which end without a reply; only the messages are learnt\nmake it the last message: {\"role\": \"assistant\", \"content\": \"…\"}"
            )
        }
        var isLearnt: [Bool] = []
        for number in messages.indices { isLearnt.append(try record.isLearnt(number)) }
        let chat: EncodedChat
        do throws(ChatError) {
            chat = try chatTemplate.encode(messages, tools: try tools(record, chatTemplate), tokenizer: tokenizer) { isLearnt[$0] }
        } catch {
            throw Self.refusal(error, record.place)
        }
        data.note(unused: record.unusedMessageFields(chatTemplate))
        if chat.writesDate { data.writesDate = true }
        if chat.leavesOutWords { data.shortenedByTemplate += 1 }
        note(messages.map(\.content).joined(separator: "\n"), in: &data)
        let targets = chat.learnt.filter { $0 > 0 }.map { TokenSequence.Target(position: $0 - 1, token: chat.tokens[$0]) }
        data.append(limited(chat.tokens, targets, into: &data))
    }

    private static func refusal(_ error: ChatError, _ place: DataPlace) -> DataError {
        .at(place, "\(error.problem)\nleave such chats out, write them as \"prompt\" and \"completion\", or use a model whose template writes them")
    }

    /// - Throws: `ChatError` if the template does not write tools.
    private func tools(_ record: DataRecord, _ template: ChatTemplate) throws(ChatError) -> JSON? {
        guard let tools = record.value("tools"), !tools.isNull, tools != [] else { return nil }
        guard template.mentions("tools") else {
            throw ChatError(
                notRendered: "the model's chat template does not write \"tools\"; without them the conversation would say something else")
        }
        return tools
    }

    // MARK: Prompts to write after

    /// Encodes the prompt alone, with room for the model's text. A completion or a label is only passed on to the scoring program.
    private func prompt(_ record: DataRecord, _ writing: Writing, into data: inout EncodedData) throws(DataError) {
        var text: String
        var tokens: [Int32]
        switch task.kind {
        case .classification, .completion:
            guard let template else { return }
            let values = try values(template, record)
            text = template.filled(with: values)
            tokens = try fit(template, values, reserving: writing.maxTokens, at: record.place, into: &data)
        case .chat:
            guard let chatTemplate else { return }
            var messages = try record.messages(needsReply: false, template: chatTemplate)
            // The model is to write the reply that the record ends with.
            if messages.last?.role == "assistant" { messages.removeLast() }
            guard let last = messages.last else { throw .at(record.place, "the chat has nothing to reply to") }
            text = last.content
            do throws(ChatError) {
                tokens = try chatTemplate.prompt(messages, tools: try tools(record, chatTemplate), tokenizer: tokenizer)
            } catch {
                throw Self.refusal(error, record.place)
            }
            // A chat that was cut would be another chat.
            if tokens.count + writing.maxTokens > task.maxLength { return data.append(nil) }
        case .text:
            text = try record.text("text")
            tokens = tokenizer.leadingTokens + tokenizer.encode(text)
            if tokens.count + writing.maxTokens > task.maxLength {
                data.cutPrompts.add(tokens.count + writing.maxTokens - task.maxLength)
                tokens.removeLast(tokens.count + writing.maxTokens - task.maxLength)
                data.truncated += 1
            }
        }
        guard !tokens.isEmpty else { throw .at(record.place, "the prompt has no tokens; put words into it") }
        note(text, in: &data)
        data.append(
            Example(
                sequences: [TokenSequence(tokens: tokens, targets: [])],
                objective: .text(WritingPrompt(text, fields: record.fields(without: ["id", "prompt", "text"])))))
    }

    // MARK: Parts

    private var longestWord: Int { words.map(\.tokens.count).max() ?? 0 }

    private static func words(
        of labels: [LabelWord], after space: String, tokenizer: Tokenizer
    ) throws(DataError) -> [Word] {
        var words: [Word] = []
        for (index, entry) in labels.enumerated() {
            guard !labels[..<index].contains(where: { $0.label == entry.label }) else {
                throw DataError(.task, "the label \"\(entry.label)\" is given twice")
            }
            let word = entry.word.hasPrefix(" ") ? entry.word : space + entry.word
            let tokens = tokenizer.encode(word)
            guard !tokens.isEmpty else { throw DataError(.task, "the word of label \"\(entry.label)\" is empty") }
            if let twin = words.firstIndex(where: { $0.tokens == tokens }) {
                throw DataError(.task, "the labels \"\(labels[twin].label)\" and \"\(entry.label)\" have the same word \"\(entry.word)\"")
            }
            words.append(Word(text: word, tokens: tokens))
        }
        return words
    }

    private func values(_ template: Template, _ record: DataRecord) throws(DataError) -> [String: String] {
        var values: [String: String] = [:]
        for field in template.fields { values[field] = try record.text(field) }
        return values
    }

    /// Makes the example of a classification. Single-token words become a choice between tokens at the prompt's end. For longer words every
    /// class's word is written out and read.
    private func labelled(_ prompt: [Int32], correct: Int) -> Example {
        guard words.contains(where: { $0.tokens.count > 1 }) else {
            let target = TokenSequence.Target(position: prompt.count - 1, token: words[correct].tokens[0])
            return Example(
                sequences: [TokenSequence(tokens: prompt, targets: [target])],
                objective: .candidates(words.map { $0.tokens[0] }, correct: correct))
        }
        let sequences = words.map { word in
            let targets = word.tokens.enumerated().map { offset, token in
                TokenSequence.Target(position: prompt.count - 1 + offset, token: token)
            }
            return TokenSequence(tokens: prompt + word.tokens, targets: targets)
        }
        return Example(sequences: sequences, objective: .options(correct: correct))
    }

    /// Returns `answer` after `prompt` with the loss on `answer`; nil if nothing can be predicted.
    private func continuation(of prompt: [Int32], with answer: [Int32], into data: inout EncodedData) -> Example? {
        let first = max(prompt.count, 1)
        let tokens = prompt + answer
        let targets = (first..<max(first, tokens.count)).map { TokenSequence.Target(position: $0 - 1, token: tokens[$0]) }
        return limited(tokens, targets, into: &data)
    }

    /// Cuts a sequence to the maximum length; nil if no target is left.
    private func limited(
        _ tokens: [Int32], _ targets: [TokenSequence.Target], into data: inout EncodedData
    ) -> Example? {
        if tokens.count > task.maxLength {
            data.truncated += 1
            if task.kind == .chat {
                data.cutAnswers.add(tokens.count - task.maxLength)
            } else {
                data.cutPrompts.add(tokens.count - task.maxLength)
            }
        }
        // Both a target's position and the token that it predicts must be kept.
        let kept = targets.filter { $0.position + 1 < task.maxLength }
        guard !kept.isEmpty else { return nil }
        return Example(
            sequences: [TokenSequence(tokens: Array(tokens.prefix(task.maxLength)), targets: kept)], objective: .tokens)
    }

    /// Returns the tokens of the filled template, with room for `reserving` more. If there are too many, the longest field loses its end,
    /// so that the template's own words stay whole. The cut is made in the text, not in its tokens, so that the rest is tokenised like any
    /// shorter text.
    private func fit(
        _ template: Template, _ values: [String: String], reserving: Int, at place: DataPlace, into data: inout EncodedData
    ) throws(DataError) -> [Int32] {
        let leading = tokenizer.leadingTokens
        let room = task.maxLength - reserving - leading.count
        let whole = tokenizer.encode(template.filled(with: values))
        if whole.count <= room { return leading + whole }
        data.truncated += 1
        var values = values
        // The longest field comes first; another is cut only when that one is empty.
        let order = template.fields.sorted { (values[$0]?.unicodeScalars.count ?? 0) > (values[$1]?.unicodeScalars.count ?? 0) }
        for field in order {
            guard let text = values[field] else { continue }
            let scalars = Array(text.unicodeScalars)
            // Find the longest prefix that fits by bisection. More text gives more tokens, except for one here or there.
            var low = 0
            var high = scalars.count
            while low < high {
                let middle = (low + high + 1) / 2
                values[field] = String(String.UnicodeScalarView(scalars[..<middle]))
                if tokenizer.encode(template.filled(with: values)).count <= room { low = middle } else { high = middle - 1 }
            }
            values[field] = String(String.UnicodeScalarView(scalars[..<low]))
            let tokens = tokenizer.encode(template.filled(with: values))
            if tokens.count <= room {
                data.cutPrompts.add(whole.count - tokens.count)
                return leading + tokens
            }
        }
        throw .at(place, "the template alone needs more than \(task.maxLength) tokens with what follows it; raise max-length")
    }
}

extension TaskEncoder {
    /// Creates an encoder with a model's own tokenizer and chat template.
    ///
    /// - Throws: `DataError` as above; `ModelError` if the tokenizer, or the chat template that the task needs, is not supported.
    public init(task: TaskSpec, model: ModelSource) throws {
        let chatTemplate = task.kind == .chat ? try model.chatTemplate : nil
        self = try TaskEncoder(
            task: task, tokenizer: try model.tokenizer, chatTemplate: chatTemplate, contextLength: model.configuration.contextLength)
    }
}
