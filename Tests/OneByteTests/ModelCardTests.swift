import Foundation
import LanguageModel
import OneByte
import Testing

/// The program in an exported model's README does what the run was trained for, whatever the template and the labels hold.
@Suite(.serialized) struct ModelCardTests {
    /// Field names that mean something to Python's own templates, and characters that mean something to Python, JSON and Markdown.
    private static let template = "{a:b} \"{text!r}\" \\n'''\n{{literal}} {0} ``` {x.y}{z[1]} $1 %s é\u{301} 🙂 It was"
    private static let fields = ["a:b", "text!r", "0", "x.y", "z[1]"]
    private static let labels = [("say \"bad\"", " bad\"\"\""), ("good{0}", " good\\"), ("`", " ok")]

    /// A Python with torch and transformers: `ONEBYTE_PYTHON`, or python3.
    private static let python: String? = {
        let candidates = [ProcessInfo.processInfo.environment["ONEBYTE_PYTHON"], "python3"].compactMap { $0 }
        return candidates.first { succeeds([$0, "-c", "import torch, transformers"]) }
    }()
    private static let hasPython = succeeds(["python3", "-c", ""])
    private static let hasPEFT = python.map { succeeds([$0, "-c", "import peft"]) } ?? false

    private static func succeeds(_ command: [String]) -> Bool {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = command
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }

    /// Returns a copy of the tiny model that wants a token before each text, and puts one behind it.
    private func surroundedModel(_ scratch: borrowing Scratch) throws -> String {
        let model = "\(scratch.path)/surrounded"
        try FileManager.default.copyItem(atPath: Binary.tinyModel, toPath: model)
        let path = "\(model)/tokenizer.json"
        var file = try JSON.read(path)
        func special(_ name: String) -> JSON { ["SpecialToken": ["id": .string(name), "type_id": 0]] }
        func entry(_ name: String, _ id: Int) -> JSON { ["id": .string(name), "ids": [.integer(id)], "tokens": [.string(name)]] }
        let single: JSON = [special("<|im_start|>"), ["Sequence": ["id": "A", "type_id": 0]], special("<|im_end|>")]
        file.set(
            "post_processor",
            [
                "type": "TemplateProcessing", "single": single, "pair": single,
                "special_tokens": ["<|im_start|>": entry("<|im_start|>", 1), "<|im_end|>": entry("<|im_end|>", 2)],
            ])
        try Data(file.text().utf8).write(to: URL(filePath: path))
        return model
    }

    private func line(_ value: JSON) -> String { value.text(indent: 0) + "\n" }

    /// Returns a record whose fields all hold an ellipsis, as in the card's program.
    private func record(_ more: (String, String)...) -> JSON {
        .object(Self.fields.map { JSON.Member(key: $0, value: "…") } + more.map { JSON.Member(key: $0.0, value: .string($0.1)) })
    }

    /// Trains a little, exports the model, and returns the README's program.
    private func program(
        _ scratch: borrowing Scratch, model: String = Binary.tinyModel, data: String, task: [String], train: String = "layers.2",
        format: String = "merged"
    ) async throws -> String {
        let file = try scratch.file("train.jsonl", data)
        let run = "\(scratch.path)/run"
        let trained = try await Binary.run(
            [
                "cluster", "--model", model, "--train-file", file, "--directory", run, "--rounds", "1", "--workers", "1", "--samples-per-round", "4",
                "--damped-components", "none", "--train", train,
            ] + task)
        try #require(trained.status == 0, "\(trained.errors)")
        let exported = "\(scratch.path)/exported"
        let found = try await Binary.run("export", "--model", model, "--ledger", run, "--output", exported, "--format", format, "--data-type", "f32")
        try #require(found.status == 0, "\(found.errors)")
        let card = try String(contentsOfFile: "\(exported)/README.md", encoding: .utf8)
        // The fence is longer than any row of backticks in the program.
        let opening = try #require(card.firstMatch(of: /\n(`{3,})python\n/))
        let rest = card[opening.range.upperBound...]
        let end = try #require(rest.range(of: "\n\(opening.1)\n"))
        let program = String(rest[..<end.lowerBound])
        #expect(!program.contains(opening.1) && rest[end.upperBound...].isEmpty)
        // Each row of the task is one line, whatever the template holds.
        #expect(
            card[..<opening.range.lowerBound].contains("\n- kind: ")
                && card.contains(/\n- longest example in training: \d+ tokens; longer ones were cut\n/))
        if task == classification { #expect(card.contains(#"\n- template: ````"{a:b}"#.replacing(#"\n"#, with: "\n"))) }
        return program
    }

    private func trainingData(_ labels: [String]) -> String { (0..<12).map { line(record(("label", labels[$0 % labels.count]))) }.joined() }

    private var classification: [String] {
        ["--template", Self.template] + Self.labels.flatMap { ["--label", "\($0.0)=\($0.1)"] }
    }

