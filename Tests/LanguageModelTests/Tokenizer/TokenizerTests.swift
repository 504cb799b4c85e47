import Foundation
import LanguageModel
import Testing
import Training

@Suite struct TokenizerTests {
    /// SmolLM2's tokenizer splits digits one by one, then uses GPT-2's pattern, and adds no BOS.
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
        // At the end, an incomplete character is shown as U+FFFD.
        let cut = Array(tokenizer.encode("日").dropLast())
        #expect(cut.map { decoder.append($0) }.joined() + decoder.finish() == "\u{fffd}")
    }

    /// A piece of a megabyte would break a cache and take forever in a quadratic loop.
    @Test(.timeLimit(.minutes(5))) func longPiecesAreNotQuadratic() throws {
        let tokenizer = try smallTokenizer(preTokenizer: "gpt2")
        let text = String(repeating: "theaabbing", count: 100_000)
        #expect(tokenizer.decode(tokenizer.encode(text)) == text)
    }

    @Test(arguments: [
        (#""pre_tokenizer":{"type":"BertPreTokenizer"}"#, "pre_tokenizer: \"BertPreTokenizer\" is not supported"),
        (
            #""pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a)\\1"},"behavior":"Isolated","invert":false}"#,
            "has \"\\1\", which is not known here"
        ),
        (#""pre_tokenizer":{"type":"Split","pattern":{"Regex":"a"},"behavior":"Sideways","invert":false}"#, "the behavior \"Sideways\""),
        (#""normalizer":{"type":"Precompiled","precompiled_charsmap":""}"#, "normalizer: \"Precompiled\" is not supported"),
        (#""post_processor":{"type":"Elsewhere"}"#, "post_processor: \"Elsewhere\" is not supported"),
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

    /// SentencePiece's tokens are characters; characters that the vocabulary lacks become bytes.
    @Test func textOfSentencePieceComesBack() throws {
        let tokenizer = try sentencePiece(normalizer: legacySentencePiece, preTokenizer: "null")
        for text in ["", " ", "a", " a  b ", "\n\t", "日本語 🙂", "\u{0}x"] { #expect(tokenizer.decode(tokenizer.encode(text)) == text) }
        #expect(tokenizer.encode("\u{13000}").map { tokenizer.bytes(of: $0).count } == [1, 1, 1, 1, 1])
        #expect(tokenizer.decode(tokenizer.encode(" great"), fromStart: false) == "  great")
    }

    /// The spans cover the bytes of the original text.
    @Test func spansCoverTheText() throws {
        let tokenizers = [
            try tiny(), try smallTokenizer(preTokenizer: "qwen2+NFC"),
            try sentencePiece(normalizer: legacySentencePiece, preTokenizer: "null"),
        ]
        for tokenizer in tokenizers {
            for text in ["e\u{301}te\u{301} was", "  a <|im_end|>\n", "日本 x"] {
                let encoding = tokenizer.encoding(of: text) { _, _ in true }
                #expect(encoding.tokens == tokenizer.encode(text, allowSpecial: true))
                var end = 0
                for span in encoding.spans {
                    #expect(span.lowerBound <= end && span.upperBound >= span.lowerBound)
                    end = max(end, span.upperBound)
                }
                #expect(end == text.utf8.count)
            }
        }
    }

    @Test func specialTokensComeFromAllFiles() throws {
        try withTemporaryDirectory { directory in
            try FileManager.default.copyItem(atPath: fixture("tiny-llama").path, toPath: directory + "/model")
            let config = directory + "/model/tokenizer_config.json"
            try Data(
                #"{"bos_token":{"content":"<|pad|>"},"eos_token":null,"added_tokens_decoder":{"300":{"content":"<|pad|>","special":true,"rstrip":true}},"additional_special_tokens":["<|turn|>"]}"#
                    .utf8
            ).write(to: URL(filePath: config))
            try Data(#"{"eos_token":"<|im_end|>","pad_token":"<|im_end|>"}"#.utf8).write(
                to: URL(filePath: directory + "/model/special_tokens_map.json"))
            let tokenizer = try Tokenizer(directory: directory + "/model")
            #expect(tokenizer.bosToken == 300 && tokenizer.eosToken == nil && tokenizer.padToken == 2)
            #expect(tokenizer.encode("<|pad|> \n", allowSpecial: true) == [300])
            #expect(tokenizer.isSpecial(300) && tokenizer.specialTokens(spelledIn: "a<|im_end|><|pad|><|im_end|>") == ["<|im_end|>", "<|pad|>"])
        }
    }
}

private let legacySentencePiece =
    #"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}"#

/// Returns the fixtures' SentencePiece vocabulary with other steps before it.
func sentencePiece(normalizer: String, preTokenizer: String) throws -> Tokenizer {
    let text = try String(contentsOf: fixture("tokenizer/sentencepiece.json"), encoding: .utf8)
        .replacing(#""normalizer":null"#, with: "\"normalizer\":\(normalizer)").replacing("\"PRE_TOKENIZER\"", with: preTokenizer)
    return try tinyLlama(tokenizerJSON: text) { try $0.tokenizer }
}
