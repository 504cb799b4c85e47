import LanguageModel

/// A text that a model wrote after a prompt.
package struct WrittenText: Hashable {
    package let prompt: WritingPrompt
    package let text: String

    package init(prompt: WritingPrompt, text: String) { (self.prompt, self.text) = (prompt, text) }
}

/// Scores texts. Higher is better, on any scale.
package protocol TextScorer: AnyObject {
    /// Scores texts, in their order.
    ///
    /// - Returns: one finite number per text.
    /// - Throws: `ScoringError`.
    func scores(of texts: [WrittenText]) throws -> [Double]
}
