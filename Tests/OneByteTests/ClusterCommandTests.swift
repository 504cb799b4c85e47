import Core
import Foundation
import OneByte
import Testing

/// Complete runs of the real program on a tiny model, in seconds.
@Suite(.serialized) struct ClusterCommandTests {
    private func arguments(_ scratch: borrowing Scratch, _ more: String...) throws -> [String] {
        let basis = try scratch.file("public.txt", (0..<16).map { "Public sentence number \($0) about nothing.\n" }.joined())
        return [
            "cluster", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(), "--eval-file", try scratch.reviews("held-out.jsonl"),
            "--basis-text", basis, "--directory", "\(scratch.path)/run", "--template", "{text} It was", "--label", "0= bad", "--label", "1= good",
            "--train", "all", "--damped-components", "2", "--learning-rate", "1e-5", "--rounds", "6", "--samples-per-round", "8", "--evaluate-every",
            "3", "--digest-every", "2",
        ].overridden(by: more)
    }

    private func report(_ directory: String) throws -> RunReport {
        try JSONDecoder().decode(RunReport.self, from: Data(contentsOf: URL(filePath: "\(directory)/report.json")))
    }

    @Test(
        "Without --train a run trains an adapter; its ledger, its merged export and its numbers are the same model",
        arguments: ["public.txt", "shipped", "none"])
    func adapterByDefault(_ publicText: String) async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let texts = try scratch.file("public.txt", (0..<40).map { "Public sentence number \($0) about nothing.\n" }.joined())
        let found = try await Binary.run(
            [
                "cluster", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(), "--eval-file", try scratch.reviews("held-out.jsonl"),
                "--directory", run, "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--rounds", "8",
                "--samples-per-round", "12", "--evaluate-every", "0",
            ] + (publicText == "shipped" ? [] : ["--basis-text", publicText == "none" ? publicText : texts]))
        try #require(found.status == 0, "\(found.errors)")
        #expect(found.errors.contains("without public text") == (publicText == "none"), "\(found.errors)")
        let report = try report(run)
        #expect(report.contributionBytes == 96)
        let (before, after) = (try #require(report.before?.loss), try #require(report.after?.loss))
        #expect(after < before)

        let replay = try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel)
        let digest = try #require(report.digest)
        #expect(replay.status == 0 && replay.output == digest + "\n", "\(replay.errors)")
        let exported = "\(scratch.path)/exported"
        let written = try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", run, "--output", exported, "--data-type", "f32")
        try #require(written.status == 0, "\(written.errors)")
        for model in [["--model", Binary.tinyModel, "--ledger", run], ["--model", exported, "--config", "\(run)/run.toml"]] {
            let evaluated = try await Binary.run(["evaluate", "\(scratch.path)/held-out.jsonl", "--format", "json"] + model)
            let loss = try #require(JSONDecoder().decode(HeldOutScore.self, from: Data(evaluated.output.utf8)).loss)
            #expect(abs(loss - after) < 1e-4, "\(model): \(loss), \(after)")
        }

