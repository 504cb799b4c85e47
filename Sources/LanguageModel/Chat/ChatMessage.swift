/// One turn of a conversation, with all that its record says of it.
public struct ChatMessage: Hashable, Sendable {
    /// `system`, `user`, `assistant`, `tool`; which ones there are, the template says.
    public let role: String
    /// What it says; empty where its content is not text alone.
    public let content: String
    /// The record's fields, without those that are null: transformers drops these too.
    package let fields: [JSON.Member]

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

    /// What the turn thinks before it speaks, under any of the names that are in use.
    var reasoning: JSON? { ["reasoning_content", "thinking", "reasoning"].lazy.compactMap { self[$0] }.first }
}
