import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Files are untrusted input. Whatever they contain, the result is one clear error, or a model that can be read without a crash.
@Suite struct HostileFilesTests {
    /// Runs a test on a copy of tiny-llama with some files replaced or removed.
    private func withModel(_ changes: [String: Data] = [:], removing: [String] = [], _ body: (String) throws -> Void) throws {
        try withTemporaryDirectory { directory in
            let model = directory + "/model"
            try FileManager.default.copyItem(atPath: fixture("tiny-llama").path, toPath: model)
            for (name, data) in changes { try data.write(to: URL(filePath: "\(model)/\(name)")) }
            for name in removing { try FileManager.default.removeItem(atPath: "\(model)/\(name)") }
            try body(model)
        }
    }

    private func expectError(
        _ changes: [String: Data] = [:], removing: [String] = [], _ code: ModelError.Code, _ text: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try withModel(changes, removing: removing) { model in
            let error = #expect(throws: ModelError.self, sourceLocation: sourceLocation) { try ModelSource.open(model) }
            #expect(error?.code == code, sourceLocation: sourceLocation)
            #expect(error?.description.contains(text) == true, "\(error?.description ?? "")", sourceLocation: sourceLocation)
        }
    }

    private func weights() throws -> Data { try Data(contentsOf: fixture("tiny-llama/model.safetensors")) }

    /// Returns a safetensors file with this header and this many bytes of data.
    private func safetensors(_ header: String, data: Int = 0, length: UInt64? = nil) -> Data {
        var file = Data()
        withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { file.append(contentsOf: $0) }
        return file + Data(header.utf8) + Data(count: data)
    }

    private func config(_ changes: [String: Any]) throws -> Data {
        let data = try Data(contentsOf: fixture("tiny-llama/config.json"))
        var json = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        json.merge(changes) { $1 }
        return try JSONSerialization.data(withJSONObject: json)
    }

    // MARK: safetensors

