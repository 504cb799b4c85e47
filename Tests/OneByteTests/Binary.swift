import Foundation
import Subprocess
import SystemPackage
import Testing

/// Runs the real program as a user does.
enum Binary {
    struct Outcome {
        let status: Int32
        let output: String
        let errors: String
    }

    /// Path of the program, which the build leaves beside the tests' own executable.
    static let path: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        return URL(filePath: own).deletingLastPathComponent().appending(path: "onebyte").path
    }()

    static let packageRoot = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    /// A Llama with 16 thousand parameters and its tokenizer.
    static let tinyModel = packageRoot.appending(path: "Tests/LanguageModelTests/Fixtures/tiny-llama").path
    static let tinyGGUF = packageRoot.appending(path: "Tests/LanguageModelTests/Fixtures/tiny-llama.gguf").path

    private static let outputLimit = 1 << 20

    @discardableResult
    static func run(_ arguments: String..., in directory: String? = nil) async throws -> Outcome {
        try await run(arguments, in: directory)
    }

    /// Runs a script in bash, with `onebyte` on its path and a tiny model in MODEL. What it has left in the background ends with it.
    ///
    /// - Parameter seconds: time limit, so that waiting for somebody who never comes does not hang the tests.
    static func runScript(_ script: String, model: String = tinyModel, seconds: Int, in directory: String) async throws -> Outcome {
        let programs = URL(filePath: path).deletingLastPathComponent().path
        let others = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        return try await run(
            ["--kill-after=5", "\(seconds)", "/bin/bash", "-euo", "pipefail", "-c", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n" + script],
            program: "/usr/bin/timeout", in: directory,
            environment: ["PATH": "\(programs):\(others)", "MODEL": model])
    }

    /// Lines of a script that write run.toml, a task for the tiny model, and train.jsonl.
    static func smallRun(rounds: Int, samples: Int = 256) -> String {
        """
        cat > run.toml <<END
        [task]
        template = "{text} It was"
        labels = { 0 = " bad", 1 = " good" }
        [training]
        train = "layers.2"
        rounds = \(rounds)
        samples-per-round = \(samples)
        damped-components = "none"
        END
        for n in $(seq 24); do echo "{\\"text\\": \\"film $n\\", \\"label\\": \\"$((n % 2))\\"}"; done > train.jsonl

        """
    }

    /// Runs a line in bash.
    static func runShell(_ line: String) async throws -> Outcome { try await run(["-c", line], program: "/bin/bash") }

    /// - Parameter environment: variables in addition to the tests' own.
    static func run(_ arguments: [String], program: String = path, in directory: String? = nil, environment: [String: String] = [:]) async throws
        -> Outcome
    {
        let added = Dictionary(
            uniqueKeysWithValues: environment.compactMap { name, value in Environment.Key(rawValue: name).map { ($0, Optional(value)) } })
        let result = try await Subprocess.run(
            .path(FilePath(program)), arguments: Arguments(arguments), environment: .inherit.updating(added),
            workingDirectory: directory.map { FilePath($0) }, input: .none,
            output: .string(limit: outputLimit), error: .string(limit: outputLimit))
        let status: Int32 =
            switch result.terminationStatus {
            case .exited(let code): code
            case .signaled(let signal): 128 + signal
            }
        return Outcome(status: status, output: result.standardOutput, errors: result.standardError)
    }
}

extension [String] {
    /// Returns these arguments followed by others. Flags given in `more` are removed from these first, because the program refuses a flag
    /// that is given twice.
    func overridden(by more: [String]) -> [String] {
        var kept: [String] = []
        var isDropping = false
        for argument in self {
            if argument.hasPrefix("--") { isDropping = argument != "--label" && more.contains(argument) }
            if !isDropping { kept.append(argument) }
        }
        return kept + more
    }
}

/// A directory that is removed at the end of the test.
struct Scratch: ~Copyable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String, _ text: String) throws -> String {
        let file = "\(path)/\(name)"
        try Data(text.utf8).write(to: URL(filePath: file))
        return file
    }

    /// Writes reviews on which a tiny model can be trained.
    func reviews(_ name: String = "reviews.jsonl", count: Int = 24) throws -> String {
        try file(name, (0..<count).map { #"{"text":"film number \#($0)","label":\#($0 % 2)}"# + "\n" }.joined())
    }
}
