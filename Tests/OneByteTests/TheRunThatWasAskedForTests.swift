import Core
import Foundation
import OneByte
import Testing

/// A run that ends well is the requested one, and the data that judge it are named correctly.
@Suite(.serialized) struct TheRunThatWasAskedForTests {
    /// Quick settings, because the tests are about who writes where and not about learning.
    private func cluster(_ scratch: borrowing Scratch, _ more: String...) throws -> [String] {
        [
            "cluster", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(), "--template", "{text} It was", "--label", "0= bad",
            "--label", "1= good",
            "--train", "all", "--damped-components", "none", "--workers", "1", "--rounds", "2", "--samples-per-round", "4",
        ].overridden(by: more)
    }

    private func report(_ directory: String) throws -> RunReport {
        try JSONDecoder().decode(RunReport.self, from: Data(contentsOf: URL(filePath: "\(directory)/report.json")))
    }

    @Test("Clusters that start in the same second have separate directories, and each report describes its own run")
    func sameSecond() async throws {
        let scratch = try Scratch()
        let (directory, arguments) = (scratch.path, try cluster(scratch))
        let seeds = [1, 2, 3]
        try await withThrowingTaskGroup(of: Binary.Outcome.self) { group in
            for seed in seeds { group.addTask { try await Binary.run(arguments + ["--seed", "\(seed)"], in: directory) } }
            for try await found in group { #expect(found.status == 0, "\(found.errors)") }
        }
        let runs = try FileManager.default.contentsOfDirectory(atPath: "\(directory)/runs").map { "\(directory)/runs/\($0)" }
        #expect(runs.count == seeds.count)
        var found: Set<Int> = []
        for run in runs {
            let seed = try report(run).seed
            found.insert(seed)
            #expect(try await Binary.run("ledger", "show", run).output.contains("seed            \(seed)\n"))
            #expect(try String(contentsOfFile: "\(run)/run.toml", encoding: .utf8).contains("seed = \(seed) "))
        }
        #expect(found == Set(seeds))
    }

    @Test("Of two clusters with the same --directory one runs; the other names the process that uses the directory")
    func sameDirectory() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        let holder = try LockedFile("\(run)/lock")
        for arguments in [
            try cluster(scratch, "--directory", run),
            ["coordinator", "--directory", run, "--kind", "text", "--train", "all", "--listen", "tcp://127.0.0.1:0"],
        ] {
            let found = try await Binary.run(arguments)
            #expect(found.status == ExitStatus.temporary.rawValue, "\(found.errors)")
            #expect(found.errors.contains("\(run) is in use by process \(getpid())"), "\(found.errors)")
            #expect(!FileManager.default.fileExists(atPath: "\(run)/run.toml") && !FileManager.default.fileExists(atPath: "\(run)/ledger"))
        }
        holder.release()
        #expect(try await Binary.run(try cluster(scratch, "--directory", run)).status == 0)
        // The directory of a finished run is not used for a new one either; resuming and retracting take the same lock.
        let again = try await Binary.run(try cluster(scratch, "--directory", run, "--seed", "9"))
        #expect(again.status == ExitStatus.cannotCreate.rawValue && again.errors.contains("holds a run already"), "\(again.errors)")
        let second = try LockedFile("\(run)/lock")
        defer { second.release() }
        let resumed = try await Binary.run("cluster", "--resume", run)
        #expect(resumed.status == ExitStatus.temporary.rawValue && resumed.errors.contains("process \(getpid())"), "\(resumed.errors)")
    }

    @Test("Two workers don't share a state directory")
    func stateDirectory() async throws {
        let scratch = try Scratch()
        let state = "\(scratch.path)/state"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        let holder = try LockedFile("\(state)/lock")
        defer { holder.release() }
        let found = try await Binary.run(
            "worker", "--coordinator", "ipc://\(scratch.path)/nobody", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(),
            "--state-dir", state)
        #expect(found.status == ExitStatus.temporary.rawValue && found.errors.contains("in use by process \(getpid())"), "\(found.errors)")
    }

