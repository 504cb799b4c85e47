import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Tests, with the tiny model's byte-level tokenizer, of where prompts, words and cuts go.
@Suite struct TaskEncoderTests {
    private static let sentiment = [LabelWord(label: "0", word: " bad"), LabelWord(label: "1", word: " good")]

    private func tokenizer() throws -> Tokenizer { try ModelSource.open(try fixture("tiny-llama").path).tokenizer }

    private func encoder(
        _ kind: TaskSpec.Kind, template: String? = nil, labels: [LabelWord]? = nil, maxLength: Int = 64, chat: ChatTemplate? = nil
    ) throws -> TaskEncoder {
        let task = TaskSpec(kind: kind, template: template, labels: labels, maxLength: maxLength)
        return try TaskEncoder(task: task, tokenizer: try tokenizer(), chatTemplate: chat)
    }

    private func records(_ lines: String...) throws -> [DataRecord] {
        let url = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).jsonl")
        try Data(lines.joined(separator: "\n").utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        return try DataFile.read(url.path)
    }

    /// Returns labels whose words are single tokens of this tokenizer.
    private func oneTokenWords() throws -> [LabelWord] {
        let tokenizer = try tokenizer()
        let words = ["a", "b", "c", "d", "e"].filter { tokenizer.encode($0).count == 1 }
        try #require(words.count >= 2)
        return [LabelWord(label: "0", word: words[0]), LabelWord(label: "1", word: words[1])]
    }

