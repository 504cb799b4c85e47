/// One turn of a conversation, with all fields of its record.
public struct ChatMessage: Hashable, Sendable {
    /// `system`, `user`, `assistant`, `tool`, or another role that the template knows.
    public let role: String
    /// The text of the turn; empty if its content is not text alone.
    public let content: String
    /// The record's fields without those that are null, which transformers drops too.
    package let fields: [JSON.Member]

    /// Creates a message with a role and a text, and no further fields.
    public init(role: String, content: String) {
        self.init(
            role: role, content: content,
            fields: [JSON.Member(key: "role", value: .string(role)), JSON.Member(key: "content", value: .string(content))])
    }

    package init(role: String, content: String, fields: [JSON.Member]) {
        self.role = role
        self.content = content
        self.fields = fields
    }

    package subscript(field: String) -> JSON? { fields.first { $0.key == field }?.value }

    /// The turn's reasoning, under any of the names in use.
    var reasoning: JSON? { ["reasoning_content", "thinking", "reasoning"].lazy.compactMap { self[$0] }.first }
}
