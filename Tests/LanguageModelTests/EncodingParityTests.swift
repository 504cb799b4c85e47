import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Token ids and learnt positions of records of every kind equal those of transformers (Fixtures/make_encodings.py).
@Suite struct EncodingParityTests {
    /// Reads the committed fixture, or the file that ONEBYTE_ENCODINGS names.
    @Test func recordsAreEncodedAsTransformersEncodesThem() throws {
        let path = try ProcessInfo.processInfo.environment["ONEBYTE_ENCODINGS"] ?? fixture("encodings.json").path
        let whole = try JSON.read(path)
        var tokenizers: [String: Tokenizer] = [:]
        for member in whole["tokenizers"]?.members ?? [] { tokenizers[member.key] = try tokenizer(member.value) }
        #expect(tokenizers.count == 3)
        let records = try #require(whole["records"]?.array)
        for kind in ["classification", "completion", "chat", "text"] {
            let cut = records.filter { $0["kind"]?.string == kind && $0["cut"] == true }
            #expect(Set(cut.compactMap { $0["max"]?.integer }) == Set(8...64), "\(kind): not every length cuts a record")
        }
        var refused = 0
        for (i, record) in records.enumerated() {
            let tokenizer = try #require(tokenizers[record["tokenizer"]?.string ?? ""])
            let example = try encoded(record, templates: whole["templates"] ?? .null, tokenizer)
            guard let example else {
                refused += 1
                continue
            }
            guard let sequences = record["sequences"]?.array else {
                // Where transformers writes no reply, nothing is learnt here either; any other refusal is a difference.
                Issue.record("record \(i) is encoded, and the reference refuses it: \(record.text(indent: 0))")
                continue
            }
            let expected = sequences.map { sequence in
                TokenSequence(
                    tokens: (sequence["tokens"]?.array ?? []).compactMap { $0.integer.map(Int32.init) },
                    targets: (sequence["targets"]?.array ?? []).map { pair in
                        .init(position: pair.array?.first?.integer ?? -1, token: Int32(pair.array?.last?.integer ?? -1))
                    })
            }
            let isSame = example.sequences == expected && "\(example.objective)" == record["objective"]?.string
            #expect(isSame, "record \(i): \(record["record"]?.text(indent: 0) ?? "") \(example.sequences) \(expected)")
        }
        let expectedRefusals = records.count { $0["sequences"] == nil }
        // Only this program refuses a template that leaves a message out; the fixture has none.
        #expect(refused == expectedRefusals)
    }

    private func tokenizer(_ json: JSON) throws -> Tokenizer {
        let base = json["vocabulary"] == "bytes" ? "tokenizer/tokenizer.json" : "tokenizer/sentencepiece.json"
        var text = try String(contentsOf: fixture(base), encoding: .utf8)
        for pair in json["replacements"]?.array ?? [] {
            text = text.replacing(pair.array?.first?.string ?? "", with: pair.array?.last?.string ?? "")
        }
        return try withTemporaryDirectory { directory in
            try Data(text.utf8).write(to: URL(filePath: directory + "/tokenizer.json"))
            try Data((json["config"] ?? .null).text().utf8).write(to: URL(filePath: directory + "/tokenizer_config.json"))
            return try Tokenizer(directory: directory)
        }
    }

    /// Returns nil if the record is refused or has nothing to learn from.
    private func encoded(_ record: JSON, templates: JSON, _ tokenizer: Tokenizer) throws -> Example? {
        let kind = try #require(TaskSpec.Kind(rawValue: record["kind"]?.string ?? ""))
        let labels = record["labels"]?.array?.map { LabelWord(label: $0.array?.first?.string ?? "", word: $0.array?.last?.string ?? "") }
        let name = record["template"]?.string
        let task = TaskSpec(kind: kind, template: kind == .chat ? nil : name, labels: labels, maxLength: record["max"]?.integer ?? 0)
        let chat =
            try kind == .chat
            ? ChatTemplate(source: templates[name ?? ""]?.string ?? "", specialTokens: tokenizer.specialTokenTexts, file: name ?? "") : nil
        let lines = try withTemporaryDirectory { directory in
            let path = directory + "/data.jsonl"
            try Data((record["record"] ?? .null).text(indent: 0).utf8).write(to: URL(filePath: path))
            return try DataFile.read(path)
        }
        do {
            return try TaskEncoder(task: task, tokenizer: tokenizer, chatTemplate: chat).encode(lines).examples.first
        } catch {
            return nil
        }
    }
}
