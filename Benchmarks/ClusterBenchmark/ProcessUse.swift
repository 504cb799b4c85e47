import Foundation
import Glibc

/// Resources that this process has used so far.
struct ProcessUse: Codable {
    /// User and system time of all threads.
    let cpuSeconds: Double
    /// Memory that is resident at this moment.
    let residentMegabytes: Double
    /// Largest resident memory so far.
    let peakMegabytes: Double

    static var now: ProcessUse {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let seconds = { (time: timeval) in Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return ProcessUse(
            cpuSeconds: seconds(usage.ru_utime) + seconds(usage.ru_stime), residentMegabytes: status("VmRSS:"),
            peakMegabytes: status("VmHWM:"))
    }

    /// Returns a line of /proc/self/status in MB of 10⁶ bytes; its kB are 1,024 bytes.
    private static func status(_ name: String) -> Double {
        let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(name) } ?? ""
        return (line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) } ?? 0) * 1024 / 1e6
    }
}
