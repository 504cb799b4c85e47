import Core
import Foundation
import OneByte
import Testing

/// Failures and omissions are reported in the user's words, and each remedy works for the same input.
@Suite struct NothingInSilenceTests {
    private static let words = ["--template", "{text} It was", "--label", "0= bad", "--label", "1= good"]

    private func cluster(_ scratch: borrowing Scratch, data: String, _ more: String...) -> [String] {
        ([
            "cluster", "--model", Binary.tinyModel, "--train-file", data, "--directory", "\(scratch.path)/run", "--rounds", "2", "--workers", "1",
            "--samples-per-round", "4",
        ] + Self.words)
        .overridden(by: more)
    }

    // MARK: Names and paths

    @Test(
        "For an unknown command, the likely one is suggested or all are listed",
        arguments: [
            (["cluste", "--model", "m"], "did you mean `onebyte cluster`?"), (["ledger", "retrct", "x"], "did you mean `onebyte ledger retract`?"),
            (["evalute"], "did you mean `onebyte evaluate`?"),
            (["train"], "onebyte has cluster, coordinator"), (["model", "show", "m"], "onebyte model has inspect"),
        ])
    func unknownCommands(_ arguments: [String], _ expected: String) async throws {
        let found = try await Binary.run(arguments)
        #expect(found.status == ExitStatus.usage.rawValue && found.errors.contains(expected), "\(found.errors)")
    }

    @Test(
        "Flags of other programs and of other commands are answered with the flag that the command has",
        arguments: [
            (["export", "--output-dir", "x", "--model", "m"], "--output?"), (["cluster", "--output_dir", "x"], "--directory?"),
            (["cluster", "--lr", "1"], "--learning-rate"),
            (["cluster", "--num-train-epochs", "1"], "--rounds"), (["generate", "x", "--max-new-tokens", "5", "--model", "m"], "--max-tokens?"),
            (["cluster", "--shard", "1/2"], "`onebyte worker`"), (["worker", "--workers", "3"], "`onebyte cluster` has"),
            (["cluster", "--model-name-or-path", "m"], "--model"),
            (["ledger", "retract", "x", "--worker", "a"], "--machine?"), (["cluster", "--per_device_train_batch_size=4"], "--batch-size"),
        ])
    func foreignFlags(_ arguments: [String], _ expected: String) async throws {
        let found = try await Binary.run(arguments)
        #expect(found.status == ExitStatus.usage.rawValue && found.errors.contains(expected), "\(arguments): \(found.errors)")
    }

    @Test("A worker reports at once that a coordinator's name has no address")
    func unknownHost() async throws {
        let scratch = try Scratch()
        let found = try await Binary.run(
            "worker", "--coordinator", "tcp://no-such-host.invalid:5151", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(),
            "--patience", "3")
        #expect(found.status == ExitStatus.unavailable.rawValue, "\(found.errors)")
        #expect(found.errors.contains("no-such-host.invalid"), "\(found.errors)")
    }

