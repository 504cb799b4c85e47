import Foundation
import Testing

/// Each mistake gives one clear error and its exit status, and leaves no process running.
@Suite struct BadInputTests {
    private static let words = ["--template", "{text} It was", "--label", "0= bad", "--label", "1= good"]

    private func cluster(_ scratch: borrowing Scratch, model: String = Binary.tinyModel, data: String, _ more: String...) async throws
        -> Binary.Outcome
    {
        try await Binary.run(
            (["cluster", "--model", model, "--train-file", data, "--directory", "\(scratch.path)/run", "--rounds", "2"] + Self.words).overridden(
                by: more))
    }

    private func oneError(_ found: Binary.Outcome, _ status: Int32, _ parts: String...) {
        #expect(found.status == status, "\(found.errors)")
        #expect(found.output.isEmpty)
        let errors = found.errors.split(separator: "\n").filter { $0.hasPrefix("error: ") }
        #expect(errors.count == 1, "\(found.errors)")
        for part in parts { #expect(found.errors.contains(part), "\(part) is not in: \(found.errors)") }
    }

    @Test func aBrokenLine4711() async throws {
        let scratch = try Scratch()
        var lines = Array(repeating: #"{"text":"fine","label":1}"#, count: 5000)
        lines[4710] = #"{"text":"fine","label":1"#
        let data = try scratch.file("data.jsonl", lines.joined(separator: "\n"))
        oneError(try await cluster(scratch, data: data), 65, "data.jsonl:4711: ")
        #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/run"))
    }

    @Test func aLabelWithoutAWord() async throws {
        let scratch = try Scratch()
        let data = try scratch.file(
            "data.jsonl", "{\"text\":\"a\",\"label\":0}\n{\"text\":\"b\",\"label\":\"neutral\"}\n{\"text\":\"c\",\"label\":1}\n")
        oneError(try await cluster(scratch, data: data), 65, "data.jsonl:2: the label \"neutral\" has no word")
    }

    @Test func aTruncatedSafetensorsFile() async throws {
        let scratch = try Scratch()
        let model = "\(scratch.path)/model"
        try FileManager.default.copyItem(atPath: Binary.tinyModel, toPath: model)
        let weights = URL(filePath: "\(model)/model.safetensors")
        let data = try Data(contentsOf: weights)
        try data.prefix(data.count - 1000).write(to: weights)
        oneError(try await cluster(scratch, model: model, data: try scratch.reviews()), 65, "model.safetensors")
    }

    @Test func aGGUFFileOfAnUnknownArchitecture() async throws {
        let scratch = try Scratch()
        var data = try Data(contentsOf: URL(filePath: Binary.tinyGGUF))
        // The value of general.architecture follows its key, its type and its length.
        let key = try #require(data.range(of: Data("general.architecture".utf8)))
        let value = try #require(data.range(of: Data("llama".utf8), in: key.upperBound..<data.endIndex))
        data.replaceSubrange(value, with: Data("lxyzq".utf8))
        let model = "\(scratch.path)/strange.gguf"
        try data.write(to: URL(filePath: model))
        oneError(try await cluster(scratch, model: model, data: try scratch.reviews()), 65, "lxyzq")
    }

    @Test("A worker whose model does not exist ends with status 66 before it connects")
    func aWorkersModelThatIsNotThere() async throws {
        let scratch = try Scratch()
        let data = try scratch.file("train.jsonl", "{\"text\": \"a\"}\n")
        let found = try await Binary.run(
            "worker", "--coordinator", "tcp://127.0.0.1:9", "--model", "\(scratch.path)/nothing.gguf", "--train-file", data)
        #expect(found.status == 66 && found.errors.contains("nothing.gguf"), "\(found.errors)")
    }

    @Test func aModelThatIsNotThere() async throws {
        let scratch = try Scratch()
        oneError(try await cluster(scratch, model: "\(scratch.path)/none.gguf", data: try scratch.reviews()), 66, "none.gguf")
    }

    @Test func dataThatAreNotThere() async throws {
        let scratch = try Scratch()
        oneError(try await cluster(scratch, data: "\(scratch.path)/none.jsonl"), 66, "none.jsonl")
    }

    @Test func aRunDirectoryThatCannotBeMade() async throws {
        let scratch = try Scratch()
        let data = try scratch.reviews()
        // Tests may run as root, who can write everywhere except below a file.
        let found = try await cluster(scratch, data: data, "--directory", "\(data)/run")
        oneError(found, 73, "can't make the run directory", "--directory")
    }

    @Test func aPortInUse() async throws {
        let scratch = try Scratch()
        let listener = try Listener()
        let found = try await Binary.run(
            [
                "coordinator", "--directory", "\(scratch.path)/other", "--listen", "tcp://127.0.0.1:\(listener.port)", "--kind", "text", "--train",
                "all", "--damped-components", "none",
            ])
        oneError(found, 75, "127.0.0.1:\(listener.port)")
        #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/other/ledger"))
        let whole = try await cluster(scratch, data: try scratch.reviews(), "--listen", "tcp://127.0.0.1:\(listener.port)")
        oneError(whole, 75, "127.0.0.1:\(listener.port)")
    }

    @Test func anUnknownKeyInARunFile() async throws {
        let scratch = try Scratch()
        let file = try scratch.file("run.toml", "[training]\nlearning_rate = 1\n")
        oneError(try await Binary.run("cluster", "--config", file), 65, "run.toml:2:", "did you mean \"training.learning-rate\"?")
    }

    @Test func aRunFileThatIsNotThere() async throws {
        oneError(try await Binary.run("cluster", "--config", "/nonexistent/run.toml"), 66, "/nonexistent/run.toml")
    }

    @Test func moreWorkersNeededThanThereAre() async throws {
        let scratch = try Scratch()
        let file = try scratch.file("run.toml", "[cluster]\nminimum-workers = 4\n")
        oneError(try await cluster(scratch, data: try scratch.reviews(), "--config", file), 64, "minimum-workers", "--workers 4")
    }

    @Test func moreWorkersThanExamples() async throws {
        let scratch = try Scratch()
        oneError(try await cluster(scratch, data: try scratch.reviews(count: 2)), 64, "2 examples are too few for 3 workers")
    }

    @Test func aKindOfTaskThatNobodyTells() async throws {
        let scratch = try Scratch()
        oneError(try await Binary.run("coordinator", "--directory", "\(scratch.path)/run", "--damped-components", "none"), 64, "give --kind")
        #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/run"))
    }

    @Test func aPatternThatMatchesNothing() async throws {
        let scratch = try Scratch()
        let found = try await cluster(scratch, data: try scratch.reviews(), "--train", "layers.77")
        oneError(found, 78, "layers.77")
    }

    @Test func aLedgerThatIsNone() async throws {
        let scratch = try Scratch()
        let file = try scratch.file("ledger", "this is no ledger, but it is long enough to be taken for one at first sight, is it not?")
        oneError(try await Binary.run("ledger", "verify", file), 65, "not a ledger")
        oneError(try await Binary.run("ledger", "show", "\(scratch.path)/none"), 66, "there is no none in \(scratch.path)")
    }

    @Test func keysAreNeverOverwritten() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/key"
        #expect(try await Binary.run("keygen", path).status == 0)
        let before = try Data(contentsOf: URL(filePath: path))
        #expect(try await Binary.run("keygen", path).status != 0)
        #expect(try Data(contentsOf: URL(filePath: path)) == before)
    }

    @Test func halfAKeyPairIsNotLeft() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/key"
        _ = try scratch.file("key.pub", "somebody's")
        let found = try await Binary.run("keygen", path)
        oneError(found, 74, "key.pub")
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func aRunToGoOnWithThatIsNotThere() async throws {
        let scratch = try Scratch()
        oneError(try await Binary.run("coordinator", "--directory", "\(scratch.path)/typo"), 66, "no run to resume")
        oneError(
            try await Binary.run(
                "coordinator", "--directory", "\(scratch.path)/run", "--kind", "text", "--train", "all", "--key", "\(scratch.path)/none"), 66,
            "key file")
    }

    @Test func resultsThatAFullDiskDoesNotTake() async throws {
        // For write(2), /dev/full behaves like a full disk.
        let found = try await Binary.runShell("'\(Binary.path)' model inspect '\(Binary.tinyModel)' > /dev/full")
        oneError(found, 74, "could not be written")
        // It is no error if the reader stops early.
        #expect(try await Binary.runShell("'\(Binary.path)' model inspect '\(Binary.tinyModel)' | head -1; exit ${PIPESTATUS[0]}").status == 0)
    }
}
