/// A backslash and a letter in a text that came through a shell, where a line break or a tab was probably meant. Shells leave both
/// characters as they are between plain quotes.
public enum EscapedBreak: String, Hashable, Sendable {
    case lineBreak = "n"
    case tab = "t"

    /// Returns nil if the text has neither. A backslash and a t before a small letter are taken for a word, as in LaTeX.
    public init?(_ text: String) {
        let scalars = Array(text.unicodeScalars)
        var hasTab = false
        for index in scalars.indices.dropLast() where scalars[index] == "\\" {
            if scalars[index + 1] == "n" {
                self = .lineBreak
                return
            }
            let follows = index + 2 < scalars.count ? scalars[index + 2] : " "
            if scalars[index + 1] == "t", !follows.properties.isLowercase { hasTab = true }
        }
        guard hasTab else { return nil }
        self = .tab
    }
}
