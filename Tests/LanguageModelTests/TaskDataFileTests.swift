import Core
import Foundation
import LanguageModel
import Testing
import Training

@Suite struct TaskDataFileTests {
    /// Runs `body` with a file that is removed afterwards.
    private func withFile(_ bytes: some Collection<UInt8>, _ body: (String) throws -> Void) throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).jsonl")
        try Data(bytes).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        try body(url.path)
    }

    private func error(_ body: () throws -> Void) -> DataError? {
        do { try body() } catch { return error as? DataError }
        return nil
    }

    @Test func readsRecordsAndIgnoresBlankLinesByteOrderMarkAndCarriageReturns() throws {
        try withFile(Array("\u{FEFF}{\"text\":\"a\"}\r\n\n  \n{\"text\":\"b\"}".utf8)) { path in
            let records = try DataFile.read(path)
            #expect(records.map(\.place.line) == [1, 4])
        }
    }

    @Test func aBrokenLineIsNamedByItsNumber() throws {
        var lines = Array(repeating: #"{"text": "fine", "label": "1"}"#, count: 5000)
        lines[4710] = #"{"text": "fine", "label": "1""#
        try withFile(Array(lines.joined(separator: "\n").utf8)) { path in
            let found = error { _ = try DataFile.read(path) }
            #expect(found?.code == .malformed)
            #expect(found?.description.hasPrefix("\(path):4711: ") == true)
        }
    }

    @Test func aBrokenLineOfAnotherShardIsFoundToo() throws {
        try withFile(Array("{\"text\":\"a\"}\n{]\n{\"text\":\"c\"}\n".utf8)) { path in
            let shard = try #require(DataShard("1/2"))
            let found = error { _ = try DataFile.read(path, shard: shard) }
            #expect(found?.description.contains(":2: ") == true)
        }
    }

    @Test(arguments: [
        ("", "the file is empty"), ("\n \n", "the file is empty"), ("[1]\n", "expected a JSON object"), ("7\n", "expected a JSON object"),
        ("{\"a\":1} x\n", "not JSON"), ("{\"a\":1,\"a\":2}\n", "twice"),
        ("{\"a\":\"\\ud800\"}\n", ":1: the line is not JSON: half of a surrogate pair"),
        ("{\"a\":NaN}\n", ":1: the line is not JSON: a value is expected"),
    ])
    func whatIsNoDataIsAnError(_ text: String, _ message: String) throws {
        try withFile(Array(text.utf8)) { path in
            let found = error { _ = try DataFile.read(path) }
            #expect(found?.code == .malformed)
            #expect(found?.description.contains(message) == true, "\(found?.description ?? "no error")")
        }
    }

    @Test func aLineOf20MegabytesIsAnError() throws {
        let long = "{\"text\":\"" + String(repeating: "a", count: 20 << 20) + "\"}\n"
        try withFile(Array(("{\"text\":\"a\"}\n" + long).utf8)) { path in
            let found = error { _ = try DataFile.read(path) }
            #expect(found?.description == "\(path):2: the line is longer than 16 MiB; write one JSON object a line")
        }
    }

    @Test func bytesThatAreNoTextAreAnErrorWithTheLine() throws {
        try withFile(Array("{\"text\":\"a\"}\n{\"text\":\"".utf8) + [0xE9] + Array("\"}\n".utf8)) { path in
            let found = error { _ = try DataFile.read(path) }
            #expect(found?.description.contains(":2: the line is not UTF-8") == true)
        }
    }

    @Test func aMissingFileIsAnotherErrorThanABrokenOne() {
        #expect(error { _ = try DataFile.read("/nonexistent/data.jsonl") }?.code == .missing)
        #expect(error { _ = try DataFile.read("/proc") }?.code == .missing)
    }

    @Test func shardsAreDisjointAndTogetherWhole() throws {
        try withFile((0..<10).flatMap { Array("{\"text\":\"\($0)\"}\n".utf8) }) { path in
            var lines: [Int] = []
            for number in 1...3 {
                let shard = try #require(DataShard(number: number, count: 3))
                lines += try DataFile.read(path, shard: shard).map(\.place.line)
            }
            #expect(lines.sorted() == Array(1...10))
        }
    }

    @Test func moreWorkersThanExamplesIsAnError() throws {
        try withFile(Array("{\"text\":\"a\"}\n".utf8)) { path in
            let shard = try #require(DataShard("2/3"))
            #expect(error { _ = try DataFile.read(path, shard: shard) }?.description.contains("too few for 3 workers") == true)
        }
    }

    @Test(arguments: ["0/3", "4/3", "1/0", "1", "1/2/3", "-1/2", "a/b", ""])
    func whatIsNoShardIsNone(_ text: String) { #expect(DataShard(text) == nil) }

    @Test(arguments: [
        (#"{"text":"a","label":1}"#, TaskSpec.Kind.classification), (#"{"text":"a"}"#, .text),
        (#"{"prompt":"a","completion":"b"}"#, .completion), (#"{"messages":[]}"#, .chat),
    ])
    func theKindShowsInTheFields(_ line: String, _ kind: TaskSpec.Kind) throws {
        try withFile(Array(line.utf8)) { path in
            let record = try #require(try DataFile.read(path, limit: 1).first)
            #expect(try TaskSpec.kind(of: record) == kind)
        }
    }

    @Test func unknownFieldsTellWhatIsKnown() throws {
        try withFile(Array(#"{"sentence":"a"}"#.utf8)) { path in
            let record = try #require(try DataFile.read(path, limit: 1).first)
            let found = error { _ = try TaskSpec.kind(of: record) }
            #expect(found?.description.contains("\"sentence\"") == true)
            #expect(found?.description.contains("\"completion\"") == true)
        }
    }

    @Test func publicTextIsLinesOrAField() throws {
        let lines = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).jsonl")
        try Data("{\"text\":\"a b\"}\n{\"text\":\"c\"}\n".utf8).write(to: lines)
        defer { try? FileManager.default.removeItem(at: lines) }
        #expect(try DataFile.readTexts(lines.path) == ["a b", "c"])
        let plain = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).txt")
        try Data("one\r\n\ntwo\n".utf8).write(to: plain)
        defer { try? FileManager.default.removeItem(at: plain) }
        #expect(try DataFile.readTexts(plain.path) == ["one", "two"])
    }
}
