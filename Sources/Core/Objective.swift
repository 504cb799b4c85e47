/// A score that has no derivative, over all examples of a sample at once. Every loss of the run is then 1 − score: that of samples, of validations
/// and of held-out data. For `command` it is −score, because nobody here knows the scale of the program's scores.
public enum Objective: String, Codable, Hashable, Sendable, CaseIterable {
    /// Fraction of the examples that are classified right.
    case accuracy
    /// The mean of the classes' F1 scores (macro F1), over the classes that occur or are predicted.
    case f1
    /// Fraction of the completions that greedy decoding reproduces token for token.
    case exactMatch = "exact-match"
    /// The mean of the scores that an outside program gives to the texts that the model writes after each prompt. Each host names its own program,
    /// and the spec does not: a coordinator must not be able to make a worker run anything.
    case command
}