        let numbers = try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", run, "--format", "numbers")
        let rows = numbers.output.split(separator: "\n").dropFirst().map { $0.split(separator: " ").compactMap { Int32($0) } }
        #expect(rows.count == 1 && rows[0].contains { $0 != 0 }, "\(numbers.output)")
        let adapter = "\(scratch.path)/adapter"
        let lora = try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", run, "--format", "peft", "--output", adapter)
        #expect(lora.status == 0, "\(lora.errors)")
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: adapter).sorted() == [
                "README.md", "adapter_config.json", "adapter_model.safetensors",
            ])
    }

    @Test("A run that splits its data judges by examples that it does not train on, and its run file names the parts")
    func split() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let whole = try scratch.reviews("whole.jsonl", count: 60)
        let task = [
            "cluster", "--model", Binary.tinyModel, "--train-file", whole, "--template", "{text} It was", "--label", "0= bad", "--label", "1= good",
            "--rounds", "2", "--samples-per-round", "12", "--workers", "2", "--directory", run,
        ]
        let found = try await Binary.run(task + ["--split", "60/20/20"])
        try #require(found.status == 0, "\(found.errors)")
        let parts = try ["train", "validation", "test"].map { name in
            try String(contentsOfFile: "\(run)/data/\(name).jsonl", encoding: .utf8).split(separator: "\n").map(String.init)
        }
        #expect(parts.joined().count == 60 && Set(parts.joined()).count == 60 && parts.allSatisfy { !$0.isEmpty })
        let report = try report(run)
        #expect(report.after?.examples == parts[2].count && report.evaluation?.file == "\(run)/data/test.jsonl")
        let settings = try String(contentsOfFile: "\(run)/run.toml", encoding: .utf8)
        #expect(settings.contains("validation-file = \"\(run)/data/validation.jsonl\"") && !settings.contains("split ="), "\(settings)")
        // Judging the parts later finds what the run knew: the test part is held out, the training part is not.
        for (part, isHeldOut) in [("test", true), ("train", false)] {
            let judged = try await Binary.run("evaluate", "\(run)/data/\(part).jsonl", "--model", Binary.tinyModel, "--ledger", run)
            #expect(judged.status == 0 && (judged.output + judged.errors).contains("training") != isHeldOut, "\(judged.output)\(judged.errors)")
        }
        for wrong in [["--split", "60"], ["--split", "60/0"], ["--split", "60/40", "--eval-file", whole]] {
            let refused = try await Binary.run(task + wrong)
            #expect(refused.status == Core.ExitStatus.usage.rawValue && refused.errors.contains("--split"), "\(refused.errors)")
        }
    }

    @Test func aRunFromDataToReportReplayAndExport() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let general = try scratch.file("general.jsonl", (0..<5).map { "{\"text\": \"A sentence of no task, number \($0).\"}\n" }.joined())
        let found = try await Binary.run(try arguments(scratch, "--general-file", general))
        try #require(found.status == 0, "\(found.errors)")
        #expect(found.output.contains("Run completed: 6 rounds, 3 workers"))

        let report = try report(run)
        #expect(report.rounds == 6)
        #expect(report.samples == 48)
        #expect(report.contributionBytes == 48)
        #expect(report.payloadBytesPerSample == 1)
        #expect(report.wireBytes > report.wireBytesOfRounds)
        #expect(report.wireBytesOfRounds > 48)
        #expect(report.before?.round == 0)
        #expect(report.after?.round == 6)
        #expect(report.before?.examples == 24)
        let digest = try #require(report.digest)
        let effects = try #require(report.sideEffects)
        #expect(effects.updateNorm > 0 && effects.updateLargest > 0 && effects.updateRelative < 1)
        let text = try #require(effects.generalText)
        #expect(text.texts == 5 && text.perplexityBefore != text.perplexityAfter)

        // Without any worker, the ledger gives the same parameters, on one thread and on two.
        for threads in ["1", "2"] {
            let replay = try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel, "--threads", threads)
            #expect(replay.status == 0)
            #expect(replay.output == digest + "\n")
            #expect(replay.errors.contains("the same digest as "))
        }
        // Base and ledger have the same scores that the evaluator measured, and so has the exported model.
        let expected = try #require(report.after)
        let exported = "\(scratch.path)/exported"
        #expect(try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", run, "--output", exported, "--data-type", "f32").status == 0)
        for model in [["--model", Binary.tinyModel, "--ledger", run], ["--model", exported, "--config", "\(run)/run.toml"]] {
            let evaluated = try await Binary.run(["evaluate", "\(scratch.path)/held-out.jsonl", "--format", "json"] + model)
            let measured = try JSONDecoder().decode(HeldOutScore.self, from: Data(evaluated.output.utf8))
            let (loss, expectedLoss) = (try #require(measured.loss), try #require(expected.loss))
            #expect(abs(loss - expectedLoss) < 1e-4)
            #expect(measured.accuracy == expected.accuracy)
        }
        // One setting of the task replaces the ledger's own; the others stay.
        let shorter = try await Binary.run(
            "evaluate", "\(scratch.path)/held-out.jsonl", "--model", Binary.tinyModel, "--ledger", run, "--max-length", "16", "--format", "json")
        #expect(shorter.status == 0 && shorter.output.contains("accuracy"), "\(shorter)")
        let verified = try await Binary.run("ledger", "verify", run, "--base", Binary.tinyModel)
        #expect(verified.status == 0)
        #expect(verified.errors.contains("digests that machines reported are the same"), "\(verified.errors)")
        let earlier = try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel, "--at-round", "3")
        #expect(earlier.status == 0, "\(earlier.errors)")
        // One machine is retracted. Numbers depend on who connected first, and the evaluator has no bytes.
        var retracted = 0
        for machine in 1...4 where retracted == 0 {
            if try await Binary.run("ledger", "retract", run, "--machine", "\(machine)", "--yes").status == 0 { retracted = machine }
        }
        #expect(retracted > 0)
        // The bytes are retracted from every round, not just the last.
        let (early, earlyWithout) = (earlier.output, try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel, "--at-round", "3"))
        #expect(earlyWithout.status == 0 && earlyWithout.output != early)
        // At round 4 the machines reported a digest of parameters that included these bytes, so no machine is wrong.
        let reported = try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel, "--at-round", "4")
        #expect(reported.status == 0 && reported.errors.contains("reported no digest"), "\(reported.errors)")
        #expect(try await Binary.run("ledger", "retract", run, "--machine", "\(retracted)", "--yes").status == 64, "nothing of it is left")
        let without = try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel)
        #expect(without.status == 0, "\(without.errors)")
        #expect(without.output != digest + "\n")
        #expect(without.errors.contains("reported no digest"))
        #expect(try await Binary.run("ledger", "show", run, "--records", "--format", "json").output.contains("\"kind\":\"round\""))

        // A damaged length followed by whole records is damage for every reader of a ledger; a record that a crash cut off is not.
        let whole = try [UInt8](Data(contentsOf: URL(filePath: "\(run)/ledger")))
        var decoder = LedgerDecoder()
        decoder.push(whole)
        var starts: [Int] = []
        while let entry = try decoder.next() { starts.append(Int(entry.position.offset)) }
        var damaged = whole
        damaged[starts[4] + 1] ^= 0x40
        let (bad, torn) = ("\(scratch.path)/bad.ledger", "\(scratch.path)/torn.ledger")
        try Data(damaged).write(to: URL(filePath: bad))
        for command in [["ledger", "verify", bad], ["ledger", "replay", bad, "--model", Binary.tinyModel]] {
            let found = try await Binary.run(command)
            #expect(found.status == 65 && found.errors.contains("damaged"), "\(command): \(found)")
        }
        try Data(whole.dropLast(3) + [0, 0, 0]).write(to: URL(filePath: torn))
        let cut = try await Binary.run("ledger", "replay", torn, "--model", Binary.tinyModel)
        #expect(cut.status == 0 && cut.errors.contains("no whole record"), "\(cut)")
    }

    @Test("Samples computed in 8 bits give other bytes in the same run, which replays like any other; impossible combinations are errors")
    func compute() async throws {
        let scratch = try Scratch()
        func digest(_ name: String, _ more: String...) async throws -> String {
            let run = "\(scratch.path)/\(name)"
            let found = try await Binary.run(try arguments(scratch, "--workers", "1", "--directory", run) + more)
            try #require(found.status == 0, "\(found.errors)")
            let digest = try #require(try report(run).digest)
            #expect(try await Binary.run("ledger", "replay", run, "--model", Binary.tinyModel).output == digest + "\n")
            return digest
        }
        let float = try await digest("float")
        #expect(try await digest("again", "--precision", "float") == float)
        #expect(try await digest("int8", "--precision", "int8") != float)
        let dense = try await Binary.run(
            try arguments(
                scratch, "--precision", "int8", "--perturbation", "rademacher", "--damped-components", "none", "--directory", "\(scratch.path)/dense")
        )
        #expect(dense.status == ExitStatus.configuration.rawValue && dense.errors.contains("use float precision"), "\(dense.errors)")
        #expect(try await Binary.run(try arguments(scratch, "--precision", "int9")).status == 64)
    }

    @Test("A run for accuracy shows one minus accuracy as its loss; one for exact match needs completions")
    func objectiveWithoutDerivative() async throws {
        let scratch = try Scratch()
        let found = try await Binary.run(try arguments(scratch, "--objective", "accuracy", "--batch-size", "4", "--epsilon", "0.1"))
        try #require(found.status == 0, "\(found.errors)")
        let after = try #require(try report("\(scratch.path)/run").after)
        let (loss, accuracy) = (try #require(after.loss), try #require(after.accuracy))
        #expect(abs(loss + accuracy - 1) < 1e-6)
        let evaluated = try await Binary.run(
            "evaluate", "\(scratch.path)/held-out.jsonl", "--model", Binary.tinyModel, "--ledger", "\(scratch.path)/run", "--format", "json")
        #expect(try abs(#require(JSONDecoder().decode(HeldOutScore.self, from: Data(evaluated.output.utf8)).loss) - loss) < 1e-6)
        let wrong = try await Binary.run(try arguments(scratch, "--objective", "exact-match", "--directory", "\(scratch.path)/other"))
        #expect(wrong.status != 0 && wrong.errors.contains("exact-match needs completions"), "\(wrong.errors)")
    }

    @Test("Held-out losses stay cross-entropy when the generalized loss is trained")
    func generalizedLoss() async throws {
        let scratch = try Scratch()
        func run(_ name: String, _ flags: [String]) async throws -> (report: RunReport, ledger: String) {
            let place = "\(scratch.path)/\(name)"
            let found = try await Binary.run(try arguments(scratch).overridden(by: flags + ["--directory", place]))
            try #require(found.status == 0, "\(found.errors)")
            return (try report(place), place)
        }
        let plain = try await run("plain", [])
        let general = try await run("general", ["--generalized-cross-entropy", "0.7"])
        #expect(general.report.before?.loss == plain.report.before?.loss)
        #expect(general.report.digest != plain.report.digest)
        let evaluated = try await Binary.run(
            "evaluate", "\(scratch.path)/held-out.jsonl", "--model", Binary.tinyModel, "--ledger", general.ledger, "--format", "json")
        let loss = try #require(general.report.after?.loss)
        #expect(try abs(#require(JSONDecoder().decode(HeldOutScore.self, from: Data(evaluated.output.utf8)).loss) - loss) < 1e-6)
        let wrong = try await Binary.run(try arguments(scratch, "--generalized-cross-entropy", "1.5", "--directory", "\(scratch.path)/wrong"))
        #expect(wrong.status == 64 && wrong.errors.contains("--generalized-cross-entropy"), "\(wrong.errors)")
        let unfit = try await Binary.run(
            try arguments(scratch, "--objective", "accuracy", "--generalized-cross-entropy", "0.7", "--directory", "\(scratch.path)/unfit"))
        #expect(unfit.status != 0 && unfit.errors.contains("--generalized-cross-entropy"), "\(unfit.errors)")
    }

    @Test("A run for a program's score works from data to report, and evaluation writes the texts")
    func scoreOfACommand() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let prompts = try scratch.file("prompts.jsonl", (0..<12).map { "{\"prompt\": \"film number \($0)\", \"label\": \($0)}\n" }.joined())
        let program = try scratch.file(
            "score.py",
            """
            import json, sys
            print("ready to judge", file=sys.stderr, flush=True)
            for line in sys.stdin:
                r = json.loads(line)
                assert r["prompt"] == "film number %d" % r["label"]
                print(json.dumps({"id": r["id"], "score": len(set(r["text"])) / 10}), flush=True)

            """)
        let command = "exec python3 '\(program)'"
        let found = try await Binary.run([
            "cluster", "--model", Binary.tinyModel, "--train-file", prompts, "--eval-file", prompts, "--validation-file", prompts, "--kind",
            "completion",
            "--objective-command", command, "--objective-max-tokens", "5", "--directory", run, "--train", "layers.2", "--damped-components", "none",
            "--workers", "2",
            "--epsilon", "0.1", "--learning-rate", "1e-4", "--rounds", "4", "--samples-per-round", "8", "--batch-size", "2",
            "--evaluate-every", "2",
        ])
        try #require(found.status == 0, "\(found.errors)")
        #expect(found.output.contains("training data after mean score "))
        #expect(found.errors.contains("score "))
        let after = try #require(try report(run).after)
        let (score, loss) = (try #require(after.score), try #require(after.loss))
        #expect(score == -loss && score > 0 && after.accuracy == nil)
        #expect(try String(contentsOfFile: "\(run)/logs/worker-1.log", encoding: .utf8).contains("objective: ready to judge"))
        // The ledger, which everybody gets, does not contain the command.
        #expect(try Data(contentsOf: URL(filePath: "\(run)/ledger")).range(of: Data("score.py".utf8)) == nil)

        let texts = "\(scratch.path)/texts.jsonl"
        let measure = ["evaluate", prompts, "--model", Binary.tinyModel, "--ledger", run, "--format", "json"]
        let evaluated = try await Binary.run(measure + ["--objective-command", command, "--texts", texts])
        let measured = try JSONDecoder().decode(HeldOutScore.self, from: Data(evaluated.output.utf8))
        #expect(abs(try #require(measured.score) - score) < 1e-9)
        #expect(try #require(measured.scoreInterval)[0] <= score)
        #expect(try String(contentsOfFile: texts, encoding: .utf8).split(separator: "\n").count == 12)
        #expect(try await Binary.run(measure).errors.contains("--objective-command"), "without the command")
    }

    @Test("A program that fails ends the run with its last words; a worker without a program gets an error that names the flag")
    func aProgramThatFails() async throws {
        let scratch = try Scratch()
        let broken = try await Binary.run(
            try arguments(scratch, "--objective-command", "echo no lexicon here >&2; exit 3", "--workers", "1", "--max-length", "40"))
        #expect(broken.status == ExitStatus.unavailable.rawValue, "\(broken.errors)")
        #expect(broken.errors.contains("no lexicon here") && broken.errors.contains("status 3"), "\(broken.errors)")
        let without = try await Binary.run(try arguments(scratch, "--objective", "command", "--directory", "\(scratch.path)/other"))
        #expect(without.status == 64 && without.errors.contains("--objective-command"), "\(without.errors)")

        let coordinator = Process()
        coordinator.executableURL = URL(filePath: Binary.path)
        let address = "ipc://\(scratch.path)/socket"
        coordinator.arguments = [
            "coordinator", "--directory", "\(scratch.path)/remote", "--listen", address, "--kind", "text", "--objective", "command", "--train", "all",
            "--rounds", "10",
            "--damped-components", "none",
        ]
        coordinator.standardError = FileHandle.nullDevice
        try coordinator.run()
        defer { coordinator.terminate() }
        let worker = try await Binary.run(
            "worker", "--coordinator", address, "--model", Binary.tinyModel, "--train-file", "\(scratch.path)/reviews.jsonl")
        #expect(worker.status == ExitStatus.configuration.rawValue && worker.errors.contains("--objective-command"), "\(worker.errors)")
    }

    @Test func aCompleteRunIsLeftAsItIs() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        try #require(try await Binary.run(try arguments(scratch, "--rounds", "2", "--workers", "1")).status == 0)
        let before = try Data(contentsOf: URL(filePath: "\(run)/report.json"))
        #expect(FileManager.default.fileExists(atPath: "\(run)/report.txt"))
        let again = try await Binary.run("cluster", "--resume", run)
        #expect(again.status == 0, "\(again.errors)")
        #expect(again.output.contains("is complete"))
        #expect(try Data(contentsOf: URL(filePath: "\(run)/report.json")) == before)
        let changed = try await Binary.run("cluster", "--resume", run, "--rounds", "4")
        #expect(changed.status == 64)
        #expect(changed.errors.contains("--rounds can't be changed by --resume"))
    }

    @Test("The report of a run for completions says how near the written texts are to the wanted ones, before and after")
    func writtenTexts() async throws {
        let scratch = try Scratch()
        let rows = (1...24).map { #"{"prompt": "film \#($0) was", "completion": " good"}"# }.joined(separator: "\n") + "\n"
        let file = try scratch.file("films.jsonl", rows)
        let run = "\(scratch.path)/run"
        let found = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--train-file", file, "--split", "80/20", "--rounds", "2", "--samples-per-round", "8", "--train",
            "layers.2", "--damped-components", "none", "--workers", "1", "--directory", run)
        #expect(found.status == 0, "\(found.errors)")
        let texts = try #require(try report(run).texts, "\(found.output)")
        #expect(texts.before.texts == texts.after.texts && texts.before.texts > 2 && texts.before.texts <= 20)
        #expect(found.output.contains("  texts before      \(texts.before.text), \(texts.before.texts) texts"), "\(found.output)")
        #expect(found.output.contains("  texts after       \(texts.after.text)"), "\(found.output)")
        // The same as the first prompts give by hand.
        let written = try await Binary.run(
            "generate", "--file", "\(run)/data/test.jsonl", "--model", Binary.tinyModel, "--ledger", run, "--max-tokens", "64")
        #expect(written.errors.contains("after: \(texts.after.text)"), "\(written.errors)")
    }

    @Test("A complete run without its report gets it from the run directory, and no process is started")
    func aReportThatIsMissing() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        try #require(try await Binary.run(try arguments(scratch, "--rounds", "2", "--workers", "1")).status == 0)
        let before = try report(run)
        try FileManager.default.removeItem(atPath: "\(run)/report.json")
        try FileManager.default.removeItem(atPath: "\(run)/logs/coordinator.log")
        let again = try await Binary.run("cluster", "--resume", run)
        #expect(again.status == 0 && again.output.contains("Run completed: 2 rounds"), "\(again.errors)")
        let after = try report(run)
        #expect(after.after == before.after && after.before == before.before && after.digest == before.digest)
        #expect(after.samples == before.samples && after.wireBytes == before.wireBytes && after.seconds.training == before.seconds.training)
        #expect(after.seconds.total > 0 && after.seconds.total <= before.seconds.total)
        #expect(!FileManager.default.fileExists(atPath: "\(run)/logs/coordinator.log"))
    }

    @Test("Ctrl-C while a program scores ends the program too")
    func aScoringProgramDoesNotOutliveItsEvaluation() async throws {
        let scratch = try Scratch()
        let prompts = try scratch.file("prompts.jsonl", #"{"prompt":"film number","completion":" 1"}"# + "\n")
        let pid = "\(scratch.path)/pid"
        let process = Process()
        process.executableURL = URL(filePath: Binary.path)
        process.arguments = [
            "evaluate", prompts, "--model", Binary.tinyModel, "--kind", "completion", "--objective-max-tokens", "3",
            "--objective-command", "echo $$ > '\(pid).part'; mv '\(pid).part' '\(pid)'; exec sleep 600",
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        defer { process.terminate() }
        try await waitUntil { FileManager.default.fileExists(atPath: pid) }
        let scorer = try #require(pid_t(try String(contentsOfFile: pid, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)))
        kill(process.processIdentifier, SIGINT)
        try await waitUntil { !process.isRunning }
        #expect(process.terminationReason == .exit && process.terminationStatus == ExitStatus.interrupted.rawValue, "\(process.terminationStatus)")
        #expect(kill(scorer, 0) == -1 && errno == ESRCH)
    }

    @Test func theReportsKeysStay() async throws {
        let scratch = try Scratch()
        let found = try await Binary.run(try arguments(scratch, "--rounds", "1", "--workers", "1"))
        try #require(found.status == 0, "\(found.errors)")
        let data = try Data(contentsOf: URL(filePath: "\(scratch.path)/run/report.json"))
        let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        for key in [
            "before", "after", "contribution_bytes", "wire_bytes", "samples", "seconds", "digest", "rounds", "rounds_rewound", "workers", "seed",
        ] {
            #expect(object[key] != nil, "\(key)")
        }
        for side in ["before", "after"] {
            let measurement = try #require(object[side] as? [String: Any])
            for key in ["accuracy", "accuracy_interval", "loss", "accuracy_best_threshold"] { #expect(measurement[key] != nil, "\(side).\(key)") }
        }
        let seconds = try #require(object["seconds"] as? [String: Any])
        for key in ["prefix_cache", "training", "total"] { #expect(seconds[key] != nil, "\(key)") }
    }

    @Test func ctrlCStopsAllProcessesAndResumeGoesOn() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let arguments = try arguments(scratch, "--rounds", "100000")
        let process = Process()
        process.executableURL = URL(filePath: Binary.path)
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        try await waitUntil { (try? Data(contentsOf: URL(filePath: "\(run)/metrics.jsonl")))?.range(of: Data("\"event\":\"round\"".utf8)) != nil }
        kill(process.processIdentifier, SIGINT)
        try await waitUntil { !process.isRunning }
        #expect(process.terminationStatus == 130)
        #expect(try processes(naming: run).isEmpty)
        let shown = try await Binary.run("ledger", "show", run)
        #expect(shown.output.contains("not complete"))

        // The ledger's contents are kept: the run resumes, and is stopped again.
        let before = try await Binary.run("ledger", "verify", run)
        #expect(before.status == 0)
        let again = Process()
        again.executableURL = URL(filePath: Binary.path)
        again.arguments = ["cluster", "--resume", run]
        again.standardError = FileHandle.nullDevice
        again.standardOutput = FileHandle.nullDevice
        try again.run()
        let records = try records(in: before.output)
        try await waitUntil {
            let now = try await Binary.run("ledger", "verify", run)
            return try self.records(in: now.output) > records + 10
        }
        // The parent is killed and can tell nobody; its children notice.
        kill(again.processIdentifier, SIGKILL)
        try await waitUntil { try self.processes(naming: run).isEmpty }
    }

    @Test(
        "Processes that somebody stops in order end the cluster: it says so, writes no report, and can be resumed",
        arguments: ["coordinator", "worker"])
    func stoppedProcesses(_ role: String) async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let process = Process()
        process.executableURL = URL(filePath: Binary.path)
        process.arguments = try arguments(scratch, "--rounds", "100000")
        let errors = Pipe()
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        try await waitUntil { (try? Data(contentsOf: URL(filePath: "\(run)/metrics.jsonl")))?.range(of: Data("\"event\":\"round\"".utf8)) != nil }
        let children = try processes(naming: scratch.path).filter { number in
            (FileManager.default.contents(atPath: "/proc/\(number)/cmdline") ?? Data()).split(separator: 0).dropFirst().first == Data(role.utf8)
        }
        #expect(children.count == (role == "coordinator" ? 1 : 4))
        for child in children { kill(try #require(pid_t(child)), SIGTERM) }
        try await waitUntil { !process.isRunning }
        let said = String(decoding: errors.fileHandleForReading.availableData, as: UTF8.self)
        #expect(process.terminationStatus == (role == "coordinator" ? 143 : 1), "\(said.suffix(500))")
        #expect(said.contains("--resume"), "\(said.suffix(500))")
        #expect(!FileManager.default.fileExists(atPath: "\(run)/report.json"))
        #expect(try processes(naming: run).isEmpty)
    }

    @Test func aWorkerWithAnotherBaseIsToldWhichTensorDiffers() async throws {
        let scratch = try Scratch()
        let other = "\(scratch.path)/other"
        try FileManager.default.copyItem(atPath: Binary.tinyModel, toPath: other)
        let weights = URL(filePath: "\(other)/model.safetensors")
        var data = try Data(contentsOf: weights)
        data[data.count - 5] ^= 1
        try data.write(to: weights)
        let coordinator = Process()
        coordinator.executableURL = URL(filePath: Binary.path)
        let address = "ipc://\(scratch.path)/socket"
        coordinator.arguments = [
            "coordinator", "--directory", "\(scratch.path)/run", "--listen", address, "--kind", "classification", "--template", "{text}",
            "--label", "0= bad", "--label", "1= good", "--minimum-workers", "2", "--rounds", "1000000", "--train", "all", "--damped-components",
            "none",
        ]
        coordinator.standardError = FileHandle.nullDevice
        try coordinator.run()
        defer { coordinator.terminate() }
        let first = Process()
        first.executableURL = URL(filePath: Binary.path)
        first.arguments = ["worker", "--coordinator", address, "--model", Binary.tinyModel, "--train-file", try scratch.reviews()]
        first.standardError = FileHandle.nullDevice
        try first.run()
        defer { first.terminate() }
        try await waitUntil {
            let found = try await Binary.run("ledger", "show", "\(scratch.path)/run", "--records")
            return found.output.contains("base")
        }
        let found = try await Binary.run(
            "worker", "--coordinator", address, "--model", other, "--train-file", "\(scratch.path)/reviews.jsonl")
        #expect(found.status == ExitStatus.configuration.rawValue, "\(found.errors)")
        #expect(found.errors.contains("error: "))
        #expect(found.errors.contains("has other values"))
    }

    private func records(in verified: String) throws -> Int {
        let words = verified.split(separator: " ")
        let index = try #require(words.firstIndex(of: "records,"))
        return try #require(Int(words[index - 1]))
    }

    /// Returns processes with this text in their command line.
    private func processes(naming text: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { entry in
            guard Int(entry) != nil, let data = FileManager.default.contents(atPath: "/proc/\(entry)/cmdline") else { return false }
            return data.range(of: Data(text.utf8)) != nil
        }
    }

    private static let patience = Duration.seconds(60)

    private func waitUntil(_ condition: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + Self.patience
        while try await !condition() {
            guard ContinuousClock.now < end else {
                Issue.record("waited for \(Self.patience)")
                return
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
