import Foundation
import LanguageModel
import Testing

/// Real vocabularies give the ids that llama.cpp's sources expect. `ONEBYTE_VOCABULARIES` names their directory of `ggml-vocab-*.gguf` with
/// `.inp` and `.out`.
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
        guard let texts = try? String(contentsOfFile: path + ".inp", encoding: .utf8) else { return }
        let samples = texts.components(separatedBy: "\n__ggml_vocab_test__\n")
        let expected = try String(contentsOfFile: path + ".out", encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
            .map { $0.split(separator: " ").compactMap { Int32($0) } }
        var equal = 0
        for (sample, ids) in zip(samples, expected) {
            let found = tokenizer.encode(sample)
            equal += found == ids ? 1 : 0
            #expect(found == ids, "\(sample.debugDescription)")
            #expect(written.encode(sample) == ids, "exported: \(sample.debugDescription)")
        }
        print("\(name): \(equal) of \(samples.count) texts equal")
        #expect(samples.count == expected.count || samples.count + 1 == expected.count)
    }
}