    @Test("Values that are no numbers give one digest, whatever their bits")
    func notANumber() throws {
        let whole = try weights()
        /// The digest with these bits as the last half-precision value.
        func digest(_ bits: UInt16) throws -> Digest? {
            var found: Digest?
            let value = withUnsafeBytes(of: bits.littleEndian) { Data($0) }
            try withModel(["model.safetensors": whole.dropLast(2) + value]) { found = try ModelSource.open($0).baseManifest(threads: 1).digest }
            return found
        }
        let quiet = try digest(0x7E00)
        for bits: UInt16 in [0xFE00, 0x7E12, 0x7C01] { #expect(try digest(bits) == quiet) }
        #expect(try digest(0x7C00) != quiet)
    }

    @Test func truncatedWeights() throws {
        let whole = try weights()
        for count in [0, 7, 8, 100, 4000, whole.count - 1] {
            try expectError(["model.safetensors": whole.prefix(count)], .malformed, "model.safetensors")
        }
        try expectError(["model.safetensors": whole.dropLast()], .malformed, "the file is cut short or damaged: obtain it again")
        try expectError(["model.safetensors": whole + [0]], .malformed, "has 1 bytes after its last tensor")
    }

    @Test(arguments: [
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "takes 4 bytes, but its shape and dtype take 8"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4, "overlaps"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "leaves 4 unused bytes"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 8, "not [begin, end]"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, 8, "not [begin, end]"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4, "appears twice"),
        (#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, 0, "more elements than can be counted"),
        (#"{"a":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,0]}}"#, 0, "more bytes than can be counted"),
        (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "no count"),
        (#"{"a":{"dtype":"F32","shape":[1e3],"data_offsets":[0,4]}}"#, 4, "no count"),
        (#"{"a":{"dtype":"F32"}}"#, 4, "lacks its dtype, shape or data_offsets"),
        (#"{"a\u0301":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4, "printable ASCII"),
        (#"{"a":7}"#, 4, "lacks its dtype"),
        (#"[]"#, 4, "no JSON object"),
        (#"{"a":"#, 4, "is not JSON"),
        (String(repeating: "[", count: 100_000), 0, "nested more than 64 deep"),
        ("{\"a\":\"\u{1}\"}", 0, "control character"),
    ])
    func malformedHeaders(header: String, data: Int, text: String) throws {
        try expectError(["model.safetensors": safetensors(header, data: data)], .malformed, text)
    }

    @Test func unsupportedTypesAndHugeHeaders() throws {
        let header = #"{"model.embed_tokens.weight":{"dtype":"I8","shape":[288,32],"data_offsets":[0,9216]}}"#
        try expectError(
            ["model.safetensors": safetensors(header, data: 9216)], .unsupported,
            "dtype I8, which is not supported (supported: BF16, F16, F32, F8_E4M3, F8_E5M2)")
        let unknown = #"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,8]}}"#
        try expectError(["model.safetensors": safetensors(unknown, data: 8)], .malformed, "dtype F99, which safetensors does not know")
        for length in [UInt64.max, 1 << 63, 100_000_001] {
            try expectError(["model.safetensors": safetensors("{}", length: length)], .malformed, "at most 100000000 are accepted")
        }
        try expectError(["model.safetensors": safetensors("{}", length: 99_999_999)], .malformed, "ends within its header")
    }

    @Test func missingAndMisshapenTensors() throws {
        try expectError(["model.safetensors": safetensors("{}")], .missingTensor, "model.embed_tokens.weight: is in none of the directory's")
        try expectError(
            ["config.json": try config(["vocab_size": 289])], .wrongShape,
            "model.embed_tokens.weight: has the shape 288×32, but config.json asks for 289×32")
        try expectError(
            ["config.json": try config(["num_hidden_layers": 2])], .unsupported,
            "model.layers.2.input_layernorm.weight: is a tensor that a llama is not known to have")
        try expectError(removing: ["model.safetensors"], .notFound, "no model.safetensors.index.json")
        try expectError(removing: ["config.json"], .notFound, "config.json")
    }

    @Test func shardsStayInTheirDirectory() throws {
        for name in ["../model.safetensors", "/etc/passwd", ".hidden.safetensors", "model.bin"] {
            let index = Data(#"{"weight_map":{"model.norm.weight":"\#(name)"}}"#.utf8)
            try withModel(removing: ["model.safetensors"]) { model in
                try index.write(to: URL(filePath: model + "/model.safetensors.index.json"))
                let error = #expect(throws: ModelError.self) { try ModelSource.open(model) }
                #expect(error?.description.contains("does not name a safetensors file of this directory") == true)
            }
        }
    }

    // MARK: config.json

    @Test func configurationsThatMeanAnotherModel() throws {
        let cases: [([String: Any], ModelError.Code, String)] = [
            (["model_type": "unheard"], .unsupported, #"architecture "unheard" is not supported (supported: llama"#),
            (["model_type": "mamba"], .unsupported, "mamba is not supported: it is a state-space model without attention"),
            (["model_type": 7], .malformed, "model_type: is not a string"),
            (["hidden_act": "gelu"], .unsupported, #"hidden_act: is "gelu", which is not supported (supported: "silu", "swish")"#),
            (["attention_bias": true], .missingTensor, "self_attn.q_proj.bias: is in none of the directory's"),
            (["rope_parameters": ["rope_type": "spiral"]], .unsupported, #"RoPE of type "spiral" is not supported"#),
            (["rope_parameters": ["rope_type": "linear"]], .malformed, "rope_parameters.factor: is missing or not a positive number"),
            (["rope_parameters": ["rope_type": "llama3", "factor": 0]], .malformed, "rope_parameters.factor: is missing or not a positive number"),
            (["partial_rotary_factor": 0.5], .unsupported, "a llama rotates whole heads"),
            (["partial_rotary_factor": 1e300], .unsupported, "a llama rotates whole heads"),
            (["hidden_size": 1 << 60], .malformed, "hidden size"),
            (["num_attention_heads": 0], .malformed, "num_attention_heads"),
            (["num_key_value_heads": 3], .malformed, "does not divide the 4 heads"),
            (["num_hidden_layers": -1], .malformed, "number of layers: is -1"),
            (["head_dim": 7], .malformed, "head dimension: is 7"),
            (["rms_norm_eps": -1], .malformed, "RMS"),
            (["eos_token_id": [2, 288]], .malformed, "special token: 288 is not in the vocabulary of 288"),
            (["num_attention_heads": 1 << 27, "head_dim": 1 << 27], .malformed, "too large"),
        ]
        for (changes, code, text) in cases { try expectError(["config.json": try config(changes)], code, text) }
        try expectError(["config.json": Data("{".utf8)], .malformed, "is not JSON")
        try expectError(["config.json": Data("{\"a\":\"\\ud800\"}".utf8)], .malformed, "half of a surrogate pair")
        try expectError(["config.json": Data([0x22, 0xff, 0x22])], .malformed, "not UTF-8")
    }

    // MARK: GGUF

    private func expectGGUFError(_ data: Data, _ code: ModelError.Code, _ text: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/model.gguf"
            try data.write(to: URL(filePath: path))
            let error = #expect(throws: ModelError.self, sourceLocation: sourceLocation) { try ModelSource.open(path) }
            #expect(error?.code == code, sourceLocation: sourceLocation)
            #expect(error?.description.contains(text) == true, "\(error?.description ?? "")", sourceLocation: sourceLocation)
        }
    }

    private func gguf() throws -> Data { try Data(contentsOf: fixture("tiny-llama.gguf")) }

    @Test func ggufOfAnUnknownArchitecture() throws {
        var data = try gguf()
        let place = try #require(data.range(of: Data("general.architecture".utf8)))
        let name = place.upperBound + 4 + 8
        data.replaceSubrange(name..<name + 5, with: Data("lemma".utf8))
        try expectGGUFError(data, .unsupported, #"general.architecture: architecture "lemma" is not supported (supported: llama"#)
        data.replaceSubrange(name..<name + 5, with: Data("mamba".utf8))
        try expectGGUFError(data, .unsupported, "general.architecture: mamba is not supported: it is a state-space model without attention")
    }

    @Test func ggufHeaders() throws {
        let data = try gguf()
        try expectGGUFError(Data(), .malformed, "the magic")
        try expectGGUFError(Data("GGML".utf8) + data.dropFirst(4), .malformed, "does not begin with GGUF")
        try expectGGUFError(Data("GGUF".utf8) + [1, 0, 0, 0] + data.dropFirst(8), .unsupported, "GGUF version 1; versions 2 and 3 are supported")
        try expectGGUFError(
            data.prefix(8) + Data(repeating: 0xff, count: 8) + data.dropFirst(16), .malformed, "the number of tensors: is 18446744073709551615")
        try expectGGUFError(data.dropLast(100), .malformed, "the file is cut short: obtain it again")
    }

    @Test func ggufWithAnotherPreTokenizerStillGivesItsTensors() throws {
        var data = try gguf()
        let place = try #require(data.range(of: Data("smollm".utf8)))
        data.replaceSubrange(place, with: Data("rwkvxx".utf8))
        try withTemporaryDirectory { directory in
            let path = directory + "/model.gguf"
            try data.write(to: URL(filePath: path))
            let source = try ModelSource.open(path)
            #expect(source.tensorNames.count == 29)
            let error = #expect(throws: ModelError.self) { try source.tokenizer }
            #expect(error?.description.contains(#"tokenizer.ggml.pre: the pre-tokenizer "rwkvxx" is not known"#) == true)
        }
    }

    /// GGUF files truncated at many lengths, and hundreds with a few changed bytes, give an error or a model, never a crash.
    @Test func damagedGGUFNeverCrashes() throws {
        let data = try gguf()
        let header = 12_000
        try withTemporaryDirectory { directory in
            let path = directory + "/model.gguf"
            var opened = 0
            func attempt(_ bytes: Data) throws {
                try bytes.write(to: URL(filePath: path))
                guard let source = try? ModelSource.open(path) else { return }
                opened += 1
                readAll(source)
            }
            for count in stride(from: 0, to: header, by: 101) { try attempt(data.prefix(count)) }
            #expect(opened == 0)
            var random = SeededGenerator(state: 1)
            for _ in 0..<300 {
                var bytes = data
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    bytes[Int.random(in: 0..<header, using: &random)] =
                        [0, 1, 0x7f, 0x80, 0xff, UInt8.random(in: 0...255)].randomElement(using: &random) ?? 0
                }
                try attempt(bytes)
            }
        }
    }

    @Test func damagedSafetensorsAndTokenizersNeverCrash() throws {
        var random = SeededGenerator(state: 2)
        for name in ["model.safetensors", "tokenizer.json", "config.json"] {
            let data = try Data(contentsOf: fixture("tiny-llama/" + name))
            try withModel { model in
                for _ in 0..<100 {
                    var bytes = data
                    for _ in 0..<Int.random(in: 1...3, using: &random) {
                        bytes[Int.random(in: 0..<min(data.count, 3000), using: &random)] =
                            Array("0123456789[]{}\",: -e.u\\\u{ff}".utf8).randomElement(using: &random) ?? 0
                    }
                    try bytes.write(to: URL(filePath: "\(model)/\(name)"))
                    if let source = try? ModelSource.open(model) { readAll(source) }
                }
            }
        }
    }

    private func readAll(_ source: ModelSource) {
        for name in source.tensorNames {
            var values = [Float](repeating: 0, count: source.shape(of: name)?.count ?? 0)
            #expect(throws: Never.self) { try source.copyFloats(name, into: &values) }
        }
        if let tokenizer = try? source.tokenizer {
            for text in ["It was great  1234 isn't  ok", "<|im_start|>é🙂"] { _ = tokenizer.decode(tokenizer.encode(text, allowSpecial: true)) }
        }
        _ = try? source.chatTemplate
    }
}

/// splitmix64, so that every run has the same damage.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var x = state
        x = (x ^ x >> 30) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ x >> 27) &* 0x94d0_49bb_1331_11eb
        return x ^ x >> 31
    }
}
