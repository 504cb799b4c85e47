import Core
import Foundation
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

    @Test func aDirectoryThatCanNotBeWrittenIsAClearError() async throws {
        let scratch = try Scratch()
        let found = try await cluster(scratch, run: "run", "--cache-directory", "/proc/nowhere")
        #expect(found.status == ExitStatus.inputOutput.rawValue, "\(found.errors)")
        #expect(found.errors.contains("the prefix cache file /proc/nowhere/prefix-"))
        #expect(found.errors.contains("give another directory or more memory"))
    }
}
