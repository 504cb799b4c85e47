import Core
import LanguageModel

extension DataRecord {
    /// Returns the record with this label, for reading the inputs of examples whose own label is missing or not known.
    public func labelled(_ label: String) -> DataRecord {
        var fields = fields
        fields.set("label", .string(label))
        return DataRecord(place: place, fields: fields)
    }

    /// The field `label` as text; nil if there is none.
    public var label: String? { try? text("label") }

    /// The wanted text after the prompt: a completion, or a conversation's last turn; nil if the record has neither.
    package var wantedText: String? {
        if let completion = try? text("completion") { return completion }
        guard case .array(let messages)? = value("messages"), case .string(let content)? = messages.last?["content"] else { return nil }
        return content
    }

    /// Returns the record as one line of JSON with further fields; a new field replaces an old one of the same name.
    package func line(adding members: [JSON.Member]) -> String {
        var fields = fields
        for member in members { fields.set(member.key, member.value) }
        return fields.text(indent: 0)
    }
}
