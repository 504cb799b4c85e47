import Core
import LanguageModel

/// One record of a data file: a line of JSON or a row of a table.
public struct DataRecord: Hashable, Sendable {
    /// File and line of the record.
    public let place: DataPlace
    let fields: JSON

    /// Names of the fields, in their order.
    public var names: [String] { fields.members?.map(\.key) ?? [] }

    /// Returns all fields except those with these names.
    func fields(without names: Set<String>) -> [JSON.Member] { (fields.members ?? []).filter { !names.contains($0.key) } }

    func value(_ name: String) -> JSON? { fields[name] }

    /// Returns the field as text. Strings are unquoted; numbers and truth values stay as the line has them.
    func text(_ name: String) throws(DataError) -> String {
        guard let value = fields[name] else {
            let quoted = names.map { "\"\($0)\"" }.joined(separator: ", ")
            throw .at(place, "no field \"\(name)\"; the line has \(quoted.isEmpty ? "no fields" : quoted)")
        }
        switch value {
        case .string(let text), .number(let text): return text
        case .bool(let truth): return String(truth)
        case .null, .array, .object: throw .at(place, "the field \"\(name)\" must be text, not \(value.kind)")
        }
    }
}

extension JSON {
    /// The kind of a value for messages: `a list`, `null`, …
    var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a truth value"
        case .number: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "an object"
        }
    }
}

/// One worker's part of a file that several workers share: every `count`-th record. The parts are disjoint and together complete, and they
/// are alike even where the file is sorted.
public struct DataShard: Hashable, Sendable, CustomStringConvertible {
    /// Number of the part, 1 … count.
    public let number: Int
    /// Number of parts.
    public let count: Int
    /// The whole file as one part.
    public static let whole = DataShard(uncheckedNumber: 1, count: 1)

    private init(uncheckedNumber number: Int, count: Int) {
        self.number = number
        self.count = count
    }

    /// Returns nil unless 1 ≤ number ≤ count.
    public init?(number: Int, count: Int) {
        guard number >= 1, number <= count else { return nil }
        self.init(uncheckedNumber: number, count: count)
    }

    /// Parses text such as `2/3`; nil if it is malformed.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = Int(parts[0]), let count = Int(parts[1]) else { return nil }
        self.init(number: number, count: count)
    }

    public var description: String { "\(number)/\(count)" }
    func contains(_ index: Int) -> Bool { index % count == number - 1 }
}

/// Reads JSON lines (one object per line, UTF-8, blank lines ignored), and tables in files whose names end in .csv or .tsv
/// (`DelimitedFile`).
public enum DataFile {
    /// Longest line in bytes. A longer line is a mistake, such as a whole corpus without line ends.
    public static let maximumLineBytes = 16 << 20

    /// Returns the records of `shard`, in the order of the file. Every line is parsed, including those of other shards, so that the first
    /// worker to read the file finds a broken line.
    ///
    /// - Parameter limit: largest number of records to read.
    /// - Throws: `DataError` `.missing` if the file can't be opened; `.malformed` with `file:line` for the first bad line, or if there are
    ///   no records.
    public static func read(_ path: String, shard: DataShard = .whole, limit: Int = .max) throws(DataError) -> [DataRecord] {
        let file = try open(path)
        defer { withExtendedLifetime(file) {} }
        try refuse(file.foreignFormat(), path)
        var records: [DataRecord] = []
        var index = 0
        func take(_ record: DataRecord) -> Bool {
            if shard.contains(index) { records.append(record) }
            index += 1
            return records.count < limit
        }
        if DelimitedFile.isNamed(path) {
            try DelimitedFile.read(file.bytes, path: path, take)
        } else {
            for line in lines(of: file) {
                try check(line)
                guard !isBlank(line.bytes) else { continue }
                guard take(DataRecord(place: line.place, fields: try object(line))) else { break }
            }
        }
        guard index > 0 else { throw DataError(.malformed, "\(path): no examples; the file is empty") }
        guard !records.isEmpty else {
            throw DataError(.malformed, "\(path): \(index) examples are too few for \(shard.count) workers")
        }
        return records
    }

    /// Returns the texts of a public corpus: the field `text` of JSON lines or of a table, and otherwise every line as it is. JSON is
    /// recognised by the file's name (.jsonl, .json) or by the first line, an object or the beginning of a list of objects.
    ///
    /// - Throws: the errors of `read`.
    public static func readTexts(_ path: String) throws(DataError) -> [String] {
        var hasFields = [".jsonl", ".json"].contains { path.lowercased().hasSuffix($0) } || DelimitedFile.isNamed(path)
        if !hasFields { hasFields = try beginsAsJSON(path) }
        if hasFields {
            var texts: [String] = []
            for record in try read(path) { texts.append(try record.text("text")) }
            return texts
        }
        let file = try open(path)
        defer { withExtendedLifetime(file) {} }
        try refuse(file.foreignFormat(mayBeMarkup: true), path)
        var texts: [String] = []
        for line in lines(of: file) {
            let text = try check(line)
            if !isBlank(line.bytes) { texts.append(text.hasSuffix("\r") ? String(text.dropLast()) : text) }
        }
        guard !texts.isEmpty else { throw DataError(.malformed, "\(path): the file is empty") }
        return texts
    }

