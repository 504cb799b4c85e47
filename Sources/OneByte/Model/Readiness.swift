import Core
import LanguageModel
import Training

/// Whether a run can train a model, determined by trying what the run will need.
struct Readiness {
    /// Why no run can train the model; nil if one can.
    let obstacle: String?
    /// What some runs can't do with the model.
    let limits: [String]

    init(_ source: ModelSource) {
        limits = Self.limits(of: source)
        do {
            let tokenizer = try source.tokenizer
            let vocabulary = source.configuration.vocabularySize
            guard tokenizer.vocabularySize <= vocabulary else {
                obstacle = "its tokenizer has \(tokenizer.vocabularySize) tokens, and the model embeds \(vocabulary)"
                return
            }
            guard try TrainableModel(source: source).firstLayerIsFinite(tokenizer.encode("It was great.")) else {
                obstacle = "its first layer makes numbers that are not finite: the files are damaged, or belong to another model"
                return
            }
            obstacle = nil
        } catch {
            obstacle = "\(error)"
        }
    }

    private static func limits(of source: ModelSource) -> [String] {
        guard (try? source.tokenizer) != nil else { return [] }
        do {
            return try source.chatTemplate == nil ? ["no conversations (--kind chat): its files have no chat template"] : []
        } catch {
            return ["no conversations (--kind chat): \(error)"]
        }
    }

    /// Text such as `yes`, or `no, because …`.
    var text: String {
        if let obstacle { return "no, because \(obstacle)" }
        return (["yes"] + limits).joined(separator: "; ")
    }
}
