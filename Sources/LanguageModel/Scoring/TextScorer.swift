/// A text that a model wrote after a prompt.
struct WrittenText: Hashable {
    let prompt: WritingPrompt
    let text: String
}

/// Gives each text a score; more is better, on any scale.
protocol TextScorer: AnyObject {
    /// - Returns: as many finite numbers as there are texts.
    /// - Throws: `ScoringError`.
    func scores(of texts: [WrittenText]) throws -> [Double]
}
