import Coordinator
import Core
import Foundation
import LanguageModel
import Training

/// The part of an exported model's README that describes the run: the task that the model was trained for, its scores, and a program that
/// uses it. Without its template a model is of no use.
struct ModelCard {
    let task: TaskSpec
    /// The base model's name as the user gave it.
    let base: String
    let round: RoundNumber
    let digest: Digest
    /// Whether the export is a LoRA adapter of the head, to be loaded onto the base model.
    let isAdapter: Bool
    /// The run's own report, if it describes exactly these parameters.
    let report: RunReport?
    /// Tokens that the model expects before every text.
    private let leadingTokens: [Int32]

    /// - Parameters:
    ///   - source: the base model.
    ///   - ledger: path of the ledger or run directory, which may also hold the run's report.
    init(
        _ archive: LedgerArchive, base: String, source: ModelSource, round: RoundNumber, digest: Digest, isAdapter: Bool, ledger: String
    ) throws {
        task = archive.summary.spec.task
        (self.base, self.round, self.digest, self.isAdapter) = (base, round, digest, isAdapter)
        leadingTokens = try source.tokenizer.leadingTokens
        let path = RunDirectory(holding: ledger).report
        guard let file = FileManager.default.contents(atPath: path) else {
            report = nil
            return
        }
        do {
            let found = try JSONDecoder().decode(RunReport.self, from: file)
            report = found.digest == digest.description ? found : nil
        } catch {
            standardError.write("note: \(path) can't be read, so the README has no scores; `onebyte evaluate` measures them again")
            report = nil
        }
    }

    var markdown: String {
        var parts = ["Fine-tuned with OneByte: \(round) rounds on \(Self.span(base)). Digest of the trained parameters: `\(digest)`."]
        parts.append("## Task\n\n" + taskRows.joined(separator: "\n"))
        if let scores { parts.append("## Scores\n\n" + scores.joined(separator: "\n")) }
        let fence = Self.fence(program, least: 3)
        parts.append("## Use\n\n\(fence)python\n\(program)\n\(fence)")
        return parts.joined(separator: "\n\n") + "\n"
    }

    /// Returns backticks that the text does not hold in a row.
    private static func fence(_ text: String, least: Int) -> String {
        let longest = text.utf8.split(omittingEmptySubsequences: true) { $0 != UInt8(ascii: "`") }.map(\.count).max() ?? 0
        return String(repeating: "`", count: max(least, longest + 1))
    }

    /// Returns a text as Markdown's code on one line. Line breaks and other control characters are escaped as in JSON.
    private static func span(_ text: String) -> String {
        let isPlain = !text.unicodeScalars.contains { $0.properties.generalCategory == .control }
        let shown = isPlain ? text : literal(text)
        let fence = fence(shown, least: 1)
        let pad = shown.hasPrefix("`") || shown.hasSuffix("`") ? " " : ""
        return fence + pad + shown + pad + fence
    }

    // MARK: Task

    /// The template without the spaces at its end, which belong to the label words, as in training; nil if the task has none.
    private var template: (parts: [Template.Part], fields: [String], space: String)? {
        guard task.kind == .classification || task.kind == .completion, let whole = try? Template(task.template ?? "{prompt}") else { return nil }
        guard task.kind == .classification else { return (whole.parts, whole.fields, "") }
        let (kept, space) = whole.splittingTrailingSpace()
        return (kept.parts, kept.fields, space)
    }

    private var words: [(label: String, word: String)] {
        let space = template?.space ?? ""
        return (task.labels ?? []).map { ($0.label, $0.word.hasPrefix(" ") ? $0.word : space + $0.word) }
    }

    private var taskRows: [String] {
        var rows = ["- kind: \(task.kind.rawValue)"]
        if let text = task.template { rows.append("- template: \(Self.span(String(text.dropLast(template?.space.count ?? 0))))") }
        for (label, word) in words { rows.append("- label \(Self.span(label)): the word \(Self.span(word))") }
        rows.append("- longest example in training: \(task.maxLength) tokens; longer ones were cut")
        return rows
    }

    // MARK: Scores

