import ArgumentParser
import OneByte
import Testing

@Suite struct HelpTests {
    /// Every command, with the words that lead to it.
    static let all: [[String]] = {
        var found: [[String]] = []
        func visit(_ command: any ParsableCommand.Type, _ path: [String]) {
            found.append(path)
            for child in command.configuration.subcommands { visit(child, path + [child._commandName]) }
        }
        visit(OneByte.self, [])
        return found
    }()

    @Test func thereIsACommandForEachPartOfTheJob() {
        let names = Set(Self.all.map { $0.joined(separator: " ") })
        let expected: Set = [
            "cluster", "coordinator", "worker", "evaluate", "generate", "export", "prepare", "ledger show", "ledger verify", "ledger replay",
            "model inspect", "data preview", "keygen",
        ]
        #expect(expected.subtracting(names).isEmpty)
    }

    @Test(arguments: all)
    func everyHelpTeachesByExample(_ path: [String]) async throws {
        let found = try await Binary.run(path + ["--help"])
        #expect(found.status == 0)
        #expect(found.errors.isEmpty)
        #expect(found.output.contains("  onebyte \(path.joined(separator: " "))"), "no example:\n\(found.output)")
        #expect(found.output.contains("USAGE: onebyte"))
    }

    /// An example that breaks over two lines can't be pasted.
    @Test(arguments: all)
    func examplesFitAnEightyColumnTerminal(_ path: [String]) async throws {
        let help = try await Binary.run(path + ["--help"]).output
        let discussion = help.split(separator: "USAGE: ").first.map(String.init) ?? ""
        for line in discussion.split(separator: "\n") where line.hasPrefix("  ") {
            #expect(line.count <= 80, "\(line)")
        }
        for line in discussion.split(separator: "\n") where line.hasPrefix("--") {
            Issue.record("a broken example: \(line)")
        }
    }

    @Test("The prose of every help fills its lines, because the terminal alone wraps it", arguments: all)
    func prose(_ path: [String]) async throws {
        let help = try await Binary.run(path + ["--help"]).output
        let prose = (help.split(separator: "USAGE: ").first ?? "").split(separator: "\n", omittingEmptySubsequences: false)
        for (line, next) in zip(prose, prose.dropFirst()) where !line.isEmpty && !line.hasPrefix(" ") && !next.isEmpty && !next.hasPrefix(" ") {
            #expect(line.count + 1 + (next.split(separator: " ").first?.count ?? 0) >= 80, "broken too early: \(line)")
        }
    }

    @Test func theVersionNamesTheBLASCore() async throws {
        let found = try await Binary.run("--version")
        #expect(found.status == 0)
        #expect(found.output.hasPrefix("onebyte "))
        #expect(found.output.contains("OpenBLAS core: "))
    }

    @Test func theVerboseVersionSaysWhatTheSpeedDependsOn() async throws {
        let found = try await Binary.run(["--version", "--verbose"], environment: ["ONEBYTE_KERNELS": "portable"])
        #expect(found.status == 0)
        #expect(found.output.contains("integer kernels: portable (here: "))
        #expect(found.output.contains("byte products (--precision int8): portable"))
        #expect(found.output.contains("float kernels: portable") || found.output.contains("float kernels: neon"))
        let line = try #require(found.output.split(separator: "\n").first { $0.hasPrefix("matrix products: ") })
        let numbers = line.split { !$0.isNumber }.compactMap { Int($0) }
        // The numbers are GFLOP/s of the products and of the peak. No product is faster than the peak, except for the noise of the clock.
        #expect(numbers.count >= 2 && numbers[0] > 0 && Double(numbers[0]) < 1.3 * Double(numbers[1]), "\(line)")
    }

    @Test(arguments: [
        ["--no-such-flag"], ["nonsense"], ["worker"], ["worker", "--coordinator", "x", "--model", "m"], ["evaluate"],
        ["generate", "x", "--model", "m", "--top-p", "2"], ["coordinator", "--allow", "f"], ["cluster", "--resume", "d", "--config", "c"],
    ])
    func wrongFlagsAreUsageErrors(_ arguments: [String]) async throws {
        let found = try await Binary.run(arguments)
        #expect(found.status == 64)
        #expect(found.output.isEmpty)
        #expect(found.errors.lowercased().contains("error: "))
    }
}
