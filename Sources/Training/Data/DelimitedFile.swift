import LanguageModel

/// Tables as text: CSV by RFC 4180, and TSV. The first line names the columns. Every other record is an example whose fields are texts.
///
/// Quoted fields may hold separators, line ends and doubled quotes. Line ends are LF or CR LF. What the format leaves open is an error: a
/// row with more or fewer fields than the header, a quote within an unquoted field, a quote that is never closed.
enum DelimitedFile {
    /// Whether a path names a table.
    static func isNamed(_ path: String) -> Bool {
        let lower = path.lowercased()
        return [".csv", ".tsv"].contains { lower.hasSuffix($0) }
    }

    /// Calls `body` with each record, in the order of the file, until it returns false.
    ///
    /// - Throws: `DataError` `.malformed` with `file:line` for the first error.
    static func read(_ bytes: UnsafeRawBufferPointer, path: String, _ body: (DataRecord) throws(DataError) -> Bool) throws(DataError) {
        var reader = Reader(bytes: bytes, path: path)
        reader.separator = reader.guessedSeparator()
        guard let header = try reader.row(), header.fields != [""] else {
            throw DataError(.malformed, "\(path): no examples; the file is empty")
        }
        for (index, name) in header.fields.enumerated() {
            guard !name.isEmpty else {
                throw .at(header.place, "column \(index + 1) has no name; the first line names the columns, such as text,label")
            }
            guard !header.fields[..<index].contains(where: { $0.utf8.elementsEqual(name.utf8) }) else {
                throw .at(header.place, "two columns are called \"\(name)\"; give each a name of its own")
            }
        }
        while let row = try reader.row() {
            // Blank lines are ignored, as in JSON lines.
            if row.fields == [""], header.fields.count > 1 { continue }
            guard row.fields.count == header.fields.count else {
                throw .at(
                    row.place,
                    "\(row.fields.count) fields, but the first line names \(header.fields.count) columns (\(header.fields.joined(separator: ", ")))\nput a field that holds a separator, a quote or a line end in double quotes"
                )
            }
            guard row.fields != header.fields || header.fields.count == 1 else {
                throw .at(
                    row.place,
                    "the line repeats the first line, which names the columns, as where files were joined; it is no example\nleave this line out")
            }
            let members = zip(header.fields, row.fields).map { JSON.Member(key: $0, value: .string($1)) }
            guard try body(DataRecord(place: row.place, fields: .object(members))) else { return }
        }
    }

    private struct Row {
        let place: DataPlace
        let fields: [String]
    }

    private struct Reader {
        let bytes: UnsafeRawBufferPointer
        let path: String
        var separator = UInt8(ascii: ",")
        private var position = 0
        private var line = 1

        private static let quote = UInt8(ascii: "\"")
        private static let lineFeed = UInt8(ascii: "\n")
        private static let carriageReturn = UInt8(ascii: "\r")

        init(bytes: UnsafeRawBufferPointer, path: String) {
            self.bytes = bytes
            self.path = path
        }

        /// Guesses the separator. TSV uses the tab. CSV uses the comma; if the first line has none, the semicolon, which spreadsheets write
        /// where the decimal sign is a comma; otherwise the tab.
        func guessedSeparator() -> UInt8 {
            if path.lowercased().hasSuffix(".tsv") { return UInt8(ascii: "\t") }
            let first = bytes.prefix { $0 != Self.lineFeed }
            return [UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "\t")].first { first.contains($0) } ?? UInt8(ascii: ",")
        }

        /// Returns the next row; nil at the end.
        mutating func row() throws(DataError) -> Row? {
            // Joined files may have a byte order mark in the middle.
            if bytes[position...].starts(with: [0xEF, 0xBB, 0xBF]) { position += 3 }
            guard position < bytes.count else { return nil }
            let place = DataPlace(path: path, line: line)
            var fields: [String] = []
            while true {
                let field = position < bytes.count && bytes[position] == Self.quote ? try quoted(place) : try plain(place)
                fields.append(field)
                guard position < bytes.count else { break }
                let end = bytes[position]
                position += 1
                if end == separator { continue }
                line += 1
                break
            }
            return Row(place: place, fields: fields)
        }

        /// Reads up to a separator or a line end, and stops before it.
        private mutating func plain(_ place: DataPlace) throws(DataError) -> String {
            let start = position
            while position < bytes.count, bytes[position] != separator, bytes[position] != Self.lineFeed {
                // Most TSV files have no quoting: a quote that does not begin a field is an ordinary character.
                guard bytes[position] != Self.quote || separator == UInt8(ascii: "\t") else {
                    throw .at(
                        place,
                        "field \(text(bytes[start..<position])) has a quote in it; put the whole field in double quotes, and double those in it")
                }
                position += 1
            }
            var end = position
            if position == bytes.count || bytes[position] == Self.lineFeed, end > start, bytes[end - 1] == Self.carriageReturn { end -= 1 }
            return try valid(bytes[start..<end], place)
        }

        private mutating func quoted(_ place: DataPlace) throws(DataError) -> String {
            position += 1
            var value: [UInt8] = []
            while position < bytes.count {
                let byte = bytes[position]
                position += 1
                guard byte == Self.quote else {
                    if byte == Self.lineFeed { line += 1 }
                    value.append(byte)
                    continue
                }
                if position < bytes.count, bytes[position] == Self.quote {
                    value.append(byte)
                    position += 1
                    continue
                }
                // The field is closed; a separator or a line end follows.
                if position + 1 < bytes.count, bytes[position] == Self.carriageReturn, bytes[position + 1] == Self.lineFeed { position += 1 }
                if position + 1 == bytes.count, bytes[position] == Self.carriageReturn { position += 1 }
                guard position == bytes.count || bytes[position] == separator || bytes[position] == Self.lineFeed else {
                    throw .at(DataPlace(path: path, line: line), "something follows the quote that ends a field; double a quote that is part of it")
                }
                return try valid(value[...], place)
            }
            throw .at(place, "a quoted field is never closed; end it with a double quote")
        }

        private func valid(_ value: some Collection<UInt8>, _ place: DataPlace) throws(DataError) -> String {
            guard value.count <= DataFile.maximumLineBytes else {
                throw .at(place, "a field is longer than \(DataFile.maximumLineBytes >> 20) MiB; is a quote never closed?")
            }
            guard let text = String(validating: value, as: UTF8.self) else {
                throw DataFile.notUTF8(place)
            }
            return text
        }

        private func text(_ value: some Collection<UInt8>) -> String {
            let shown = String(decoding: value.prefix(40), as: UTF8.self)
            return "\"\(shown)\(value.count > 40 ? "…" : "")\""
        }
    }
}
