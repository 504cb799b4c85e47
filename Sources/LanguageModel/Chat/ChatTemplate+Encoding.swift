/// A conversation's tokens, and which of them belong to the assistant.
public struct EncodedChat: Hashable, Sendable {
    public let tokens: [Int32]
    /// Positions in `tokens` of the assistant's text, including the marks that end its turns, in rising order.
    public let learnt: [Int]
    /// Whether the template asked for the time, so that the tokens are those of today.
    public let writesDate: Bool
    /// Whether the template left out words of a message, as many do with the reasoning of earlier turns.
    public let leavesOutWords: Bool
}

extension ChatTemplate {
    /// Returns the tokens of a conversation for a model to reply to.
    ///
    /// - Parameter tools: the record's description of the assistant's tools.
    public func prompt(_ messages: [ChatMessage], tokenizer: Tokenizer) throws(ChatError) -> [Int32] {
        try prompt(messages, tools: nil, tokenizer: tokenizer)
    }

    package func prompt(_ messages: [ChatMessage], tools: JSON?, tokenizer: Tokenizer) throws(ChatError) -> [Int32] {
        let rendering = try rendering(messages, tools: tools, addingReplyStart: true)
        try check(rendering, messages)
        return Self.encode(rendering, tokenizer).tokens
    }

    /// Returns the tokens of a whole conversation.
    ///
    /// - Parameter isLearnt: whether the loss includes the assistant's message with this number.
    /// - Throws: `ChatError` if the template refuses the conversation, leaves a message out, or does not show where the assistant's turns
    ///   are.
    package func encode(
        _ messages: [ChatMessage], tools: JSON?, tokenizer: Tokenizer, isLearnt: (Int) -> Bool = { _ in true }
    ) throws(ChatError) -> EncodedChat {
        let rendering = try rendering(messages, tools: tools, addingReplyStart: false)
        try check(rendering, messages)
        let replies = try replies(in: rendering, messages, tools: tools, isLearnt: isLearnt)
        let encoding = Self.encode(rendering, tokenizer)
        let offsets = Self.byteOffsets(of: rendering.text)
        let ranges = replies.map { offsets[$0.lowerBound]..<offsets[$0.upperBound] }.filter { !$0.isEmpty }.sorted {
            $0.lowerBound < $1.lowerBound
        }
        var learnt: [Int] = []
        var next = 0
        for (place, span) in encoding.spans.enumerated() {
            while next < ranges.count, ranges[next].upperBound <= span.lowerBound { next += 1 }
            guard next < ranges.count else { break }
            // A space that the tokenizer added within a reply stands for no text; it is learnt with its neighbours.
            let isWithin = span.isEmpty && learnt.last == place - 1 && ranges[next].contains(span.lowerBound)
            if isWithin || span.overlaps(ranges[next]) { learnt.append(place) }
        }
        return EncodedChat(
            tokens: encoding.tokens, learnt: learnt, writesDate: rendering.readsTime, leavesOutWords: Self.leavesOutWords(rendering, messages))
    }

    /// Whether the rendering has fewer letters and digits of a message than the message itself. White space, signs and tags such as `<think>` do
    /// not count, because templates write these in their own way; nor do messages with calls, of which templates write what they need.
    private static func leavesOutWords(_ rendering: JinjaRendering, _ messages: [ChatMessage]) -> Bool {
        guard messages.count < JinjaText.messagesMax else { return false }
        var written: [UInt32: Int] = [:]
        for unit in rendering.text.units where JinjaText.isContent(unit) && isOfAWord(JinjaText.scalar(unit)) {
            written[unit & JinjaText.markMask, default: 0] += 1
        }
        return messages.enumerated().contains { number, message in
            guard message["tool_calls"] == nil, message["function_call"] == nil else { return false }
            let said = wordCount(message.content) + wordCount(message.reasoning?.string ?? "")
            return written[JinjaText.mark(message: number)] ?? 0 < said
        }
    }

    private static func isOfAWord(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isAlphabetic || scalar.properties.numericType != nil }

