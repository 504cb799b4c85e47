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

    @Test("Mount points with spaces, deeper groups and groups outside of a container's own are found")
    func placesOfGroups() throws {
        // The kernel writes a space as \040.
        var files = [
            "/proc/self/status": Self.eight, "/proc/self/cgroup": "0::/a b/c\n",
            "/proc/self/mountinfo": "31 23 0:28 / /sys/control\\040groups rw - cgroup2 cgroup2 rw\n",
            "/sys/control groups/a b/cpu.max": "300000 100000\n",
        ]
        try withFiles(files) { #expect(Processors.count(under: $0) == 3) }
        files["/sys/control groups/a b/c/cpu.max"] = "250000 100000\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 3) }
        files["/sys/control groups/a b/c/cpu.max"] = "100000 100000\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 1) }
        // A process that was moved out of its container's group, which is visible as the root.
        files = ["/proc/self/status": Self.eight, "/proc/self/cgroup": "0::/../other\n", "/proc/self/mountinfo": Self.version2]
        files["/sys/fs/cgroup/cpu.max"] = "200000 100000\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 2) }
        // The same hierarchy at two places, as with a bind mount: the group is read where it is visible.
        files = ["/proc/self/status": Self.eight, "/proc/self/cgroup": "4:cpu:/pods/one\n"]
        files["/proc/self/mountinfo"] =
            "1 0 0:9 /system /host rw - cgroup cgroup rw,cpu\n" + "2 0 0:9 /pods /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        files["/sys/fs/cgroup/cpu/one/cpu.cfs_quota_us"] = "400000\n"
        files["/sys/fs/cgroup/cpu/one/cpu.cfs_period_us"] = "100000\n"
        try withFiles(files) { #expect(Processors.count(under: $0) == 4) }
    }

    /// The directory in which this machine's root may make control groups with quotas, and how to write one.
    private static let groups: (path: String, quota: @Sendable (Int) -> String)? = {
        let first = "/sys/fs/cgroup/cpu"
        if access("\(first)/cpu.cfs_quota_us", W_OK) == 0 { return (first, { "echo \($0) > cpu.cfs_quota_us" }) }
        let second = "/sys/fs/cgroup"
        let controllers = (try? String(contentsOfFile: "\(second)/cgroup.subtree_control", encoding: .utf8)) ?? ""
        guard controllers.split(whereSeparator: \.isWhitespace).contains("cpu"), access("\(second)/cgroup.procs", W_OK) == 0 else { return nil }
        return (second, { "echo $0 100000 > cpu.max".replacing("$0", with: "\($0)") })
    }()

    @Test(
        "In real control groups the least quota of all levels counts",
        .enabled(if: groups != nil, "needs root and control groups with a cpu controller"),
        arguments: [(nil, nil, 3), (50_000, nil, 1), (nil, 100_000, 1), (100_000, 300_000, 1), (100_001, nil, 2)] as [(Int?, Int?, Int)])
    func realGroups(_ outer: Int?, _ inner: Int?, _ expected: Int) async throws {
        let groups = try #require(Self.groups)
        let name = "\(groups.path)/onebyte-\(UUID().uuidString)"
        func write(_ quota: Int?) -> String { quota.map { groups.quota($0) } ?? "true" }
        let script = """
            mkdir -p \(name)/inner; trap 'rmdir \(name)/inner \(name)' EXIT
            cd \(name); \(write(outer)); [ ! -e cgroup.subtree_control ] || echo +cpu > cgroup.subtree_control
            cd inner; \(write(inner))
            (echo $BASHPID > cgroup.procs; exec '\(Binary.path)' cluster --config '\(Binary.packageRoot.path)/examples/movie-reviews.toml' --workers 1 --print-config)
            """
        let found = try await Binary.runShell(script)
        try #require(found.status == 0, "\(found.errors)")
        let line = try #require(found.output.split(separator: "\n").first { $0.hasPrefix("threads = ") })
        let count = min(expected, Processors.allowed(try String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? expected)
        #expect(line.hasPrefix("threads = \(count) "), "\(line)")
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
