import Foundation

/// What a user should know of a model's files before they use them.
extension ModelSource {
    /// Where two files of a directory disagree on what is put around a text, and special tokens that do not exist. What is said here does not
    /// keep the model from being used.
    package var remarks: [String] {
        guard isDirectory, let tokenizer = try? tokenizer else { return [] }
        var remarks: [String] = []
        for directory in Set([path, basePath]).sorted() {
            let file = directory + "/tokenizer_config.json"
            guard FileManager.default.fileExists(atPath: file), let config = try? JSON.read(file) else { continue }
            remarks += Self.disagreements(config, tokenizer).map { "\(file): \($0)" }
        }
        return remarks
    }

    private static func disagreements(_ config: JSON, _ tokenizer: Tokenizer) -> [String] {
        var found: [String] = []
        for (key, name, tokens, place) in [
            ("add_bos_token", "bos_token", tokenizer.leadingTokens, "before"), ("add_eos_token", "eos_token", tokenizer.trailingTokens, "after"),
        ] {
            guard let adds = config[key]?.bool else { continue }
            let token = tokenizer.specialTokenTexts[name].flatMap(tokenizer.id)
            let does = token.map(tokens.contains) ?? false
            guard adds != does, !adds || token != nil else { continue }
            found.append(
                "\(key) is \(adds), but tokenizer.json puts \(does ? "that token" : "no such token") \(place) a text; tokenizer.json is followed, as transformers 5 does"
            )
        }
        for name in ["bos_token", "eos_token"] {
            guard let text = tokenizer.specialTokenTexts[name], tokenizer.id(of: text) == nil else { continue }
            found.append("the \(name) \(text.debugDescription) is not in the vocabulary, and is not used")
        }
        return found
    }
}
