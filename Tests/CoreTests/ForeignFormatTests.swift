import Core
import Testing

@Suite struct ForeignFormatTests {
    @Test(
        "A file of a foreign format is recognised, with a remedy that fits it",
        arguments: [
            (Array("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n".utf8), "Git LFS", "lfs pull --include "),
            ([0x1F, 0x8B, 0x08, 0, 0, 0, 0, 0], "gzip", "gzip -dc"), ([0x28, 0xB5, 0x2F, 0xFD, 4, 0], "Zstandard", "zstd -dc"),
            (Array("PK".utf8) + [3, 4, 20, 0], "ZIP", "unpack"), (Array("PAR1".utf8) + [0x15, 4], "Parquet", "read_parquet"),
            (Array("ARROW1".utf8) + [0, 0], "Arrow", "read_feather"), ([0x80, 2, 0x7D], "pickle", "safetensors"),
            ([0xFF, 0xFE] + Array("{\0\"\0".utf8), "UTF-16", "iconv -f UTF-16"), ([0xFE, 0xFF, 0, 0x7B], "UTF-16", "iconv"),
            (Array("{\0\"\0t\0".utf8), "UTF-16LE", "iconv -f UTF-16LE"), (Array("\0{\0\"\0t".utf8), "UTF-16BE", "iconv -f UTF-16BE"),
            ([0xFF, 0xFE, 0, 0, 0x7B, 0, 0, 0], "UTF-32", "iconv"), (Array("\n<!DOCTYPE html><html>".utf8), "web page", "download"),
            ([UInt8](repeating: 0, count: 100), "zeros", "again"), (Array("GGUF".utf8) + [3, 0, 0, 0], "GGUF", "path"),
            ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "7z", "7z x"), ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], "xz", "xz -dc"),
            (Array("BZh91AY&SY".utf8), "bzip2", "bzip2 -dc"), (Array("SQLite format 3\0".utf8), "SQLite", "JSON lines"),
        ] as [([UInt8], String, String)])
    func named(_ start: [UInt8], _ what: String, _ remedy: String) throws {
        let found = try #require(ForeignFormat(start: start, path: "data/file.jsonl") { _ in false })
        #expect(found.problem.contains(what) && found.remedy.contains(remedy), "\(found)")
    }

    @Test(
        "Ordinary text is not taken for a foreign format",
        arguments: [
            "", "{", "{\"text\": \"a\"}\n", "PAR1S IS A CITY\n", "GGUF is a format\n", "BZh is a word", "[1]", "a\tb\n", "\u{FEFF}{\"text\": 1}", "é",
        ])
    func notForeign(_ text: String) {
        #expect(ForeignFormat(start: Array(text.utf8), path: "x", isTaken: { _ in false }) == nil)
    }

    @Test(
        "A remedy names the file by its whole path and overwrites nothing",
        arguments: [
            ("data/f.jsonl.gz", [], "gzip -dc < data/f.jsonl.gz > data/f.jsonl"),
            ("data/f.jsonl.gz", ["data/f.jsonl"], "gzip -dc < data/f.jsonl.gz > data/unpacked-f.jsonl"),
            ("f.jsonl", [], "gzip -dc < f.jsonl > unpacked-f.jsonl"),
            ("f.jsonl", ["unpacked-f.jsonl"], "gzip -dc < f.jsonl > unpacked-unpacked-f.jsonl"),
            ("/a b/f.gz", ["/a b/f", "/a b/unpacked-f", "/a b/unpacked-2-f"], "gzip -dc < '/a b/f.gz' > '/a b/unpacked-3-f'"),
        ] as [(String, [String], String)])
    func remedies(_ path: String, _ taken: [String], _ command: String) throws {
        let found = try #require(ForeignFormat(start: [0x1F, 0x8B, 8], path: path, isTaken: taken.contains))
        #expect(found.remedy == "unpack it first: \(command)")
    }

    @Test("A file whose name is fixed keeps it: the compressed one is moved away first")
    func fixedNames() throws {
        let path = "model/tokenizer.json"
        let free = try #require(ForeignFormat(start: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], path: path, keepsName: true, isTaken: { $0 == path }))
        #expect(
            free.remedy
                == "unpack it first: mv model/tokenizer.json model/tokenizer.json.xz && xz -dc < model/tokenizer.json.xz > model/tokenizer.json")
        let taken = [path, path + ".xz"]
        let other = try #require(ForeignFormat(start: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], path: path, keepsName: true, isTaken: taken.contains))
        #expect(other.remedy.contains("mv model/tokenizer.json model/packed-tokenizer.json.xz && "), "\(other.remedy)")
    }

    @Test("A corpus of plain lines may begin as a web page does") func aCorpusOfPlainLinesMayBeginAsAWebPageDoes() {
        #expect(ForeignFormat(start: Array("<html>".utf8), path: "x", mayBeMarkup: true, isTaken: { _ in false }) == nil)
        #expect(ForeignFormat(start: [0x1F, 0x8B, 8], path: "x", mayBeMarkup: true, isTaken: { _ in false }) != nil)
    }
}
