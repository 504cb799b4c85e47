/// Text that may come from data, files or peers, as a terminal, a log or a report may have it: what would move the cursor, change colours or
/// the window's title, hide text or turn its direction is written as `\u001b`. Everything that is shown goes through here, once, in
/// `LineStream.write`.
///
/// - Parameter onOneLine: line ends and tabs too, of what must not begin a line of its own, such as a peer's name in a log.
package func printable(_ text: String, onOneLine: Bool = false) -> String {
    guard text.unicodeScalars.contains(where: { isHidden($0, onOneLine) }) else { return text }
    var shown = ""
    // By scalars: a carriage return and the line feed behind it are one character to Swift.
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
    // C0, delete and C1, in which a terminal finds its commands.
    case 0x00...0x1F, 0x7F...0x9F: true
    // What turns the direction of the text around it (Boucher and Anderson, arXiv 2111.00169), and line ends that look like none.
    case 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    // Tags, which nothing draws.
    case 0xE0000...0xE007F: true
    default: false
    }
}

/// A message that quotes data is not to be as long as the data.
package func shortened(_ text: String, to limit: Int = 4000) -> String {
    guard text.utf8.count > limit, text.unicodeScalars.count > limit else { return text }
    return "\(String(text.unicodeScalars.prefix(limit)))… (\(text.unicodeScalars.count - limit) more characters)"
}
