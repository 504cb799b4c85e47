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

    /// The field `label` of a classification, which learns one class for each text.
    func classLabel() throws(DataError) -> String {
        if case .array? = value("label") {
            throw .at(place, "\"label\" is a list, and one class is learnt for each text\nwrite one label, as a text or a number")
        }
        return try text("label")
    }

    /// The part of a data set to which the record says it belongs, such as `test`.
    func split(unless used: Set<String>) -> (field: String, part: String)? {
        for name in ["split", "partition", "train", "is_train", "is_valid", "is_test"] where !used.contains(name) {
            if let part = value(name)?.string ?? value(name)?.bool?.description, !part.isEmpty { return (name, part) }
        }
        return nil
    }

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
