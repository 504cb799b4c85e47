import Core
import Foundation
import LanguageModel
import Testing
import Training

/// A GGUF export is the model that was exported, for every family that llama.cpp knows; check_gguf.py compares it with llama.cpp itself.
@Suite struct GGUFExportTests {
    /// Models of which GGUF or llama.cpp does not express something, and what the refusal says.
    private static let refused: [String: String] = [
        "gpt-neo": "which llama.cpp does not know", "gpt-j": "which llama.cpp does not know", "opt": "which llama.cpp does not know",
        "opt-350m": "which llama.cpp does not know", "helium": "which llama.cpp does not know",
        // The scale is computed from a head's width.
        "gemma3-scaled": "attention qk=perHead after=false scale=0.2236068",
        // Ramps between frequencies of their own, and windows that llama.cpp takes from the number of layers.
        "olmo3": "scales its rotary positions in a way that llama.cpp does not know for a olmo2", "exaone4": "layer 3 rotation=-1 window=0",
    ]

    private static func loss(_ source: ModelSource, _ tokens: [Int32]) throws -> Double {
        let model = try TrainableModel(source: source)
        let set = try ExampleSet([ForwardParityTests.text(tokens)], for: source.configuration)
        return try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
    }

    /// Exports a family's model, with a tokenizer of as many tokens as it has.
    private static func export(_ fixture: FamilyFixture, in directory: String, to path: String, type: ElementType = .f32) throws -> ModelSource {
        // llama.cpp expects certain tokens of models whose name holds phi-3.
        try FileManager.default.createDirectory(atPath: directory + "/source", withIntermediateDirectories: true)
        try fixture.write(to: directory + "/source")
        try fixture.writeTokenizer(to: directory + "/source")
        let source = try ModelSource.open(directory + "/source")
        var exporter = ModelExporter(source: source)
        exporter.dataType = type
        try exporter.writeGGUF(to: path)
        return source
    }

    @Test(arguments: FamilyFixture.names)
    func readsBackTheSame(_ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        try withTemporaryDirectory { directory in
            let path = directory + "/model.gguf"
            if let reason = Self.refused[name] {
                let error = #expect(throws: ModelError.self) { try Self.export(fixture, in: directory, to: path) }
                #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
                #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["source"])
                return
            }
            let source = try Self.export(fixture, in: directory, to: path)
            let copy = try ModelSource.open(path)
            #expect(source.configuration.firstDifference(from: copy.configuration) == nil)
            let own = Dictionary(uniqueKeysWithValues: source.baseManifest(threads: 1).entries.map { ($0.name, $0) })
            for entry in copy.baseManifest(threads: 1).entries where entry.name != "configuration" && own[entry.name] != nil {
                // Gemma's norms are stored as 1 + w, which rounds w.
                let rounds = entry.name.hasSuffix("norm.weight") && source.configuration.description.norm.weightOffset != 0
                #expect(own[entry.name] == entry || rounds, "\(entry.name)")
            }
            #expect(Set(source.tensorNames).isSubset(of: copy.tensorNames) || source.configuration.family.name.hasPrefix("granitemoe"))
            // A window that llama.cpp does not know becomes the number of positions.
            let count = min(copy.configuration.contextLength, fixture.tokens.count)
            let expected = fixture.losses.prefix(count - 1).reduce(0, +) / Double(count - 1)
            let found = try Self.loss(copy, Array(fixture.tokens.prefix(count)))
            #expect(abs(found - expected) < 1e-5 * expected, "\(found), not \(expected)")
        }
    }

