import LanguageModel

extension DataRecord {
    /// Reads the field `messages`: a list of objects with `role` and `content`.
    ///
    /// - Parameters:
    ///   - needsReply: whether at least one message must be the assistant's.
    ///   - template: the template that will write the messages. Fields unknown to it are refused if the turn means something else without
    ///     them.
    func messages(needsReply: Bool = true, template: ChatTemplate) throws(DataError) -> [ChatMessage] {
        guard let list = fields["messages"]?.array, !list.isEmpty else {
            throw .at(place, "\"messages\" must be a list of {\"role\": \"user\", \"content\": \"…\"}, with at least one entry")
        }
        var messages: [ChatMessage] = []
        for (index, entry) in list.enumerated() { messages.append(try message(entry, index + 1, template)) }
        guard !needsReply || messages.contains(where: { $0.role == "assistant" }) else {
            throw .at(place, "no message of the assistant: there is nothing to learn")
        }
        return messages
    }

    /// Roles that templates may know. A run of the template shows which of them it writes.
    private static let roles = ["system", "developer", "user", "assistant", "tool"]

    private func message(_ entry: JSON, _ number: Int, _ template: ChatTemplate) throws(DataError) -> ChatMessage {
        guard let role = entry["role"]?.string else {
            throw .at(place, "message \(number) must have the texts \"role\" and \"content\"")
        }
        guard Self.roles.contains(role) else {
            throw .at(place, "message \(number) has the role \"\(role)\"; known are \(Self.roles.joined(separator: ", "))")
        }
        let fields = (entry.members ?? []).filter { !$0.value.isNull }
        for (names, isKnown) in [
            (["tool_calls"], template.mentions("tool_calls")), (["function_call"], template.mentions("function_call")),
            (["reasoning_content", "thinking", "reasoning"], template.mentions("reasoning_content", "thinking", "reasoning")),
            (["refusal"], template.mentions("refusal")), (["image", "images"], template.mentions("image", "images")),
            (["audio", "audios"], template.mentions("audio", "audios")), (["video", "videos"], template.mentions("video", "videos")),
            (["documents"], template.mentions("documents")), (["attachments", "files"], template.mentions("attachments", "files")),
        ] where !isKnown {
            if let field = fields.first(where: { names.contains($0.key) && $0.value != [] && $0.value != "" && $0.value.bool != false }) {
                throw .at(
                    place,
                    "message \(number) has \"\(field.key)\", which the model's chat template does not write; without it the turn would say something else\nleave such chats out, or use a model whose template writes it"
                )
            }
        }
        if role == "assistant" { try checkTurn(fields, number) }
        let hasCall = fields.contains { ["tool_calls", "function_call"].contains($0.key) }
        let content = fields.first { $0.key == "content" }?.value
        switch content {
        case .string(let text)?: return ChatMessage(role: role, content: text, fields: fields)
        case .array(let parts)?: return ChatMessage(role: role, content: try text(of: parts, number), fields: fields)
        case nil where hasCall: return ChatMessage(role: role, content: "", fields: fields)
        default: throw .at(place, "message \(number) must have the texts \"role\" and \"content\"")
        }
    }

    /// Fields of the messages and of their parts that neither this program nor the template reads, as `messages[].name`.
    func unusedMessageFields(_ template: ChatTemplate) -> [String] {
        var names: [String] = []
        for message in fields["messages"]?.array ?? [] {
            for member in message.members ?? [] where !member.value.isNull && !template.mentions(member.key) {
                // Only the assistant's messages are learnt, so only theirs can be left out. A weight of 0 elsewhere says what is so anyway.
                let isRead =
                    ["role", "content"].contains(member.key)
                    || member.key == "weight" && (message["role"] == "assistant" || member.value.double == 0)
                if !isRead { names.append("messages[].\(member.key)") }
            }
            for part in message["content"]?.array ?? [] {
                for member in part.members ?? [] where !["type", "text"].contains(member.key) && !member.value.isNull {
                    names.append("messages[].content[].\(member.key)")
                }
            }
        }
        return names
    }

    /// Joins content that is given as parts. Texts are read; a part of another type is refused.
    private func text(of parts: [JSON], _ number: Int) throws(DataError) -> String {
        var text = ""
        for part in parts {
            if let plain = part.string {
                text += plain
                continue
            }
            let type = part["type"]?.string ?? "none"
            guard type == "text", let plain = part["text"]?.string else {
                throw .at(
                    place,
                    "message \(number) has a content part of the type \"\(type)\"; only parts of the type \"text\" can be read\nleave such examples out, or say in words what the part shows"
                )
            }
            text += plain
        }
        return text
    }

    /// Whether the loss includes the assistant's message with this number (from 0). A `weight` of 0 on the message excludes it.
    func isLearnt(_ number: Int) throws(DataError) -> Bool {
        guard let list = fields["messages"]?.array, list.indices.contains(number), let weight = list[number]["weight"], !weight.isNull else {
            return true
        }
        switch weight.double {
        case 0: return false
        case 1: return true
        default: throw .at(place, "message \(number + 1) has the weight \(weight.text(indent: 0)); a message can only be learnt or not\nwrite 1 or 0")
        }
    }
}
