import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

struct GenerateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate",
        abstract: "Let a model write: base, exported, or base + ledger.",
        discussion: joined(
            """
            Continue a text:

              onebyte generate 'The film was' --model SmolLM2.gguf

            The same with a run's rounds applied, and as it was at round 100:

              onebyte generate 'The film was' --model SmolLM2.gguf --ledger runs/reviews
              onebyte generate 'The film was' --model SmolLM2.gguf \\
                --ledger runs/reviews --at-round 100

            Chat with sampling:

              onebyte generate 'Name three rivers.' --chat --model SmolLM2.gguf \\
                --temperature 0.7 --top-p 0.9 --seed 5

            All prompts of a file, before the run's rounds and after, next to the wanted text:

              onebyte generate --file held-out.jsonl --model SmolLM2.gguf \\
                --ledger runs/e2e --output written.jsonl
            """))

    @Argument(help: ArgumentHelp("The text that the model continues.", valueName: "text")) var prompt: String?
    @Option(
        help: ArgumentHelp("Continue each prompt of this file: JSON lines, CSV or TSV of prompt and completion, or of messages.", valueName: "file")
    )
    var file: String?
    @Option(name: .shortAndLong, help: ArgumentHelp("Where the texts of --file go, as JSON lines. (default: standard output)", valueName: "file"))
    var output: String?
    @Option(help: .of(.model)) var model: String
    @OptionGroup var ledger: LedgerFlags
    @Flag(help: "The text is a user's turn; the model's chat template goes around it.") var chat = false
    @Option(help: ArgumentHelp("Stop after so many tokens.", valueName: "number")) var maxTokens = 128
    @Option(help: ArgumentHelp("0: always the likeliest token.", valueName: "number")) var temperature = 0.0
    @Option(help: ArgumentHelp("Draw from the likeliest tokens that together have this probability. (default: 1)", valueName: "0…1"))
    var topP: Double?
    @Option(help: ArgumentHelp("Random seed. (default: 0)", valueName: "number")) var seed: UInt64?
    @OptionGroup var threads: ThreadFlags

    func validate() throws {
        guard maxTokens > 0 else { throw ValidationError("--max-tokens must be at least 1") }
        guard temperature >= 0, temperature.isFinite else { throw ValidationError("--temperature must be 0 or more") }
        guard (prompt == nil) != (file == nil) else { throw ValidationError("give either a text to continue, or --file") }
        guard file == nil || (!chat && temperature == 0) else {
            throw ValidationError("--file always takes the likeliest token, in the task's own form; leave out --chat and --temperature")
        }
        guard output == nil || file != nil else { throw ValidationError("--output names the file for the texts of --file; give --file too") }
        guard (topP ?? 1) > 0, (topP ?? 1) <= 1 else { throw ValidationError("--top-p must be above 0 and at most 1") }
    }

    func run() throws {
        for (flag, isGiven) in [("--top-p", topP != nil), ("--seed", seed != nil)] where isGiven && temperature == 0 {
            standardError.write("note: \(flag) does nothing here: at a temperature of 0 the likeliest token is always taken")
        }
        if let file { return try writeAll(file) }
        let prompt = prompt ?? ""
        if let found = EscapedBreak(prompt) { standardError.write("note: the text \(found.remark)") }
        let state = try ModelState.load(model: model, ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
        let tokenizer = try state.source.tokenizer
        var tokens: [Int32]
        if chat {
            guard let template = try state.source.chatTemplate else {
                throw ProcessFailure(.usage, "\(model) has no chat template; leave out --chat")
            }
            do throws(ChatError) {
                tokens = try template.prompt([ChatMessage(role: "user", content: prompt)], tokenizer: tokenizer)
            } catch {
                throw ProcessFailure(.badData, error.problem)
            }
        } else {
            tokens = tokenizer.leadingTokens + tokenizer.encode(prompt)
            standardOutput.writeContents(prompt)
        }
        let trainable = try TrainableModel(source: state.source, parameters: state.parameters, basis: state.ledger?.basis)
        var stops = state.source.configuration.eosTokens
        if let end = tokenizer.eosToken { stops.append(end) }
        var decoder = StreamingDecoder(tokenizer)
        let written = try Generator(model: trainable, threads: threads.count).generate(
            prompt: tokens,
            options: .init(maxTokens: maxTokens, temperature: temperature, topP: topP ?? 1, seed: seed ?? 0, stopTokens: stops)
        ) { token in
            standardOutput.writeContents(decoder.append(token))
            return true
        }
        standardOutput.writeContents(decoder.finish() + "\n")
        // A text that was cut must not look like one that the model ended.
        let context = state.source.configuration.contextLength
        if written.count == maxTokens {
            standardError.write("note: cut after \(maxTokens) tokens (--max-tokens); the model had not ended the text")
        } else if tokens.count + written.count >= context {
            standardError.write("note: cut at the \(context) tokens that the model takes; it had not ended the text")
        }
    }

    /// Writes the texts of the base and of the run's model after each prompt of a file, next to the wanted text.
    private func writeAll(_ file: String) throws {
        let records = try DataFile.read(file)
        let state = try ModelState.load(model: model, ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
        var settings = try Settings(file: nil, flags: [.trainFile: [file]])
        let task = try state.ledger?.summary.spec.task ?? settings.resolveTask()
        guard task.kind == .completion || task.kind == .chat else {
            throw ProcessFailure(
                .usage, "\(file): a \(task.kind.rawValue) has no prompts to continue; use `onebyte predict`")
        }
        let prompts = try WrittenTexts(records, task, state.source, maxTokens: maxTokens)
        func write(_ model: TrainableModel) throws -> [String?] { try prompts.write(model, threads: threads.count) }
        let after = try write(try TrainableModel(source: state.source, parameters: state.parameters, basis: state.ledger?.basis))
        let before = try state.ledger == nil ? nil : write(try TrainableModel(source: state.source))
        let lines = records.indices.map { index in
            var members = [JSON.Member(key: before == nil ? "text" : "after", value: after[index].map { .string($0) } ?? .null)]
            if let before { members.insert(.init(key: "before", value: before[index].map { .string($0) } ?? .null), at: 0) }
            return records[index].line(adding: members) + "\n"
        }.joined()
        if let output { try writeWhole(Data(lines.utf8), to: output) } else { standardOutput.writeContents(lines) }
        let wanted = records.map(\.wantedText)
        func scores(_ texts: [String?]) -> TextScores? {
            let pairs = zip(texts, wanted).compactMap { text, wanted in wanted.map { (written: text ?? "", wanted: $0) } }
            return pairs.isEmpty ? nil : TextScores(pairs)
        }
        if let before, let score = scores(before) { standardError.write("before: \(score.text)") }
        if let score = scores(after) { standardError.write("\(before == nil ? "" : "after: ")\(score.text), \(grouped(score.texts)) texts") }
    }
}
