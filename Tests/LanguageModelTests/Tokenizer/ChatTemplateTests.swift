import Foundation
import LanguageModel
import Testing
import Training

@Suite struct ChatTemplateTests {
    struct Case: Decodable {
        struct Message: Decodable {
            let role: String
            let content: String
        }
        let name: String
        let template: String
        let messages: [Message]
        let text: String
        let textWithReplyStart: String
    }

    /// Fixtures/make_chat.py: what transformers writes for the same template and conversation.
    @Test func builtInTemplatesWriteWhatJinjaWrites() throws {
        let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: fixture("chat.json")))
        #expect(cases.count == 12)
        for test in cases {
            let template = try ChatTemplate(source: test.template, bos: "<|begin_of_text|>", eos: "</s>", file: test.name)
            let messages = test.messages.map { ChatMessage(role: $0.role, content: $0.content) }
            #expect(template.render(messages) == test.text, "\(test.name)")
            #expect(template.render(messages, addingReplyStart: true) == test.textWithReplyStart, "\(test.name)")
            let replies = template.segments(for: messages).filter(\.isReply)
            #expect(replies.count == messages.count { $0.role == "assistant" })
        }
    }

    @Test func anotherTemplateIsRefused() throws {
        let error = #expect(throws: ModelError.self) {
            try ChatTemplate(source: "{{ messages[0] }}", bos: nil, eos: nil, file: "model/tokenizer_config.json")
        }
        #expect(error?.code == .unsupported)
        #expect(error?.description.hasPrefix("model/tokenizer_config.json: chat_template: is none of the built-in ones") == true)
    }

    @Test func modelsBringTheirTemplates() throws {
        for name in ["tiny-llama", "tiny-llama.gguf"] {
            let template = try #require(try ModelSource.open(fixture(name).path).chatTemplate)
            #expect(template.render([ChatMessage(role: "user", content: "Hi")]) == "<|im_start|>user\nHi<|im_end|>\n")
        }
    }
}