    @Test("Where curl is missing, a model that has to be downloaded is an error that names curl; one in the cache is read")
    func withoutCurl() async throws {
        let scratch = try Scratch()
        let empty = "\(scratch.path)/bin"
        try FileManager.default.createDirectory(atPath: empty, withIntermediateDirectories: true)
        let environment = ["PATH": empty, "HF_HOME": "\(scratch.path)/hf", "HF_ENDPOINT": "http://127.0.0.1:1"]
        let found = try await Binary.run(["model", "inspect", "org/model"], environment: environment)
        #expect(found.status == ExitStatus.unavailable.rawValue, "\(found.errors)")
        #expect(
            found.errors.contains(
                "org/model: can't be downloaded: curl can't be started: it is not installed, or not in PATH\ninstall curl; or copy"),
            "\(found.errors)")
        let cached = "\(scratch.path)/hf/hub/models--org--model/snapshots/main"
        try FileManager.default.createDirectory(atPath: "\(cached)/..", withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: Binary.tinyModel, toPath: cached)
        let read = try await Binary.run(["model", "inspect", "org/model"], environment: environment)
        #expect(read.status == 0 && read.output.contains("can be trained"), "\(read.errors)")
    }

    @Test("A mistyped path of data or a run file is reported with the most likely path")
    func mistypedFiles() async throws {
        let scratch = try Scratch()
        let data = try scratch.reviews()
        let found = try await Binary.run("data", "preview", "\(scratch.path)/revews.jsonl", "--model", Binary.tinyModel)
        #expect(found.status == ExitStatus.missingInput.rawValue && found.errors.contains("did you mean \(data)?"), "\(found.errors)")
        let file = try scratch.file("run.toml", "")
        let hidden = try scratch.file(".hidden.jsonl", "")
        let dotted = try await Binary.run("data", "preview", "\(scratch.path)/.hiden.jsonl", "--model", Binary.tinyModel)
        #expect(dotted.errors.contains("did you mean \(hidden)?"), "\(dotted.errors)")
        let ledger = try await Binary.run("ledger", "show", "\(scratch.path)/revews.jsonl")
        #expect(ledger.status == ExitStatus.missingInput.rawValue && ledger.errors.contains("did you mean \(data)?"), "\(ledger.errors)")
        let other = try await Binary.run("cluster", "--config", "\(scratch.path)/rum.toml")
        #expect(other.status == ExitStatus.missingInput.rawValue && other.errors.contains("did you mean \(file)?"), "\(other.errors)")
    }

    // MARK: The machine

    @Test("A cluster with too few open files ends before it starts and names the number needed; a soft limit is raised")
    func openFiles() async throws {
        let scratch = try Scratch()
        let run = cluster(scratch, data: try scratch.reviews()).map { "'\($0)'" }.joined(separator: " ")
        let hard = try await Binary.runShell("ulimit -Sn 24; ulimit -Hn 24; '\(Binary.path)' \(run)")
        #expect(hard.status == ExitStatus.inputOutput.rawValue, "\(hard.errors)")
        #expect(
            hard.errors.contains("open files and connections are needed, and this process may have 24") && hard.errors.contains("ulimit -n "),
            "\(hard.errors)")
        #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/run"))
        let soft = try await Binary.runShell("ulimit -Sn 24; '\(Binary.path)' \(run)")
        #expect(soft.status == 0, "\(soft.errors)")
    }

    @Test("Results that the shell's file limit does not take are an error, and no signal ends the program")
    func fileSizeLimit() async throws {
        let scratch = try Scratch()
        let data = try scratch.file("texts.jsonl", "{\"text\":\"one\"}\n")
        let found = try await Binary.runShell(
            "ulimit -f 0; '\(Binary.path)' data preview '\(data)' --model '\(Binary.tinyModel)' > '\(scratch.path)/out'")
        #expect(found.status == ExitStatus.inputOutput.rawValue && found.errors.contains("File too large"), "\(found)")
    }

    // MARK: Settings

    @Test("A setting without effect in the run is reported with the reason")
    func idleSettings() async throws {
        let scratch = try Scratch()
        let text = try scratch.file("public.txt", "one\n")
        let found = try await Binary.run(
            cluster(
                scratch, data: try scratch.reviews(), "--train", "layers.2", "--damped-components", "none", "--adapter-inputs", "8", "--basis-text",
                text, "--filter", "none", "--filter-factor", "2"))
        #expect(found.status == 0, "\(found.errors)")
        let all = try await Binary.run(cluster(scratch, data: try scratch.reviews(), "--train", "all", "--prefix-precision", "float", "--dry-run"))
        #expect(all.errors.contains("prefix-precision does nothing here: all layers are trained"), "\(all.errors)")
        let adapter = try await Binary.run(cluster(scratch, data: try scratch.reviews(), "--precision", "int8", "--dry-run"))
        #expect(adapter.errors.contains("precision does nothing here: adapters are computed in floats"), "\(adapter.errors)")
        for name in ["adapter-inputs", "basis-text", "filter-factor"] {
            #expect(found.errors.contains("\(name) does nothing here: "), "\(found.errors)")
        }
        // The run file of that run, which contains every default, causes no remarks.
        let again = try await Binary.run(
            "cluster", "--config", "\(scratch.path)/run/run.toml", "--directory", "\(scratch.path)/again", "--adapter-inputs", "16")
        #expect(again.errors.components(separatedBy: "does nothing here").count == 4, "\(again.errors)")
        let numbers = try await Binary.run("export", "--model", "m", "--ledger", "l", "--format", "numbers", "--output", "x")
        #expect(numbers.status == ExitStatus.usage.rawValue && numbers.errors.contains("--format numbers"), "\(numbers.errors)")
    }

    @Test("Errors in a run file with Windows line ends name the right lines")
    func carriageReturns() async throws {
        let scratch = try Scratch()
        let file = try scratch.file("run.toml", "model = \"m\"\r\n[training]\r\nseed = 1\r\nrounds = \"many\"\r\n")
        let found = try await Binary.run("cluster", "--config", file)
        #expect(found.errors.contains("run.toml:4: rounds"), "\(found.errors)")
        // An accent at the beginning of a word combines with the sign before it for code that works on characters.
        let accent = try await Binary.run(
            "cluster", "--model", "m", "--train-file", "f", "--template", "{text}", "--label", "0=\u{301}x", "--label", "1= y", "--print-config")
        #expect(accent.status == 0 && accent.output.contains("\"0\" = \"\u{301}x\""), "\(accent)")
    }

    @Test("Missing template and labels are reported together")
    func templateAndLabels() async throws {
        let scratch = try Scratch()
        let found = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(), "--directory", "\(scratch.path)/run")
        #expect(found.status != 0 && found.errors.contains("a template and a word for each"), "\(found.errors)")
        #expect(found.errors.contains("the labels in \(scratch.path)/reviews.jsonl are 0 (12), 1 (12)"), "\(found.errors)")
        #expect(found.errors.contains("--template '{text} It was' --label '0= …' --label '1= …'"), "\(found.errors)")
        let table = try scratch.file("news.csv", "title,body,label\nRates rise,The bank said so.,money\nA match,It was won.,sport\n")
        let other = try await Binary.run("cluster", "--model", Binary.tinyModel, "--train-file", table, "--directory", "\(scratch.path)/run")
        #expect(other.errors.contains("--template '{title} It was'"), "the example names a field of the data: \(other.errors)")
    }

    // MARK: Data

    @Test("A text longer than the model's context is reported by file and line, and the remedy helps")
    func beyondTheContext() async throws {
        let scratch = try Scratch()
        let long = Array(repeating: "word", count: 3000).joined(separator: " ")
        let data = try scratch.file("long.jsonl", "{\"text\":\"short text\"}\n{\"text\":\"\(long)\"}\n")
        let found = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--train-file", data, "--directory", "\(scratch.path)/run", "--max-length", "8000", "--workers",
            "1", "--rounds", "1")
        #expect(found.status == ExitStatus.badData.rawValue && found.errors.contains("long.jsonl:2: the example has "), "\(found.errors)")
        let limit = try #require(found.errors.firstMatch(of: /max-length (\d+)\)/)?.1)
        let mended = try await Binary.run("data", "preview", data, "--model", Binary.tinyModel, "--max-length", String(limit))
        #expect(mended.status == 0, "\(mended.errors)")
    }

    @Test(
        "The remedy for compressed data gives a file that can be read, and overwrites none",
        arguments: [("gzip", "gz", "gzip"), ("xz", "xz", "xz"), ("zstd -q", "zst", "Zstandard"), ("bzip2", "bz2", "bzip2"), ("lz4 -q", "lz4", "LZ4")])
    func compressed(_ packer: String, _ ending: String, _ format: String) async throws {
        let tool = packer.split(separator: " ")[0]
        guard try await Binary.runShell("command -v \(tool)").status == 0 else { return }
        let scratch = try Scratch()
        let data = try scratch.reviews()
        // In another directory, under a name with the usual ending beside a file that has the name without it, and under a name without one.
        for name in ["reviews copy.jsonl.\(ending)", "packed.jsonl"] {
            _ = try scratch.file("reviews copy.jsonl", "mine\n")
            let found = try await Binary.runShell(
                "cd / && \(packer) -c '\(data)' > '\(scratch.path)/\(name)' && '\(Binary.path)' data preview '\(scratch.path)/\(name)' --model '\(Binary.tinyModel)'"
            )
            #expect(
                found.status == ExitStatus.badData.rawValue && found.errors.contains("\(name): is compressed with \(format)\n"), "\(found.errors)")
            let remedy = try #require(found.errors.firstMatch(of: /\nunpack it first: (.*)\n/)?.1)
            let unpacked = try #require(remedy.split(separator: " > ").last)
            let mended = try await Binary.runShell(
                "cd / && \(remedy) && '\(Binary.path)' data preview \(unpacked) --model '\(Binary.tinyModel)' --template '{text} It was' --label '0= bad' --label '1= good'"
            )
            #expect(mended.status == 0 && mended.output.contains("24 examples"), "\(remedy): \(mended)")
            #expect(try String(contentsOfFile: "\(scratch.path)/reviews copy.jsonl", encoding: .utf8) == "mine\n")
        }
    }

    @Test(
        "The remedy for a compressed file of a model gives a model that can be opened",
        arguments: ["tiny.gguf.xz", "tiny.gguf", "model/config.json", "model/tokenizer.json", "model/model.safetensors"])
    func compressedModel(_ name: String) async throws {
        let scratch = try Scratch()
        try FileManager.default.copyItem(atPath: Binary.tinyModel, toPath: "\(scratch.path)/model")
        let isGGUF = name.hasPrefix("tiny.gguf")
        let packing =
            isGGUF
            ? "xz -c '\(Binary.tinyGGUF)' > \(name)" : "gzip -c \(name) > packed && mv packed \(name) && echo old > \(name).gz"
        let model = isGGUF ? name : "model"
        let found = try await Binary.runShell("cd '\(scratch.path)' && \(packing) && '\(Binary.path)' generate a --max-tokens 2 --model \(model)")
        #expect(
            found.status == ExitStatus.badData.rawValue && found.errors.contains("\(name): is compressed with \(isGGUF ? "xz" : "gzip")\n"),
            "\(found.errors)")
        let remedy = try #require(found.errors.firstMatch(of: /\nunpack it first: (.*)\n/)?.1)
        let mendedModel = isGGUF ? String(remedy.split(separator: " > ").last ?? "") : model
        let mended = try await Binary.runShell(
            "cd '\(scratch.path)' && \(remedy) && '\(Binary.path)' generate a --max-tokens 2 --model \(mendedModel)")
        #expect(mended.status == 0, "\(remedy): \(mended.errors)")
        if !isGGUF { #expect(try String(contentsOfFile: "\(scratch.path)/\(name).gz", encoding: .utf8) == "old\n") }
    }

    @Test("The remedy for text in another encoding gives data that can be read", arguments: ["UTF-16", "UTF-32", "LATIN1"])
    func encodings(_ encoding: String) async throws {
        let scratch = try Scratch()
        _ = try scratch.file("texts.jsonl", "{\"text\": \"Ein schöner Film\"}\n")
        let found = try await Binary.runShell(
            "cd '\(scratch.path)' && iconv -f UTF-8 -t \(encoding) < texts.jsonl > 'my texts.jsonl' && '\(Binary.path)' data preview 'my texts.jsonl' --model '\(Binary.tinyModel)'"
        )
        #expect(found.status == ExitStatus.badData.rawValue, "\(found.errors)")
        let remedy = try #require(found.errors.firstMatch(of: /\n.*convert it: (.*)\n/)?.1)
        let mended = try await Binary.runShell("cd '\(scratch.path)' && \(remedy) && cmp 'utf8-my texts.jsonl' texts.jsonl")
        #expect(mended.status == 0, "\(remedy): \(mended.errors)")
    }

    @Test("The remedy for a JSON list gives lines that can be read, and overwrites no file")
    func jsonList() async throws {
        let scratch = try Scratch()
        let list = "[\n  {\"text\": \"One\", \"id\": 1},\n  {\"text\": \"Two é\"}\n]\n"
        _ = try scratch.file("one list.json", list)
        for (taken, lines) in [(nil, "'one list.jsonl'"), ("one list.jsonl", "'lines-one list.jsonl'")] {
            if let taken { _ = try scratch.file(taken, "mine\n") }
            let found = try await Binary.run("data", "preview", "one list.json", "--model", Binary.tinyModel, in: scratch.path)
            #expect(found.status == ExitStatus.badData.rawValue && found.errors.contains("one list.json: is one JSON list"), "\(found.errors)")
            let remedy = try #require(found.errors.firstMatch(of: /make lines of it: (.*)/)?.1)
            let mended = try await Binary.runShell(
                "cd '\(scratch.path)' && \(remedy) && '\(Binary.path)' data preview \(lines) --model '\(Binary.tinyModel)'")
            #expect(mended.status == 0 && mended.output.contains("2 examples (text)"), "\(remedy): \(mended)")
            if let taken { #expect(try String(contentsOfFile: "\(scratch.path)/\(taken)", encoding: .utf8) == "mine\n") }
        }
    }

    @Test("General and public text in JSON is not read as plain lines, whatever the file's name", arguments: ["corpus.json", "corpus.txt"])
    func jsonAsPlainText(_ name: String) async throws {
        let scratch = try Scratch()
        for (text, problem) in [
            (#"{"sentence":"A film."}"# + "\n", "no field \"text\""), (#"[ {"text":"A film."} ]"# + "\n", "is one JSON list"),
        ] {
            let file = try scratch.file(name, text)
            let found = try await Binary.run(cluster(scratch, data: try scratch.reviews(), "--general-file", file))
            #expect(found.status == ExitStatus.badData.rawValue && found.errors.contains(problem), "\(text): \(found.errors)")
        }
        // A line of text may begin with a brace.
        let plain = try scratch.file(name.replacing(".json", with: ".text"), "{} is empty.\n{text} is a field.\n[1] is a reference.\n")
        let found = try await Binary.run(cluster(scratch, data: try scratch.reviews(), "--general-file", plain, "--train", "layers.2"))
        #expect(found.status == 0 && found.output.contains("3 texts"), "\(found)")
    }

    @Test("Tables can be trained on, and general text may have the same formats as public text")
    func tables() async throws {
        let scratch = try Scratch()
        let table = try scratch.file("reviews.csv", "label,text\r\n" + (0..<12).map { "\($0 % 2),\"film \($0), a \"\"good\"\" one\"\r\n" }.joined())
        let general = try scratch.file("general.txt", "A sentence of no task.\nAnother one.\n")
        let found = try await Binary.run(cluster(scratch, data: table, "--general-file", general, "--train", "layers.2"))
        #expect(found.status == 0 && found.output.contains("perplexity per token") && found.output.contains("2 texts"), "\(found)")
    }

    // MARK: Results

    @Test("predict labels unlabelled records as evaluate's confusion matrix counts them; an exported model's card shows how to use it")
    func predictions() async throws {
        let scratch = try Scratch()
        let (run, data) = ("\(scratch.path)/run", try scratch.reviews())
        try #require(try await Binary.run(cluster(scratch, data: data, "--eval-file", data)).status == 0)
        let model = ["--model", Binary.tinyModel, "--ledger", run]
        let evaluated = try await Binary.run(["evaluate", data, "--format", "json"] + model)
        let score = try JSONDecoder().decode(HeldOutScore.self, from: Data(evaluated.output.utf8))
        let confusion = try #require(score.confusion)
        #expect(confusion.labels.map(\.label) == ["0", "1"] && confusion.counts.joined().reduce(0, +) == 24)
        #expect(abs(Double(confusion.counts[0][0] + confusion.counts[1][1]) / 24 - (score.accuracy ?? -1)) < 1e-9)
        #expect(confusion.labels.map(\.examples) == [12, 12])

        // The table has the same texts without labels.
        let table = try scratch.file("new.csv", "id,text\n" + (0..<24).map { "\($0),film number \($0)\n" }.joined())
        let predicted = try await Binary.run(["predict", table] + model)
        #expect(predicted.status == 0, "\(predicted.errors)")
        struct Line: Decodable {
            let id: String
            let predicted: String
            let probabilities: [String: Double]
        }
        let lines = try predicted.output.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
        #expect(lines.map(\.id) == (0..<24).map(String.init))
        for (index, label) in confusion.labels.enumerated() {
            #expect(lines.count { $0.predicted == label.label } == confusion.labels[index].predicted)
        }
        for line in lines {
            #expect(abs(line.probabilities.values.reduce(0, +) - 1) < 1e-4)
            #expect(line.probabilities.max { $0.value < $1.value }?.key == line.predicted)
        }
        let texts = try await Binary.run(
            "predict", try scratch.file("prompts.jsonl", "{\"prompt\":\"One\"}\n{\"prompt\":\"Two\"}\n"), "--model", Binary.tinyModel, "--kind",
            "completion", "--max-tokens", "3")
        #expect(texts.status == 0 && texts.output.split(separator: "\n").count == 2 && texts.errors.contains("cut at 3 tokens"), "\(texts)")

        let exported = "\(scratch.path)/exported"
        try FileManager.default.createDirectory(atPath: exported, withIntermediateDirectories: true)
        #expect(try await Binary.run(["export", "--output", "."] + model, in: exported).status == 0)
        let card = try String(contentsOfFile: "\(exported)/README.md", encoding: .utf8)
        for part in [
            "template: `{text} It was`", "label `1`: the word ` good`", "also train the run", "AutoModelForCausalLM.from_pretrained(path)",
            #"classify({"text": "…"})"#, #"words = {"0": " bad", "1": " good"}"#,
        ] {
            #expect(card.contains(part), "\(part): \(card)")
        }
    }

    @Test("A machine is retracted by its worker's name, and only after a yes")
    func retractionByName() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        try #require(try await Binary.run(cluster(scratch, data: try scratch.reviews(), "--workers", "2")).status == 0)
        let shown = try await Binary.run("ledger", "show", run)
        #expect(shown.output.contains("worker-1: ") && shown.output.contains(" bytes in 2 rounds; admitted 20"), "\(shown.output)")
        let before = try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel).output
        let unasked = try await Binary.run("ledger", "retract", run, "--machine", "worker-2")
        #expect(
            unasked.status == ExitStatus.usage.rawValue && unasked.errors.contains("--yes") && unasked.errors.contains("worker-2, admitted"),
            "\(unasked.errors)")
        #expect(try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel).output == before)
        let unknown = try await Binary.run("ledger", "retract", run, "--machine", "worker-3x", "--yes")
        #expect(unknown.status == ExitStatus.usage.rawValue && unknown.errors.contains("did you mean worker-"), "\(unknown.errors)")
        let done = try await Binary.run("ledger", "retract", run, "--machine", "worker-2", "--yes")
        #expect(done.status == 0 && done.output.contains("(worker-2)"), "\(done)")
        #expect(try await Binary.run("ledger", "show", run).output.contains("of them retracted"))
        #expect(try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel).output != before)
        #expect(done.output.contains("ledger rewind") && done.output.contains("--before worker-2"), "\(done.output)")
        // The restored model is equal to the last bit.
        let restored = try await Binary.run("ledger", "restore", run, "--machine", "worker-2", "--yes")
        #expect(restored.status == 0, "\(restored)")
        #expect(try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel).output == before)
        #expect(try await !Binary.run("ledger", "show", run).output.contains("retracted"))
        #expect(try await Binary.run("ledger", "restore", run, "--machine", "worker-2", "--yes").status == ExitStatus.usage.rawValue)
        // The end is taken back, and the run continues to a new end.
        let unsaid = try await Binary.run("ledger", "rewind", run, "--to", "1")
        #expect(unsaid.status == ExitStatus.usage.rawValue && unsaid.errors.contains("1 rounds with"), "\(unsaid)")
        let back = try await Binary.run("ledger", "rewind", run, "--before", "worker-2", "--yes")
        #expect(back.status == 0 && back.output.contains("back to before round 0"), "\(back)")
        let gone = try await Binary.run("cluster", "--resume", run)
        #expect(gone.status == 0 && gone.output.contains("Run completed: 4 rounds"), "\(gone)")
        let verified = try await Binary.run("ledger", "verify", run, "--base", Binary.tinyModel)
        #expect(verified.status == 0, "\(verified)")
    }

    @Test("A text that was cut is distinguished from one that the model ended")
    func cutTexts() async throws {
        let found = try await Binary.run("generate", "The film", "--model", Binary.tinyModel, "--max-tokens", "2")
        #expect(found.status == 0 && found.errors.contains("cut after 2 tokens (--max-tokens)"), "\(found)")
        let typed = try await Binary.run("generate", "Review: good\\nSentiment:", "--model", Binary.tinyModel, "--max-tokens", "2")
        #expect(typed.errors.contains("note: the text holds a backslash and an n, not a line break"), "\(typed)")
    }

    /// Foundation's own descriptions name domains and numbers; only one function may turn its errors into text.
    @Test func noErrorIsShownInFoundationsWords() throws {
        let sources = Binary.packageRoot.appending(path: "Sources")
        let files = try #require(FileManager.default.subpaths(atPath: sources.path)).filter {
            $0.hasSuffix(".swift") && !$0.hasSuffix("SystemReason.swift")
        }
        for file in files {
            let text = try String(contentsOf: sources.appending(path: file), encoding: .utf8)
            #expect(!text.contains("localizedDescription"), "\(file)")
        }
    }
}
