import Foundation
import Glibc

/// What this process has used so far.
struct ProcessUse: Codable {
    /// Of all threads, user and system.
    let cpuSeconds: Double
    /// Resident memory at this moment.
    let residentMegabytes: Double
    /// The most that was ever resident.
    let peakMegabytes: Double

    static var now: ProcessUse {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let seconds = { (time: timeval) in Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return ProcessUse(
            cpuSeconds: seconds(usage.ru_utime) + seconds(usage.ru_stime), residentMegabytes: status("VmRSS:"),
            peakMegabytes: status("VmHWM:"))
    }

    /// A line of /proc/self/status, in MB of 10⁶ bytes; its kB are 1,024 bytes.
    private static func status(_ name: String) -> Double {
        let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(name) } ?? ""
        return (line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) } ?? 0) * 1024 / 1e6
    }
}
