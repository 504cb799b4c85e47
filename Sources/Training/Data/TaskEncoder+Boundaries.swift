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
        } else {
            answer = tokenizer.encode(completion)
            data.splitBoundaries[remedy(prompt, completion), default: 0] += 1
        }
        if !tokenizer.trailingTokens.isEmpty {
            answer += tokenizer.trailingTokens
        } else if let end = tokenizer.eosToken {
            answer.append(end)
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

    /// Whether a word directly follows a letter in a script that puts spaces between words.
    private static func joins(_ prompt: String, _ word: String) -> Bool {
        func isLetter(_ scalar: Unicode.Scalar?) -> Bool {
            guard let properties = scalar?.properties else { return false }
            return properties.isAlphabetic && !properties.isIdeographic
                && (properties.isCased || properties.isLowercase || properties.isUppercase)
        }
        return isLetter(prompt.unicodeScalars.last) && isLetter(word.unicodeScalars.first)
    }

    /// Notes text that spells a control token. It is read as plain text, and its author may have meant the token.
    func note(_ text: String, in data: inout EncodedData) {
        guard let token = tokenizer.specialTokens(spelledIn: text).first else { return }
        data.spelledTokens = ((data.spelledTokens?.count ?? 0) + 1, data.spelledTokens?.token ?? token)
    }
}