    @Test("The template is filled as in training, with fields and braces that mean something to Python", .enabled(if: hasPython, "needs python3"))
    func filledTemplates() async throws {
        let scratch = try Scratch()
        let program = try await program(scratch, data: trainingData(Self.labels.map(\.0)), task: classification)
        // Parses the whole program, and runs only the function that fills the template, which needs no packages.
        let check = """
            import ast, json, sys
            tree = ast.parse(sys.stdin.read())
            parts = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "fill"
                     or isinstance(n, ast.Assign) and n.targets[0].id == "words"]
            space = {}
            exec(compile(ast.Module(parts, []), "card", "exec"), space)
            print(json.dumps([space["fill"](json.loads(sys.argv[1])), space["words"]]))
            """
        let values: JSON = .object(Self.fields.enumerated().map { .init(key: $1, value: .string("{v\($0)}")) })
        let source = try scratch.file("program.py", program)
        let script = try scratch.file("check.py", check)
        let found = try await Binary.runShell("python3 '\(script)' '\(values.text(indent: 0))' < '\(source)'")
        try #require(found.status == 0, "\(found.errors)")
        let expected =
            "{v0} \"{v1}\" \\n'''\n{literal} {v2} ``` {v3}{v4} $1 %s é\u{301} 🙂 It was"
        let json = try Data(found.output.utf8).withUnsafeBytes { try JSON($0, file: "answer") }
        #expect(Array((json.array?.first?.string ?? "").utf8) == Array(expected.utf8), "\(found.output)")
        let words = Dictionary(uniqueKeysWithValues: (json.array?.last?.members ?? []).map { ($0.key, $0.value.string) })
        #expect(words == Dictionary(uniqueKeysWithValues: Self.labels))
    }

    private func run(_ program: String, _ scratch: borrowing Scratch) async throws -> String {
        let python = try #require(Self.python)
        let found = try await Binary.run(
            ["\(python)", "-c", program], program: "/usr/bin/env", in: "\(scratch.path)/exported", environment: ["HF_HUB_OFFLINE": "1"])
        try #require(found.status == 0, "\(found.errors)")
        return found.output
    }

    private func predicted(_ scratch: borrowing Scratch, model: String = Binary.tinyModel, _ record: JSON) async throws -> String {
        let file = try scratch.file("new.jsonl", line(record))
        let found = try await Binary.run("predict", file, "--model", model, "--ledger", "\(scratch.path)/run", "--max-tokens", "64")
        try #require(found.status == 0, "\(found.errors)")
        let answer = try Data(found.output.utf8).withUnsafeBytes { try JSON($0, file: "answer") }
        return try #require(answer["predicted"]?.string)
    }

    @Test(
        "The program of a classification answers as predict does",
        .enabled(if: python != nil, "needs a Python with torch and transformers (ONEBYTE_PYTHON)"), arguments: ["merged", "surrounded", "peft"])
    func classifies(_ kind: String) async throws {
        if kind == "peft", !Self.hasPEFT { return }
        let scratch = try Scratch()
        let model = kind == "surrounded" ? try surroundedModel(scratch) : Binary.tinyModel
        let program = try await program(
            scratch, model: model, data: trainingData(Self.labels.map(\.0)), task: classification,
            train: kind == "peft" ? "adapter:final" : "layers.2",
            format: kind == "peft" ? "peft" : "merged")
        #expect(try await run(program, scratch) == predicted(scratch, model: model, record()) + "\n")
    }

    @Test(
        "The program of a completion, a text or a chat writes what predict writes",
        .enabled(if: python != nil, "needs a Python with torch and transformers (ONEBYTE_PYTHON)"), arguments: ["completion", "text", "chat"])
    func writes(_ kind: String) async throws {
        let scratch = try Scratch()
        let model = kind == "completion" ? try surroundedModel(scratch) : Binary.tinyModel
        let data: JSON
        let question: JSON
        switch kind {
        case "completion": (data, question) = (record(("completion", " a good film")), record())
        case "text": (data, question) = (["text": "One film after another."], ["prompt": "…"])
        default:
            question = ["messages": [["role": "user", "content": "…"]]]
            data = ["messages": [["role": "user", "content": "Hi"], ["role": "assistant", "content": "a film"]]]
        }
        let program = try await program(
            scratch, model: model, data: String(repeating: line(data), count: 4),
            task: kind == "completion" ? ["--template", Self.template] : ["--kind", kind])
        let written = try await run(program, scratch)
        let expected: String
        if kind == "text" {
            // A text has no prompt to predict from; generate continues it.
            let found = try await Binary.run(
                "generate", "…", "--model", model, "--ledger", "\(scratch.path)/run", "--max-tokens", "64", "--temperature", "0")
            expected = String(found.output.dropFirst())
        } else {
            expected = try await predicted(scratch, model: model, question) + "\n"
        }
        #expect(written == expected)
    }
}
