import Core
import Foundation
import LanguageModel
import Testing
import Training

@Suite struct ModelSourceTests {
    struct Digests: Decodable {
        let directory: [String: String]
        let gguf: [String: String]
    }

    private func dimensions(_ c: ModelConfiguration) -> [Int] {
        [c.hiddenSize, c.feedForwardSize, c.layerCount, c.headCount, c.keyValueHeadCount, c.headDimension]
    }

    @Test func readsADirectory() throws {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        let c = source.configuration
        #expect(c.family == .llama)
        #expect(dimensions(c) == [32, 64, 3, 4, 2, 8])
        #expect(c.vocabularySize == 288 && c.tiedHead && c.ropeTheta == 10_000 && c.normEpsilon == 1e-5)
        #expect(c.bosToken == 1 && c.eosTokens == [2])
        #expect(source.shape(of: "model.layers.2.mlp.down_proj.weight") == .matrix(rows: 32, columns: 64))
        #expect(source.dataType(of: "model.norm.weight") == .f16)
        #expect(source.tensorNames.count == 29)
        #expect(source.tensorNames == source.tensorNames.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) })
    }

    @Test(arguments: ["tiny-llama", "tiny-llama.gguf"])
    func valuesAreInHuggingFaceOrder(name: String) throws {
        let digests = try JSONDecoder().decode(Digests.self, from: Data(contentsOf: fixture("tiny-llama-digests.json")))
        let source = try ModelSource.open(fixture(name).path)
        let manifest = source.baseManifest(threads: 2)
        let found = Dictionary(uniqueKeysWithValues: manifest.entries.map { ($0.name, $0.digest.description) })
        #expect(found == (name.hasSuffix("gguf") ? digests.gguf : digests.directory))
        #expect(manifest.entries.map(\.name) == source.tensorNames)
        #expect(manifest == source.baseManifest(threads: 1))
    }

    @Test func bothFormatsDescribeTheSameModel() throws {
        let directory = try ModelSource.open(fixture("tiny-llama").path)
        let gguf = try ModelSource.open(fixture("tiny-llama.gguf").path)
        #expect(directory.configuration == gguf.configuration)
        #expect(directory.tensorNames == gguf.tensorNames)
        for text in ["It was great  1234 isn't  ok", "été 日本 🙂\r\n", "<|im_start|>user"] {
            for allowSpecial in [false, true] {
                let ids = try directory.tokenizer.encode(text, allowSpecial: allowSpecial)
                let others = try gguf.tokenizer.encode(text, allowSpecial: allowSpecial)
                #expect(ids == others)
            }
        }
    }

    /// Rows read one by one, in ranges and gathered equal the rows of the whole, also where the file interleaves them.
    @Test(arguments: ["tiny-llama", "tiny-llama.gguf"])
    func rowsAreThoseOfTheWhole(name: String) throws {
        let source = try ModelSource.open(fixture(name).path)
        let tensor = "model.layers.1.self_attn.q_proj.weight"
        var whole = [Float](repeating: .nan, count: 32 * 32)
        try source.copyFloats(tensor, into: &whole)
        #expect(whole.allSatisfy { $0.isFinite })
        var part = [Float](repeating: .nan, count: 5 * 32)
        try source.copyFloats(tensor, rows: 7..<12, into: &part)
        #expect(part == Array(whole[7 * 32..<12 * 32]))
        var gathered = [Float](repeating: .nan, count: 3 * 32)
        try source.gatherFloats(tensor, rows: [31, 0, 9], into: &gathered)
        let rows = [31, 0, 9].map { Array(whole[$0 * 32..<($0 + 1) * 32]) }
        #expect(gathered == Array(rows.joined()))
    }

    @Test func askingForWhatIsNotThereIsAnError() throws {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        var floats = [Float](repeating: 0, count: 32)
        #expect(throws: ModelError.self) { try source.copyFloats("lm_head.weight", into: &floats) }
        #expect(throws: ModelError.self) { try source.copyFloats("model.norm.weight", rows: 1..<2, into: &floats) }
        #expect(throws: ModelError.self) { try source.gatherFloats("model.embed_tokens.weight", rows: [288], into: &floats) }
        #expect(source.shape(of: "lm_head.weight") == nil)
    }

    /// SmolLM2's GGUF file has 272 tensors and a tied head, so there are 272 Hugging Face names too.
    @Test(.enabled(if: TestModels.smollm2 != nil, "SmolLM2 is not on this machine"))
    func readsSmolLM2() throws {
        let source = try ModelSource.open(try #require(TestModels.smollm2))
        let c = source.configuration
        #expect(dimensions(c) == [576, 1536, 30, 9, 3, 64])
        #expect(c.vocabularySize == 49152 && c.tiedHead && c.ropeTheta == 100_000 && c.normEpsilon == 1e-5)
        #expect(source.tensorNames.count == 272)
        #expect(source.tensorNames.reduce(0) { $0 + (source.shape(of: $1)?.count ?? 0) } == 134_515_008)
        // SHA-256 of the values that the Python package gguf reads, with the rows of q and k in Hugging Face's order.
        let known = [
            "model.embed_tokens.weight": "3fd491c8066dd9dc1a2bf6796701526c82817d95c0ecabacdef3013c2b8bbbaa",
            "model.layers.0.self_attn.q_proj.weight": "54b377bbfa2deab945dfdba7fb59e0ca3eb74329358bd1b53b635b3ff37c1a56",
            "model.layers.3.self_attn.k_proj.weight": "64d260baa4d5478cd91053172dc60f6cb429f1860d6882920f4f8c18b846464a",
            "model.layers.29.mlp.down_proj.weight": "c19605745425a11e704e305ce3d27b632c406195d39eb3377e9cfb140ac643d1",
            "model.norm.weight": "3b87f8e27335e67fc08f159cabfd2d18f205d6c5b225a6f978153552bf01d559",
        ]
        for (name, digest) in known { #expect(source.manifestEntry(of: name)?.digest.description == digest) }
    }
}
