import LanguageModel
import Synchronization

/// Remembers which characters a tokenizer has no tokens for, because texts repeat the same few characters.
final class LackingCharacters: Sendable {
    private let tokenizer: Tokenizer
    private let known = Mutex<[Unicode.Scalar: Bool]>([:])

    /// Returns nil if the tokenizer has tokens for all characters.
    init?(_ tokenizer: Tokenizer) {
        guard tokenizer.lacksCharacters else { return nil }
        self.tokenizer = tokenizer
    }

    func contains(_ character: Unicode.Scalar) -> Bool {
        known.withLock { known in
            if let answer = known[character] { return answer }
            let answer = tokenizer.lacks(character)
            known[character] = answer
            return answer
        }
    }
}
