import Core
import Coordinator
import Foundation

/// What a cluster keeps beside the coordinator's files.
extension RunDirectory {
    var basis: String { "\(path)/basis" }
    /// The effective settings, with their sources: a run file that gives the same run again.
    var configuration: String { "\(path)/run.toml" }
    var report: String { "\(path)/report.json" }
    /// The same for people.
    var reportText: String { "\(path)/report.txt" }
    var logs: String { "\(path)/logs" }
    func log(of process: String) -> String { "\(logs)/\(process).log" }

    /// Makes it, with what is above it.
    ///
    /// - Throws: `ProcessFailure` `.cannotCreate` that names the directory and the system's reason.
    func create() throws {
        do {
            try FileManager.default.createDirectory(atPath: logs, withIntermediateDirectories: true)
        } catch {
            throw ProcessFailure(.cannotCreate, "\(path): can't make the run directory: \(systemReason(of: error)); choose another with --directory")
        }
    }

    /// Writes a whole file or nothing.
    func write(_ text: String, to file: String) throws { try writeWhole(Data(text.utf8), to: file) }
}
