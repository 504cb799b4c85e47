import Foundation

/// The processors that this process may use: those of its affinity mask (`taskset`, a container's cpuset), and no more than its
/// container's quota of time. More threads than these only wait for one another.
public enum Processors {
    static let count = min(
        allowed(read("/proc/self/status")) ?? ProcessInfo.processInfo.activeProcessorCount, quota(read("/sys/fs/cgroup/cpu.max")) ?? .max)

    private static func read(_ path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }

    /// What `/proc/self/status` says under Cpus_allowed: a bit a processor, in hexadecimal digits and commas (proc_pid_status(5)).
    public static func allowed(_ status: String) -> Int? {
        guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("Cpus_allowed:") }) else { return nil }
        let count = line.drop { $0 != ":" }.reduce(0) { $0 + ($1.hexDigitValue ?? 0).nonzeroBitCount }
        return count > 0 ? count : nil
    }

    /// Processors that a control group's `cpu.max` is worth, rounded up: microseconds of a period, or "max", which is no limit
    /// (https://docs.kernel.org/admin-guide/cgroup-v2.html).
    public static func quota(_ max: String) -> Int? {
        let words = max.split { $0 == " " || $0.isNewline }
        guard words.count == 2, let time = Int(words[0]), let period = Int(words[1]), time > 0, period > 0 else { return nil }
        return (time - 1) / period + 1
    }
}