    @Test("Resuming with a changed run file is an error that names the setting that differs from the ledger")
    func resumedWithOtherSettings() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        #expect(try await Binary.run(try cluster(scratch, "--directory", run)).status == 0)
        try FileManager.default.removeItem(atPath: "\(run)/report.json")
        let file = "\(run)/run.toml"
        let text = try String(contentsOfFile: file, encoding: .utf8)
        try Data(
            text.replacing("\" bad\"", with: "\" good\"").replacing("1\" = \" good\"", with: "1\" = \" bad\"").replacing(
                "seed = 0 ", with: "seed = 7 "
            ).utf8
        )
        .write(to: URL(filePath: file))
        let found = try await Binary.run("cluster", "--resume", run)
        #expect(found.status == ExitStatus.configuration.rawValue, "\(found.errors)")
        for part in ["task.labels", "training.seed is 7, the ledger's 0"] { #expect(found.errors.contains(part), "\(found.errors)") }
        let coordinator = try await Binary.run("coordinator", "--directory", run, "--config", file)
        #expect(
            coordinator.status == ExitStatus.configuration.rawValue && coordinator.errors.contains("training.seed is 7, the ledger's 0"),
            "\(coordinator.errors)")
    }

    @Test("Giving a setting twice in a run file, in any spelling, is an error as for flags")
    func settingsGivenTwice() async throws {
        let scratch = try Scratch()
        for (text, name) in [
            ("[task]\nobjective-command = \"a\"\nobjective = { command = \"b\" }\n", "objective-command"),
            ("\"training.seed\" = 1\n[training]\nseed = 2\n", "training.seed"),
        ] {
            let file = try scratch.file("twice.toml", text)
            let found = try await Binary.run("cluster", "--config", file, "--print-config")
            #expect(
                found.status == ExitStatus.badData.rawValue && found.errors.contains("\(name)") && found.errors.contains("twice"), "\(found.errors)")
        }
        for arguments in [
            ["cluster", "--train-file", "a", "--train-file=b"],
            ["worker", "--shard", "1/2", "--shard", "2/2", "--coordinator", "x", "--model", "m", "--train-file", "f"],
            ["export", "--model", "m", "-o", "a", "--output", "b"], ["generate", "x", "--model", "m", "--seed", "1", "--seed", "2"],
        ] {
            let found = try await Binary.run(arguments)
            #expect(found.status == ExitStatus.usage.rawValue && found.errors.contains("is given twice"), "\(arguments): \(found.errors)")
        }
    }

    @Test("Data that train the run are not called held out, whatever the file's name", arguments: ["same", "link", "copy", "part", "apart"])
    func whatJudgesTheRun(_ kind: String) async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let arguments = try cluster(scratch, "--directory", run)
        let train = try scratch.reviews(count: 8)
        let judge = kind == "same" ? train : "\(scratch.path)/judge.jsonl"
        switch kind {
        case "link": try FileManager.default.createSymbolicLink(atPath: judge, withDestinationPath: train)
        case "copy": try FileManager.default.copyItem(atPath: train, toPath: judge)
        // Two of the texts are also in the training data, one of them with another label and an extra field.
        case "part":
            _ = try scratch.file(
                "judge.jsonl",
                #"{"text":"film number 1","label":0,"id":9}"# + "\n" + #"{"text":"film number 2","label":0}"# + "\n"
                    + #"{"text":"another","label":1}"# + "\n")
        case "apart": _ = try scratch.file("judge.jsonl", #"{"text":"another","label":1}"# + "\n")
        default: break
        }
        let found = try await Binary.run(arguments + ["--eval-file", judge])
        try #require(found.status == 0, "\(found.errors)")
        let evaluation = try #require(try report(run).evaluation)
        switch kind {
        case "part":
            #expect(evaluation.alsoInTraining == 2 && evaluation.isHeldOut == false)
            #expect(found.output.contains("partly held out after") && !found.output.contains("\n  held out"), "\(found.output)")
            #expect(found.errors.contains("2 of the 3 examples of \(judge)"), "\(found.errors)")
            #expect(found.output.contains("of the examples that judge the run 2 also train the run"), "\(found.output)")
        case "apart":
            #expect(evaluation.alsoInTraining == 0 && evaluation.isHeldOut == true && found.output.contains("\n  held out after"))
        default:
            #expect(evaluation.alsoInTraining == 8 && evaluation.isHeldOut == false)
            #expect(found.errors.contains("both the evaluation data and the training data"), "\(found.errors)")
            #expect(!(found.output + found.errors).contains("held out before"), "\(found.output)")
            #expect(found.output.contains("training data after"), "\(found.output)")
            // The ledger's own path names the same run.
            for path in [run, "\(run)/ledger"] {
                let evaluated = try await Binary.run("evaluate", judge, "--model", Binary.tinyModel, "--ledger", path)
                #expect(evaluated.errors.contains("both the evaluation data and the training data"), "\(path): \(evaluated.errors)")
            }
        }
    }

    @Test("Where it can't be seen whether the data that judge a run also train it, evaluate says so; so does an export without its scores")
    func whatCanNotBeCompared() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let judge = try scratch.file("judge.jsonl", #"{"text":"another","label":1}"# + "\n")
        #expect(try await Binary.run(try cluster(scratch, "--directory", run, "--eval-file", judge)).status == 0)
        func evaluated() async throws -> String {
            let found = try await Binary.run("evaluate", judge, "--model", Binary.tinyModel, "--ledger", run)
            #expect(found.status == 0, "\(found.errors)")
            return found.errors
        }
        #expect(try await !evaluated().contains("is not known"))
        try FileManager.default.removeItem(atPath: "\(scratch.path)/reviews.jsonl")
        let unknown = "note: whether \(judge) and the training data share examples is not known: "
        #expect(try await evaluated().contains(unknown + "No such file"))
        _ = try scratch.file("reviews.jsonl", "{\"text\": \"of another shape\"}\n")
        #expect(try await evaluated().contains(unknown + "\(scratch.path)/reviews.jsonl is not the file with which the run began"))
        try FileManager.default.removeItem(atPath: "\(run)/data.sha256")
        #expect(try await evaluated().contains(unknown))
        // A ledger that lies alone, and one of a coordinator, which has no data.
        try FileManager.default.copyItem(atPath: "\(run)/ledger", toPath: "\(scratch.path)/copy")
        let alone = try await Binary.run("evaluate", judge, "--model", Binary.tinyModel, "--ledger", "\(scratch.path)/copy")
        #expect(alone.status == 0 && alone.errors.contains(unknown + "there is no run.toml beside the ledger"), "\(alone.errors)")

        func exported(_ name: String) async throws -> Binary.Outcome {
            try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", run, "--output", "\(scratch.path)/\(name)")
        }
        #expect(try await exported("whole").errors.isEmpty)
        try Data("{".utf8).write(to: URL(filePath: "\(run)/report.json"))
        let damaged = try await exported("damaged")
        #expect(damaged.status == 0 && damaged.errors.contains("note: \(run)/report.json can't be read, so the README has no scores"), "\(damaged)")
        #expect(try String(contentsOfFile: "\(scratch.path)/whole/README.md", encoding: .utf8).contains("## Scores"))
        #expect(try !String(contentsOfFile: "\(scratch.path)/damaged/README.md", encoding: .utf8).contains("## Scores"))
    }
}