    private var scores: [String]? {
        guard let report, let evaluation = report.evaluation, report.before != nil || report.after != nil else { return nil }
        let seen = evaluation.remark.map { "; \($0)" } ?? ""
        let place = evaluation.file.isEmpty ? "by the run's evaluators" : "on `\(URL(filePath: evaluation.file).lastPathComponent)`"
        let standing = evaluation.isHeldOut.map { $0 ? "held out" : "not held out" } ?? "not compared with the training data"
        return [("before", report.before), ("after", report.after)].compactMap { moment, score in score.map { "- \(moment): \($0.text)" } }
            + [
                "- measured \(place), \(standing)\(seen); the loss is: \(evaluation.lossMeaning)"
            ]
    }

    // MARK: Program

    /// Returns a text as a Python literal.
    private static func literal(_ text: String) -> String { JSON.string(text).text(indent: 0) }

    /// The base model as the program names it: a path that is there by its whole name, because the program runs elsewhere.
    private var basePlace: String { FileManager.default.fileExists(atPath: base) ? URL(filePath: base).standardizedFileURL.path : base }

    private var loading: String {
        guard isAdapter else {
            return """
                import torch
                from transformers import AutoModelForCausalLM, AutoTokenizer

                path = "."  # this directory
                tokenizer = AutoTokenizer.from_pretrained(path)
                model = AutoModelForCausalLM.from_pretrained(path)
                """
        }
        return """
            import torch
            from peft import PeftModel
            from transformers import AutoModelForCausalLM, AutoTokenizer

            base = \(Self.literal(basePlace))  # the base model, in Hugging Face's format
            path = "."  # this directory
            tokenizer = AutoTokenizer.from_pretrained(base)
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path)
            """
    }

    /// The Python function that encodes a text as the training did: special tokens that the text spells stay text, and what the model expects
    /// before a text is put there once.
    private var encoding: String {
        """
        def encode(text):
            return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

        def begin(text):
            return [\(leadingTokens.map(String.init).joined(separator: ", "))] + encode(text)
        """
    }

    /// The Python function that fills the template. It joins the parts, because braces, colons and dots of a field's name mean something to
    /// Python's own templates.
    private var filling: String {
        let parts = (template?.parts ?? []).map { part in
            switch part {
            case .literal(let text): Self.literal(text)
            case .field(let name): "str(fields[\(Self.literal(name))])"
            }
        }
        return """
            def fill(fields):
                return \(parts.joined(separator: " + "))
            """
    }

    /// An example of the template's fields, in Python.
    private var fields: String { "{" + (template?.fields ?? []).map { "\(Self.literal($0)): \"…\"" }.joined(separator: ", ") + "}" }

    private func writing(after text: String) -> String {
        """
        prompt = torch.tensor([begin(\(text))])
        written = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, do_sample=False)
        print(tokenizer.decode(written[0][prompt.shape[1]:], skip_special_tokens=True))
        """
    }

    private var program: String {
        switch task.kind {
        case .classification:
            let table = words.map { "\(Self.literal($0.label)): \(Self.literal($0.word))" }.joined(separator: ", ")
            return """
                \(loading)
                words = {\(table)}

                \(encoding)

                \(filling)

                def score(prompt, word):
                    tokens = encode(word)
                    with torch.no_grad():
                        logits = model(torch.tensor([prompt + tokens])).logits[0].float().log_softmax(-1)
                    return sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(tokens))

                def classify(fields):
                    prompt = begin(fill(fields))
                    return max(words, key=lambda label: score(prompt, words[label]))

                print(classify(\(fields)))
                """
        case .chat:
            return """
                \(loading)
                messages = [{"role": "user", "content": "…"}]
                inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
                written = model.generate(**inputs, max_new_tokens=64, do_sample=False)
                print(tokenizer.decode(written[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
                """
        case .completion:
            return """
                \(loading)

                \(encoding)

                \(filling)

                \(writing(after: "fill(\(fields))"))
                """
        case .text:
            return """
                \(loading)

                \(encoding)

                \(writing(after: "\"…\""))
                """
        }
    }
}