    @Test(arguments: [ElementType.f16, .bf16, .q8_0], ["llama", "gpt2", "bloom"])
    func smallerTypesRound(_ type: ElementType, _ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        try withTemporaryDirectory { directory in
            let path = directory + "/model.gguf"
            let source = try Self.export(fixture, in: directory, to: path, type: type)
            let copy = try ModelSource.open(path)
            var kinds: Set<ElementType> = []
            for name in source.tensorNames {
                let shape = try #require(source.shape(of: name))
                var (a, b) = ([Float](repeating: 0, count: shape.count), [Float](repeating: 0, count: shape.count))
                try source.copyFloats(name, into: &a)
                try copy.copyFloats(name, into: &b)
                let kind = try #require(copy.dataType(of: name))
                kinds.insert(kind)
                let largest = a.map(abs).max() ?? 0
                let step: Float = kind == .f32 ? 0 : kind == .f16 ? 0x1p-11 : kind == .bf16 ? 0x1p-8 : 1 / 200
                for (x, y) in zip(a, b) { #expect(abs(x - y) <= step * largest) }
                if case .vector = shape { #expect(kind == .f32) }
            }
            #expect(copy.writtenType(asGGUF: true) == (type == .q8_0 && name == "bloom" ? .f16 : type))
            #expect(copy.writtenType(asGGUF: false) == (type == .q8_0 && name != "bloom" ? .f32 : kinds.contains(.f16) ? .f16 : type))
            // Rows of 36 or 40 values are no whole number of blocks.
            let blocks: [String: Set<ElementType>] = ["llama": [.f32, .f16, .q8_0], "gpt2": [.f32, .q8_0], "bloom": [.f32, .f16]]
            #expect(kinds == (type == .q8_0 ? blocks[name] : [.f32, type]))
            #expect(try abs(Self.loss(copy, fixture.tokens) - Self.loss(source, fixture.tokens)) < 0.05)
        }
    }

    /// The adapters of a run are merged into the file, also those of a head that was tied to the embedding.
    @Test(arguments: ["llama", "qwen3", "gpt2", "bloom", "phi-4", "granite-4"])
    func mergesAdapters(_ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        try withTemporaryDirectory { directory in
            try fixture.write(to: directory)
            try fixture.writeTokenizer(to: directory)
            let source = try ModelSource.open(directory)
            let run = try AdaptedModel(source, ["adapter:layers.0", "adapter:final"], outputs: 2, inputs: 3)
            let moved = try run.moved([60, -90, 30], scale: 0x1p-11)
            let set = try ExampleSet([ForwardParityTests.text(fixture.tokens)], for: source.configuration)
            let own = try Evaluator(model: moved.model, cache: PrefixCache(model: moved.model, set: set)).evaluate().meanLoss
            var exporter = ModelExporter(source: source)
            exporter.changes = try AdapterChange.all(source: source, parameters: moved.parameters, basis: run.basis)
            try exporter.writeGGUF(to: directory + "/merged.gguf")
            let merged = try Self.loss(ModelSource.open(directory + "/merged.gguf"), fixture.tokens)
            #expect(abs(merged - own) < 5e-5 * own, "\(merged), not \(own)")
            #expect(try abs(Self.loss(source, fixture.tokens) - own) > 1e-4)
        }
    }

    /// Windows are written as the period that every version of llama.cpp reads, where layers follow one.
    @Test func windowsAreAPeriodOrAList() throws {
        let (window, full) = ("sliding_attention", "full_attention")
        for (name, types, expected) in [
            ("gemma2", nil, .unsigned(2)), ("gemma3", nil, .unsigned(6)), ("cohere2", nil, .unsigned(4)),
            ("cohere2", [window, window, full, window], .unsigned(3)),
            ("cohere2", [full, window, window, full], .array([.bool(false), .bool(true), .bool(true), .bool(false)])),
        ] as [(String, [String]?, GGUFFile.Value)] {
            let fixture = try FamilyFixture.named(name)
            try withTemporaryDirectory { directory in
                try fixture.write(to: directory, settings: types.map { ["layer_types": $0] } ?? [:])
                try fixture.writeTokenizer(to: directory)
                let source = try ModelSource.open(directory)
                try ModelExporter(source: source).writeGGUF(to: directory + "/model.gguf")
                let file = try GGUFFile(path: directory + "/model.gguf")
                let written = try #require(file.metadata["\(name).attention.sliding_window_pattern"])
                #expect(String(describing: written) == String(describing: expected))
                let copy = try ModelSource.open(directory + "/model.gguf")
                #expect(copy.configuration.description.layers.map(\.window) == source.configuration.description.layers.map(\.window))
            }
        }
    }

    /// An ε that is a float's value in double precision, as some writers have it, is no reason to refuse a model.
    @Test func anEpsilonOfSinglePrecisionIsTheSame() throws {
        let fixture = try FamilyFixture.named("llama")
        try withTemporaryDirectory { directory in
            try fixture.write(to: directory, settings: ["rms_norm_eps": 9.999999747378752e-06])
            try fixture.writeTokenizer(to: directory)
            try ModelExporter(source: ModelSource.open(directory)).writeGGUF(to: directory + "/model.gguf")
            // Another ε is another model.
            let copy = try ModelSource.open(directory + "/model.gguf")
            try fixture.write(to: directory, settings: ["rms_norm_eps": 1.1e-05])
            #expect(try ModelSource.open(directory).configuration.firstDifference(from: copy.configuration) != nil)
        }
    }

    /// GGUF has room for two tokens that end a text; llama.cpp knows some others by their text.
    @Test func aThirdEndOfTextIsRefused() throws {
        let fixture = try FamilyFixture.named("llama")
        try withTemporaryDirectory { directory in
            try fixture.write(to: directory, settings: ["eos_token_id": [1, 2, 3]])
            try fixture.writeTokenizer(to: directory)
            let exporter = ModelExporter(source: try ModelSource.open(directory))
            let error = #expect(throws: ModelError.self) { try exporter.writeGGUF(to: directory + "/model.gguf") }
            #expect(error?.problem.hasSuffix(#"the token 3 ("$") ends a text, too"#) == true, "\(error?.description ?? "")")
            try fixture.write(to: directory, settings: ["eos_token_id": [1, 2]])
            try ModelExporter(source: ModelSource.open(directory)).writeGGUF(to: directory + "/model.gguf")
        }
    }

    @Test(arguments: ["gemma", "cohere"])
    func aHeadOfItsOwnIsRefusedWhereLlamaCppHasNone(_ name: String) throws {
        try withTemporaryDirectory { directory in
            let fixture = try FamilyFixture.named(name)
            try fixture.write(to: directory)
            try fixture.writeTokenizer(to: directory)
            let source = try ModelSource.open(directory)
            let run = try AdaptedModel(source, ["adapter:final"], outputs: 2, inputs: 3)
            var exporter = ModelExporter(source: source)
            exporter.changes = try AdapterChange.all(source: source, parameters: run.moved([60], scale: 0x1p-11).parameters, basis: run.basis)
            let error = #expect(throws: ModelError.self) { try exporter.writeGGUF(to: directory + "/merged.gguf") }
            #expect(error?.problem.hasPrefix("has a head that differs from its embedding") == true)
        }
    }

    /// Exporting a GGUF file gives the same model, ids and conversations.
    @Test func exportsGGUFFilesAgain() throws {
        let source = try ModelSource.open(fixture("tiny-llama.gguf").path)
        try withTemporaryDirectory { directory in
            let path = directory + "/new/model.gguf"
            var exporter = ModelExporter(source: source)
            try exporter.writeGGUF(to: path)
            let copy = try ModelSource.open(path)
            #expect(copy.baseManifest(threads: 1) == source.baseManifest(threads: 1))
            let text = "It was <|im_end|> 1234\r\n été"
            #expect(try copy.tokenizer.encode(text, allowSpecial: true) == source.tokenizer.encode(text, allowSpecial: true))
            #expect(try copy.tokenizer.bosToken == source.tokenizer.bosToken)
            #expect(try copy.chatTemplate == source.chatTemplate)
            #expect(copy.configuration.eosTokens == source.configuration.eosTokens)

            // What is there is only replaced if it is asked for, and only if it is a GGUF file, and not the model itself.
            #expect(throws: ModelError.self) { try exporter.writeGGUF(to: path) }
            exporter.overwrites = true
            try exporter.writeGGUF(to: path)
            try Data("mine".utf8).write(to: URL(filePath: directory + "/precious.gguf"))
            for (other, reason) in [
                (directory + "/precious.gguf", "is no GGUF file"), (directory + "/new", "is a directory"),
                ("/proc/nowhere/model.gguf", "cannot be created"),
            ] {
                let error = #expect(throws: ModelError.self) { try exporter.writeGGUF(to: other) }
                #expect(error?.problem.hasPrefix(reason) == true, "\(error?.description ?? "")")
            }
            var itself = ModelExporter(source: copy)
            itself.overwrites = true
            #expect(throws: ModelError.self) { try itself.writeGGUF(to: path) }
            let stopped = #expect(throws: ModelError.self) { try exporter.writeGGUF(to: directory + "/stopped.gguf") { !$0.hasPrefix("blk.1") } }
            #expect(stopped?.code == .cancelled)
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == ["new", "precious.gguf"])
        }
    }

    /// Scores are written in place of merges only if they give the same tokens for every text.
    @Test func scoresThatReplaceMergesGiveTheSameTokens() throws {
        var random = SplitMix64(state: 7)
        var kinds: [String: Int] = [:]
        // Vocabularies with scores in which a token can also be cut in a way that is no merge.
        var withOtherCuts = 0
        for _ in 0..<400 {
            var tokens = ["a", "b", "c"]
            var merges: [Merge] = []
            let (count, repeats) = (Int.random(in: 2...7, using: &random), Bool.random(using: &random))
            while merges.count < count {
                let pair = (tokens[Int.random(in: tokens.indices, using: &random)], tokens[Int.random(in: tokens.indices, using: &random)])
                let merged = pair.0 + pair.1
                guard merged.count < 6, !merges.contains(where: { $0 == pair }), repeats || !tokens.contains(merged) else { continue }
                if !tokens.contains(merged) { tokens.append(merged) }
                merges.append(pair)
            }
            let kind = try writeAndCompare(tokens, merges, textLength: 7)
            kinds[kind, default: 0] += 1
            let hasOtherCuts = merges.map { $0.0 + $0.1 }.contains { text in
                (1..<text.count).contains { cut in
                    let parts = (String(text.prefix(cut)), String(text.dropFirst(cut)))
                    return tokens.contains(parts.0) && tokens.contains(parts.1) && !merges.contains { $0 == parts }
                }
            }
            withOtherCuts += kind == "llama" && hasOtherCuts ? 1 : 0
        }
        #expect((kinds["gemma4"] ?? 0) > 40 && (kinds["llama"] ?? 0) > 40 && withOtherCuts > 40, "\(kinds) \(withOtherCuts)")

        // Tokens of equal scores in the order that transformers converts them to: merges by the length of their parts.
        let letters = ["a", "b", "c", "d", "e", "f"]
        let pairs: [Merge] = [("a", "b"), ("b", "c"), ("d", "e"), ("e", "f")]
        let alternating: [Merge] = [("ab", "c"), ("de", "f"), ("a", "bc"), ("d", "ef")]
        let all = letters + ["ab", "bc", "de", "ef", "abc", "def"]
        #expect(try writeAndCompare(all, pairs + alternating, textLength: 5) == "llama")
        // "bcd" takes what "abc" needs between two of its merges.
        let between: [Merge] = [("ab", "c"), ("bc", "d"), ("a", "bc")]
        #expect(try writeAndCompare(letters + ["ab", "bc", "abc", "bcd"], [("b", "c"), ("a", "b")] + between, textLength: 5) == "gemma4")
    }

    private typealias Merge = (String, String)

    /// Writes a tokenizer as GGUF, and compares the tokens of all texts of its one-letter tokens.
    ///
    /// - Returns: the kind of vocabulary that was written.
    private func writeAndCompare(_ tokens: [String], _ merges: [Merge], textLength: Int) throws -> String {
        var builder = TokenizerBuilder(file: "", preTokenizer: PreTokenizer([]), unit: .characters(joinsUnknown: true))
        builder.normalizer = .replace(" ", with: "▁")
        builder.decoder = TokenDecoder(space: "▁", stripsFirstSpace: false)
        for (i, token) in tokens.enumerated() { try builder.vocabularyToken(Int32(i), text: token) }
        for (left, right) in merges { builder.merge(left, right) }
        let tokenizer = try builder.build()
        let metadata = try tokenizer.ggufMetadata(count: tokens.count, endings: [], chatTemplate: nil, file: "")
        let (kind, copy) = try withTemporaryDirectory { directory in
            try GGUFWriter(metadata: metadata, tables: [], tensors: [], dataType: .f32)
                .write(to: directory + "/copy.gguf", check: { _ in }, progress: { _ in true })
            let file = try GGUFFile.open(directory + "/copy.gguf")
            return (try #require(try file.string("tokenizer.ggml.model")), try Tokenizer(file))
        }
        let letters = tokens.filter { $0.count == 1 }
        var texts = [""]
        var differing: String?
        for _ in 0..<textLength {
            texts = texts.flatMap { text in letters.map { text + $0 } }
            differing = differing ?? texts.first { tokenizer.encode($0) != copy.encode($0) }
        }
        #expect(differing == nil, "\(merges) as \(kind)")
        return kind
    }

    /// Keeps files for a comparison with llama.cpp (check_gguf.py).
    private static let kept = ProcessInfo.processInfo.environment["ONEBYTE_TEST_GGUF"]

    @Test(.enabled(if: kept != nil, "needs ONEBYTE_TEST_GGUF"), arguments: FamilyFixture.names)
    func keepsFilesForLlamaCpp(_ name: String) throws {
        guard let directory = Self.kept, Self.refused[name] == nil else { return }
        let fixture = try FamilyFixture.named(name)
        for type in [ElementType.f32, .f16, .bf16, .q8_0] {
            _ = try Self.export(fixture, in: "\(directory)/\(name)", to: "\(directory)/\(name)-\(type).gguf", type: type)
        }
    }
}

extension FamilyFixture {
    /// Writes a tokenizer with a token for each of 61 bytes.
    func writeTokenizer(to directory: String) throws {
        let vocabulary = Dictionary(uniqueKeysWithValues: (0..<61).map { (String(UnicodeScalar(UInt8(0x21 + $0))), $0) })
        let json: [String: Any] = [
            "version": "1.0", "added_tokens": [Any](), "normalizer": NSNull(), "post_processor": NSNull(),
            "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true],
            "decoder": ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true],
            "model": ["type": "BPE", "vocab": vocabulary, "merges": [String]()],
        ]
        try JSONSerialization.data(withJSONObject: json).write(to: URL(filePath: directory + "/tokenizer.json"))
    }
}
