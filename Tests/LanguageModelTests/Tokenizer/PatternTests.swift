import LanguageModel
import Testing

@Suite struct PatternTests {
    private func matches(_ pattern: String, _ text: String) throws -> [String] {
        var text = text
        let pattern = try Pattern(pattern)
        return text.withUTF8 { bytes in
            var found: [String] = []
            pattern.forEachMatch(in: bytes, 0..<bytes.count) { found.append(String(decoding: bytes[$0], as: UTF8.self)) }
            return found
        }
    }

    /// Small patterns, one for each construct, give Oniguruma's answers.
    @Test(arguments: [
        ("a|ab", "ab abb", ["a", "a"]), ("(?:ab|a)b", "abb ab", ["abb", "ab"]), ("a+?b", "aab", ["aab"]), ("a++ab|a", "aaab", ["a", "a", "a"]),
        ("(?>a|ab)c", "abc ac", ["ac"]), ("\\s+(?!\\S)|\\s+", "a  b ", [" ", " ", " "]), ("(?i:ss)x", "SſX ssx", ["ssx"]),
        ("(?i)k", "K\u{212A}k", ["K", "\u{212A}", "k"]),
        ("[^\\s\\p{L}]+", "ab12 ?!c", ["12", "?!"]), ("[a-c&&[^b]]+", "abcb", ["a", "c"]), ("[\\]\\-x]+", "a]-xb", ["]-x"]),
        ("\\p{^Lu}+", "ABcdE", ["cd"]),
        ("\\bfoo\\b", "foo food foo", ["foo", "foo"]), ("^a|b$", "a\nab\nb", ["a", "a", "b", "b"]), ("(?<=x)y", "xyy", ["y"]),
        ("(?<!x)y", "xyy", ["y"]),
        ("\\d{2,3}", "1 12 1234567", ["12", "123", "456"]), ("x{,2}y", "xxxy", ["xxy"]), ("\\p{Han}+", "a漢字かな", ["漢字"]), ("(a*)*b", "aab", ["aab"]),
        ("é\\u00e9", "éé", ["éé"]),
        (".", "a\nb", ["a", "b"]), ("a{", "a{", ["a{"]),
    ])
    func constructs(_ pattern: String, _ text: String, _ expected: [String]) throws {
        #expect(try matches(pattern, text) == expected, "\(pattern)")
    }

    @Test(arguments: ["(a)\\1", "(?<n>a)\\k<n>", "\\p{Klingon}", "(", "[a", "a**b)", "*", "\\", "(?#x)", "(?<=ab)c", "a{2000}", "[z-a]"])
    func whatIsNotKnownIsRefused(_ pattern: String) { #expect(throws: PatternError.self) { try Pattern(pattern) } }

    @Test func deepPatternsAreRefused() {
        let deep = String(repeating: "(?:", count: 500) + "a" + String(repeating: ")", count: 500)
        #expect(throws: PatternError.self) { try Pattern(deep) }
    }

    /// Patterns on which plain backtracking would never end.
    @Test(.timeLimit(.minutes(1)), arguments: [("(?:a+)+b", "a"), ("(?:a|a)*c", "a"), ("\\s+$", " "), ("(?:[^x]*y?)*z", "q")])
    func noTextTakesForever(_ pattern: String, _ unit: String) throws {
        #expect(try matches(pattern, String(repeating: unit, count: 4_000) + "!").isEmpty)
    }
}
