import LanguageModel

/// Notes about texts whose tokens may differ from what the user meant.
extension TaskEncoder {
    /// Returns the completion's tokens as they follow this prompt, and the token that ends a text, so that the model learns where to stop.
    func completionTokens(of completion: String, after prompt: String, into data: inout EncodedData) -> [Int32] {
        let head = tokenizer.encode(prompt)
        let whole = tokenizer.encode(prompt + completion)
        var answer: [Int32]
        if whole.starts(with: head) {
            answer = Array(whole[head.count...])
            if Self.joins(prompt, completion) { data.joinedAnswers += 1 }
        } else {
            answer = tokenizer.encode(completion)
            data.splitBoundaries[remedy(prompt, completion), default: 0] += 1
        }
        if !tokenizer.trailingTokens.isEmpty {
            answer += tokenizer.trailingTokens
        } else if let end = tokenizer.eosToken {
            answer.append(end)
        } else {
            data.lacksEnd = true
        }
        return answer
    }

    /// Returns the change that gives prompt and answer the same tokens, written together or apart. The changes are tried, not guessed.
    private func remedy(_ prompt: String, _ answer: String) -> EncodedData.BoundaryRemedy {
        func agrees(_ prompt: String, _ answer: String) -> Bool {
            let head = tokenizer.encode(prompt)
            return tokenizer.encode(prompt + answer).starts(with: head)
        }
        let scalars = Array(prompt.unicodeScalars)
        let endsInSpace = scalars.last?.properties.isWhitespace == true
        if endsInSpace {
            let kept = scalars.count - scalars.reversed().prefix { $0.properties.isWhitespace }.count
            let space = String(String.UnicodeScalarView(scalars[kept...]))
            if kept > 0, agrees(String(String.UnicodeScalarView(scalars[..<kept])), space + answer) { return .moveSpace }
        } else if answer.unicodeScalars.first?.properties.isWhitespace == false, agrees(prompt, " " + answer) {
            return .leadingSpace
        }
        return .none
    }

    /// Notes a boundary that tokenises differently. Every class is checked, because a merge across the boundary depends on both prompt and
    /// word.
    func noteBoundaries(_ prompt: String, in data: inout EncodedData) {
        let tokens = tokenizer.encode(prompt)
        if let split = words.first(where: { tokenizer.encode(prompt + $0.text) != tokens + $0.tokens }) {
            data.splitBoundaries[remedy(prompt, split.text), default: 0] += 1
        }
        if words.contains(where: { Self.joins(prompt, $0.text) }) { data.joinedWords += 1 }
    }

    /// Scripts that put no spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana. Ideographs have a property of their own.
    private static let scriptsWithoutSpaces: [ClosedRange<UInt32>] = [
        0x0E00...0x0FFF, 0x1000...0x109F, 0x1780...0x17FF, 0x3040...0x30FF, 0x31F0...0x31FF, 0xA9E0...0xA9FF, 0xAA60...0xAA7F, 0xFF65...0xFF9F,
    ]

    /// Whether a word directly follows a letter or a digit in a script that puts spaces between words.
    private static func joins(_ prompt: String, _ word: String) -> Bool {
        func isOfAWord(_ scalar: Unicode.Scalar?) -> Bool {
            guard let scalar, scalar.properties.isAlphabetic || scalar.properties.numericType == .decimal else { return false }
            return !scalar.properties.isIdeographic && !scriptsWithoutSpaces.contains { $0.contains(scalar.value) }
        }
        return isOfAWord(prompt.unicodeScalars.last) && isOfAWord(word.unicodeScalars.first)
    }

    /// Notes text that spells a control token, which is read as plain text although its author may have meant the token; and text with
    /// characters that the model has no tokens for.
    func note(_ text: String, in data: inout EncodedData) {
        noteLackingTokens(text, in: &data)
        guard let token = tokenizer.specialTokens(spelledIn: text).first else { return }
        data.spelledTokens = ((data.spelledTokens?.count ?? 0) + 1, data.spelledTokens?.token ?? token)
    }

    private func noteLackingTokens(_ text: String, in data: inout EncodedData) {
        guard let lacking, let found = text.unicodeScalars.first(where: lacking.contains) else { return }
        data.lackingTokens = ((data.lackingTokens?.count ?? 0) + 1, data.lackingTokens?.character ?? found)
        data.hasUnknownToken = tokenizer.hasUnknownToken
    }
}
