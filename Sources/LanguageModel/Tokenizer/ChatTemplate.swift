/// One turn of a conversation.
public struct ChatMessage: Hashable, Sendable {
    /// `system`, `user` or `assistant`.
    public let role: String
    public let content: String

    public init(role: String, content: String) {
        self.role = role
        self.content = content
    }
}

/// How a model writes conversations. Models give a Jinja program for it; nearly all of these are one of a few, which are built in
/// here and recognised by the program's text. There is no Jinja interpreter: another program is refused.
public struct ChatTemplate: Hashable, Sendable {
    /// A stretch of a conversation's text. Tokenised apart (with special tokens allowed), so that a loss knows where a reply is.
    public struct Segment: Hashable, Sendable {
        public let text: String
        /// What the assistant says, with the mark that ends its turn.
        public let isReply: Bool
    }

    package enum Style: Hashable, Sendable {
        /// `<|im_start|>role\ncontent<|im_end|>\n`, after a default system turn where the model has one and the conversation none.
        case chatML(defaultSystem: String?)
        /// `<|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>`, after the text of BOS; contents are trimmed.
        case llama3(bos: String)
        /// `<|role|>\ncontent</s>\n`
        case zephyr(eos: String)
    }

    package let style: Style
    /// The Jinja program, for export.
    package let source: String

    /// Recognises a model's template.
    ///
    /// - Parameters:
    ///   - source: the Jinja program.
    ///   - bos: the text of the model's BOS token, which some templates write.
    ///   - eos: the same of EOS.
    ///   - file: for the error's text.
    /// - Throws: `.unsupported` for a template that is not built in.
    public init(source: String, bos: String?, eos: String?, file: String) throws(ModelError) {
        self.source = source
        let text = Self.canonical(source)
        if Self.plainChatML.contains(text) {
            style = .chatML(defaultSystem: nil)
        } else if text.hasPrefix(Self.systemBegin), text.hasSuffix(Self.systemEnd), text.count > Self.systemBegin.count + Self.systemEnd.count,
            case let system = text.dropFirst(Self.systemBegin.count).dropLast(Self.systemEnd.count), !system.contains(where: { "'{}\\".contains($0) })
        {
            style = .chatML(defaultSystem: String(system))
        } else if Self.llama3.contains(text), let bos {
            style = .llama3(bos: bos)
        } else if text == Self.zephyr, let eos {
            style = .zephyr(eos: eos)
        } else {
            throw ModelError(
                .unsupported, file: file, subject: "chat_template", "is none of the built-in ones: \(text.prefix(120).debugDescription)…",
                remedy: "built in: ChatML, Llama 3, Zephyr; write the conversations as prompt and completion instead")
        }
    }

    /// The conversation's text in segments, which together are exactly what the Jinja program writes.
    ///
    /// - Parameter addingReplyStart: ends with the beginning of the assistant's next turn, for the model to go on.
    public func segments(for messages: [ChatMessage], addingReplyStart: Bool = false) -> [Segment] {
        var segments: [Segment] = []
        func add(_ text: String, isReply: Bool = false) {
            if !text.isEmpty { segments.append(Segment(text: text, isReply: isReply)) }
        }
        for (i, message) in messages.enumerated() {
            let isReply = message.role == "assistant"
            switch style {
            case .chatML(let defaultSystem):
                var head = "<|im_start|>\(message.role)\n"
                if i == 0, message.role != "system", let defaultSystem { head = "<|im_start|>system\n\(defaultSystem)<|im_end|>\n" + head }
                add(head)
                add(message.content + "<|im_end|>", isReply: isReply)
                add("\n")
            case .llama3(let bos):
                add((i == 0 ? bos : "") + "<|start_header_id|>\(message.role)<|end_header_id|>\n\n")
                add(Self.trimmed(message.content) + "<|eot_id|>", isReply: isReply)
            case .zephyr(let eos):
                guard ["user", "system", "assistant"].contains(message.role) else { continue }
                add("<|\(message.role)|>\n")
                add(message.content + eos, isReply: isReply)
                add("\n")
            }
        }
        if addingReplyStart {
            switch style {
            case .chatML: add("<|im_start|>assistant\n")
            case .llama3: add("<|start_header_id|>assistant<|end_header_id|>\n\n")
            case .zephyr: if !messages.isEmpty { add("<|assistant|>\n") }
            }
        }
        return segments
    }

    /// The whole conversation as one text.
    public func render(_ messages: [ChatMessage], addingReplyStart: Bool = false) -> String {
        segments(for: messages, addingReplyStart: addingReplyStart).map(\.text).joined()
    }

    /// Jinja's `trim` is Python's `strip`.
    private static func trimmed(_ text: String) -> String {
        var scalars = Substring(text).unicodeScalars
        while let first = scalars.first, first.properties.isWhitespace { scalars.removeFirst() }
        while let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
        return String(scalars)
    }

    // MARK: The built-in programs

    /// Jinja does not tell "…" from '…', nor an escaped line end in a string from a real one.
    private static func canonical(_ source: String) -> String {
        var text = source.replacing("\\n", with: "\n").replacing("\"", with: "'")
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return text
    }

    private static let chatMLTurns =
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    private static let plainChatML = [
        "{% for message in messages %}" + chatMLTurns,
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% for message in messages %}" + chatMLTurns,
    ]
    private static let systemBegin =
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    private static let systemEnd = "<|im_end|>\n' }}{% endif %}" + chatMLTurns

    private static let llama3Turns =
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
        + "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
        + "{% endif %}{{ content }}{% endfor %}"
    private static let llama3 = [
        llama3Turns + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ]

    private static let zephyr = """
        {% for message in messages %}
        {% if message['role'] == 'user' %}
        {{ '<|user|>
        ' + message['content'] + eos_token }}
        {% elif message['role'] == 'system' %}
        {{ '<|system|>
        ' + message['content'] + eos_token }}
        {% elif message['role'] == 'assistant' %}
        {{ '<|assistant|>
        '  + message['content'] + eos_token }}
        {% endif %}
        {% if loop.last and add_generation_prompt %}
        {{ '<|assistant|>' }}
        {% endif %}
        {% endfor %}
        """
}