    /// Returns the number of letters and digits outside of tags.
    private static func wordCount(_ text: String) -> Int {
        var count = 0
        // Letters since a "<" that may begin a tag; nil outside.
        var inTag: Int?
        for scalar in text.unicodeScalars {
            switch scalar {
            case "<":
                count += inTag ?? 0
                inTag = 0
            case ">": inTag = nil
            case _ where isOfAWord(scalar): if let letters = inTag { inTag = letters + 1 } else { count += 1 }
            case "/", "|", "_": break
            default:
                count += inTag ?? 0
                inTag = nil
            }
        }
        return count + (inTag ?? 0)
    }

    /// Checks that every message left something in the text. A template that silently skips a message makes another conversation.
    private func check(_ rendering: JinjaRendering, _ messages: [ChatMessage]) throws(ChatError) {
        var seen: Set<UInt32> = []
        for unit in rendering.text.units where JinjaText.isContent(unit) { seen.insert(unit & JinjaText.markMask) }
        for (i, message) in messages.enumerated() where !seen.contains(JinjaText.mark(message: i)) {
            let says = message.content.unicodeScalars.contains { !$0.properties.isWhitespace }
            guard says || message["tool_calls"] != nil else { continue }
            throw ChatError(.notRendered, "the model's chat template leaves out message \(i + 1) (\(message.role))")
        }
    }

    // MARK: Tokens

    /// Returns the tokens of a rendering. Control tokens are recognised only in the template's own words.
    private static func encode(_ rendering: JinjaRendering, _ tokenizer: Tokenizer) -> Encoding {
        let offsets = byteOffsets(of: rendering.text)
        var isContent = [Bool](repeating: false, count: offsets[offsets.count - 1])
        for (i, unit) in rendering.text.units.enumerated() where JinjaText.isContent(unit) {
            for byte in offsets[i]..<offsets[i + 1] { isContent[byte] = true }
        }
        let marks = turnMarks(of: rendering, tokenizer)
        return tokenizer.encoding(of: rendering.text.string) { token, range in
            guard tokenizer.isSpecial(token) || marks.contains(token) else { return true }
            return !isContent[range].contains(true)
        }
    }

    private static func byteOffsets(of text: JinjaText) -> [Int] {
        var offsets = [0]
        offsets.reserveCapacity(text.count + 1)
        var end = 0
        for unit in text.units {
            end += UTF8.width(JinjaText.scalar(unit))
            offsets.append(end)
        }
        return offsets
    }

    /// Returns added tokens with which the template begins or ends a turn although some files do not call them control tokens.
    private static func turnMarks(of rendering: JinjaRendering, _ tokenizer: Tokenizer) -> Set<Int32> {
        let plain = tokenizer.added.entries.filter { !$0.isSpecial && $0.content.contains { !UnicodeClass.isASCIISpace($0) } }
        guard !plain.isEmpty else { return [] }
        var marks: Set<Int32> = []
        for block in rendering.blocks {
            let units = rendering.text.units[block.range]
            let head = units.prefix { !JinjaText.isContent($0) }
            let tail = Array(units.reversed().prefix { !JinjaText.isContent($0) }.reversed())
            let first = Array(JinjaText(units: head).stripped().string.utf8)
            let last = Array(JinjaText(units: tail).stripped().string.utf8)
            for entry in plain
            where first.starts(with: entry.content)
                || last.count >= entry.content.count && last.suffix(entry.content.count).elementsEqual(entry.content)
            {
                marks.insert(entry.token)
            }
        }
        return marks
    }

    // MARK: The assistant's part

    /// Returns the ranges of the rendering that are learnt. If the template has `{% generation %}` blocks, they are these. Otherwise each
    /// of the assistant's turns is learnt from where the model, asked to reply, would begin to write, up to the mark that ends the turn.
    private func replies(
        in rendering: JinjaRendering, _ messages: [ChatMessage], tools: JSON?, isLearnt: (Int) -> Bool
    ) throws(ChatError) -> [Range<Int>] {
        if !rendering.generated.isEmpty {
            return rendering.generated.filter { range in
                rendering.blocks.first { $0.range.overlaps(range) }.map { isLearnt($0.message) } ?? true
            }
        }
        var replies: [Range<Int>] = []
        for (i, message) in messages.enumerated() where message.role == "assistant" && isLearnt(i) {
            let range: Range<Int>
            if let block = Self.block(of: i, in: rendering) {
                let start = replyStart(i, block, in: rendering, messages, tools: tools)
                range = start..<max(start, block.upperBound)
            } else if let between = difference(i, rendering.text.units, messages, tools: tools) {
                range = between
            } else {
                throw ChatError(.turnsUnknown, "the model's chat template does not show which part of its text is message \(i + 1)")
            }
            let end = Self.replyEnd(range, in: rendering.text)
            if range.lowerBound < end { replies.append(range.lowerBound..<end) }
        }
        return replies
    }

