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

    private var accounts: String { "\(path)/privacy" }

    /// The account of a private run's worker. The number of workers is part of its name, because it decides which examples the worker has.
    func account(ofWorker number: Int, of workers: Int) -> String { "\(accounts)/worker-\(number)-of-\(workers).json" }

    /// Makes the directory of the accounts.
    ///
    /// - Throws: `ProcessFailure` if there are accounts of another number of workers. With other shares, new accounts would forget what was spent.
    package func makeAccounts(ofWorkers workers: Int) throws(ProcessFailure) {
        guard mkdir(accounts, 0o700) == 0 || errno == EEXIST else {
            throw ProcessFailure(.cannotCreate, "can't make \(accounts): \(String(cString: strerror(errno)))")
        }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: accounts)) ?? []
        let counts = Set(names.compactMap { $0.hasSuffix(".json") ? Int($0.dropLast(5).split(separator: "-").last ?? "") : nil })
        guard let other = counts.subtracting([workers]).first else { return }
        throw ProcessFailure(
            .configuration,
            "\(accounts) has the accounts of \(other) workers: with \(workers), each has other examples, and what was spent on them would be forgotten\ngive --workers \(other)"
        )
    }

    /// Writes a file whole or not at all.
    func write(_ text: String, to file: String) throws { try writeWhole(Data(text.utf8), to: file) }
}