extension TheRunThatWasAskedForTests {
    /// Takes a finished run back to its first round, so that it can be resumed.
    private func rewind(_ run: String) async throws {
        let found = try await Binary.run("ledger", "rewind", run, "--to", "1", "--yes")
        try #require(found.status == 0, "\(found.errors)")
        try FileManager.default.removeItem(atPath: "\(run)/report.json")
    }

    @Test("A run is resumed with the data with which it began; other contents under their name, here or in another directory, need a flag")
    func resumedWithOtherData() async throws {
        let scratch = try Scratch()
        let directory = scratch.path
        let data = try scratch.reviews()
        let arguments = try cluster(scratch, "--directory", "run", "--train-file", "reviews.jsonl")
        #expect(try await Binary.run(arguments, in: directory).status == 0)
        let sums = try await Binary.run(["-c", "sha256sum --check --strict run/data.sha256"], program: "/bin/bash", in: directory)
        #expect(sums.status == 0 && sums.output.contains("reviews.jsonl: OK"), "\(sums)")
        try await rewind("\(directory)/run")
        // A file of the same name in the directory from which the run is resumed.
        let elsewhere = "\(directory)/elsewhere"
        try FileManager.default.createDirectory(atPath: elsewhere, withIntermediateDirectories: true)
        try Data((0..<24).map { #"{"text":"another \#($0)","label":\#($0 % 2)}"# + "\n" }.joined().utf8).write(
            to: URL(filePath: "\(elsewhere)/reviews.jsonl"))
        let other = try await Binary.run(["cluster", "--resume", "../run"], in: elsewhere)
        #expect(other.status == ExitStatus.configuration.rawValue, "\(other.errors)")
        for part in ["reviews.jsonl is not the file with which the run began", "--train-file reviews.jsonl"] {
            #expect(other.errors.contains(part), "\(other.errors)")
        }
        // A file that grew.
        let whole = try Data(contentsOf: URL(filePath: data))
        try (whole + Data(#"{"text":"one more","label":1}"#.utf8)).write(to: URL(filePath: data))
        let grown = try await Binary.run(["cluster", "--resume", "run"], in: directory)
        #expect(grown.status == ExitStatus.configuration.rawValue && grown.errors.contains("it was changed since"), "\(grown.errors)")
        let meant = try await Binary.run(["cluster", "--resume", "run", "--train-file", "reviews.jsonl"], in: directory)
        #expect(meant.status == 0, "\(meant.errors)")
        // From now on this is the run's file.
        try await rewind("\(directory)/run")
        #expect(try await Binary.run(["cluster", "--resume", "run"], in: directory).status == 0)
    }

    @Test("A run directory that was moved has its own parts of the data with it, although another run has its old place now")
    func movedWithItsParts() async throws {
        let scratch = try Scratch()
        let directory = scratch.path
        _ = try scratch.reviews()
        func run(_ split: String) async throws {
            let found = try await Binary.run(
                try cluster(scratch, "--directory", "run", "--train-file", "reviews.jsonl", "--split", split), in: directory)
            try #require(found.status == 0, "\(found.errors)")
        }
        try await run("60/40")
        let part = try Data(contentsOf: URL(filePath: "\(directory)/run/data/train.jsonl"))
        try FileManager.default.moveItem(atPath: "\(directory)/run", toPath: "\(directory)/moved")
        try await run("40/60")
        #expect(try Data(contentsOf: URL(filePath: "\(directory)/run/data/train.jsonl")) != part)
        try await rewind("\(directory)/moved")
        let resumed = try await Binary.run(["cluster", "--resume", "moved"], in: directory)
        #expect(resumed.status == 0, "\(resumed.errors)")
        let settings = try String(contentsOfFile: "\(directory)/moved/run.toml", encoding: .utf8)
        #expect(settings.contains("train-file = \"moved/data/train.jsonl\""), "\(settings)")
        #expect(try Data(contentsOf: URL(filePath: "\(directory)/moved/data/train.jsonl")) == part)
        let judged = try await Binary.run(
            ["evaluate", "moved/data/train.jsonl", "--model", Binary.tinyModel, "--ledger", "moved/ledger"], in: directory)
        #expect(judged.errors.contains("both the evaluation data and the training data"), "\(judged.errors)")
    }

    @Test("A model is judged by its run's task; where a run file or flags give another, the differences are named")
    func judgedByAnotherTask() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let judge = try scratch.file("judge.jsonl", #"{"text":"another","label":1}"# + "\n")
        #expect(try await Binary.run(try cluster(scratch, "--directory", run, "--max-length", "200")).status == 0)
        func errors(_ command: String, _ more: String...) async throws -> String {
            let found = try await Binary.run([command, judge, "--model", Binary.tinyModel, "--ledger", run] + more)
            #expect(found.status == 0, "\(found.errors)")
            return found.errors
        }
        let another = "note: the task is the one given here, and the run in \(run)/ledger had another: "
        for command in ["evaluate", "predict"] {
            #expect(try await !errors(command).contains(another))
            #expect(try await !errors(command, "--config", "\(run)/run.toml").contains(another))
            #expect(try await !errors(command, "--template", "{text} It was").contains(another), "a single setting replaces the ledger's")
            let whole = try await errors(command, "--template", "{text} It was", "--label", "0= bad", "--label", "1= good")
            #expect(whole.contains(another + "task.max-length is 128, the ledger's 200"), "\(whole)")
            let file = try scratch.file(
                "other.toml", "[task]\ntemplate = \"{text} All in all\"\nlabels = { 0 = \" bad\", 1 = \" good\" }\nmax-length = 200\n")
            let other = try await errors(command, "--config", file)
            #expect(other.contains(another + #"task.template is "{text} All in all", the ledger's "{text} It was""#), "\(other)")
        }
    }

    @Test("data preview cuts as the cluster does, and the reason of a length is true")
    func previewedLength() async throws {
        let scratch = try Scratch()
        func rows(_ words: Int) throws -> String {
            let text = Array(repeating: "word", count: words).joined(separator: " ")
            return try scratch.file("long.jsonl", (0..<20).map { #"{"text":"\#(text) \#($0)","label":\#($0 % 2)}"# + "\n" }.joined())
        }
        let words = ["--template", "{text} It was", "--label", "0= bad", "--label", "1= good"]
        let file = try rows(50)
        let shown = try await Binary.run(["data", "preview", file, "--model", Binary.tinyModel] + words)
        #expect(!shown.output.contains("too long and cut") && shown.output.contains("95 of 100 examples in \(file) are no longer"), "\(shown.output)")
        let planned = try await Binary.run(["cluster", "--train-file", file, "--model", Binary.tinyModel, "--print-config"] + words)
        let length = try #require(planned.output.firstMatch(of: /max-length = (\d+)/)).output.1
        #expect(shown.output.contains("maximum length: \(length) tokens"), "\(shown.output) \(planned.output)")
        // Where the examples are longer than the context, or than the largest default, it must not say that they are not.
        let longer = try rows(1500)
        let wide = "\(scratch.path)/wide"
        try FileManager.default.copyItem(atPath: Binary.tinyModel, toPath: wide)
        let configuration = try String(contentsOfFile: "\(wide)/config.json", encoding: .utf8)
        try Data(configuration.replacing(/"max_position_embeddings": *256/, with: "\"max_position_embeddings\": 65536").utf8).write(
            to: URL(filePath: "\(wide)/config.json"))
        for (model, reason) in [
            (Binary.tinyModel, "the model's context, which more than 5 of 100 examples in \(longer) fill"),
            (wide, "the most without asking for more; 95 of 100 examples in \(longer) have up to"),
        ] {
            let most = try await Binary.run(["cluster", "--train-file", longer, "--model", model, "--print-config"] + words)
            #expect(most.output.contains(reason), "\(most.output)")
        }
    }

    @Test("A path in a run file is that from where the program is started; where the run file's directory has another of that name, it is said")
    func pathsOfARunFile() async throws {
        let scratch = try Scratch()
        let place = "\(scratch.path)/place"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        let file = try scratch.file(
            "run.toml",
            """
            model = "\(Binary.tinyModel)"
            [task]
            template = "{text} It was"
            labels = { 0 = " bad", 1 = " good" }
            [data]
            train-file = "reviews.jsonl"
            """)
        let train = try scratch.reviews()
        func errors(_ command: [String], in directory: String) async throws -> String {
            try await Binary.run(command + ["--config", directory == place ? "../run.toml" : file], in: directory).errors
        }
        let note = "note: data.train-file is reviews.jsonl from where the program is started, and not ../reviews.jsonl (../run.toml:6)"
        // Where there is none, the note names the one that may be meant.
        #expect(try await errors(["cluster", "--dry-run"], in: place).hasPrefix(note + "\nerror: reviews.jsonl: there is no reviews.jsonl here"))
        try Data((0..<24).map { #"{"text":"another \#($0)","label":\#($0 % 2)}"# + "\n" }.joined().utf8).write(
            to: URL(filePath: "\(place)/reviews.jsonl"))
        #expect(try await errors(["cluster", "--print-config"], in: place).contains(note))
        try FileManager.default.removeItem(atPath: "\(place)/reviews.jsonl")
        try FileManager.default.createSymbolicLink(atPath: "\(place)/reviews.jsonl", withDestinationPath: train)
        #expect(try await errors(["cluster", "--print-config"], in: place) == "")
        #expect(try await errors(["cluster", "--print-config"], in: scratch.path) == "")
    }

    @Test("Flags that have no effect are said to have none, or refused")
    func flagsWithoutEffect() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let data = try scratch.reviews()
        let quick = ["generate", "The film", "--model", Binary.tinyModel, "--max-tokens", "2"]
        let greedy = try await Binary.run(quick + ["--top-p", "0.5", "--seed", "3"])
        #expect(greedy.status == 0 && greedy.errors.contains("--top-p does nothing here") && greedy.errors.contains("--seed does nothing here"))
        let sampled = try await Binary.run(quick + ["--top-p", "0.5", "--seed", "3", "--temperature", "1"])
        #expect(sampled.status == 0 && !sampled.errors.contains("does nothing"), "\(sampled.errors)")
        #expect(try await Binary.run(try cluster(scratch, "--directory", run, "--train", "adapter:final,layers.2")).status == 0)
        let predicted = try await Binary.run("predict", data, "--model", Binary.tinyModel, "--ledger", run, "--max-tokens", "4")
        #expect(predicted.status == 0 && predicted.errors.contains("--max-tokens does nothing here"), "\(predicted.errors)")
        let numbers = try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", run, "--format", "numbers")
        #expect(numbers.status == 0 && numbers.errors.contains("which these numbers leave out; --format merged writes all"), "\(numbers.errors)")
        let scored = try await Binary.run(
            "evaluate", data, "--model", Binary.tinyModel, "--objective-command", "cat", "--objective-max-tokens", "2", "--template", "{text}",
            "--kind", "text", "--examples", "\(scratch.path)/judged")
        #expect(scored.status == ExitStatus.usage.rawValue && scored.errors.contains("--texts writes the texts"), "\(scored.errors)")
        let complete = try await Binary.run("cluster", "--resume", run, "--threads", "1")
        #expect(complete.status == 0 && complete.errors.contains("note: --threads has no effect: nothing is left to do"), "\(complete.errors)")
        let preset = try await Binary.run("cluster", "--resume", run, "--preset", "generate")
        #expect(preset.status == ExitStatus.usage.rawValue && preset.errors.contains("--preset can't be changed by --resume"), "\(preset.errors)")
        #expect(try await Binary.run(try cluster(scratch, "--directory", "\(scratch.path)/layers", "--train", "layers.2")).status == 0)
        let none = try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", "\(scratch.path)/layers", "--format", "numbers")
        #expect(none.status == ExitStatus.usage.rawValue && none.errors.contains("the run trains no adapter"), "\(none.errors)")
    }

    @Test("A ledger that is named by its own path is edited as its run directory is")
    func ledgerByItsPath() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let judge = try scratch.file("judge.jsonl", (0..<600).map { #"{"text":"another \#($0)","label":\#($0 % 2)}"# + "\n" }.joined())
        #expect(try await Binary.run(try cluster(scratch, "--directory", run, "--eval-file", judge)).status == 0)
        let card = "\(scratch.path)/exported"
        #expect(try await Binary.run("export", "--model", Binary.tinyModel, "--ledger", "\(run)/ledger", "--output", card).status == 0)
        #expect(try String(contentsOfFile: "\(card)/README.md", encoding: .utf8).contains("## Scores"))
        // While somebody holds the run directory, nobody writes its ledger.
        let holder = try LockedFile("\(run)/lock")
        let held = try await Binary.run(
            ["3", Binary.path, "ledger", "rewind", "\(run)/ledger", "--to", "1", "--yes"], program: "/usr/bin/timeout")
        #expect(held.status == 124, "it asks the holder, who does not answer: \(held)")
        holder.release()
        unlink("\(run)/requests")
        let edited = try await Binary.run("ledger", "retract", "\(run)/ledger", "--machine", "worker-1", "--yes")
        #expect(edited.status == 0 && !edited.errors.contains("nobody signs"), "\(edited)")
        #expect(edited.output.contains("on the first 500 of 600 examples of \(judge): "), "\(edited.output)")
        #expect(edited.output.contains("cluster --resume \(run)\n") || edited.output.hasSuffix("cluster --resume \(run)\n"), "\(edited.output)")
        #expect(try await Binary.run("ledger", "verify", run).output.contains("signed by the coordinator"))
    }

    @Test("A hand-run coordinator leaves run file and report as a cluster does, and each continues the other's run")
    func eitherContinuesTheOther() async throws {
        let scratch = try Scratch()
        let found = try await Binary.runScript(
            Binary.smallRun(rounds: 4, samples: 8) + """
                by_hand() {
                    rm -f join
                    onebyte coordinator "$@" --listen tcp://127.0.0.1:0 --join-file join > out 2> log & coordinator=$!
                    onebyte worker --join-file join --model "$MODEL" --train-file train.jsonl --name hers 2> worker.log
                    wait $coordinator
                }
                by_hand --config run.toml --directory hand
                ls hand; cp hand/report.json first.json
                onebyte evaluate train.jsonl --config hand/run.toml --model "$MODEL" --ledger hand | head -n 1
                onebyte cluster --resume hand 2>&1 || echo "status $?"
                onebyte ledger rewind hand --to 2 --yes
                onebyte cluster --resume hand --model "$MODEL" --train-file train.jsonl --workers 1 2> /dev/null | head -n 1
                onebyte cluster --config run.toml --model "$MODEL" --train-file train.jsonl --workers 1 --directory local > /dev/null 2>&1
                onebyte ledger rewind local --to 2 --yes
                by_hand --directory local
                head -n 1 out
                """, seconds: 110, in: scratch.path)
        #expect(found.status == 0, "\(found.errors)")
        for file in ["run.toml", "report.txt", "report.json", "metrics.jsonl", "status.json"] {
            #expect(found.output.contains("\(file)\n"), "no \(file): \(found.output)")
        }
        let first = try JSONDecoder().decode(RunReport.self, from: Data(contentsOf: URL(filePath: "\(scratch.path)/first.json")))
        #expect(first.digest != nil && first.rounds == 4)
        #expect(found.output.contains("hand/run.toml names no model"), "\(found.output)")
        #expect(found.output.contains("onebyte coordinator --directory hand"), "\(found.output)")
        #expect(found.output.components(separatedBy: "Run completed: 6 rounds").count == 3, "\(found.output)")
    }

    @Test("A coordinator's report does not call data held out that nobody has compared; a resumed run's report says which events it lacks")
    func whatNobodyCompared() async throws {
        let report = try JSONDecoder().decode(
            RunReport.EvaluationData.self, from: Data(#"{"file": "", "loss_is": "x"}"#.utf8))
        #expect(report.isHeldOut == nil && report.alsoInTraining == nil)
        let scratch = try Scratch()
        let found = try await Binary.runScript(
            Binary.smallRun(rounds: 2, samples: 8) + """
                onebyte coordinator --config run.toml --directory run --listen tcp://127.0.0.1:0 --join-file join 2> log &
                coordinator=$!
                onebyte worker --join-file join --model "$MODEL" --train-file train.jsonl --evaluate train.jsonl 2> worker.log
                wait $coordinator
                cat run/report.json
                onebyte export --model "$MODEL" --ledger run --output exported > /dev/null
                cat exported/README.md
                rm run/metrics.jsonl
                onebyte report run --format csv 2>&1 > /dev/null
                """, seconds: 60, in: scratch.path)
        #expect(found.status == 0, "\(found.errors)")
        #expect(found.output.contains("\"loss_is\"") && !found.output.contains("held_out"), "\(found.output)")
        #expect(found.output.contains("- measured by the run's evaluators, not compared with the training data; the loss is"), "\(found.output)")
        #expect(found.output.contains("note: there is no run/metrics.jsonl; what it told of is left out"), "\(found.output)")
    }
}

/// A file on which this process holds a lock.
final class LockedFile {
    private var descriptor: Int32

    init(_ path: String) throws {
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        try #require(descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) == 0)
    }

    func release() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    deinit { release() }
}
