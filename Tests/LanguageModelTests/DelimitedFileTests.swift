import Foundation
import LanguageModel
import Testing
import Training

/// Tables as data.
@Suite struct DelimitedFileTests {
    private func read(_ text: String, as name: String = "data.csv", shard: DataShard = .whole) throws -> [String] {
        try withTemporaryDirectory { directory in
            let path = directory + "/" + name
            try Data(text.utf8).write(to: URL(filePath: path))
            return try DataFile.read(path, shard: shard).map { $0.line(adding: []) }
        }
    }

    @Test(
        "Files that RFC 4180 allows, and files that programs write, are read",
        arguments: [
            ("text,label\nfine,1\n", #"{"text": "fine", "label": "1"}"#), ("text,label\r\nfine,1\r\n", #"{"text": "fine", "label": "1"}"#),
            ("text,label\nfine,1", #"{"text": "fine", "label": "1"}"#),
            ("text,label\n\"a, b\",1\n", #"{"text": "a, b", "label": "1"}"#),
            ("text,label\n\"say \"\"hi\"\"\",1\n", #"{"text": "say \"hi\"", "label": "1"}"#),
            ("text,label\n\"two\nlines\",1\n", #"{"text": "two\nlines", "label": "1"}"#), ("text,label\n,\n", #"{"text": "", "label": ""}"#),
            ("text,label\n\"\",1\r\n", #"{"text": "", "label": "1"}"#),
            ("\u{FEFF}text,label\nfine,1\n", #"{"text": "fine", "label": "1"}"#), ("text;label\na, b;1\n", #"{"text": "a, b", "label": "1"}"#),
            ("text\none\n", #"{"text": "one"}"#),
            ("\"text\",\"label\"\n\"é\u{301}\",1\n", "{\"text\": \"é\u{301}\", \"label\": \"1\"}"),
            ("text,label\n\na,1\n\n", #"{"text": "a", "label": "1"}"#),
            ("text,label\n\u{FEFF}fine,1\n", #"{"text": "fine", "label": "1"}"#),
            ("text,label\n\u{FEFF}\"fine\",1\n\u{FEFF}", #"{"text": "fine", "label": "1"}"#),
        ])
    func rows(_ text: String, _ expected: String) throws {
        #expect(try read(text).map { $0.replacing("\":\"", with: "\": \"").replacing("\",\"", with: "\", \"") } == [expected])
    }

    @Test func tabsSeparateWhereTheNameSaysSoAndQuotesAreLettersThere() throws {
        #expect(try read("text\tlabel\nhe said \"no\", twice\t0\n", as: "data.TSV").count == 1)
        #expect(try read("text\tlabel\n\"a\tb\"\t0\n", as: "data.tsv").first?.contains("a\\tb") == true)
    }

    @Test(
        "What the format leaves open is an error with its line",
        arguments: [
            ("text,label\na,1\nb\n", ":3: 1 fields, but the first line names 2"), ("text,label\na,b,1\n", ":2: 3 fields"),
            ("text,label\n\"a\nb,1\nc,1\n", ":2: a quoted field is never closed"),
            ("text,label\n\"a\"b,1\n", ":2: something follows the quote"), ("text,label\na\"b,1\n", ":2: field \"a\" has a quote"),
            ("text,text\na,b\n", ":1: two columns are called \"text\""),
            ("text,\na,b\n", ":1: column 2 has no name"), ("", "the file is empty"), ("text,label\n", "the file is empty"),
            ("text,label\n\"x\ny\",0\nb\n", ":4: 1 fields"),
            ("text,label\na,1\n\u{FEFF}text,label\nb,0\n", ":3: the line repeats the first line, which names the columns"),
        ])
    func wrong(_ text: String, _ expected: String) throws {
        let error = #expect(throws: DataError.self) { try read(text) }
        #expect(error?.description.contains(expected) == true, "\(error.map { "\($0)" } ?? "")")
    }

    @Test func shardsAreDisjointAndTogetherWhole() throws {
        let text = "text,label\n" + (0..<10).map { "t\($0),\($0 % 2)\n" }.joined()
        let parts = try (1...3).map { try read(text, shard: try #require(DataShard(number: $0, count: 3))) }
        #expect(parts.map(\.count) == [4, 3, 3] && Set(parts.joined()).count == 10)
    }

    @Test("A table under another name is recognised in the error; texts are read from every format")
    func otherNames() throws {
        let error = #expect(throws: DataError.self) { try read("text,label\na,1\n", as: "data.jsonl") }
        #expect(error?.description.contains(".csv") == true, "\(error.map { "\($0)" } ?? "")")
        try withTemporaryDirectory { directory in
            for (name, text) in [
                ("a.csv", "text,id\n\"one, two\",1\nthree,2\n"), ("a.jsonl", "{\"text\":\"one, two\"}\n{\"text\":\"three\"}\n"),
                ("a.json", "{\"text\":\"one, two\"}\n{\"text\":\"three\"}\n"), ("a.txt", "one, two\r\nthree\r\n"),
            ] {
                let path = directory + "/" + name
                try Data(text.utf8).write(to: URL(filePath: path))
                #expect(try DataFile.readTexts(path) == ["one, two", "three"], "\(name)")
            }
        }
    }
}
