/// Makes text from data, files or peers safe for a terminal, a log or a report. Characters that would move the cursor, change colours or
/// the window's title, hide text or reverse its direction are written as `\u001b`. All output passes through here once, in
/// `LineStream.write`.
///
/// - Parameter onOneLine: whether to escape line ends and tabs too, for text that must not begin a line of its own, such as a peer's name
///   in a log.
package func printable(_ text: String, onOneLine: Bool = false) -> String {
    guard text.unicodeScalars.contains(where: { isHidden($0, onOneLine) }) else { return text }
    var shown = ""
    // Works on scalars, because Swift treats a carriage return and the line feed after it as one character.
    for scalar in text.unicodeScalars {
        guard isHidden(scalar, onOneLine) else {
            shown.unicodeScalars.append(scalar)
            continue
        }
        switch scalar {
        case "\n": shown += "\\n"
        case "\r": shown += "\\r"
        case "\t": shown += "\\t"
        default:
            let digits = String(scalar.value, radix: 16)
            shown += digits.utf8.count > 4 ? "\\u{\(digits)}" : "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
        }
    }
    return shown
}

private func isHidden(_ scalar: Unicode.Scalar, _ onOneLine: Bool) -> Bool {
    switch scalar.value {
    case 0x0A, 0x09: onOneLine
    // C0, delete and C1 contain the terminal's commands.
    case 0x00...0x1F, 0x7F...0x9F: true
    // Characters that change the direction of the text around them (Boucher and Anderson, arXiv 2111.00169), and uncommon line ends.
    case 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    // Tag characters are invisible.
    case 0xE0000...0xE007F: true
    default: false
    }
}

/// Shortens a message that quotes data, so that it does not become as long as the data.
package func shortened(_ text: String, to limit: Int = 4000) -> String {
    guard text.utf8.count > limit, text.unicodeScalars.count > limit else { return text }
    return "\(String(text.unicodeScalars.prefix(limit)))… (\(text.unicodeScalars.count - limit) more characters)"
}
