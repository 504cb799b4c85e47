import Foundation
import OneByte
import Subprocess
import SystemPackage
import Testing

@Suite struct ProcessorsTests {
    @Test(
        arguments: [
            ("Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n", 2), ("Cpus_allowed:\tffffffff,0000ffff\n", 48), ("Cpus_allowed:\t0\n", nil),
            ("", nil),
        ] as [(String, Int?)])
    func allowed(_ status: String, _ expected: Int?) {
        #expect(Processors.allowed(status) == expected)
    }

    @Test(
        arguments: [
            ("200000 100000\n", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000\n", nil), ("", nil), ("0 100000", nil), ("1 0", nil),
            ("many", nil),
        ] as [(String, Int?)])
    func quota(_ max: String, _ expected: Int?) {
        #expect(Processors.quota(max) == expected)
    }

    /// Simulates a machine whose kernel shows these files.
    private func withFiles(_ files: [String: String], _ body: (String) throws -> Void) throws {
        let scratch = try Scratch()
        for (path, text) in files {
            let url = URL(filePath: scratch.path + path)
            try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: url)
        }
        try body(scratch.path)
    }

    private static let eight = "Cpus_allowed:\tff\n"
    private static let version2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
    private static let version1 =
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"

    @Test("The smallest quota of a process's group and its parents counts, with version 2 of control groups")
    func nestedQuotas() throws {
        var files = [
            "/proc/self/status": Self.eight, "/proc/self/cgroup": "0::/user.slice/job.scope\n", "/proc/self/mountinfo": Self.version2,
            "/sys/fs/cgroup/user.slice/cpu.max": "200000 100000\n", "/sys/fs/cgroup/user.slice/job.scope/cpu.max": "max 100000\n",
        ]
        try withFiles(files) { #expect(Processors.count(under: $0) == 2) }
        files["/sys/fs/cgroup/user.slice/job.scope/cpu.max"] = "50000 100000\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 1) }
        files["/sys/fs/cgroup/cpu.max"] = "10000 100000\n"
        files["/proc/self/status"] = "Cpus_allowed:\t1\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 1) }
    }

    @Test("Version 1 quotas count too, also if a container sees its own group as the root or both versions are mounted")
    func firstVersion() throws {
        let groups = "4:cpu,cpuacct:/docker/12ab\n1:name=systemd:/\n0::/\n"
        var files = ["/proc/self/status": Self.eight, "/proc/self/cgroup": groups, "/proc/self/mountinfo": Self.version1]
        files["/sys/fs/cgroup/cpu,cpuacct/docker/12ab/cpu.cfs_quota_us"] = "100000\n"
        files["/sys/fs/cgroup/cpu,cpuacct/docker/12ab/cpu.cfs_period_us"] = "100000\n"
        files["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"] = "-1\n"
        files["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us"] = "100000\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 1) }
        // The root of the mount is the container's own group.
        files = ["/proc/self/status": Self.eight, "/proc/self/cgroup": groups]
        files["/proc/self/mountinfo"] = Self.version1.replacing("0:29 / /sys", with: "0:29 /docker/12ab /sys")
        files["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"] = "300000\n"
        files["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us"] = "100000\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 3) }
    }

    @Test func withoutControlGroupsTheAffinityCounts() throws {
        try withFiles(["/proc/self/status": Self.eight]) { #expect(Processors.count(under: $0) == 8) }
    }

    @Test("A process that is restricted to one processor uses one thread")
    func affinity() async throws {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        // From a list such as "0-3,8", takes the first processor that the tests themselves may use.
        let list = try #require(status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }).drop { !$0.isNumber }
        let result = try await Subprocess.run(
            .name("taskset"),
            arguments: [
                "-c", String(list.prefix { $0.isNumber }), Binary.path, "cluster", "--config", "examples/movie-reviews.toml", "--workers", "1",
                "--print-config",
            ],
            workingDirectory: FilePath(Binary.packageRoot.path), output: .string(limit: 1 << 16))
        #expect(result.terminationStatus == .exited(0))
        let line = try #require(result.standardOutput.split(separator: "\n").first { $0.hasPrefix("threads = ") })
        #expect(line.hasPrefix("threads = 1 "))
    }
}
