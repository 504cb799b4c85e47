import Foundation

/// The number of processors that this process may use: those in its affinity mask (`taskset`, a container's cpuset), limited by the time
/// quotas of its control groups. More threads would only wait for one another.
public enum Processors {
    static let count = count(under: "")

    /// - Parameter root: prefix of the kernel's paths, `/proc` and those of control groups.
    package static func count(under root: String) -> Int {
        let affinity = allowed(read("\(root)/proc/self/status")) ?? ProcessInfo.processInfo.activeProcessorCount
        return min(affinity, quota(under: root) ?? .max)
    }

    /// Parses Cpus_allowed in `/proc/self/status`: one bit per processor, in hexadecimal digits and commas (proc_pid_status(5)).
    public static func allowed(_ status: String) -> Int? {
        let mark = "Cpus_allowed:"
        guard let line = lines(status).first(where: { $0.hasPrefix(mark) }) else { return nil }
        let count = line.utf8.dropFirst(mark.utf8.count).reduce(0) { $0 + (Character(Unicode.Scalar($1)).hexDigitValue ?? 0).nonzeroBitCount }
        return count > 0 ? count : nil
    }

    // MARK: Quotas

    /// Returns the smallest quota of this process's control groups and all their parents, in either version's hierarchy; nil if there is
    /// none.
    package static func quota(under root: String) -> Int? {
        let groups = lines(read("\(root)/proc/self/cgroup"))
        let mounts = lines(read("\(root)/proc/self/mountinfo")).compactMap(Mount.init)
        var least: Int?
        for line in groups {
            // Lines such as "0::/user.slice/job.scope" in version 2, "4:cpu,cpuacct:/docker/12ab" in version 1 (cgroups(7)).
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 3 else { continue }
            let controllers = parts[1].split(separator: ",").map(String.init)
            let isVersion2 = controllers.isEmpty
            guard isVersion2 || controllers.contains("cpu") else { continue }
            for mount in mounts where isVersion2 ? mount.type == "cgroup2" : mount.type == "cgroup" && mount.options.contains("cpu") {
                for directory in mount.directories(of: parts[2]) {
                    let here = root + directory
                    let quota =
                        isVersion2
                        ? quota(read("\(here)/cpu.max")) : quota("\(read("\(here)/cpu.cfs_quota_us")) \(read("\(here)/cpu.cfs_period_us"))")
                    if let quota { least = min(least ?? quota, quota) }
                }
            }
        }
        return least
    }

    /// Returns the number of processors for a quota, rounded up: microseconds of a period. "max" (version 2) and −1 (version 1) mean no
    /// limit (https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/scheduler/sched-bwc.html).
    public static func quota(_ text: String) -> Int? {
        let words = text.utf8.split { $0 == 0x20 || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }.map { String(Substring($0)) }
        guard words.count == 2, let time = Int(words[0]), let period = Int(words[1]), time > 0, period > 0 else { return nil }
        return (time - 1) / period + 1
    }

    /// A line of /proc/self/mountinfo: where a hierarchy of control groups is mounted.
    private struct Mount {
        let type: String
        /// The control group that is visible at `point`.
        let group: String
        let point: String
        let options: Set<String>

        /// Parses "36 25 0:32 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate" (proc_pid_mountinfo(5)).
        init?(_ line: String) {
            let halves = line.components(separatedBy: " - ")
            guard halves.count == 2 else { return nil }
            let (left, right) = (halves[0].split(separator: " ").map(String.init), halves[1].split(separator: " ").map(String.init))
            guard left.count >= 5, right.count >= 3 else { return nil }
            (type, group, point) = (right[0], Self.unescaped(left[3]), Self.unescaped(left[4]))
            options = Set(right[2].split(separator: ",").map(String.init))
        }

        /// Returns a path that the kernel wrote with spaces, tabs, line ends and backslashes as octal numbers, such as `\040`.
        private static func unescaped(_ path: String) -> String {
            var bytes: [UInt8] = []
            var rest = Array(path.utf8)[...]
            while let byte = rest.popFirst() {
                if byte == UInt8(ascii: "\\"), let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8), rest.count >= 3 {
                    bytes.append(code)
                    rest = rest.dropFirst(3)
                } else {
                    bytes.append(byte)
                }
            }
            return String(decoding: bytes, as: UTF8.self)
        }

        /// Returns the directories of a group and of all its parents that are visible here.
        func directories(of path: String) -> [String] {
            // Within a container the kernel may give the group's name on the host, which begins with the mount's own group.
            var rest = path
            if group != "/", rest == group || rest.hasPrefix(group + "/") { rest = String(rest.dropFirst(group.count)) }
            let parts = rest.split(separator: "/").filter { $0 != ".." }
            return [point] + parts.indices.map { point + "/" + parts[...$0].joined(separator: "/") }
        }
    }

    private static func read(_ path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }

    private static func lines(_ text: String) -> [String] { text.utf8.split(separator: UInt8(ascii: "\n")).map { String(Substring($0)) } }
}
