import Coordinator
import Core
import Foundation
import LanguageModel

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

    /// - Parameter ledger: path of the ledger or run directory, which may also hold the run's report.
    init(_ archive: LedgerArchive, base: String, round: RoundNumber, digest: Digest, isAdapter: Bool, ledger: String) {
        task = archive.summary.spec.task
        (self.base, self.round, self.digest, self.isAdapter) = (base, round, digest, isAdapter)
        let file = FileManager.default.contents(atPath: RunDirectory(ledger).report)
        let found = file.flatMap { try? JSONDecoder().decode(RunReport.self, from: $0) }
        report = found?.digest == digest.description ? found : nil
    }

    var markdown: String {
        var parts = ["Fine-tuned with OneByte: \(round) rounds on `\(base)`. Digest of the trained parameters: `\(digest)`."]
        parts.append("## Task\n\n" + taskRows.joined(separator: "\n"))
        if let scores { parts.append("## Scores\n\n" + scores.joined(separator: "\n")) }
        parts.append("## Use\n\n```python\n\(program)\n```")
        return parts.joined(separator: "\n\n") + "\n"
    }

    // MARK: Task

    /// The template without the spaces at its end; these belong to the label words, as in training.
    private var promptTemplate: String {
        let template = task.template ?? "{prompt}"
        guard task.kind == .classification else { return template }
        return String(template.reversed().drop { $0 == " " }.reversed())
    }

    private var words: [(label: String, word: String)] {
        let template = task.template ?? ""
        let space = String(template.dropFirst(promptTemplate.count))
        return (task.labels ?? []).map { ($0.label, $0.word.hasPrefix(" ") ? $0.word : space + $0.word) }
    }

    private var taskRows: [String] {
        var rows = ["- kind: \(task.kind.rawValue)"]
        if task.kind == .classification || task.template != nil { rows.append("- template: `\(promptTemplate)`") }
        for (label, word) in words { rows.append("- label `\(label)`: the word `\(word)`") }
        rows.append("- longest example in training: \(task.maxLength) tokens; longer ones were cut")
        return rows
    }

    // MARK: Scores

    private var scores: [String]? {
        guard let report, let evaluation = report.evaluation, report.before != nil || report.after != nil else { return nil }
        let seen = evaluation.remark.map { "; \($0)" } ?? ""
        return [("before", report.before), ("after", report.after)].compactMap { moment, score in score.map { "- \(moment): \($0.text)" } }
            + [
                "- measured on `\(URL(filePath: evaluation.file).lastPathComponent)`, \(evaluation.isHeldOut ? "held out" : "not held out")\(seen); the loss is: \(evaluation.lossMeaning)"
            ]
    }

    // MARK: Program

    /// Returns a text as a Python literal.
    private func literal(_ text: String) -> String { JSON.string(text).text(indent: 0) }

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

            base = \(literal(base))  # the base model, in Hugging Face's format
            path = "."  # this directory
            tokenizer = AutoTokenizer.from_pretrained(base)
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path)
            """
    }

    /// The fields of the template, each with an example value.
    private var fields: String {
        var names: [String] = []
        for part in promptTemplate.unicodeScalars.split(separator: "{", omittingEmptySubsequences: false).dropFirst() {
            guard let end = part.firstIndex(of: "}") else { continue }
            let name = String(part[..<end])
            if !name.isEmpty, !names.contains(name) { names.append(name) }
        }
        return names.map { "\(literal($0)): \"…\"" }.joined(separator: ", ")
    }

    private var program: String {
        switch task.kind {
        case .classification:
            let table = words.map { "\(literal($0.label)): \(literal($0.word))" }.joined(separator: ", ")
            return """
                \(loading)
                template = \(literal(promptTemplate))
                words = {\(table)}

                def score(prompt, word):
                    start = tokenizer(prompt).input_ids
                    tokens = tokenizer(word, add_special_tokens=False).input_ids
                    with torch.no_grad():
                        logits = model(torch.tensor([start + tokens])).logits[0].float().log_softmax(-1)
                    return sum(logits[len(start) - 1 + i, token].item() for i, token in enumerate(tokens))

                def classify(**fields):
                    prompt = template.format(**fields)
                    return max(words, key=lambda label: score(prompt, words[label]))

                print(classify(**{\(fields)}))
                """
        case .chat:
            return """
                \(loading)
                messages = [{"role": "user", "content": "…"}]
                inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
                written = model.generate(**inputs, max_new_tokens=64, do_sample=False)
                print(tokenizer.decode(written[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
                """
        case .completion, .text:
            let prompt = task.kind == .text ? "\"…\"" : "\(literal(promptTemplate)).format(**{\(fields)})"
            return """
                \(loading)
                inputs = tokenizer(\(prompt), return_tensors="pt")
                written = model.generate(**inputs, max_new_tokens=64, do_sample=False)
                print(tokenizer.decode(written[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
                """
        }
    }
}
