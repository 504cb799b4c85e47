import Foundation
import LanguageModel
import Testing
import Training

private let hasHubTools = ["python3", "curl"].allSatisfy { tool in
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").contains {
        FileManager.default.isExecutableFile(atPath: "\($0)/\(tool)")
    }
}

/// Tests of the hub's cache against a small server that answers as the hub does (Fixtures/hub_server.py).
@Suite(.enabled(if: hasHubTools, "needs python3 and curl"))
struct HubTests {
    static let commit = "0123456789abcdef0123456789abcdef01234567"

    /// Runs the server while `body` runs, and passes it the environment of a user with an empty cache.
    private func withHub(_ body: ([String: String], String) throws -> Void) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", try fixture("hub_server.py").path, try fixture("tiny-llama").path]
        let input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        defer {
            try? input.fileHandleForWriting.close()
            process.waitUntilExit()
        }
        var line = Data()
        while line.last != UInt8(ascii: "\n"), case let more = output.fileHandleForReading.availableData, !more.isEmpty { line += more }
        let port = try #require(Int(String(decoding: line.dropLast(), as: UTF8.self)))
        try withTemporaryDirectory { directory in
            try body(["HOME": directory, "HF_HOME": directory + "/hf", "HF_ENDPOINT": "http://127.0.0.1:\(port)/"], directory + "/hf/hub")
        }
    }

    @Test func downloadsIntoTheCachesLayout() throws {
        try withHub { environment, cache in
            var log: [String] = []
            let source = try ModelSource.open("test/tiny", environment: environment) { log.append($0) }
            #expect(log.contains("downloading test/tiny/model.safetensors"))
            #expect(!log.contains { $0.contains("pytorch_model") || $0.contains("evil") })
            let local = try ModelSource.open(fixture("tiny-llama").path)
            #expect(source.baseManifest(threads: 1) == local.baseManifest(threads: 1))
            #expect(source.reference == "test/tiny")

            let repository = cache + "/models--test--tiny"
            #expect(source.path == "\(repository)/snapshots/\(Self.commit)")
            #expect(try String(contentsOfFile: repository + "/refs/main", encoding: .utf8) == Self.commit)
            let link = try FileManager.default.destinationOfSymbolicLink(atPath: source.path + "/config.json")
            #expect(link.hasPrefix("../../blobs/") && link.count == 12 + 40)
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: source.path + "/model.safetensors").count == 12 + 64)
            #expect(try FileManager.default.contentsOfDirectory(atPath: repository).sorted() == ["blobs", "refs", "snapshots"])

            // From now on the cache is sufficient.
            var offline = environment
            offline["HF_HUB_OFFLINE"] = "1"
            offline["HF_ENDPOINT"] = "http://127.0.0.1:1"
            for reference in ["test/tiny", "test/tiny@\(Self.commit)"] {
                let cached = try ModelSource.open(reference, environment: offline)
                #expect(cached.path == source.path)
            }
        }
    }

    @Test func aTokenOpensPrivateRepositories() throws {
        try withHub { environment, _ in
            let error = #expect(throws: ModelError.self) { try ModelSource.open("test/private", environment: environment) }
            #expect(error?.description.contains("HF_TOKEN") == true)
            var withToken = environment
            withToken["HF_TOKEN"] = "secret"
            let source = try ModelSource.open("test/private", environment: withToken)
            #expect(source.configuration.layerCount == 3)
        }
    }

    @Test func failuresAreClearAndLeaveNothing() throws {
        try withHub { environment, cache in
            let cases: [(String, ModelError.Code, String)] = [
                ("test/unknown", .notFound, "the hub does not have it"),
                ("test/tiny@v9", .notFound, "the hub does not have it"),
                ("test/empty", .unsupported, "no config.json with safetensors weights"),
                ("test/damaged", .malformed, "SHA-256"),
            ]
            for (reference, code, text) in cases {
                let error = #expect(throws: ModelError.self) { try ModelSource.open(reference, environment: environment) }
                #expect(error?.code == code && error?.description.contains(text) == true, "\(reference): \(error?.description ?? "")")
                let name = "models--" + reference.split(separator: "@")[0].replacing("/", with: "--")
                #expect(!FileManager.default.fileExists(atPath: "\(cache)/\(name)/refs/main"))
            }
        }
    }

    @Test func withoutANetworkTheErrorSaysSo() throws {
        try withTemporaryDirectory { directory in
            var environment = ["HF_HUB_CACHE": directory, "HF_ENDPOINT": "http://127.0.0.1:1"]
            let error = #expect(throws: ModelError.self) { try ModelSource.open("org/name", environment: environment) }
            #expect(error?.code == .network)
            environment["HF_HUB_OFFLINE"] = "1"
            let offline = #expect(throws: ModelError.self) { try ModelSource.open("org/name", environment: environment) }
            #expect(offline?.code == .notFound && offline?.description.contains("HF_HUB_OFFLINE") == true)
        }
    }

    @Test(arguments: ["", "nothing", "a/b/c", "../x", "a/..", "/etc/nothing", "org/na me", "org/name@../../x", "org/a--b"])
    func whatIsNoRepositoryIsNotAskedFor(reference: String) throws {
        let error = #expect(throws: ModelError.self) { try ModelSource.open(reference, environment: ["HF_ENDPOINT": "http://127.0.0.1:1"]) }
        #expect(error?.code == .notFound)
        #expect(error?.description.contains("there is no ") == true, "\(error?.description ?? "")")
    }
}
