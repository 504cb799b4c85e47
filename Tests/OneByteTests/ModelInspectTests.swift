import Testing

@Suite struct ModelInspectTests {
    @Test func saysWhatTrainCanNameAndWhatItCosts() async throws {
        let found = try await Binary.run("model", "inspect", Binary.tinyModel)
        try #require(found.status == 0, "\(found.errors)")
        let lines = found.output.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        func numbers(_ name: String) throws -> String {
            let line = try #require(lines.last { $0.hasPrefix(name + " ") }, "\(found.output)")
            return String(line.dropFirst(name.count + 1))
        }
        #expect(lines.contains("--train can name"))
        #expect(try numbers("model.layers.*.self_attn.q_proj.weight").hasSuffix("3 tensors"))
        // The model has hidden 32, FFN 64, 4 heads of 8, 2 for keys and values; an example has 20 tokens, of which one is read. Keys and
        // values cost 2·32·16 per token, q and o 2·32·32, FFN 3·32·64.
        #expect(try numbers("layers.2") == expected(last: true))
        #expect(lines.contains { $0.hasPrefix("layers.1-2 ") })
        #expect(try numbers("all").hasSuffix(" 0 0"), "nothing is shared and nothing frozen where the embeddings are trained")
        #expect(!lines.contains { $0.hasPrefix("layers.-") }, "a model of three layers has no top 4")
    }

    private func expected(last: Bool) -> String {
        let (keyValue, query, rest) = (2 * 32 * 16, 32 * 32, 32 * 32 + 3 * 32 * 64)
        return "\(grouped(keyValue + query + rest)) \(short(2 * rest)) \(short(20 * keyValue + query)) \(short(2 * 20 * (keyValue + query + rest)))"
    }

    private func grouped(_ number: Int) -> String { "\(number / 1000),\(String(number % 1000 + 1000).dropFirst())" }

    private func short(_ number: Int) -> String {
        let thousands = Double(number) / 1000
        let places = thousands < 10 ? 2 : thousands < 100 ? 1 : 0
        var text = "\((thousands * [1, 10, 100][places]).rounded() / [1, 10, 100][places])"
        if places == 0 { text.removeLast(2) }
        return text + " k"
    }

    @Test func theCostFollowsTheTask() async throws {
        let word = try await Binary.run("model", "inspect", Binary.tinyModel, "--train", "layers.2")
        let text = try await Binary.run(
            "model", "inspect", Binary.tinyModel, "--train", "layers.2", "--tokens", "50", "--reads", "30", "--all-logits")
        #expect(word.output.contains("(20 tokens, 1 position read)"))
        #expect(text.output.contains("(50 tokens, 30 positions read, all logits)"))
        #expect(!word.output.contains("--train can name"), "it is named already")
        let wrong = try await Binary.run("model", "inspect", Binary.tinyModel, "--tokens", "5", "--reads", "6")
        #expect(wrong.status == 64)
    }
}
