import Coordinator
import Core
import Foundation
import Glibc

/// Files that a cluster keeps beside the coordinator's.
extension RunDirectory {
    var basis: String { "\(path)/basis" }
    /// The effective settings with their sources: a run file that gives the same run again.
    var configuration: String { "\(path)/run.toml" }
    var report: String { "\(path)/report.json" }
    /// The report for people.
    var reportText: String { "\(path)/report.txt" }
    var logs: String { "\(path)/logs" }
    func log(of process: String) -> String { "\(logs)/\(process).log" }

    /// Makes the directory of the logs.
    func makeLogs() throws(ProcessFailure) {
        guard mkdir(logs, 0o700) == 0 || errno == EEXIST else {
            throw ProcessFailure(
                .cannotCreate, "can't make \(logs): \(String(cString: strerror(errno))); choose a directory that this user may write to")
        }
    }

    /// Writes a file whole or not at all.
    func write(_ text: String, to file: String) throws { try writeWhole(Data(text.utf8), to: file) }
}
