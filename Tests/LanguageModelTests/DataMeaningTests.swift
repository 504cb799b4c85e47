import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Losses over tokens other than intended, and records that mean something other than what would be learnt from them.
@Suite struct DataMeaningTests {
    private static let chatML =
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content if m.content is string else m.content | map(attribute='text') | join) + '<|im_end|>\\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

    private func tokenizer() throws -> Tokenizer { try ModelSource.open(try fixture("tiny-llama").path).tokenizer }

    private func encoder(
        _ kind: TaskSpec.Kind, template: String? = nil, labels: [(String, String)]? = nil, maxLength: Int = 512, chat: String = chatML
    ) throws -> TaskEncoder {
        let task = TaskSpec(
            kind: kind, template: template, labels: labels?.map { LabelWord(label: $0.0, word: $0.1) }, maxLength: maxLength)
        return try TaskEncoder(task: task, tokenizer: try tokenizer(), chatTemplate: try ChatTemplate(source: chat, file: "template"))
    }

    private func records(_ lines: String...) throws -> [DataRecord] {
        try withTemporaryDirectory { directory in
            try Data(lines.joined(separator: "\n").utf8).write(to: URL(filePath: directory + "/data.jsonl"))
            return try DataFile.read(directory + "/data.jsonl")
        }
    }

    private func problem(_ encoder: TaskEncoder, _ line: String) throws -> String {
        let lines = try records(line)
        let error = #expect(throws: DataError.self) { try encoder.encode(lines) }
        return error?.description ?? ""
    }

    @Test func aLongCompletionNeverEatsItsPrompt() throws {
        let completion = (0..<60).map { " word\($0)" }.joined()
        let data = try encoder(.completion, maxLength: 128).encode(
            records(#"{"prompt":"Context: Anna has a red boat. Answer:","completion":"\#(completion)"}"#))
        let tokenizer = try tokenizer()
        let sequence = try #require(data.examples.first?.sequences.first)
        #expect(sequence.tokens.count == 128 && tokenizer.decode(sequence.tokens).hasPrefix("Context: Anna has a red boat. Answer: word0"))
        #expect(data.truncated == 1 && data.cutPrompts.examples == 0 && data.cutAnswers.examples == 1)
        let whole = tokenizer.encode("Context: Anna has a red boat. Answer:").count + tokenizer.encode(completion).count + 1
        #expect(data.cutAnswers.tokens == whole - 128)
    }

    /// An empty prompt needs no room, so an answer that just fits keeps the token that ends it.
    @Test func anAnswerThatJustFitsIsWhole() throws {
        let line = #"{"prompt":"","completion":"word word word"}"#
        let whole = try #require(encoder(.completion).encode(records(line)).examples.first?.sequences.first)
        let data = try encoder(.completion, maxLength: whole.tokens.count).encode(records(line))
        #expect(data.examples.first?.sequences == [whole] && data.truncated == 0 && data.cutAnswers.examples == 0)
    }

    @Test func ofTwoThatAreTooLongEachKeepsHalf() throws {
        let long = String(repeating: "word ", count: 80)
        let data = try encoder(.completion, maxLength: 64).encode(records(#"{"prompt":"\#(long)","completion":" \#(long)"}"#))
        let sequence = try #require(data.examples.first?.sequences.first)
        #expect(sequence.targets.count == 32 && (60...64).contains(sequence.tokens.count))
        #expect(data.truncated == 1 && data.cutPrompts.examples == 1 && data.cutAnswers.examples == 1)
    }

    @Test(arguments: [("Review: {text} Sentiment: {label}. It was", TaskSpec.Kind.classification), ("{prompt}{completion}", .completion)])
    func aTemplateThatGivesTheAnswerAwayIsRefused(_ template: String, _ kind: TaskSpec.Kind) throws {
        let error = #expect(throws: DataError.self) { try encoder(kind, template: template, labels: [("0", " a"), ("1", " b")]) }
        #expect(error?.code == .task && error?.description.contains("gives the answer away") == true)
    }

    @Test func spelledControlTokensAreTold() throws {
        let data = try encoder(.completion).encode(
            records(
                #"{"prompt":"<|im_start|>user\nHi<|im_end|>\n","completion":"Yo"}"#, #"{"prompt":"a","completion":" b"}"#,
                #"{"prompt":"a","completion":"<|im_end|>"}"#))
        #expect(data.spelledTokens?.count == 2 && data.spelledTokens?.token == "<|im_start|>")
        #expect(!data.examples[0].sequences[0].tokens.contains(1))
    }

    @Test(arguments: [
        (["terrible", " great"], 1), ([" terrible", "great"], 1), ([" terrible", " great"], 0), (["?", "!"], 0), (["好", "坏"], 0),
        (["1", "2"], 1), (["سيئ", "جيد"], 1), (["แย่", "ดี"], 0), (["だめ", "よい"], 0),
    ])
    func wordsThatAreRunTogetherAreTold(_ words: [String], _ count: Int) throws {
        let data = try encoder(.classification, template: "{text} It was", labels: [("0", words[0]), ("1", words[1])])
            .encode(records(#"{"text":"A film.","label":"0"}"#))
        #expect(data.joinedWords == count)
    }

    @Test("Characters that a model has no tokens for are told, in every kind of task", arguments: ["bytes", "characters", "unknown"])
    func charactersWithoutTokens(_ vocabulary: String) throws {
        // The fixtures' vocabularies: one of bytes that lacks some, and one of characters without bytes to fall back on.
        let base = try String(contentsOf: fixture("tokenizer/sentencepiece.json"), encoding: .utf8)
        let tokenizer =
            vocabulary == "bytes"
            ? try smallTokenizer(preTokenizer: "gpt2")
            : try tinyLlama(
                tokenizerJSON: base.replacing(
                    "\"PRE_TOKENIZER\"", with: #"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}"#
                )
                .replacing("\"byte_fallback\":true", with: "\"byte_fallback\":false")
                .replacing("\"unk_token\":\"<unk>\"", with: vocabulary == "unknown" ? "\"unk_token\":\"<unk>\"" : "\"unk_token\":null")
            ) { try $0.tokenizer }
        try #require(tokenizer.lacksCharacters && tokenizer.hasUnknownToken == (vocabulary == "unknown"))
        let all = (0..<0x3000).compactMap(Unicode.Scalar.init).filter { !$0.properties.isWhitespace }
        let lost = try #require(all.first { tokenizer.lacks($0) })
        // What is said is what happens: such a character leaves no trace of its own, and others do.
        for character in all.filter({ $0.value % 7 == 0 }) {
            let text = String(character)
            let ids = tokenizer.encode("a" + text)
            let isLost = vocabulary == "unknown" ? ids.contains { tokenizer.token($0) == "<unk>" } : tokenizer.decode(ids) != "a" + text
            #expect(tokenizer.lacks(character) == isLost, "U+\(String(character.value, radix: 16)) \(ids)")
        }
        for kind in [TaskSpec.Kind.text, .completion, .classification, .chat] {
            let labels = [LabelWord(label: "0", word: " a"), LabelWord(label: "1", word: " b")]
            let task = TaskSpec(
                kind: kind, template: kind == .classification ? "{text}" : nil, labels: kind == .classification ? labels : nil, maxLength: 64)
            let encoder = try TaskEncoder(task: task, tokenizer: tokenizer, chatTemplate: ChatTemplate(source: Self.chatML, file: "template"))
            func record(_ text: String) throws -> EncodedData {
                let json: JSON =
                    switch kind {
                    case .text: ["text": .string(text)]
                    case .completion: ["prompt": "a", "completion": .string(" " + text)]
                    case .classification: ["text": .string(text), "label": "0"]
                    case .chat: ["messages": [["role": "user", "content": .string(text)], ["role": "assistant", "content": "a"]]]
                    }
                return try encoder.encode(records(json.text(indent: 0)))
            }
            let found = try record("a \(lost) a").lackingTokens
            #expect(found?.count == 1 && found?.character == lost, "\(kind)")
            #expect(try record("a a").lackingTokens == nil, "\(kind)")
        }
    }

    @Test func completionsWithoutAnEndAreTold() throws {
        try withTemporaryDirectory { directory in
            try FileManager.default.copyItem(atPath: fixture("tiny-llama").path, toPath: directory + "/model")
            let config = URL(filePath: directory + "/model/tokenizer_config.json")
            func lacksEnd(_ text: String) throws -> Bool {
                try Data(text.utf8).write(to: config)
                let encoder = try TaskEncoder(task: TaskSpec(kind: .completion, maxLength: 64), tokenizer: Tokenizer(directory: directory + "/model"))
                return try encoder.encode(records(#"{"prompt":"a","completion":" b"}"#)).lacksEnd
            }
            #expect(try lacksEnd("{}") && lacksEnd(#"{"eos_token":"<|nowhere|>"}"#))
            #expect(try !lacksEnd(#"{"eos_token":"<|im_end|>"}"#))
        }
    }

    @Test func aTemplateThatWritesTheDateIsTold() throws {
        let dated = "{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}"
        let chat = #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}"#
        #expect(try encoder(.chat, chat: dated + "{{ today }}\n" + Self.chatML).encode(records(chat)).writesDate)
        // Only a template that asks for it: many mention the date for other conversations.
        #expect(try !encoder(.chat, chat: "{% if tools %}" + dated + "{{ today }}{% endif %}" + Self.chatML).encode(records(chat)).writesDate)
        #expect(try !encoder(.chat).encode(records(chat)).writesDate)
    }

    @Test func aChatTemplateThatIsNotUTF8IsRefused() throws {
        try withTemporaryDirectory { directory in
            try FileManager.default.copyItem(atPath: fixture("tiny-llama").path, toPath: directory + "/model")
            let file = directory + "/model/chat_template.jinja"
            try (Data(contentsOf: URL(filePath: file)) + [0xE9, 0x20]).write(to: URL(filePath: file))
            let error = #expect(throws: ModelError.self) { try ModelSource.open(directory + "/model") }
            #expect(error?.file == file && error?.problem == "is not UTF-8")
        }
    }

    @Test func aShellsLineBreaksAreTold() throws {
        #expect(EscapedBreak("Review: {text}\\tIt was") == .tab && EscapedBreak("a\\t") == .tab && EscapedBreak("a\\t\\n") == .lineBreak)
        for text in ["3 \\times 4", "a\nb", "a\tb", "C:\\", ""] { #expect(EscapedBreak(text) == nil, "\(text)") }
        let labels = [("0", " a\\n"), ("1", " b")]
        let data = try encoder(.classification, template: "Review: {text}\\nSentiment:", labels: labels).encode(records(#"{"text":"x","label":"0"}"#))
        #expect(data.escapedLineBreaks == ["Review: {text}\\nSentiment:", " a\\n"])
    }

    /// Every remedy was tried on the example, and gives both forms the same tokens.
    @Test func adviceWasTried() throws {
        let tokenizer = try smallTokenizer(preTokenizer: "smollm")
        let encoder = try TaskEncoder(task: TaskSpec(kind: .completion, maxLength: 64), tokenizer: tokenizer)
        func remedies(_ prompt: String, _ completion: String) throws -> [EncodedData.BoundaryRemedy: Int] {
            let line = try JSONEncoder().encode(["prompt": prompt, "completion": completion])
            return try encoder.encode(records(String(decoding: line, as: UTF8.self))).splitBoundaries
        }
        var found: Set<EncodedData.BoundaryRemedy> = []
        for (prompt, completion) in [
            ("def f(x):\n", "    return x"), ("The end. ", "So it is"), ("Say", "ing"), ("Answer:", ": it is"), ("a b", "c"),
        ] {
            for remedy in try remedies(prompt, completion).keys {
                found.insert(remedy)
                switch remedy {
                case .leadingSpace: #expect(try remedies(prompt, " " + completion).isEmpty)
                case .moveSpace:
                    let kept = prompt.trimmingCharacters(in: .whitespacesAndNewlines)
                    #expect(try remedies(kept, prompt.dropFirst(kept.count) + completion).isEmpty)
                case .none: break
                }
            }
        }
        #expect(found.contains(.moveSpace) || found.contains(.leadingSpace))
    }

    @Test(arguments: [
        (TaskSpec.Kind.completion, #"{"prompt":"Say hi","completion":" go away","label":false}"#, "marks a bad example"),
        (.completion, #"{"prompt":"Hi","chosen":" yes","rejected":" no","completion":" yes"}"#, "preference"),
        (.completion, #"{"prompt":"Hi","completion":" yes","weight":0.5}"#, "counts the same"),
        (.text, #"{"text":"Hi","train":false}"#, "marks a bad example"),
        (.text, #"{"text":"Hi","desirable":"false"}"#, "marks a bad example"),
        (.chat, #"{"messages":[{"role":"assistant","content":"x"}],"rejected":[{"role":"assistant","content":"y"}]}"#, "should not be learnt"),
        (.classification, #"{"text":"a","label":"0","sample_weight":2}"#, "counts the same"),
        (
            .chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f"}}]}]}"#,
            "\"tool_calls\""
        ),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","reasoning_content":"z"}]}"#, "\"reasoning_content\""),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],"tools":[{"name":"f"}]}"#, "\"tools\""),
        (
            .chat, #"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]},{"role":"assistant","content":"y"}]}"#,
            "of the type \"image_url\""
        ),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","weight":0.5}]}"#, "weight 0.5"),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","train":false}]}"#, "\"train\" is false"),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","loss":0}]}"#, "\"loss\" is 0"),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","masked":true}]}"#, "\"masked\" is true"),
        (.chat, #"{"system":"Be brief.","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}"#, "the first message"),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],"functions":[{"name":"f"}]}"#, "\"functions\""),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],"images":["a.png"]}"#, "\"images\""),
        (.completion, #"{"prompt":"Hi","completion":" go away","Label":false}"#, "marks a bad example"),
        (.completion, #"{"prompt":"Hi","completion":" go away","label":"rejected"}"#, "marks a bad example"),
        (.completion, #"{"prompt":"Hi","completion":" go away","isRejected":true}"#, "should not be learnt"),
        (.completion, #"{"prompt":"Hi","completion":" yes","sampleWeight":"0.5"}"#, "counts the same"),
        // Other spellings, and other ways to say it.
        (.completion, #"{"prompt":"Hi","completion":" go away","Is correct":false}"#, "marks a bad example"),
        (.completion, #"{"prompt":"Hi","completion":" yes","loss-weight":0.1}"#, "counts the same"),
        (.completion, #"{"prompt":"Hi","completion":" yes","rejected_response":" no"}"#, "should not be learnt"),
        (.completion, #"{"prompt":"Hi","completion":" yes","non_preferred_output":" no"}"#, "should not be learnt"),
        (.completion, #"{"prompt":"Hi","completion":" yes","preferred_output":" yes"}"#, "preference pair"),
        (.completion, #"{"prompt":"Hi","completion":" go away","feedback":"thumbs_down"}"#, "marks a bad example"),
        (.completion, #"{"prompt":"Hi","completion":" go away","vote":-1}"#, "marks a bad example"),
        (.text, #"{"text":"Hi","incorrect":true}"#, "should not be learnt"),
        (.text, #"{"text":"Hi","skip":true}"#, "should not be used"),
        (.classification, #"{"text":"a","label":"0","answer":"reject"}"#, "should not be used"),
        (.classification, #"{"text":"a","label":"0","ignore":true}"#, "should not be used"),
        (.classification, #"{"text":"a","label":"0","keep":"no"}"#, "should not be used"),
        (.classification, #"{"text":"a","label":["0","1"]}"#, "one class is learnt for each text"),
        (.classification, #"{"text":"a","label":-1}"#, "a label that nobody knows"),
        // What stands beside a prompt that no template puts together with it.
        (.completion, #"{"system":"Answer in French.","prompt":"Hi","completion":" Salut"}"#, "\"system\" stands beside \"prompt\""),
        (.completion, #"{"context":"Anna has a red boat.","prompt":"Which colour?","completion":" red"}"#, "\"context\" stands beside \"prompt\""),
        (.completion, #"{"tools":[{"name":"f"}],"prompt":"Hi","completion":" f()"}"#, "\"tools\" stands beside \"prompt\""),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],"context":"安娜有船。"}"#, "\"context\" is not passed"),
        (
            .chat,
            #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":"z"}],"completion":"w"}"#,
            "\"completion\" stands beside \"messages\""
        ),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"","refusal":"No."}]}"#, "\"refusal\""),
        (.chat, #"{"messages":[{"role":"user","content":"x","images":["a.png"]},{"role":"assistant","content":"y"}]}"#, "\"images\""),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","loss_weight":0.5}]}"#, "\"loss_weight\" is 0.5"),
        (.chat, #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","loss_mask":0}]}"#, "\"loss_mask\" is 0"),
        (
            .chat, #"{"messages":[{"role":"user","content":[{"type":"input_audio"}]},{"role":"assistant","content":"y"}]}"#,
            "of the type \"input_audio\""
        ),
    ])
    func whatTurnsTheMeaningAroundIsRefused(_ kind: TaskSpec.Kind, _ line: String, _ text: String) throws {
        let encoder = try encoder(kind, template: kind == .classification ? "{text}" : nil, labels: [("0", " a"), ("1", " b")])
        let problem = try problem(encoder, line)
        #expect(problem.contains(text) && problem.contains(":1: "), "\(problem)")
        #expect(problem.split(separator: "\n").count == 2, "a remedy on the second line: \(problem)")
    }

    @Test("Pairs of a better and a worse answer are named where the task is not known yet") func preferencePairs() throws {
        let pair = try #require(records(#"{"prompt":"x","chosen":"good","rejected":"bad"}"#).first)
        let error = try #require(throws: DataError.self) { try TaskSpec.kind(of: pair) }
        #expect("\(error)".contains(":1: ") && "\(error)".contains("no task learns from such pairs"), "\(error)")
        #expect(try TaskSpec.kind(of: #require(records(#"{"prompt":"x","chosen":"a","completion":" b"}"#).first)) == .completion)
    }

    /// A scoring program is given all fields, so they are no marks; and who asks for a prediction learns nothing.
    @Test func whatIsReadForAnotherPurposeIsNotRefused() throws {
        let reference = #"{"prompt":"Which colour?","context":"Anna has a red boat.","answer":"reject","verdict":"incorrect","rejected":"blue"}"#
        let task = TaskSpec(kind: .completion, maxLength: 64, objective: .command, writing: Writing(maxTokens: 4))
        let scoring = try TaskEncoder(task: task, tokenizer: tokenizer())
        #expect(scoring.reading == .scoring)
        #expect(try scoring.encode(records(reference)).examples.count == 1)

        var predicting = try encoder(.classification, template: "{text}", labels: [("0", " a"), ("1", " b")])
        let row = #"{"text":"a","label":"0","keep":0,"deleted":"yes","answer":"ignore","weight":2}"#
        #expect(throws: DataError.self) { try predicting.encode(records(row)) }
        predicting.reading = .predicting
        #expect(try predicting.encode(records(row)).examples.count == 1)
        // What would be missing from the prompt is missing from a prediction too.
        var completion = try encoder(.completion)
        completion.reading = .predicting
        #expect(throws: DataError.self) { try completion.encode(records(#"{"prompt":"Which?","context":"Anna has a boat.","completion":" x"}"#)) }
        #expect(try completion.encode(records(#"{"prompt":"Which?","document":"doc_0012","completion":" x"}"#)).examples.count == 1)
    }

    /// What has no such meaning is read as before: it is listed, or it is what the prompt itself says.
    @Test(arguments: [
        (TaskSpec.Kind.completion, #"{"prompt":"Use this: Anna has a boat. Who?","context":"Anna has a boat.","completion":" Anna"}"#, ["context"]),
        (
            .completion, #"{"prompt":"Hi","completion":" yes","score":0.1,"rating":4,"answer":"no","system":"","reward":-0.5,"num_rejected":3}"#,
            ["answer", "num_rejected", "rating", "reward", "score", "system"]
        ),
        (
            .classification,
            #"{"text":"a","label":"0","correct":false,"accepted":false,"confidence":0.6,"ignore":"none","train":false,"is_valid":true}"#,
            ["accepted", "confidence", "correct", "ignore", "is_valid", "train"]
        ),
        (
            .chat,
            #"{"system":"Be brief.","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}"#,
            ["system"]
        ),
        (
            .chat,
            #"{"messages":[{"role":"user","weight":1,"content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":"y","prefix":true,"weight":1}]}"#,
            ["messages[].content[].cache_control", "messages[].prefix", "messages[].weight"]
        ),
    ])
    func whatMeansNothingElseIsListed(_ kind: TaskSpec.Kind, _ line: String, _ unused: [String]) throws {
        let encoder = try encoder(kind, template: kind == .classification ? "{text}" : nil, labels: [("0", " a"), ("1", " b")])
        let data = try encoder.encode(records(line))
        #expect(data.examples.count == 1 && data.unusedFields.sorted() == unused, "\(data.unusedFields)")
    }

    /// The remedies for a field beside the prompt and for a list of labels give examples.
    @Test func aTemplateTakesWhatStandsBesideThePrompt() throws {
        let line = #"{"context":"Anna has a red boat.","prompt":"Which colour?","completion":" red"}"#
        let data = try encoder(.completion, template: "{context} {prompt}").encode(records(line))
        let sequence = try #require(data.examples.first?.sequences.first)
        #expect(try tokenizer().decode(sequence.tokens).hasPrefix("Anna has a red boat. Which colour? red") && data.unusedFields.isEmpty)
    }

    @Test func recordsOfSeveralPartsOfADataSetAreTold() throws {
        let mixed = try encoder(.text).encode(
            records(#"{"text":"a b","split":"train"}"#, #"{"text":"c d","split":"test"}"#, #"{"text":"e f","split":"train"}"#))
        #expect(mixed.mixedSplits.map(\.field) == ["split"] && mixed.mixedSplits.first?.parts == ["test", "train"])
        let one = try encoder(.text).encode(records(#"{"text":"a b","split":"test"}"#, #"{"text":"c d","split":"test"}"#))
        #expect(one.mixedSplits.isEmpty)
        let read = try encoder(.completion, template: "{split}: {prompt}").encode(
            records(#"{"prompt":"a","completion":" b","split":"train"}"#, #"{"prompt":"a","completion":" b","split":"test"}"#))
        #expect(read.mixedSplits.isEmpty)
    }

    /// Many templates leave the reasoning of earlier turns out.
    @Test func wordsThatTheTemplateLeavesOutAreTold() throws {
        let forgetful =
            "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
            + "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}"
            + "{{ '<|im_end|>\\n' }}{% endfor %}"
        func shortened(_ first: String, chat: String = forgetful) throws -> Int {
            let reply = try String(decoding: JSONEncoder().encode(first), as: UTF8.self)
            let line =
                #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":\#(reply)},{"role":"user","content":"z"},{"role":"assistant","content":"w"}]}"#
            return try encoder(.chat, chat: chat).encode(records(line)).shortenedByTemplate
        }
        #expect(try shortened("<think>because</think>\n\nyes") == 1)
        #expect(try shortened("yes") == 0 && shortened("  1 < 2, and 3 > 2 <br> \n") == 0)
        #expect(try shortened("<think>because</think>yes", chat: Self.chatML) == 0)
    }

    /// In a table, every value is a text, and an empty cell says nothing.
    @Test func aTablesTextsMeanTheSame() throws {
        func read(_ table: String) throws -> [DataRecord] {
            try withTemporaryDirectory { directory in
                try Data(table.utf8).write(to: URL(filePath: directory + "/data.csv"))
                return try DataFile.read(directory + "/data.csv")
            }
        }
        for (table, text) in [
            ("prompt,completion,weight\na, b,1\na, b,0.5\n", "counts the same"),
            ("prompt,completion,accepted\na, b,1\na, b,0\n", "marks a bad example"),
            ("prompt,completion,rejected\na, b,\na, b,c\n", "should not be learnt"), ("prompt,completion,chosen\na, b,\na, b,c\n", "preference pair"),
        ] {
            let records = try read(table)
            let error = #expect(throws: DataError.self) { try encoder(.completion).encode(records) }
            #expect(error?.description.contains(text) == true && error?.description.contains(":3: ") == true, "\(error?.description ?? "")")
        }
    }

    @Test func fieldsOfMessagesThatNobodyReadsAreListed() throws {
        let data = try encoder(.chat).encode(
            records(
                #"{"id":1,"messages":[{"role":"user","content":"x","name":"Bob","train":false},{"role":"assistant","content":"<|im_end|>","rating":3,"name":"A"}]}"#
            ))
        #expect(data.unusedFields == ["id", "messages[].name", "messages[].train", "messages[].rating"])
        #expect(data.spelledTokens?.count == 1 && data.examples.count == 1)
        // A word of the template that only contains a field's name does not read the field.
        let named = Self.chatML.replacing("{% for", with: "{{ 'You are named Tiny and are thinking.' }}{% for", maxReplacements: 1)
        func line(_ field: String) -> String {
            #"{"messages":[{"role":"user","content":"x",\#(field):"Bob"},{"role":"assistant","content":"y"}]}"#
        }
        #expect(try encoder(.chat, chat: named).encode(records(line(#""name""#))).unusedFields == ["messages[].name"])
        #expect(try encoder(.chat, chat: named + "{# name #}").encode(records(line(#""name""#))).unusedFields.isEmpty)
    }

    @Test func aFieldThatTellsTheLabelIsTold() throws {
        let names = ["bad", "good"]
        func telling(_ template: String, _ field: (Int) -> String) throws -> [String] {
            let lines = (0..<12).map { #"{"text":"film \#($0)","label":"\#($0 % 2)","more":"\#(field($0))"}"# }
            return try encoder(.classification, template: template, labels: [("0", " a"), ("1", " b")])
                .encode(
                    withTemporaryDirectory { directory in
                        try Data(lines.joined(separator: "\n").utf8).write(to: URL(filePath: directory + "/data.jsonl"))
                        return try DataFile.read(directory + "/data.jsonl")
                    }
                ).tellingFields
        }
        #expect(try telling("{text} {more} It was") { names[$0 % 2] } == ["more"])
        #expect(try telling("{text} It was") { names[$0 % 2] } == [])
        // The same for all, of all their own, or with another label once.
        #expect(try telling("{text} {more} It was") { _ in "film" } == [])
        #expect(try telling("{text} {more} It was") { "\($0)" } == [])
        #expect(try telling("{text} {more} It was") { $0 == 11 ? "bad" : names[$0 % 2] } == [])
    }

    @Test func aFieldThatIsTheCompletionIsTold() throws {
        func telling(_ hint: (Int) -> String) throws -> [String] {
            let lines = (0..<9).map { #"{"prompt":"What is \#($0)?","hint":"\#(hint($0))","completion":" It is \#($0)."}"# }
            return try encoder(.completion, template: "{prompt} {hint}")
                .encode(
                    withTemporaryDirectory { directory in
                        try Data(lines.joined(separator: "\n").utf8).write(to: URL(filePath: directory + "/data.jsonl"))
                        return try DataFile.read(directory + "/data.jsonl")
                    }
                ).tellingFields
        }
        #expect(try telling { "It is \($0)." } == ["hint"])
        #expect(try telling { $0 == 3 ? "No." : "It is \($0)." } == [])
    }

    @Test(arguments: [("Say", "hello", 1), ("Page 1", "2", 1), ("Say:", "hello", 0), ("Say", " hello", 0), ("说", "你好", 0)])
    func answersThatAreRunTogetherAreTold(_ prompt: String, _ completion: String, _ count: Int) throws {
        let line = try String(decoding: JSONEncoder().encode(["prompt": prompt, "completion": completion]), as: UTF8.self)
        let data = try encoder(.completion).encode(records(line))
        #expect(data.joinedAnswers + data.splitBoundaries.values.reduce(0, +) == count)
    }

    @Test func theRemedyForALabelWithoutAWordIsValidTOML() throws {
        let encoder = try encoder(.classification, template: "{text}", labels: [("0", " a"), ("1", " b")])
        for (label, remedy) in [("2", #""2" = " word""#), ("very good", #""very good" = " word""#), (#"a \"b\""#, #""a \"b\"" = " word""#)] {
            #expect(try problem(encoder, #"{"text":"x","label":"\#(label)"}"#).hasSuffix("for instance " + remedy))
        }
    }

    @Test(.timeLimit(.minutes(1))) func whatIsNoFileOfLinesIsNamed() throws {
        try withTemporaryDirectory { directory in
            func problem(_ name: String) -> String {
                let error = #expect(throws: DataError.self) { try DataFile.read("\(directory)/\(name)") }
                return error?.description ?? ""
            }
            #expect(mkfifo("\(directory)/pipe", 0o600) == 0)
            #expect(problem("pipe").contains("is not a regular file"))
            try FileManager.default.createSymbolicLink(atPath: "\(directory)/link.jsonl", withDestinationPath: "nowhere.jsonl")
            #expect(problem("link.jsonl").contains("link.jsonl is a link to nowhere.jsonl, which does not exist"))
            #expect(!problem("link.jsonl").contains("did you mean"))
            for (text, expected) in [
                ("[{\"text\":\"a\"}]", "is one JSON list"), ("[\n{\"text\":\"a\"}\n]\n", "is one JSON list"),
                ("{\n\"text\":\"a\"\n}\n", "is JSON over several lines"), ("{\"text\":\"a\"\n", ":1: the line is not JSON"),
            ] {
                try Data(text.utf8).write(to: URL(filePath: directory + "/data.json"))
                #expect(problem("data.json").contains(expected))
            }
        }
    }

    @Test func whatDoesNotTurnItAroundIsListedOnce() throws {
        let data = try encoder(.completion).encode(
            records(
                #"{"id":1,"prompt":"a","completion":" b","label":true,"weight":1,"rejected":false}"#,
                #"{"id":2,"source":"x","prompt":"a","completion":" b","label":0}"#))
        #expect(data.unusedFields == ["id", "label", "weight", "rejected", "source"] && data.examples.count == 2)
    }

    @Test func partsOfTextAreReadAndWeightsSayWhatIsLearnt() throws {
        let plain =
            #"{"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"c"},{"role":"user","content":"d"},{"role":"assistant","content":"e"}]}"#
        let parts =
            #"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":"c"},{"role":"user","content":"d"},{"role":"assistant","content":"e"}]}"#
        let weighted =
            #"{"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"c","weight":0},{"role":"user","content":"d"},{"role":"assistant","content":"e","weight":1}]}"#
        let encoder = try encoder(.chat)
        let expected = try encoder.encode(records(plain)).examples
        #expect(try encoder.encode(records(parts)).examples == expected)
        // A template without support for parts gets the text.
        let simple = try self.encoder(
            .chat, chat: Self.chatML.replacing("(m.content if m.content is string else m.content | map(attribute='text') | join)", with: "m.content"))
        #expect(try simple.encode(records(parts)).examples == expected)
        // So does a template that tests whether a content is a string and writes other values unchanged.
        let careless = try self.encoder(.chat, chat: Self.chatML.replacing("m.content | map(attribute='text') | join", with: "m.content | string"))
        #expect(try careless.encode(records(parts)).examples == expected)
        let learnt = try #require(encoder.encode(records(weighted)).examples.first?.sequences.first)
        #expect(try tokenizer().decode(learnt.targets.map(\.token)) == "e<|im_end|>")
    }

    @Test func newlinesAtAnEdgeAreTokenisedWithWhatIsAround() throws {
        let tokenizer = try smallTokenizer(preTokenizer: "smollm")
        let encoder = try TaskEncoder(
            task: TaskSpec(kind: .chat, maxLength: 512), tokenizer: tokenizer, chatTemplate: try ChatTemplate(source: Self.chatML, file: "template"))
        let data = try encoder.encode(
            records(#"{"messages":[{"role":"user","content":"\n\nName a river.\n"},{"role":"assistant","content":"\nThe Danube."}]}"#))
        let tokens = try #require(data.examples.first?.sequences.first).tokens
        #expect(
            tokens
                == tokenizer.encode(
                    "<|im_start|>user\n\n\nName a river.\n<|im_end|>\n<|im_start|>assistant\n\nThe Danube.<|im_end|>\n", allowSpecial: true))
    }
}