    /// Returns the range that the template wrote while its loop was at the message.
    private static func block(of message: Int, in rendering: JinjaRendering) -> Range<Int>? {
        let ranges = rendering.blocks.filter { $0.message == message }.map(\.range)
        guard let first = ranges.first, let last = ranges.last else { return nil }
        return first.lowerBound..<last.upperBound
    }

    /// Returns where the model, asked to reply, would begin to write. This is never after the beginning of the message's own words.
    private func replyStart(_ i: Int, _ block: Range<Int>, in rendering: JinjaRendering, _ messages: [ChatMessage], tools: JSON?) -> Int {
        let before = Array(messages[..<i])
        let units = rendering.text.units
        let own = block.first { units[$0] & JinjaText.markMask == JinjaText.mark(message: i) } ?? block.upperBound
        guard let asked = try? self.rendering(before, tools: tools, addingReplyStart: true).text.units else { return own }
        let shared = Self.common(units[...], asked[...])
        if block.contains(shared) || shared == block.upperBound {
            // The prompt to reply may begin differently, for instance with an open `<think>`. Then the reply begins after the last mark
            // that both have.
            return min(own, shared == asked.count ? shared : Self.lastMark(units, block.lowerBound..<shared))
        }
        // The template writes earlier turns differently if more follow. Then the reply begins after the part that prompts for a reply.
        guard let silent = try? self.rendering(before, tools: tools, addingReplyStart: false).text.units else { return own }
        let added = asked[Self.common(asked[...], silent[...])...]
        let count = Self.common(units[block], added)
        let end = block.lowerBound + count
        return count == added.count ? min(own, end) : min(own, Self.lastMark(units, block.lowerBound..<end))
    }

    /// Returns the part by which the conversation up to this turn exceeds the prompt to reply before it; nil unless the whole begins with
    /// both.
    private func difference(_ i: Int, _ units: [UInt32], _ messages: [ChatMessage], tools: JSON?) -> Range<Int>? {
        guard let asked = try? rendering(Array(messages[..<i]), tools: tools, addingReplyStart: true).text.units,
            let told = try? rendering(Array(messages[...i]), tools: tools, addingReplyStart: false).text.units,
            asked.count <= told.count, Self.common(units[...], asked[...]) == asked.count, Self.common(units[...], told[...]) == told.count
        else { return nil }
        return asked.count..<told.count
    }

    private static func common(_ a: ArraySlice<UInt32>, _ b: ArraySlice<UInt32>) -> Int {
        zip(a, b).prefix { ($0 ^ $1) & JinjaText.valueMask == 0 }.count
    }

    /// Returns the end of the last whole mark or line in a range, because the common beginning of two texts may end within a token.
    private static func lastMark(_ units: [UInt32], _ range: Range<Int>) -> Int {
        var end = range.upperBound
        while end > range.lowerBound, !">]}".unicodeScalars.contains(JinjaText.scalar(units[end - 1])), !JinjaText.isSpace(units[end - 1]) {
            end -= 1
        }
        return end
    }

    /// Returns the end of a reply. White space that the template writes after the turn's end is not the assistant's.
    private static func replyEnd(_ range: Range<Int>, in text: JinjaText) -> Int {
        var end = range.upperBound
        while end > range.lowerBound, !JinjaText.isContent(text.units[end - 1]), JinjaText.isSpace(text.units[end - 1]) { end -= 1 }
        return end
    }
}

extension UnicodeClass {
    static func isASCIISpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }
}
