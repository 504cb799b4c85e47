import Coordinator
import Core
import Foundation
import Glibc
import Signing

/// A change that an operator makes to a ledger. If the run is over or stopped, the file is changed here; if it is running, its coordinator changes
/// it.
struct LedgerEdit {
    /// The run directory, or a ledger.
    let path: String
    let archive: LedgerArchive
    /// The directory in which the ledger lies with the run's other files.
    let directory: RunDirectory

    private static let patienceSeconds = 30

    init(_ path: String) throws {
        self.path = path
        archive = try LedgerArchive(path)
        directory = RunDirectory(holding: path)
    }

    // MARK: Machines

    /// Returns the machines that a number or a name stands for. A worker that was started again is another machine of the same name.
    func machines(_ wanted: String) throws -> [LedgerMachine] {
        let machines = archive.machines
        let byNumber = UInt32(wanted).flatMap { number in machines.first { $0.machine == number } }
        let meant = byNumber.map { [$0] } ?? machines.filter { $0.name.utf8.elementsEqual(wanted.utf8) }
        guard meant.isEmpty else { return meant }
        let names = Set(machines.map(\.name)).sorted()
        let hint =
            nearestWord(to: wanted, in: names).map { "did you mean \($0)?" } ?? "it has \(names.isEmpty ? "none" : names.joined(separator: ", "))"
        throw ProcessFailure(
            .usage, "\(archive.path): no machine has the number or the name \(wanted)\n\(hint) (onebyte ledger show \(shellWord(path)))")
    }

    /// Returns the rounds from the first to the last one; without a last one, all that follow too.
    static func wantedRounds(from first: RoundNumber, to last: RoundNumber?) -> Range<RoundNumber> {
        first..<(last.map { $0 == .max ? $0 : $0 + 1 } ?? .max)
    }

    /// Returns the rounds from the first to the last one, as far as they exist.
    ///
    /// - Throws: `ProcessFailure` if none exists.
    func rounds(from first: RoundNumber, to last: RoundNumber?) throws -> Range<RoundNumber> {
        let rounds = Self.wantedRounds(from: first, to: last).clamped(to: 0..<archive.history.nextRound)
        guard !rounds.isEmpty else {
            throw ProcessFailure(.usage, "\(archive.path): there is no round \(first), but \(archive.history.nextRound) rounds")
        }
        return rounds
    }

    // MARK: Asking

    static func confirm(_ question: String, yes: Bool, nothing: String) throws {
        guard !yes else { return }
        guard isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
            throw ProcessFailure(.usage, "\(nothing) without a yes\ngive --yes if nobody can be asked")
        }
        standardError.writeRaw("\(question) [y/N] ")
        guard ["y", "yes"].contains((readLine() ?? "").lowercased()) else { throw ProcessFailure(.usage, nothing) }
    }

    // MARK: Writing

    /// Writes the records, or has the running coordinator do it.
    ///
    /// - Parameters:
    ///   - requests: the same change, as requests to a running coordinator.
    ///   - isDone: returns whether these new records contain the change.
    /// - Returns: whether a running coordinator has made the change.
    func apply(_ records: [LedgerRecord], requests: [OperatorRequest], isDone: @escaping ([LedgerRecord]) -> Bool) async throws -> Bool {
        let file: LedgerFile
        let lock: RunLock?
        do {
            lock = try directory.path != path || archive.isInRunDirectory ? directory.acquireLock() : nil
        } catch RunLockError.held {
            try await ask(requests, isDone)
            return true
        } catch {
            throw ProcessFailure(error, directory: directory.path)
        }
        defer { withExtendedLifetime(lock) {} }
        do {
            file = try LedgerFile.open(at: archive.path)
        } catch .locked {
            try await ask(requests, isDone)
            return true
        } catch {
            throw ProcessFailure(error.status, "\(error)")
        }
        try write(records, to: file)
        return false
    }

    private func write(_ records: [LedgerRecord], to file: LedgerFile) throws {
        var summary = file.summary
        do {
            for record in records { try file.append(try summary.append(record)) }
            // Whoever may write to the run directory also holds its key. Without a key the change is unsigned.
            if summary.format >= 2, FileManager.default.fileExists(atPath: directory.signingKey) {
                let key = try SigningKey(contentsOf: directory.signingKey)
                let signature = key.sign(SignedStatement.history(summary.position))
                try file.append(try summary.append(.signature(LedgerSignature(signer: key.publicKey, signature: signature))))
            } else {
                standardError.write("note: nobody signs it: the run directory holds no key")
            }
        } catch let error as LedgerSummary.RuleBroken {
            throw ProcessFailure(.badData, "\(archive.path): \(error.reason)")
        } catch {
            throw ProcessFailure(.inputOutput, "\(error)")
        }
    }

    /// Asks the coordinator, which holds the ledger, to write the records. All workers apply them.
    private func ask(_ requests: [OperatorRequest], _ isDone: ([LedgerRecord]) -> Bool) async throws {
        let known = archive.summary.position.records
        try directory.leave(requests)
        for _ in 0..<(Self.patienceSeconds * 10) {
            try await Task.sleep(for: .milliseconds(100))
            if isDone(try LedgerArchive(path).entries.filter { $0.index >= known }.map(\.record)) { return }
        }
        directory.withdrawRequests()
        throw ProcessFailure(.temporary, "the coordinator has not answered in \(Self.patienceSeconds) s; its log says why")
    }
}

/// A machine's bytes in some rounds, to be taken out or put back.
struct LedgerPart {
    let machine: LedgerMachine
    let bytes: Int
    let rounds: Int

    /// Text such as "machine 2, worker-2, admitted 2026-11-24T03:15:00Z: 512 bytes in 64 rounds".
    var text: String {
        let admitted = Date(timeIntervalSince1970: Double(machine.admitted)).formatted(.iso8601)
        return
            "machine \(machine.machine), \(printable(machine.name, onOneLine: true)), admitted \(admitted): \(grouped(bytes)) bytes in \(grouped(rounds)) rounds"
    }

    static func named(_ parts: [LedgerPart]) -> String {
        parts.map { "machine \($0.machine.machine) (\(printable($0.machine.name, onOneLine: true)))" }.joined(separator: " and ")
    }

    /// Returns each machine's bytes in these rounds of the history. Machines without any are left out.
    static func of(_ machines: [LedgerMachine], in rounds: [RoundRecord]) -> [LedgerPart] {
        machines.compactMap { machine in
            let counts = rounds.map { round in
                round.contributions.filter { $0.machine == MachineID(machine.machine) }.reduce(0) { $0 + $1.bytes.count }
            }.filter { $0 > 0 }
            return counts.isEmpty ? nil : LedgerPart(machine: machine, bytes: counts.reduce(0, +), rounds: counts.count)
        }
    }
}