    @Test func oneTokenWordsBecomeCandidatesAtThePromptsEnd() throws {
        let words = try oneTokenWords()
        let data = try encoder(.classification, template: "{text}:", labels: words).encode(records(#"{"text":"hi","label":"1"}"#))
        let tokenizer = try tokenizer()
        let prompt = tokenizer.leadingTokens + tokenizer.encode("hi:")
        let tokens = words.map { tokenizer.encode($0.word)[0] }
        let example = try #require(data.examples.first)
        #expect(example.objective == .candidates(tokens, correct: 1))
        #expect(example.sequences == [TokenSequence(tokens: prompt, targets: [.init(position: prompt.count - 1, token: tokens[1])])])
    }

    @Test func longerWordsBecomeOptions() throws {
        let labels = [LabelWord(label: "no", word: " not at all"), LabelWord(label: "yes", word: " very much so")]
        let data = try encoder(.classification, template: "{text}?", labels: labels).encode(records(#"{"text":"hi","label":"yes"}"#))
        let tokenizer = try tokenizer()
        let prompt = tokenizer.leadingTokens + tokenizer.encode("hi?")
        let example = try #require(data.examples.first)
        #expect(example.objective == .options(correct: 1))
        for (sequence, label) in zip(example.sequences, labels) {
            let word = tokenizer.encode(label.word)
            #expect(sequence.tokens == prompt + word)
            #expect(sequence.targets.map(\.token) == word)
            #expect(sequence.targets.map(\.position) == Array(prompt.count - 1..<prompt.count - 1 + word.count))
        }
    }

    @Test func aTemplatesLastSpaceGoesToTheWords() throws {
        let spaced = try encoder(
            .classification, template: "{text} It was ", labels: [.init(label: "0", word: "bad"), .init(label: "1", word: "good")])
        let plain = try encoder(.classification, template: "{text} It was", labels: Self.sentiment)
        let line = try records(#"{"text":"Fine.","label":"0"}"#)
        #expect(try spaced.encode(line) == plain.encode(line))
    }

    @Test func aLongTextLosesItsEndAndTheTemplateStays() throws {
        let text = String(repeating: "word ", count: 50)
        let data = try encoder(.classification, template: "{text} It was", labels: Self.sentiment, maxLength: 24)
            .encode(records(#"{"text":"\#(text)","label":"0"}"#))
        let tokenizer = try tokenizer()
        let example = try #require(data.examples.first)
        #expect(data.truncated == 1)
        for sequence in example.sequences {
            #expect(sequence.tokens.count <= 24)
            #expect(tokenizer.decode(sequence.tokens).hasPrefix("word"))
            #expect(tokenizer.decode(sequence.tokens).contains(" It was"))
        }
    }

    @Test func aTemplateThatDoesNotFitIsAnErrorWithTheLine() throws {
        let encoder = try encoder(
            .classification, template: "{text} a very long template indeed, much too long", labels: Self.sentiment, maxLength: 8)
        #expect { try encoder.encode(records(#"{"text":"a","label":"0"}"#)) } throws: { error in
            "\(error)".contains(":1: the template alone")
        }
    }

    @Test func aLabelWithoutAWordIsAnErrorThatNamesItAndTheLine() throws {
        let encoder = try encoder(.classification, template: "{text}", labels: Self.sentiment)
        let lines = try records(#"{"text":"a","label":"0"}"#, #"{"text":"b","label":"neutral"}"#)
        #expect { try encoder.encode(lines) } throws: { error in
            let text = "\(error)"
            return text.contains(":2: the label \"neutral\" has no word") && text.contains("\"neutral\" = ")
        }
    }

    @Test func numbersAndTextsAreTheSameLabel() throws {
        let encoder = try encoder(.classification, template: "{text}", labels: Self.sentiment)
        let lines = try records(#"{"text":"a","label":1}"#, #"{"text":"a","label":"1"}"#)
        let data = try encoder.encode(lines)
        #expect(data.examples[0] == data.examples[1])
    }

    @Test func aMissingFieldIsAnErrorThatNamesWhatIsThere() throws {
        let encoder = try encoder(.classification, template: "{sentence}", labels: Self.sentiment)
        #expect { try encoder.encode(records(#"{"text":"a","label":"0"}"#)) } throws: { error in
            let text = "\(error)"
            return text.contains(":1: no field \"sentence\"") && text.contains("\"text\", \"label\"")
        }
    }

    @Test(
        arguments: [
            (nil, sentiment, "needs a template"), ("{text}", nil, "a word for each"), ("{text", sentiment, "without \"}\""),
            ("no hole", sentiment, "uses no field"), ("{}", sentiment, "a field needs a name"), ("}{text}", sentiment, "without \"{\""),
            ("{text}", [.init(label: "0", word: " good"), .init(label: "1", word: " good")], "the same word"),
            ("{text}", [.init(label: "0", word: " good"), .init(label: "0", word: " bad")], "given twice"),
            ("{text}", [.init(label: "0", word: ""), .init(label: "1", word: " bad")], "is empty"),
        ] as [(String?, [LabelWord]?, String)])
    func aTaskThatCannotWorkIsAnError(_ template: String?, _ labels: [LabelWord]?, _ message: String) throws {
        #expect { try encoder(.classification, template: template, labels: labels) } throws: { error in
            (error as? DataError)?.code == .task && "\(error)".contains(message)
        }
    }

    @Test func doubledBracesAreBraces() throws {
        let data = try encoder(.classification, template: "{{{text}}}", labels: Self.sentiment).encode(records(#"{"text":"hi","label":"0"}"#))
        let tokenizer = try tokenizer()
        let tokens = try #require(data.examples.first?.sequences.first).tokens
        #expect(tokenizer.decode(tokens).hasPrefix("{hi}"))
    }

    @Test func theLossIsOnTheCompletionAlone() throws {
        let data = try encoder(.completion).encode(records(#"{"prompt":"Say:","completion":" hello"}"#))
        let tokenizer = try tokenizer()
        let prompt = tokenizer.leadingTokens + tokenizer.encode("Say:")
        let answer = tokenizer.encode(" hello") + (tokenizer.eosToken.map { [$0] } ?? [])
        let sequence = try #require(data.examples.first?.sequences.first)
        #expect(sequence.tokens == prompt + answer)
        #expect(sequence.targets.map(\.token) == answer)
        #expect(sequence.targets.first?.position == prompt.count - 1)
        #expect(data.examples.first?.objective == .tokens)
    }

    @Test func aLongPromptIsCutAndTheCompletionStays() throws {
        let prompt = String(repeating: "word ", count: 50)
        let data = try encoder(.completion, maxLength: 20).encode(records(#"{"prompt":"\#(prompt)","completion":" yes"}"#))
        let tokenizer = try tokenizer()
        let sequence = try #require(data.examples.first?.sequences.first)
        #expect(data.truncated == 1)
        #expect(sequence.tokens.count <= 20)
        #expect(sequence.targets.map(\.token).starts(with: tokenizer.encode(" yes")))
    }

    @Test func aLongCompletionIsCutAndTheTemplatesWordsStay() throws {
        let completion = String(repeating: "word ", count: 50)
        let data = try encoder(.completion, template: "Data: {prompt} Text:", maxLength: 20).encode(
            records(#"{"prompt":"a long prompt of some words","completion":"\#(completion)"}"#))
        let sequence = try #require(data.examples.first?.sequences.first)
        #expect(data.truncated > 0 && sequence.tokens.count <= 20 && !sequence.targets.isEmpty)
        let text = try tokenizer().decode(sequence.tokens)
        #expect(text.contains("Data:") && text.contains("Text:"), "\(text)")
        let error = #expect(throws: DataError.self) {
            try encoder(.completion, template: "Data: {prompt} Text:", maxLength: 2).encode(records(#"{"prompt":"a","completion":"b"}"#))
        }
        #expect(error?.description.contains("the template alone needs") == true)
    }

    @Test func everyTokenOfATextIsLearntButTheFirst() throws {
        let data = try encoder(.text).encode(records(#"{"text":"Once upon a time"}"#))
        let sequence = try #require(data.examples.first?.sequences.first)
        let leading = try tokenizer().leadingTokens.count
        let first = max(leading, 1)
        #expect(sequence.targets.map(\.position) == Array(first - 1..<sequence.tokens.count - 1))
        #expect(sequence.targets.map(\.token) == Array(sequence.tokens[first...]))
    }

    @Test func textsWithNothingToLearnAreCountedAndAllOfThemAreAnError() throws {
        let encoder = try encoder(.text)
        let data = try encoder.encode(records(#"{"text":""}"#, #"{"text":"Once upon"}"#))
        #expect(data.skipped == 1)
        #expect(data.examples.count == 1)
        #expect(throws: DataError.self) { try encoder.encode(records(#"{"text":""}"#)) }
    }

    @Test func theAssistantsTurnsAloneAreLearnt() throws {
        let source =
            "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
        let chat = try ChatTemplate(source: source, file: "test")
        let line = #"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}"#
        let data = try encoder(.chat, maxLength: 256, chat: chat).encode(records(line))
        let tokenizer = try tokenizer()
        let sequence = try #require(data.examples.first?.sequences.first)
        #expect(tokenizer.decode(sequence.targets.map(\.token)) == "yo<|im_end|>")
        #expect(tokenizer.decode(sequence.tokens) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n")
    }

    @Test(arguments: [
        #"{"messages":[]}"#, #"{"messages":"hi"}"#, #"{"messages":[{"role":"user"}]}"#, #"{"messages":[{"role":"tool","content":"x"}]}"#,
        #"{"messages":[{"role":"user","content":"x"}]}"#,
    ])
    func chatsThatAreNoneAreErrorsWithTheLine(_ line: String) throws {
        let source =
            "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
        let chat = try ChatTemplate(source: source, file: "test")
        let encoder = try encoder(.chat, chat: chat)
        #expect { try encoder.encode(records(line)) } throws: { "\($0)".contains(":1: ") }
    }

    @Test func publicTextFillsEveryHole() throws {
        let examples = try encoder(.classification, template: "{premise} so {hypothesis}", labels: Self.sentiment).encodePublicText(["News"])
        let tokenizer = try tokenizer()
        let tokens = try #require(examples.first?.sequences.first).tokens
        #expect(tokenizer.decode(tokens).hasPrefix("News so News"))
    }

    @Test("In a private run every record counts, and one that does not fit the task says nothing and stops nobody")
    func privateRecords() throws {
        let lines = try records(
            #"{"text":"hi","label":"1"}"#, #"{"text":"hi","label":"rare"}"#, #"{"label":"0"}"#, #"{"text":"ho","label":"0"}"#)
        let encoder = try encoder(.classification, template: "{text}:", labels: oneTokenWords())
        #expect(throws: DataError.self) { try encoder.encode(lines) }
        let data = encoder.encodePrivately(lines)
        #expect(data.ofRecords.map { $0 != nil } == [true, false, false, true])
        #expect(data.examples == data.ofRecords.compactMap { $0 } && data.misfits?.count == 2)
        #expect(data.misfits?.first.description.contains("the label \"rare\" has no word") == true)
        let alone = encoder.encodePrivately(Array(lines[1...2]))
        #expect(alone.ofRecords == [nil, nil] && alone.examples.isEmpty)
    }
}
