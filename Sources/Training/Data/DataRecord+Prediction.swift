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

    /// Returns the record as one line of JSON with further fields; a new field replaces an old one of the same name.
    package func line(adding members: [JSON.Member]) -> String {
        var fields = fields
        for member in members { fields.set(member.key, member.value) }
        return fields.text(indent: 0)
    }
}
