/// How a model writes conversations: the Jinja program that its files bring, run as transformers runs it.
///
/// A conversation is rendered whole and tokenised whole, as the model met it in its training. Its contents are marked before they go in, so
/// that the rendering tells them from the template's own words: control tokens are found in the latter alone, and no content forges a turn.
public struct ChatTemplate: Hashable, Sendable {
    /// The Jinja program, for export.
    package let source: String
    private let file: String
    private let template: JinjaTemplate
    /// `bos_token` and its like, as the template may write them.
    private let specialTokens: [String: String]
    /// The template reads contents that are lists of parts.
    private let takesParts: Bool

    public static func == (a: Self, b: Self) -> Bool { a.source == b.source && a.specialTokens == b.specialTokens }

    public func hash(into hasher: inout Hasher) { hasher.combine(source) }

    /// Reads a model's template.
    ///
    /// - Parameters:
    ///   - source: the Jinja program.
    ///   - specialTokens: the texts of `bos_token`, `eos_token` and their like.
    ///   - file: for the error's text.
    /// - Throws: `.unsupported` for a program that can't be read, with the line.
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
    }

    /// Tried with a message of two parts: many programs would write such a list as Python shows it.
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

    /// Whether the program looks at something of this name, such as `tool_calls`.
    package func mentions(_ names: String...) -> Bool { names.contains { source.contains($0) } }

    // MARK: Rendering

    /// A conversation's text.
    ///
    /// - Parameter addingReplyStart: ends with the beginning of the assistant's next turn, for the model to go on.
    /// - Throws: `ChatError` where the template refuses the conversation or can't render it.
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
    public enum Code: Hashable, Sendable {
        /// The template says so, in its own words.
        case refused
        /// The template does not write a part of the conversation, or its program fails on it.
        case notRendered
        /// Which part of the rendering is the assistant's can't be told.
        case turnsUnknown
    }

    public let code: Code
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
