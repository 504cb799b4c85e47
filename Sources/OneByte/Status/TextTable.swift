/// A table of text that fits a terminal of any width. On a narrow one, less important columns are left out, and the column that may shrink is cut
/// with an ellipsis. No line is wider than requested.
package struct TextTable {
    package enum Alignment: Sendable { case left, right }

    package struct Column: Sendable {
        let title: String
        let alignment: Alignment
        /// Order in which columns are left out: a higher number goes first, and 0 always stays.
        let rank: Int
        /// Least number of cells to which the column may be cut; nil if it is never cut.
        let shrinksTo: Int?

        init(_ title: String, _ alignment: Alignment = .left, rank: Int = 0, shrinksTo: Int? = nil) {
            (self.title, self.alignment, self.rank, self.shrinksTo) = (title, alignment, rank, shrinksTo)
        }
    }

    private static let gap = 2

    /// - Parameters:
    ///   - rows: one text per column in each row.
    ///   - width: largest width of a line in cells, including the indentation.
    /// - Returns: the headings, and one line per row.
    package static func lines(_ columns: [Column], _ rows: [[String]], width: Int, indent: Int = 2) -> [String] {
        let all = [columns.map(\.title)] + rows
        var widths = columns.indices.map { column in all.map { cells($0[column]) }.max() ?? 0 }
        // A column without any value is left out.
        var shown = columns.indices.filter { column in columns[column].rank == 0 || rows.contains { !$0[column].isEmpty } }
        func total() -> Int { indent + shown.reduce(0) { $0 + widths[$1] } + gap * max(0, shown.count - 1) }
        while total() > width, let last = shown.filter({ columns[$0].rank > 0 }).max(by: { columns[$0].rank < columns[$1].rank }) {
            // Names are cut first, as long as they stay readable. Columns are left out only then.
            if let name = shown.first(where: { columns[$0].shrinksTo != nil }), let least = columns[name].shrinksTo,
                total() - width <= widths[name] - least
            {
                break
            }
            shown.removeAll { $0 == last }
        }
        if total() > width, let name = shown.first(where: { columns[$0].shrinksTo != nil }) {
            widths[name] = max(1, widths[name] - (total() - width))
        }
        let margin = String(repeating: " ", count: max(0, min(indent, width)))
        return all.map { row in
            let line = shown.map { padded(cut(row[$0], to: widths[$0]), to: widths[$0], columns[$0].alignment) }
                .joined(separator: String(repeating: " ", count: gap))
            return cut(margin + trimmedEnd(line), to: width)
        }
    }

    private static func padded(_ text: String, to width: Int, _ alignment: Alignment) -> String {
        let space = String(repeating: " ", count: max(0, width - cells(text)))
        return alignment == .left ? text + space : space + text
    }

    private static func trimmedEnd(_ text: String) -> String {
        var text = Substring(text)
        while text.last == " " { text.removeLast() }
        return String(text)
    }

    /// Arranges parts in lines, as many on each line as fit. A part that is too long for a line is broken between words.
    package static func flow(_ parts: [String], width: Int, indent: Int = 2, separator: String = "   ") -> [String] {
        let margin = String(repeating: " ", count: indent)
        var lines: [String] = []
        var line = ""
        func end() {
            if !line.isEmpty { lines.append(margin + line) }
            line = ""
        }
        for part in parts where !part.isEmpty {
            if !line.isEmpty, indent + cells(line) + cells(separator) + cells(part) <= width {
                line += separator + part
                continue
            }
            end()
            for word in part.split(separator: " ").map(String.init) {
                if !line.isEmpty, indent + cells(line) + 1 + cells(word) > width { end() }
                line += line.isEmpty ? cut(word, to: max(1, width - indent)) : " " + word
            }
        }
        end()
        return lines
    }

    /// Cuts a text to a width, with an ellipsis if something is missing.
    package static func cut(_ text: String, to width: Int) -> String {
        guard cells(text) > width else { return text }
        var (short, room) = ("", max(0, width - 1))
        for character in text {
            let size = cells(character)
            guard size <= room else { break }
            short.append(character)
            room -= size
        }
        return width > 0 ? short + "…" : ""
    }

    /// Returns the number of cells that a text takes on a terminal.
    package static func cells(_ text: String) -> Int { text.reduce(0) { $0 + cells($1) } }

    private static func cells(_ character: Character) -> Int {
        guard let first = character.unicodeScalars.first else { return 0 }
        if first.isASCII { return 1 }
        let properties = first.properties
        if [.nonspacingMark, .enclosingMark, .format].contains(properties.generalCategory) { return 0 }
        return properties.isEmojiPresentation || wide.contains { $0.contains(first.value) } ? 2 : 1
    }

    /// Blocks of East Asian Wide and Fullwidth characters (Unicode Standard Annex 11).
    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xA000...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF,
        0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x20000...0x3FFFD,
    ]
}
