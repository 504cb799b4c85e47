import Coordinator
import Core
import Foundation
import Glibc

extension RunDirectory {
    /// Path of the run's status, which its coordinator writes about once a second.
    var status: String { path + "/status.json" }

    /// Whether a process holds the directory's lock.
    var isLocked: Bool {
        let descriptor = open(lock, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }
}

extension RunStatus {
    /// Seconds beyond which a status is reported as old.
    private static let freshSeconds = 5.0

    /// Reads a run's status from its directory. While a coordinator runs there, it is the coordinator's own status. Otherwise it is made from events
    /// and ledger.
    ///
    /// - Throws: `ProcessFailure` if there is no run, or the ledger can't be read.
    package static func read(_ path: String) throws -> RunStatus {
        let directory = RunDirectory(path)
        if directory.isLocked, let data = FileManager.default.contents(atPath: directory.status),
            var status = try? JSONDecoder().decode(RunStatus.self, from: data), status.state.isLive
        {
            // The file of an earlier process, whose state was another, is not believed.
            let age = Date().timeIntervalSince1970 - status.time
            if age > freshSeconds {
                status.notes.insert("this is \(duration(age)) old: the coordinator has written nothing since", at: 0)
            }
            return status
        }
        return try past(directory).status
    }

    /// Makes the status of a run without a running coordinator. If events and ledger differ, the ledger decides.
    init(_ record: RunRecord, _ archive: LedgerArchive) {
        let last = record.progress.lastTime ?? Date().timeIntervalSince1970
        self.init(record.progress, at: last)
        run = archive.summary.specDigest.description
        round = archive.history.rounds.count
        rounds = archive.summary.spec.rounds
        samples = archive.summary.samples
        digest = archive.lastDigest?.digest.description ?? digest
        digestRound = archive.lastDigest.map { Int($0.round) } ?? digestRound
        take(archive.machines)
        if archive.summary.isEnded {
            state = .completed
        } else if state.isLive {
            state = .stopped
            ending = "no coordinator leads this run now; its last word was at \(Date(timeIntervalSince1970: last).formatted(.iso8601))"
        }
        (waitingFor, secondsLeft) = (nil, nil)
        for index in workers.indices {
            workers[index].marks.removeAll { $0 == .silent }
            workers[index].heard = nil
        }
    }

    /// Takes the ledger's number of bytes for each machine, and adds machines that no event named.
    private mutating func take(_ machines: [LedgerMachine]) {
        let all = machines.reduce(0) { $0 + $1.bytes }
        for machine in machines {
            let found = workers.firstIndex { $0.machine == machine.machine }
            if found == nil {
                workers.append(
                    Worker(
                        name: machine.name, machine: machine.machine, trains: machine.trains, evaluates: machine.evaluates, state: "", bytes: 0,
                        marks: [], isPresent: false))
            }
            let index = found ?? workers.count - 1
            workers[index].bytes = UInt64(machine.bytes)
            workers[index].share = all > 0 ? Double(machine.bytes) / Double(all) : nil
            workers[index].state = machine.departure ?? (state.isLive ? workers[index].state : "ended")
            workers[index].isPresent = machine.left == nil
        }
        workers.removeAll { $0.machine == nil }
        workers.sort { ($0.machine ?? 0) < ($1.machine ?? 0) }
    }
}

extension RunStatus {
    /// The run of a directory: its status and its events.
    struct Past {
        let status: RunStatus
        let record: RunRecord
    }

    /// - Throws: `ProcessFailure` if there is no run, or the ledger can't be read.
    static func past(_ directory: RunDirectory) throws -> Past {
        let archive = try LedgerArchive(directory.path)
        let record = RunRecord(of: archive.summary.spec, in: directory)
        return Past(status: RunStatus(record, archive), record: record)
    }
}
