import Foundation
import LanguageModel
import Testing

/// Real vocabularies give the ids that llama.cpp's sources expect. `ONEBYTE_VOCABULARIES` names their directory of `ggml-vocab-*.gguf` with
/// `.inp` and `.out`. `ONEBYTE_WRITE_PAGES=1` writes their table in docs/reference/models.md.
@Suite struct VocabularyTests {
    private static let directory = ProcessInfo.processInfo.environment["ONEBYTE_VOCABULARIES"]
    private static let names = directory.flatMap { directory in
        try? FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasPrefix("ggml-vocab-") && $0.hasSuffix(".gguf") }.sorted()
    }
    /// Vocabularies of kinds that are not read, and what the refusal says.
    private static let refused = [
        "ggml-vocab-bert-bge.gguf": #"tokenizers of type "bert" are not supported"#,
        "ggml-vocab-nomic-bert-moe.gguf": #"tokenizers of type "t5" are not supported"#,
        // Files from before the key, which nothing else replaces.
        "ggml-vocab-aquila.gguf": "tokenizer.ggml.pre: is missing", "ggml-vocab-gpt-neox.gguf": "tokenizer.ggml.pre: is missing",
    ]

    @Test(.enabled(if: names != nil, "needs ONEBYTE_VOCABULARIES"), arguments: names ?? [])
    func idsAreThoseOfLlamaCpp(_ name: String) throws {
        let path = "\(try #require(Self.directory))/\(name)"
        let file = try GGUFFile.open(path)
        if let reason = Self.refused[name] {
            let error = #expect(throws: ModelError.self) { try Tokenizer(file) }
            #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
            return
        }
        let tokenizer = try Tokenizer(file)
        let written = try withTemporaryDirectory { directory in
            let metadata = try tokenizer.ggufMetadata(count: tokenizer.vocabularySize, endings: [], chatTemplate: nil, file: path)
            try GGUFWriter(metadata: metadata, tables: [], tensors: [], dataType: .f32)
                .write(to: directory + "/copy.gguf", check: { _ in }, progress: { _ in true })
            return try Tokenizer(GGUFFile.open(directory + "/copy.gguf"))
        }
        #expect(written.leadingTokens == tokenizer.leadingTokens && written.eosToken == tokenizer.eosToken)
        guard let samples = try Self.samples(path) else { return }
        for sample in samples {
            #expect(tokenizer.encode(sample.text) == sample.ids, "\(sample.text.debugDescription)")
            #expect(written.encode(sample.text) == sample.ids, "exported: \(sample.text.debugDescription)")
        }
    }

    /// Returns texts with the ids that llama.cpp gives them; nil if the vocabulary has none.
    private static func samples(_ path: String) throws -> [(text: String, ids: [Int32])]? {
        guard let texts = try? String(contentsOfFile: path + ".inp", encoding: .utf8) else { return nil }
        let samples = texts.components(separatedBy: "\n__ggml_vocab_test__\n")
        let expected = try String(contentsOfFile: path + ".out", encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
            .map { $0.split(separator: " ").compactMap { Int32($0) } }
        #expect(samples.count == expected.count || samples.count + 1 == expected.count)
        return zip(samples, expected).map { ($0, $1) }
    }

    @Test(.enabled(if: names != nil, "needs ONEBYTE_VOCABULARIES")) func thePageHasARowForEachVocabulary() throws {
        let (begin, end) = ("<!-- vocabularies: made by VocabularyTests -->\n", "<!-- vocabularies end -->\n")
        let url = TestModels.packageRoot.appending(path: "docs/reference/models.md")
        let page = try String(contentsOf: url, encoding: .utf8)
        let from = try #require(page.range(of: begin))
        let to = try #require(page.range(of: end))
        var table = "| vocabulary | kind | tokens | texts with the ids of llama.cpp |\n| --- | --- | --- | --- |\n"
        for name in Self.names ?? [] {
            let path = "\(try #require(Self.directory))/\(name)"
            let file = try GGUFFile.open(path)
            let pre = try file.string("tokenizer.ggml.pre").map { ", `\($0)`" } ?? ""
            let kind = "`\(try file.string("tokenizer.ggml.model") ?? "")`\(pre)"
            let row: String
            if Self.refused[name] == nil {
                let tokenizer = try Tokenizer(file)
                let samples = try Self.samples(path)
                let equal = samples.map { all in "\(all.count { tokenizer.encode($0.text) == $0.ids }) of \(all.count)" }
                row = "\(tokenizer.vocabularySize) | \(equal ?? "none given")"
            } else {
                row = "– | refused"
            }
            table += "| \(name.dropFirst("ggml-vocab-".count).dropLast(".gguf".count)) | \(kind) | \(row) |\n"
        }
        if ProcessInfo.processInfo.environment["ONEBYTE_WRITE_PAGES"] != nil {
            try (page[..<from.upperBound] + table + page[to.lowerBound...]).write(to: url, atomically: true, encoding: .utf8)
        }
        #expect(page[from.upperBound..<to.lowerBound] == table, "run the test with ONEBYTE_WRITE_PAGES=1 to write the table")
    }
}
