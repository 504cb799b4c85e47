/// A model's chat template: the Jinja program in its files, run as transformers runs it.
///
/// A conversation is rendered whole and tokenised whole, as the model saw it in training. Message contents are marked before rendering, so
/// that the template's own words can be told from them. Control tokens are recognised only in the template's words, and no content can
/// forge a turn.
public struct ChatTemplate: Hashable, Sendable {
    /// The Jinja program, for exports.
    package let source: String
    private let file: String
    private let template: JinjaTemplate
    /// Special tokens such as `bos_token`, which the template may write.
    private let specialTokens: [String: String]
    /// Whether the template reads contents that are lists of parts.
    private let takesParts: Bool
    /// Letters, digits and underscores that stand together in the program.
    private let words: Set<String>

    public static func == (a: Self, b: Self) -> Bool { a.source == b.source && a.specialTokens == b.specialTokens }

    public func hash(into hasher: inout Hasher) { hasher.combine(source) }

    /// Reads a model's template.
    ///
    /// - Parameters:
    ///   - source: the Jinja program.
    ///   - specialTokens: texts of special tokens such as `bos_token` and `eos_token`.
    ///   - file: name of the file, for error messages.
    /// - Throws: `.unsupported` with the line, if the program can't be parsed.
    public init(source: String, specialTokens: [String: String] = [:], file: String) throws(ModelError) {
        self.source = source
        self.file = file
        self.specialTokens = specialTokens
        do throws(JinjaError) {
            template = try JinjaTemplate(source)
        } catch {
            throw ModelError(
                .unsupported, file: file, subject: "chat_template, line \(error.line)", error.problem,
                remedy: "write the conversations as prompt and completion instead")
        }
        takesParts = Self.takesParts(template, specialTokens)
        words = Set(source.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init))
    }

    /// Tests the template with a message of two parts, because many programs would write such a list in Python's notation.
    private static func takesParts(_ template: JinjaTemplate, _ specialTokens: [String: String]) -> Bool {
        func text(_ role: String, _ content: JinjaValue) -> JinjaValue {
            .dictionary(JinjaDictionary([(.text("role"), .text(role)), (.text("content"), content)]))
        }
        func part(_ text: String) -> JinjaValue {
            .dictionary(JinjaDictionary([(.text("type"), .text("text")), (.text("text"), .text(text))]))
        }
        var variables: [String: JinjaValue] = [
            "messages": .list([text("user", .list([part("parta"), part("partb")])), text("assistant", .text("reply"))]),
            "add_generation_prompt": .bool(false), "tools": .none, "documents": .none,
        ]
        for (name, text) in specialTokens { variables[name] = .text(text) }
        guard let written = try? template.render(variables).text.string else { return false }
        return written.contains("parta") && written.contains("partb") && !written.contains("'text'") && !written.contains("\"text\"")
    }

    /// Whether the program mentions one of these names, such as `tool_calls`, as a whole word: "named" does not mention `name`.
    package func mentions(_ names: String...) -> Bool { names.contains(where: words.contains) }

    // MARK: Rendering

    /// Returns a conversation's text.
    ///
    /// - Parameter addingReplyStart: whether to end with the beginning of the assistant's next turn, which the model then continues.
    /// - Throws: `ChatError` if the template refuses the conversation or can't render it.
    public func render(_ messages: [ChatMessage], addingReplyStart: Bool = false) throws(ChatError) -> String {
        try rendering(messages, tools: nil, addingReplyStart: addingReplyStart).text.string
    }

    package func rendering(_ messages: [ChatMessage], tools: JSON?, addingReplyStart: Bool) throws(ChatError) -> JinjaRendering {
        var variables: [String: JinjaValue] = [
            "messages": .list(messages.enumerated().map { value(of: $1, number: $0) }), "add_generation_prompt": .bool(addingReplyStart),
            "tools": tools.map { JinjaValue($0, mark: JinjaText.mark(message: nil)) } ?? .none, "documents": .none,
        ]
        for (name, text) in specialTokens { variables[name] = .text(text) }
        do throws(JinjaError) {
            return try template.render(variables)
        } catch {
            throw ChatError(error, file: file)
        }
    }

    private func value(of message: ChatMessage, number: Int) -> JinjaValue {
        let mark = JinjaText.mark(message: number)
        var entries: [(key: JinjaValue, value: JinjaValue)] = []
        if let reasoning = message.reasoning, message["thinking"] == nil {
            entries.append((.text("thinking"), JinjaValue(reasoning, mark: mark)))
        }
        for field in message.fields {
            switch field.key {
            case "role": entries.append((.text("role"), .text(message.role)))
            case "content" where field.value.array != nil && !takesParts:
                entries.append((.text("content"), .string(JinjaText(message.content, mark: mark))))
            default: entries.append((.text(field.key), JinjaValue(field.value, mark: mark)))
            }
        }
        if let reasoning = message.reasoning, message["reasoning_content"] == nil {
            entries.append((.text("reasoning_content"), JinjaValue(reasoning, mark: mark)))
        }
        return .dictionary(JinjaDictionary(entries, message: number))
    }
}

/// Why a conversation can't be rendered.
public struct ChatError: Error, Hashable, Sendable {
    /// Kind of the error.
    public enum Code: Hashable, Sendable {
        /// The template refused the conversation in its own words.
        case refused
        /// The template omits a part of the conversation, or its program fails on it.
        case notRendered
        /// The assistant's part of the rendering can't be determined.
        case turnsUnknown
    }

    public let code: Code
    /// What is wrong, as a sentence without place or remedy.
    public let problem: String

    package init(notRendered problem: String) { self.init(.notRendered, problem) }

    init(_ code: Code, _ problem: String) {
        self.code = code
        self.problem = problem
    }

    init(_ error: JinjaError, file: String) {
        switch error.code {
        case .refused: self.init(.refused, "the model's chat template refuses the conversation: \"\(error.problem)\"")
        default:
            self.init(
                .notRendered,
                "the model's chat template (\(file)) can't render the conversation: line \(error.line) of the template: \(error.problem)")
        }
    }
}
