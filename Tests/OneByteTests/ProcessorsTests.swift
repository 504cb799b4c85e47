import Foundation
import OneByte
import Subprocess
import SystemPackage
import Testing

@Suite struct ProcessorsTests {
    @Test(arguments: [
        ("Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n", 2), ("Cpus_allowed:\tffffffff,0000ffff\n", 48), ("Cpus_allowed:\t0\n", nil), ("", nil),
    ] as [(String, Int?)])
    func allowed(_ status: String, _ expected: Int?) {
        #expect(Processors.allowed(status) == expected)
    }

    @Test(arguments: [
        ("200000 100000\n", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000\n", nil), ("", nil), ("0 100000", nil), ("1 0", nil), ("many", nil),
    ] as [(String, Int?)])
    func quota(_ max: String, _ expected: Int?) {
        #expect(Processors.quota(max) == expected)
    }

    @Test("A process that is held to one processor has one thread")
    func affinity() async throws {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        // "0-3,8": the first that the tests themselves may use.
        let list = try #require(status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }).drop { !$0.isNumber }
        let result = try await Subprocess.run(
            .name("taskset"), arguments: ["-c", String(list.prefix { $0.isNumber }), Binary.path, "cluster", "--config", "examples/movie-reviews.toml", "--workers", "1", "--print-config"],
            workingDirectory: FilePath(Binary.packageRoot.path), output: .string(limit: 1 << 16))
        #expect(result.terminationStatus == .exited(0))
        let line = try #require(result.standardOutput.split(separator: "\n").first { $0.hasPrefix("threads = ") })
        #expect(line.hasPrefix("threads = 1 "))
    }
}
