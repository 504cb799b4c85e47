import Core
import LanguageModel

extension TaskSpec {
    /// The kind of task that a file's first line is made for, judged by its fields alone.
    ///
    /// - Throws: `DataError` `.malformed`, naming the line and the four shapes that are known.
    public static func kind(of record: DataRecord) throws(DataError) -> Kind {
        let fields = Set(record.names)
        if fields.contains("messages") { return .chat }
        if fields.contains("completion") { return .completion }
        if fields.contains("label") { return .classification }
        if fields.contains("text") { return .text }
        let names = record.names.map { "\"\($0)\"" }.joined(separator: ", ")
        throw .at(
            record.place,
            """
            can't tell the task from the fields \(names.isEmpty ? "(none)" : names); expected "text" and "label" (classification), \
            "prompt" and "completion", "messages" (chat) or "text" alone
            """)
    }
}