    /// Whether the first line is a JSON object with fields, or the beginning of a list of such objects. Their braces are no text to read.
    private static func beginsAsJSON(_ path: String) throws(DataError) -> Bool {
        let file = try open(path)
        defer { withExtendedLifetime(file) {} }
        for line in lines(of: file) where !isBlank(line.bytes) {
            if let value = try? object(line) { return value.members?.isEmpty == false }
            return isListOfObjects(line.bytes)
        }
        return false
    }

    /// Whether bytes begin as `[{"` does, with or without spaces.
    private static func isListOfObjects(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        bytes.lazy.filter { ![0x20, 0x09, 0x0D].contains($0) }.prefix(3).elementsEqual(#"[{""#.utf8)
    }

    /// The error of a line that is not UTF-8.
    static func notUTF8(_ place: DataPlace) -> DataError {
        let command = ForeignFile(path: place.path, isTaken: isFile).convertingText(from: "LATIN1")
        return .at(place, "the line is not UTF-8\nif the file is in Latin-1, convert it: \(command)")
    }

    private static func refuse(_ foreign: ForeignFormat?, _ path: String) throws(DataError) {
        if let foreign { throw DataError(.malformed, "\(path): \(foreign.problem)\n\(foreign.remedy)") }
    }

    private struct Line {
        let place: DataPlace
        let bytes: Slice<UnsafeRawBufferPointer>
    }

    private static func open(_ path: String) throws(DataError) -> MappedFile {
        do {
            return try MappedFile(path: path)
        } catch {
            if let missing = MissingPath(path) { throw DataError(.missing, "\(path): \(missing.problem)\n\(missing.remedy)") }
            throw DataError(.missing, "\(path): \(error.problem); name a file of JSON lines, CSV or TSV")
        }
    }

    /// Splits the file into lines. Their bytes are valid while `file` lives.
    private static func lines(of file: MappedFile) -> some Sequence<Line> {
        let bytes = file.bytes
        return sequence(state: (next: 0, number: 1)) { state -> Line? in
            guard state.next < bytes.count else { return nil }
            let end = bytes[state.next...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            // Some editors put a byte order mark at the beginning of a file, and joining files puts it in the middle. It is not part of a
            // line.
            let start = bytes[state.next..<end].starts(with: [0xEF, 0xBB, 0xBF]) ? state.next + 3 : state.next
            let line = Line(place: DataPlace(path: file.path, line: state.number), bytes: bytes[start..<end])
            state = (next: end + 1, number: state.number + 1)
            return line
        }
    }

    @discardableResult
    private static func check(_ line: Line) throws(DataError) -> String {
        guard line.bytes.count <= maximumLineBytes else {
            throw .at(line.place, "the line is longer than \(maximumLineBytes >> 20) MiB; write one JSON object a line")
        }
        guard let text = String(validating: line.bytes, as: UTF8.self) else {
            throw notUTF8(line.place)
        }
        return text
    }

    private static func object(_ line: Line) throws(DataError) -> JSON {
        let value: JSON
        do throws(ModelError) {
            value = try JSON(UnsafeRawBufferPointer(rebasing: line.bytes), file: line.place.path)
        } catch {
            // The parser saw a single line, so its own "line 1" would only confuse.
            let byte = error.subject?.split(separator: " ").last.map { " (byte \($0) of the line)" } ?? ""
            // The first line of a table is its header.
            let isTable = line.place.line == 1 && !line.bytes.contains(UInt8(ascii: "{")) && line.bytes.contains { [0x2C, 0x3B, 0x09].contains($0) }
            let remedy = isTable ? "\na table is read where its name ends in .csv or .tsv; else write one JSON object a line" : ""
            if line.place.line == 1, let whole = wholeFile(line) { throw whole }
            throw .at(line.place, "the line \(error.problem)\(byte)\(remedy)")
        }
        if line.place.line == 1, value.array != nil, let whole = wholeFile(line) { throw whole }
        guard value.members != nil else {
            throw .at(line.place, "expected a JSON object such as {\"text\": \"…\", \"label\": \"…\"}, not \(value.kind)")
        }
        return value
    }

    /// The error of a file that is one JSON value, perhaps over several lines, where every line should be one; nil if its first line does
    /// not look so.
    private static func wholeFile(_ line: Line) -> DataError? {
        let bytes = line.bytes.drop { $0 == 0x20 || $0 == 0x09 }
        let second = bytes.dropFirst().first { ![0x20, 0x09, 0x0D].contains($0) }
        if bytes.first == UInt8(ascii: "["), second == nil || second == UInt8(ascii: "{") {
            return DataError(
                .malformed,
                """
                \(line.place.path): is one JSON list; a line for each example is read
                make lines of it: python3 -c 'import json, sys; [print(json.dumps(x)) for x in json.load(sys.stdin)]' < \
                \(ForeignFormat.quoted(line.place.path)) > \
                \(ForeignFormat.quoted(ForeignFile(path: line.place.path, isTaken: isFile).linesPath))
                """)
        }
        guard bytes.first == UInt8(ascii: "{"), bytes.dropFirst().allSatisfy({ [0x20, 0x09, 0x0D].contains($0) }) else { return nil }
        return DataError(
            .malformed,
            "\(line.place.path): is JSON over several lines; a line for each example is read\nwrite each example as one JSON object on one line")
    }

    private static func isBlank(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        bytes.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }
    }
}
