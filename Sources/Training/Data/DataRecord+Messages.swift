import LanguageModel

extension DataRecord {
    /// The field `messages`: a list of objects with `role` and `content`.
    ///
    /// - Parameter needsReply: at least one must be the assistant's.
    func messages(needsReply: Bool = true) throws(DataError) -> [ChatMessage] {
        guard let list = fields["messages"]?.array, !list.isEmpty else {
            throw .at(place, "\"messages\" must be a list of {\"role\": \"user\", \"content\": \"…\"}, with at least one entry")
        }
        var messages: [ChatMessage] = []
        for (index, entry) in list.enumerated() {
            guard let role = entry["role"]?.string, let content = entry["content"]?.string else {
                throw .at(place, "message \(index + 1) must have the texts \"role\" and \"content\"")
            }
            guard ["system", "user", "assistant"].contains(role) else {
                throw .at(place, "message \(index + 1) has the role \"\(role)\"; known are system, user and assistant")
            }
            messages.append(ChatMessage(role: role, content: content))
        }
        guard !needsReply || messages.contains(where: { $0.role == "assistant" }) else {
            throw .at(place, "no message of the assistant: there is nothing to learn")
        }
        return messages
    }
}
