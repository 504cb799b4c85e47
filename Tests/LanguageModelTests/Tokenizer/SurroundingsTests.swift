import Core
import Foundation
import LanguageModel
import Testing

/// What is put before and after a text equals what transformers' classes put there (Fixtures/make_surroundings.py). Where two files disagree,
/// a remark says which is followed.
@Suite struct SurroundingsTests {
    private struct Row: CustomTestStringConvertible, Sendable {
        let json: JSON
        var testDescription: String { json.text(indent: 0) }
    }

    private static let whole = try? JSON.read(fixture("tokenizer/surroundings.json").path)
    private static let rows = (whole?["rows"]?.array ?? []).map(Row.init)

    @Test func thereAreRows() { #expect(Self.rows.count == 357) }

    @Test(arguments: rows)
    private func idsAreThoseOfTransformers(_ row: Row) throws {
        let (file, config) = try files(
            postProcessor: Self.whole?["post_processors"]?[row.json["post_processor"]?.string ?? ""], className: row.json["class"]?.string,
            adds: row.json["add_bos_token"]?.bool)
        let (ids, remarks) = try opened(file, config)
        let expected = try #require(row.json["ids"]?.array?.compactMap { $0.integer.map(Int32.init) })
        if row.json["class"]?.string?.hasPrefix("CodeLlama") == true {
            // The class is SentencePiece's and has no use for the fixtures' vocabulary of bytes: only the ends compare. See `wholeTexts`.
            #expect(ids.first == expected.first && ids.count == 2 && expected.last != 2)
        } else {
            #expect(ids == expected)
        }
        let adds = row.json["add_bos_token"]?.bool
        #expect(remarks.isEmpty == (adds == nil || adds == (ids.first == 1)), "\(remarks)")
    }

    @Test("Whole texts of CodeLlama's class have the tokens of tokenizer.json, and of the class unless they begin with a space")
    func wholeTexts() throws {
        let whole = try #require(Self.whole?["whole"])
        var file = try String(contentsOf: fixture("tokenizer/sentencepiece.json"), encoding: .utf8)
        for part in whole["replacements"]?.array ?? [] {
            let change = part.array?.compactMap(\.string) ?? []
            try #require(change.count == 2 && file.contains(change[0]))
            file = file.replacing(change[0], with: change[1])
        }
        func ids(_ json: JSON?) -> [Int32] { json?.array?.compactMap { $0.integer.map(Int32.init) } ?? [] }
        let texts = try #require(whole["texts"]?.array)
        #expect(texts.count > 60)
        try withTokenizer(file, try #require(whole["config"])) { tokenizer, _ in
            #expect(tokenizer.leadingTokens == ids(whole["leading"]) && tokenizer.trailingTokens.isEmpty)
            for json in texts {
                let text = try #require(json["text"]?.string)
                let own = tokenizer.encode(text)
                #expect(own == ids(json["file"]), "\(text.debugDescription)")
                #expect((own == ids(json["ids"])) == !(text.hasPrefix(" ") || text.hasPrefix("▁")), "\(text.debugDescription)")
            }
        }
    }

    @Test func tokensThatDoNotExistAreSaid() throws {
        let (file, config) = try files(postProcessor: nil, className: nil, adds: nil)
        var other = config
        other.set("eos_token", "<|the_end|>")
        #expect(try opened(file, other).remarks.contains { $0.hasSuffix(#"the eos_token "<|the_end|>" is not in the vocabulary, and is not used"#) })
        #expect(try opened(file, config).remarks.isEmpty)
        other.set("added_tokens_decoder", ["3x": ["content": "<|the_end|>"]])
        #expect(throws: ModelError.self) { try opened(file, other) }
    }

    private func files(postProcessor: JSON?, className: String?, adds: Bool?) throws -> (file: String, config: JSON) {
        let bytes = #"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#
        let processor = #""post_processor":null"#
        let base = try String(contentsOf: fixture("tokenizer/tokenizer.json"), encoding: .utf8)
        try #require(base.contains(processor))
        var config: JSON = ["bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"]
        if let className { config.set("tokenizer_class", .string(className)) }
        if let adds { config.set("add_bos_token", .bool(adds)) }
        let file = base.replacing("\"PRE_TOKENIZER\"", with: bytes).replacing(
            processor, with: "\"post_processor\":\((postProcessor ?? .null).text(indent: 0))")
        return (file, config)
    }

    private func opened(_ file: String, _ config: JSON) throws -> (ids: [Int32], remarks: [String]) {
        try withTokenizer(file, config) { ($0.leadingTokens + $0.encode("x") + $0.trailingTokens, $1) }
    }

    /// Calls `body` with the tokenizer of these files, and what is remarked on it.
    private func withTokenizer<R>(_ file: String, _ config: JSON, _ body: (Tokenizer, [String]) throws -> R) throws -> R {
        try withTemporaryDirectory { directory in
            let model = directory + "/model"
            try FileManager.default.copyItem(atPath: fixture("tiny-llama").path, toPath: model)
            try Data(file.utf8).write(to: URL(filePath: model + "/tokenizer.json"))
            try Data(config.text().utf8).write(to: URL(filePath: model + "/tokenizer_config.json"))
            var remarks: [String] = []
            let source = try ModelSource.open(model) { remarks.append($0) }
            return try body(source.tokenizer, remarks)
        }
    }
}
