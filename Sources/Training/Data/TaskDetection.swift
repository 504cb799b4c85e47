import Core
import LanguageModel

extension TaskSpec {
    /// Returns the kind of task that a file's first record fits, judged by its fields alone.
    ///
    /// - Throws: `DataError` `.malformed` with the line and the four forms of records that are known.
    public static func kind(of record: DataRecord) throws(DataError) -> Kind {
        let fields = Set(record.names)
        if fields.contains("messages") { return .chat }
        if fields.contains("completion") { return .completion }
        if fields.contains("label") { return .classification }
        if fields.contains("text") { return .text }
        if fields.contains("chosen"), fields.contains("rejected") {
            throw .at(
                record.place,
                """
                "chosen" and "rejected" are two answers of which one is preferred, and no task learns from such pairs
                to learn the chosen answers, write each as "prompt" and "completion"
                """)
        }
        let names = record.names.map { "\"\($0)\"" }.joined(separator: ", ")
        throw .at(
            record.place,
            """
            can't tell the task from the fields \(names.isEmpty ? "(none)" : names); expected "text" and "label" (classification), \
            "prompt" and "completion", "messages" (chat) or "text" alone
            """)
    }
}
