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
            #expect(evaluation.alsoInTraining == 2 && !evaluation.isHeldOut)
            #expect(found.errors.contains("2 of the 3 examples of \(judge)"), "\(found.errors)")
            #expect(found.output.contains("of the examples that judge the run 2 also train the run"), "\(found.output)")
        case "apart":
            #expect(evaluation.alsoInTraining == 0 && evaluation.isHeldOut && found.output.contains("held out after"))
        default:
            #expect(evaluation.alsoInTraining == 8 && !evaluation.isHeldOut)
            #expect(found.errors.contains("both the evaluation data and the training data"), "\(found.errors)")
            #expect(!(found.output + found.errors).contains("held out before"), "\(found.output)")
            #expect(found.output.contains("training data after"), "\(found.output)")
            let evaluated = try await Binary.run("evaluate", judge, "--model", Binary.tinyModel, "--ledger", run)
            #expect(evaluated.errors.contains("both the evaluation data and the training data"), "\(evaluated.errors)")
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
        #expect(try await evaluated().contains(unknown))

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
