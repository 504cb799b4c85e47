import Foundation
import OneByte
import Testing

/// Text from data, files and peers is displayed and never interpreted by the terminal.
@Suite struct PrintableTests {
    @Test(arguments: [
        ("\u{1B}]0;owned\u{07}", "\\u001b]0;owned\\u0007"), ("a\u{1B}[2Jb", "a\\u001b[2Jb"), ("\u{9B}31m", "\\u009b31m"), ("a\rb", "a\\rb"),
        ("a\r\nb", "a\\r\nb"),
        ("\u{202E}txt.exe", "\\u202etxt.exe"), ("\u{E0041}", "\\u{e0041}"), ("\u{7F}\u{08}", "\\u007f\\u0008"),
        ("zwei\nZeilen\tTab", "zwei\nZeilen\tTab"),
        ("Ünïcödé 日本 👩‍👩‍👧", "Ünïcödé 日本 👩‍👩‍👧"), ("", ""),
    ])
    func escaped(_ text: String, _ expected: String) {
        #expect(printable(text) == expected)
    }

    @Test func whatMustNotBeginALineOfItsOwn() {
        #expect(printable("bad\nerror: forged\r\n\t", onOneLine: true) == "bad\\nerror: forged\\r\\n\\t")
    }

    @Test func aMessageIsNotAsLongAsTheDataThatItQuotes() {
        let long = shortened(String(repeating: "é", count: 100_000))
        #expect(long.unicodeScalars.count < 4100 && long.hasSuffix("(96000 more characters)"))
        #expect(shortened("short") == "short")
    }

    /// Whether a program's output contains an escape character.
    private func hasEscape(_ found: Binary.Outcome) -> Bool {
        (found.output + found.errors).unicodeScalars.contains { $0.value == 0x1B || $0.value == 0x07 }
    }

    @Test("Escapes in a label, a field name, a prompt, a setting or a path never reach a terminal")
    func inMessages() async throws {
        let scratch = try Scratch()
        let words = ["--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--model", Binary.tinyModel]
        let label = try scratch.file("label.jsonl", #"{"text":"a","label":"\u001b]0;owned\u0007"}"# + "\n")
        let field = try scratch.file("field.jsonl", #"{"\u001b[31mtext":"a","label":0}"# + "\n")
        let text = try scratch.file("text.jsonl", #"{"text":"a\u001b]0;owned\u0007 b","label":0}"# + "\n")
        let run = try scratch.file("run.toml", "[training]\n\"\u{1B}[31mlearning-rate\" = 1\n")
        for arguments in [
            ["data", "preview", label] + words, ["data", "preview", field] + words, ["data", "preview", text] + words,
            ["cluster", "--config", run], ["evaluate", "\(scratch.path)/\u{1B}[31mnone.jsonl"] + words, ["ledger", "show", "\u{1B}[31m"],
            ["\u{1B}[31mcluster"],
        ] {
            let found = try await Binary.run(arguments)
            #expect(!hasEscape(found), "\(arguments)")
            if arguments.contains(text) { #expect(found.status == 0 && found.output.contains("\\u001b"), "\(found)") }
        }
    }
}
