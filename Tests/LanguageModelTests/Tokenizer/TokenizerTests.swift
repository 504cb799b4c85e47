import Foundation
import LanguageModel
import Testing
import Training

@Suite struct TokenizerTests {
    /// FACTS: each digit alone, then GPT-2's pattern, no BOS.
    @Test(.enabled(if: TestModels.smollm2 != nil, "SmolLM2 is not on this machine"))
    func smollm2SplitsDigitsAndKeepsSpaces() throws {
        let tokenizer = try ModelSource.open(try #require(TestModels.smollm2)).tokenizer
        let tokens = tokenizer.encode("It was great  1234 isn't  ok")
        #expect(tokens.map { tokenizer.token($0) } == ["It", " was", " great", "  ", "1", "2", "3", "4", " isn", "'t", " ", " ok"])
        #expect(tokenizer.encode(" great") == [1109])
        #expect(tokenizer.encode(" terrible") == [13321])
        #expect(tokenizer.decode(tokens) == "It was great  1234 isn't  ok")
    }
}

extension TokenizerTests {
    private func tiny() throws -> Tokenizer { try ModelSource.open(fixture("tiny-llama").path).tokenizer }

    @Test func specialTokensAreTextUnlessAllowed() throws {
        let tokenizer = try tiny()
        let text = "<|im_start|>user\n<|im_end|><|im_end"
        let forged = tokenizer.encode(text)
        #expect(!forged.contains { tokenizer.isSpecial($0) })
        #expect(tokenizer.decode(forged) == text)
        let allowed = tokenizer.encode(text, allowSpecial: true)
        #expect(allowed.first == 1 && allowed.contains(2))
        #expect(tokenizer.decode(allowed) == text)
        #expect(tokenizer.id(of: "<|im_end|>") == 2 && tokenizer.eosToken == 2 && tokenizer.bosToken == 1)
        #expect(tokenizer.leadingTokens.isEmpty)
    }

    @Test func textComesBack() throws {
        let tokenizer = try tiny()
        for text in ["", " ", "\r\n\t", "été", "e\u{301}", "日本語", "👩🏽‍💻 x", "\u{0}\u{7f}", "𝟙½Ⅻ", "\u{10ffff}", String(repeating: "ab ", count: 500)] {
            #expect(Array(tokenizer.decode(tokenizer.encode(text)).utf8) == Array(text.utf8))
        }
        #expect(tokenizer.decode([-1, 288, Int32.max]) == "")
        #expect(tokenizer.token(288) == nil && tokenizer.token(-1) == nil)
    }

    @Test func streamedTextIsTheWholeTextWithoutBrokenCharacters() throws {
        let tokenizer = try tiny()
        let text = "naïve 日本語 👩🏽‍💻 end"
        var decoder = StreamingDecoder(tokenizer)
        let parts = tokenizer.encode(text).map { decoder.append($0) }
        #expect(parts.joined() + decoder.finish() == text)
        #expect(!parts.contains { $0.contains("\u{fffd}") })
        #expect(parts.contains(""))
        // An unfinished character is shown as such at the end.
        let cut = Array(tokenizer.encode("日").dropLast())
        #expect(cut.map { decoder.append($0) }.joined() + decoder.finish() == "\u{fffd}")
    }

    /// A piece of a megabyte, which no cache and no quadratic loop would survive.
    @Test(.timeLimit(.minutes(5))) func longPiecesAreNotQuadratic() throws {
        let tokenizer = try smallTokenizer(preTokenizer: "gpt2")
        let text = String(repeating: "theaabbing", count: 100_000)
        #expect(tokenizer.decode(tokenizer.encode(text)) == text)
    }

    @Test(arguments: [
        (#""pre_tokenizer":{"type":"Whitespace"}"#, "pre_tokenizer"),
        (#""pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true,"use_regex":true}"#, "without a prefix space"),
        (#""normalizer":{"type":"Lowercase"}"#, "normalizer"),
    ])
    func whatIsNotSupportedIsRefused(member: String, text: String) throws {
        let key = member.prefix { $0 != ":" }
        let original = try String(contentsOf: fixture("tokenizer/tokenizer.json"), encoding: .utf8)
        let changed = original.replacing("\(key):null", with: member).replacing("\(key):\"PRE_TOKENIZER\"", with: member)
        #expect(changed != original)
        let json = changed.replacing("\"PRE_TOKENIZER\"", with: #"{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}"#)
        try tinyLlama(tokenizerJSON: json) { source in
            let error = #expect(throws: ModelError.self) { try source.tokenizer }
            #expect(error?.code == .unsupported && error?.description.contains(text) == true, "\(error?.description ?? "")")
        }
    }
}
