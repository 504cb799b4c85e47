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
                ("test/unknown", .notFound, "test/unknown: the hub does not have it (check the name"),
                ("test/tiny@v9", .notFound, "test/tiny: the hub does not have the revision v9 of it"),
                ("test/gguf", .unsupported, "/test/gguf/resolve/main/tiny-q4.gguf, and give its path"),
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

    /// Opens a model, and returns the error's first words and what is to be done.
    private func refusal(_ reference: String, _ environment: [String: String], stallSeconds: Int = 60) throws -> (
        code: ModelError.Code, problem: String, remedy: String
    ) {
        let cache = HubCache(environment: environment, stallSeconds: stallSeconds)
        let hub = try #require(HubReference(reference))
        let error = try #require(throws: ModelError.self) { try cache.directory(of: hub) { _ in } }
        return (error.code, error.what, error.remedy ?? "")
    }

    @Test(
        "Whatever keeps a model from being downloaded, the error says it first, then what to do",
        arguments: [
            ("gated", "test/gated: is gated: the hub gives it to nobody without a token (401)", "ask for access at "),
            ("busy", "test/busy: the hub asks to wait", "wait some minutes, or set HF_TOKEN"),
            ("broken", "has a fault (503)", "try again later"), ("login", "is no hub: its answer is a web page", "ask for a login first?"),
            ("endless", "sends from one address to another without end", "check HF_ENDPOINT"),
            ("half", "test/half: the download broke off", "try again"),
            ("private", "the hub shows no test/private without a token (401)", "set HF_TOKEN"),
        ])
    func answersOtherThanTheFile(_ name: String, _ problem: String, _ remedy: String) throws {
        try withHub { environment, _ in
            let found = try refusal("test/\(name)", environment)
            #expect(found.code == .network && found.problem.contains(problem) && found.remedy.contains(remedy), "\(found)")
            #expect(found.problem.hasPrefix("test/\(name): "))
        }
    }

    @Test func whatATokenChangesIsSaid() throws {
        try withHub { environment, _ in
            var environment = environment
            environment["HF_TOKEN"] = "wrong"
            let wrong = try refusal("test/tiny", environment)
            #expect(wrong.problem == "test/tiny: the hub does not take the token in HF_TOKEN (401)" && wrong.remedy.contains("remove it"), "\(wrong)")
            environment["HF_TOKEN"] = "secret"
            let gated = try refusal("test/gated", environment)
            #expect(gated.problem.contains("does not give it to the account of the token in HF_TOKEN (403)"), "\(gated)")
            #expect(gated.remedy.hasSuffix("/test/gated"), "\(gated)")
            for text in ["\"secret\"", "sec ret", "secret\u{e9}", String(repeating: "a", count: 5000)] {
                environment["HF_TOKEN"] = text
                let found = try refusal("test/tiny", environment)
                #expect(found.code == .badRequest && found.problem.hasPrefix("HF_TOKEN: is no access token"), "\(found)")
            }
            // The token of a file is named by the file.
            environment["HF_TOKEN"] = nil
            let file = try #require(environment["HF_HOME"]) + "/token"
            try FileManager.default.createDirectory(atPath: #require(environment["HF_HOME"]), withIntermediateDirectories: true)
            try Data("wrong\n".utf8).write(to: URL(filePath: file))
            #expect(try refusal("test/tiny", environment).problem.contains("the token in \(file)"))
        }
    }

    @Test func aHubThatSaysNothingIsGivenUp() throws {
        try withHub { environment, _ in
            let found = try refusal("test/silent", environment, stallSeconds: 2)
            #expect(found.code == .network && found.problem.contains("sent nothing for 2 seconds") && found.remedy.contains("try again"), "\(found)")
        }
    }

    @Test func aProxyThatRefusesIsNamed() throws {
        try withHub { environment, _ in
            var environment = environment
            let server = try #require(environment["HF_ENDPOINT"])
            environment["HF_ENDPOINT"] = "https://hub.invalid"
            environment["https_proxy"] = server
            let tunnel = try refusal("test/tiny", environment)
            #expect(tunnel.problem == "test/tiny: the proxy that https_proxy names refuses the hub https://hub.invalid (403)", "\(tunnel)")
            #expect(tunnel.remedy.contains("HF_ENDPOINT to a mirror"))
            environment["HF_ENDPOINT"] = "http://hub.invalid"
            environment["http_proxy"] = server
            let plain = try refusal("test/tiny", environment)
            #expect(plain.problem == "test/tiny: the hub, or the proxy that http_proxy names, refuses it (403)", "\(plain)")
            environment["http_proxy"] = "http://proxy.invalid:3128"
            let unknown = try refusal("test/tiny", environment)
            #expect(unknown.problem.contains("the proxy that http_proxy names has no address"), "\(unknown)")
            environment["http_proxy"] = "http://127.0.0.1:1"
            let away = try refusal("test/tiny", environment)
            #expect(away.problem.contains("the proxy of http_proxy, or the hub http://hub.invalid behind it, can't be reached"), "\(away)")
            // The proxy is left out where no_proxy says so.
            environment["no_proxy"] = "127.0.0.1"
            environment["HF_ENDPOINT"] = server
            #expect(throws: Never.self) { try ModelSource.open("test/tiny", environment: environment) }
        }
    }

    @Test func withoutANetworkTheErrorSaysSo() throws {
        try withTemporaryDirectory { directory in
            var environment = ["HF_HUB_CACHE": directory, "HF_ENDPOINT": "http://127.0.0.1:1"]
            let error = #expect(throws: ModelError.self) { try ModelSource.open("org/name", environment: environment) }
            #expect(error?.code == .network)
            #expect(error?.what.hasPrefix("org/name: the hub http://127.0.0.1:1 can't be reached: ") == true, "\(error?.what ?? "")")
            environment["HF_ENDPOINT"] = "http://hub.invalid"
            let start = ContinuousClock.now
            let unknown = try refusal("org/name", environment)
            #expect(unknown.problem == "org/name: the hub http://hub.invalid can't be reached: its name has no address", "\(unknown)")
            #expect(unknown.remedy.contains("give its path"))
            #expect(start.duration(to: .now) < .seconds(5), "a name without an address is not tried again and again")
            for endpoint in ["ftp://hub.invalid", "gopher://x", "http://[", "hub"] {
                environment["HF_ENDPOINT"] = endpoint
                let found = try refusal("org/name", environment)
                #expect(endpoint == "hub" || found.problem.hasPrefix("HF_ENDPOINT: \(endpoint) is no address of a hub"), "\(found)")
            }
            environment["HF_ENDPOINT"] = "http://127.0.0.1:1"
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
