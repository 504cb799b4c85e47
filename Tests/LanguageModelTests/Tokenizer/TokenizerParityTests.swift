import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Token ids equal those of Hugging Face's tokenizers library (Fixtures/tokenizer_parity.py made the corpus and the answers).
@Suite struct TokenizerParityTests {
    struct Parity: Decodable {
        let chunk: Int
        let digests: [String: [String]]
    }

    struct ModelParity: Decodable {
        struct File: Decodable {
            let file: String
            let lines: Int
            let digest: String
        }
        let chunk: Int
        let digests: [String]
        let shared: [File]
    }

    @Test(arguments: ["gpt2", "smollm", "llama3", "qwen2", "qwen2+NFC"])
    func corpusWithEveryPreTokenizer(name: String) throws {
        let parity = try JSONDecoder().decode(Parity.self, from: Data(contentsOf: fixture("tokenizer/parity.json")))
        let tokenizer = try smallTokenizer(preTokenizer: name)
        let samples = try corpus()
        #expect(samples.count >= 5000)
        try compare(samples, tokenizer, chunk: parity.chunk, with: try #require(parity.digests[name]))
    }

    struct Pipelines: Decodable {
        struct Pipeline: Decodable, CustomTestStringConvertible {
            let name: String
            let vocabulary: String
            let replacements: [[String]]
            /// Samples with characters that are newer than the Unicode version of Hugging Face's normaliser.
            let unknown: [Int]
            let digests: [String]
            var testDescription: String { name }
        }
        let chunk: Int
        let more: [String]
        let pipelines: [Pipeline]
    }

    private static let pipelines: Pipelines? = try? JSONDecoder().decode(Pipelines.self, from: Data(contentsOf: fixture("tokenizer/pipelines.json")))

    @Test func thereArePipelines() { #expect(Self.pipelines?.pipelines.count == 22) }

    /// Normalisers, pre-tokenizers and added tokens of every structure that models use (Fixtures/make_pipelines.py).
    @Test(arguments: pipelines?.pipelines ?? [])
    func pipeline(_ pipeline: Pipelines.Pipeline) throws {
        let all = try #require(Self.pipelines)
        let base = pipeline.vocabulary == "bytes" ? "tokenizer/tokenizer.json" : "tokenizer/sentencepiece.json"
        var text = try String(contentsOf: fixture(base), encoding: .utf8)
        for pair in pipeline.replacements { text = text.replacing(pair[0], with: pair[1]) }
        var samples = try all.more + corpus().enumerated().filter { $0.offset % 3 == 0 }.map(\.element)
        for place in pipeline.unknown.sorted(by: >) { samples.remove(at: place) }
        let tokenizer = try tokenizer(text)
        try compare(samples, tokenizer, chunk: all.chunk, with: pipeline.digests)
        // The exported tokenizer.json is the same tokenizer.
        try compare(samples, self.tokenizer(tokenizer.file().text(indent: 0)), chunk: all.chunk, with: pipeline.digests)
    }

    /// Reads a tokenizer from a directory that holds nothing else.
    private func tokenizer(_ text: String) throws -> Tokenizer {
        try withTemporaryDirectory { directory in
            try Data(text.utf8).write(to: URL(filePath: directory + "/tokenizer.json"))
            return try Tokenizer(directory: directory)
        }
    }

    /// 5,579 samples and, if the shared data are there, 83,470 lines of them.
    @Test(.enabled(if: TestModels.smollm2 != nil, "SmolLM2 is not on this machine"))
    func smollm2() throws {
        let parity = try JSONDecoder().decode(ModelParity.self, from: Data(contentsOf: fixture("tokenizer/smollm2.json")))
        let tokenizer = try ModelSource.open(try #require(TestModels.smollm2)).tokenizer
        try compare(try corpus(), tokenizer, chunk: parity.chunk, with: parity.digests)
        guard let shared = TestModels.sharedData else { return }
        for file in parity.shared {
            guard let data = try? Data(contentsOf: URL(filePath: shared).appending(path: file.file)) else { continue }
            let lines = data.split(separator: 0x0a, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
            #expect(lines.count == file.lines)
            #expect(digest(lines[...], tokenizer) == file.digest, "\(file.file)")
        }
    }

    private func compare(_ samples: [String], _ tokenizer: Tokenizer, chunk: Int, with digests: [String]) throws {
        #expect(digests.count == (samples.count + chunk - 1) / chunk)
        for (i, expected) in digests.enumerated() {
            let range = i * chunk..<min(samples.count, (i + 1) * chunk)
            #expect(digest(samples[range], tokenizer) == expected, "one of the samples \(range) has other ids")
        }
    }

    private func digest(_ samples: ArraySlice<String>, _ tokenizer: Tokenizer) -> String {
        var hash = SHA256()
        for sample in samples {
            let ids = tokenizer.encode(sample, allowSpecial: true) + [-1]
            ids.withUnsafeBytes { hash.update($0) }
        }
        return String(hash.finalize().description.prefix(16))
    }

    private func corpus() throws -> [String] {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["gzip", "-dc", try fixture("tokenizer/corpus.gz").path]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try #require(try pipe.fileHandleForReading.readToEnd())
        process.waitUntilExit()
        // Splits by bytes, because Characters may combine the separator with a following mark.
        return data.split(separator: 0x1e).map { String(decoding: $0, as: UTF8.self) }
    }
}

/// Reads, as a Hugging Face directory, the fixtures' own vocabulary of 2,000 tokens with one of the pre-tokenizers of parity.json
/// (`qwen2`), and optionally a normaliser (`qwen2+NFC`).
func smallTokenizer(preTokenizer name: String) throws -> Tokenizer {
    let parity = try JSONSerialization.jsonObject(with: Data(contentsOf: fixture("tokenizer/parity.json"))) as? [String: Any]
    let parts = name.split(separator: "+").map(String.init)
    let preTokenizer = try #require((parity?["preTokenizers"] as? [String: Any])?[parts[0]])
    var text = try String(contentsOf: fixture("tokenizer/tokenizer.json"), encoding: .utf8)
    let value = String(decoding: try JSONSerialization.data(withJSONObject: preTokenizer), as: UTF8.self)
    if parts.count == 2 { text = text.replacing("\"normalizer\":null", with: "\"normalizer\":{\"type\":\"\(parts[1])\"}") }
    return try tinyLlama(tokenizerJSON: text.replacing("\"PRE_TOKENIZER\"", with: value)) { try $0.tokenizer }
}

/// Runs a test on a copy of tiny-llama in a temporary directory, with another tokenizer.json.
func tinyLlama<T>(tokenizerJSON: String, _ body: (ModelSource) throws -> T) throws -> T {
    try withTemporaryDirectory { directory in
        try FileManager.default.copyItem(atPath: fixture("tiny-llama").path, toPath: directory + "/model")
        try Data(tokenizerJSON.utf8).write(to: URL(filePath: directory + "/model/tokenizer.json"))
        return try body(ModelSource.open(directory + "/model"))
    }
}
