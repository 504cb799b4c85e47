import Core
import Foundation
import LanguageModel
import OneByte
import Testing

/// Hidden states that exceed the memory limit go to files.
@Suite(.serialized) struct CacheMemoryTests {
    private func cluster(_ scratch: borrowing Scratch, run: String, _ more: String...) async throws -> Binary.Outcome {
        try await Binary.run(
            [
                "cluster", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(), "--eval-file", try scratch.reviews("held-out.jsonl"),
                "--directory", "\(scratch.path)/\(run)", "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train",
                "layers.2", "--learning-rate", "1e-5", "--rounds", "2", "--samples-per-round", "8", "--workers", "2",
            ].overridden(by: more), environment: ["XDG_CACHE_HOME": "\(scratch.path)/home"])
    }

    /// Returns the inodes of files by name.
    private func files(_ directory: String) throws -> [String: Int] {
        guard FileManager.default.fileExists(atPath: directory) else { return [:] }
        return try FileManager.default.contentsOfDirectory(atPath: directory).reduce(into: [:]) { files, name in
            files[name] = try FileManager.default.attributesOfItem(atPath: "\(directory)/\(name)")[.systemFileNumber] as? Int
        }
    }

    @Test func whatIsBeyondTheBudgetGoesToFilesThatLaterRunsTakeOver() async throws {
        let scratch = try Scratch()
        let home = "\(scratch.path)/home/onebyte"
        var found = try await cluster(scratch, run: "small")
        try #require(found.status == 0, "\(found.errors)")
        #expect(try files(home).isEmpty, "it fits")
        found = try await cluster(scratch, run: "spilled", "--cache-memory", "1KB")
        try #require(found.status == 0, "\(found.errors)")
        let spilled = try files(home)
        #expect(spilled.count == 3 && spilled.keys.allSatisfy { $0.hasSuffix(".cache") }, "two workers and the evaluator: \(spilled)")
        found = try await cluster(scratch, run: "again", "--cache-memory", "1KB")
        try #require(found.status == 0, "\(found.errors)")
        #expect(try files(home) == spilled)
        func digest(_ run: String) throws -> String {
            let report = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: "\(scratch.path)/\(run)/report.json")))
            return try #require((report as? [String: Any])?["digest"] as? String)
        }
        #expect(try digest("small") == digest("again"))
        found = try await cluster(scratch, run: "template", "--cache-memory", "1KB", "--template", "{text} I think it was")
        try #require(found.status == 0, "\(found.errors)")
        #expect(try files(home).count == 6, "another template is other states")
    }

    /// The hidden states of another model or another tokenizer are not taken for this one's, however alike their files look.
    @Test(arguments: ["weights", "tokenizer", "data"])
    func whatChangesUnderACacheIsComputedAgain(_ changed: String) async throws {
        let scratch = try Scratch()
        let model = "\(scratch.path)/model"
        try FileManager.default.copyItem(atPath: Binary.tinyModel, toPath: model)
        func digest(_ run: String, _ memory: String) async throws -> String {
            let found = try await cluster(scratch, run: run, "--model", model, "--cache-memory", memory)
            try #require(found.status == 0, "\(found.errors)")
            let report = try JSONDecoder().decode(RunReport.self, from: Data(contentsOf: URL(filePath: "\(scratch.path)/\(run)/report.json")))
            return try #require(report.digest)
        }
        let home = "\(scratch.path)/home/onebyte"
        let first = try await digest("first", "1KB")
        let before = Set(try files(home).keys)
        #expect(before.count == 3)

        /// Writes other bytes of the same number into a file, and gives it its old time.
        func overwrite(_ path: String, _ change: (inout Data) throws -> Void) throws {
            let old = try FileManager.default.attributesOfItem(atPath: path)
            var bytes = try Data(contentsOf: URL(filePath: path))
            let count = bytes.count
            try change(&bytes)
            try #require(bytes.count == count)
            let file = try FileHandle(forWritingTo: URL(filePath: path))
            try file.write(contentsOf: bytes)
            try file.close()
            try FileManager.default.setAttributes([.modificationDate: #require(old[.modificationDate])], ofItemAtPath: path)
            let new = try FileManager.default.attributesOfItem(atPath: path)
            for key in [FileAttributeKey.size, .modificationDate, .systemFileNumber] { #expect("\(new[key] ?? 0)" == "\(old[key] ?? 1)") }
        }
        var newFiles = 3
        switch changed {
        case "weights":
            // A lower bit of a value in the first layer's norm.
            try overwrite("\(model)/model.safetensors") { bytes in
                let length = bytes.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
                let header = try #require(JSONSerialization.jsonObject(with: bytes[8..<8 + length]) as? [String: Any])
                let norm = try #require(header["model.layers.0.input_layernorm.weight"] as? [String: Any])
                let start = try #require((norm["data_offsets"] as? [Int])?.first)
                bytes[8 + length + start] ^= 0x10
            }
        case "tokenizer":
            // Two letters change places, so that the same words have other tokens.
            try overwrite("\(model)/tokenizer.json") { bytes in
                let json = try JSON.read("\(model)/tokenizer.json")
                let vocabulary = try #require(json["model"]?["vocab"])
                let (m, n) = (try #require(vocabulary["m"]?.integer), try #require(vocabulary["n"]?.integer))
                try #require("\(m)".utf8.count == "\(n)".utf8.count)
                var text = String(decoding: bytes, as: UTF8.self)
                let keys = [#""m": \#(m)"#, #""n": \#(n)"#].map { text.contains($0) ? $0 : $0.replacing(" ", with: "") }
                try #require(keys.allSatisfy { text.components(separatedBy: $0 + ",").count == 2 })
                text = text.replacing(keys[0] + ",", with: keys[0].replacing("\(m)", with: "\(n)") + ",")
                text = text.replacing(keys[1] + ",", with: keys[1].replacing("\(n)", with: "\(m)") + ",")
                bytes = Data(text.utf8)
            }
        default:
            // One letter of a text that the first worker holds, in its training data alone.
            newFiles = 1
            let data = try scratch.reviews("train-again.jsonl")
            try overwrite(data) { bytes in
                let place = try #require(bytes.range(of: Data("film number 0".utf8)))
                bytes[place.lowerBound] = UInt8(ascii: "F")
            }
            let found = try await cluster(scratch, run: "second", "--model", model, "--train-file", data, "--cache-memory", "1KB")
            try #require(found.status == 0, "\(found.errors)")
            #expect(Set(try files(home).keys).subtracting(before).count == newFiles)
            return
        }
        let second = try await digest("second", "1KB")
        #expect(second != first)
        #expect(Set(try files(home).keys).subtracting(before).count == newFiles, "nothing of the first run is taken over")
        #expect(try await digest("without", "1GB") == second, "the same as without files")
    }

    @Test("A cache that is cut short while a worker reads it ends the worker with the file's name")
    func aCacheThatIsCutShort() async throws {
        let scratch = try Scratch()
        let (run, home, address) = ("\(scratch.path)/run", "\(scratch.path)/home", "ipc://\(scratch.path)/socket")
        let coordinator = Process()
        coordinator.executableURL = URL(filePath: Binary.path)
        coordinator.arguments = [
            "coordinator", "--directory", run, "--listen", address, "--kind", "classification", "--template", "{text} It was", "--label", "0= bad",
            "--label", "1= good", "--train", "layers.2", "--damped-components", "none", "--learning-rate", "1e-5", "--rounds", "1000000",
            "--samples-per-round", "8", "--evaluate-every", "0",
        ]
        coordinator.standardError = FileHandle.nullDevice
        try coordinator.run()
        defer { coordinator.terminate() }
        let reviews = try scratch.reviews()
        async let worker = Binary.run(
            [
                "worker", "--coordinator", address, "--model", Binary.tinyModel, "--train-file", reviews, "--cache-memory",
                "1KB",
            ], environment: ["XDG_CACHE_HOME": home])
        let end = ContinuousClock.now + .seconds(120)
        while (try? Data(contentsOf: URL(filePath: "\(run)/metrics.jsonl")))?.range(of: Data("\"event\":\"round\"".utf8)) == nil {
            try #require(ContinuousClock.now < end)
            try await Task.sleep(for: .milliseconds(100))
        }
        let cache = "\(home)/onebyte/" + (try #require(files("\(home)/onebyte").keys.first))
        try #require(truncate(cache, 0) == 0)
        let found = try await worker
        #expect(found.status == ExitStatus.inputOutput.rawValue, "\(found)")
        #expect(found.errors.contains("\(cache) was cut short"), "\(found)")
    }

    @Test func aDirectoryThatCanNotBeWrittenIsAClearError() async throws {
        let scratch = try Scratch()
        let found = try await cluster(scratch, run: "run", "--cache-directory", "/proc/nowhere")
        #expect(found.status == ExitStatus.inputOutput.rawValue, "\(found.errors)")
        #expect(found.errors.contains("the prefix cache file /proc/nowhere/prefix-"))
        #expect(found.errors.contains("give another directory or more memory"))
    }
}
