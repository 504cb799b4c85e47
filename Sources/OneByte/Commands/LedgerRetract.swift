import ArgumentParser
import Coordinator
import Core
import Foundation
import Glibc
import Signing

struct LedgerRetract: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retract",
        abstract: "Take one machine's contributions out of a run, exactly.",
        discussion: """
            A record is added that every worker and every replay applies; what is left is exactly what a run with the
            recorded steps, but without these bytes, gives. Works on a run that is over or stopped, and on a running one,
            on the coordinator's host. `onebyte ledger show RUN` lists the machines:

              onebyte ledger show runs/reviews
              onebyte ledger retract runs/reviews --machine worker-2

            Only some rounds, and the machine is to leave the running run; a script says that it means it:

              onebyte ledger retract runs/reviews --machine 3 \\
                --from-round 120 --to-round 180 --evict --yes

            A name stands for all machines of that name: a worker that was started again is another machine.
            """)

    @Argument(help: ArgumentHelp("The run directory.", valueName: "directory")) var path: String
    @Option(help: ArgumentHelp("The machine's number, or the worker's name.", valueName: "machine")) var machine: String
    @Option(help: ArgumentHelp("The first round.", valueName: "round")) var fromRound: RoundNumber = 0
    @Option(help: ArgumentHelp("The last round. (default: the newest)", valueName: "round")) var toRound: RoundNumber?
    @Flag(help: "Remove the machine from the running run, too.") var evict = false
    @Flag(help: "Don't ask.") var yes = false

    private static let patienceSeconds = 30

    func validate() throws {
        if let toRound, toRound < fromRound { throw ValidationError("--to-round is before --from-round") }
    }

    /// A part to retract: a machine's bytes in these rounds.
    private struct Part {
        let machine: LedgerMachine
        let bytes: Int
        let rounds: Int

        /// Text such as "machine 2, worker-2, admitted 2026-11-24T03:15:00Z: 512 bytes in 64 rounds".
        var text: String {
            let admitted = Date(timeIntervalSince1970: Double(machine.admitted)).formatted(.iso8601)
            return
                "machine \(machine.machine), \(printable(machine.name, onOneLine: true)), admitted \(admitted): \(grouped(bytes)) bytes in \(grouped(rounds)) rounds"
        }
    }

    func run() async throws {
        let archive = try LedgerArchive(path)
        let wanted = fromRound..<(toRound.map { $0 == .max ? $0 : $0 + 1 } ?? .max)
        let rounds = wanted.clamped(to: 0..<archive.history.nextRound)
        let parts = try partsToGo(archive, rounds)
        standardError.write(parts.map(\.text).joined(separator: "\n"))
        standardError.write(
            "in rounds \(rounds.lowerBound) to \(rounds.upperBound - 1); replay, export and evaluate will go without them, and nothing brings them back"
        )
        try confirm()
        let file: LedgerFile
        let lock: RunLock?
        do {
            lock = try archive.isInRunDirectory ? RunDirectory(path).acquireLock() : nil
        } catch RunLockError.held {
            return try await askCoordinator(parts, wanted, after: archive.summary.position.records)
        } catch {
            throw ProcessFailure(error, directory: path)
        }
        defer { withExtendedLifetime(lock) {} }
        do {
            file = try LedgerFile.open(at: archive.path)
        } catch .locked {
            return try await askCoordinator(parts, wanted, after: archive.summary.position.records)
        } catch {
            throw ProcessFailure(error.status, "\(error)")
        }
        guard !evict else {
            throw ProcessFailure(.usage, "--evict is for a running run; this one does not run, so that no machine is in it")
        }
        var summary = file.summary
        do {
            for part in parts {
                try file.append(try summary.append(.retraction(Retraction(machine: MachineID(part.machine.machine), rounds: rounds))))
            }
            // Whoever may write to the run directory also holds its key. Without a key the retraction is unsigned.
            if summary.format >= 2, FileManager.default.fileExists(atPath: RunDirectory(path).signingKey) {
                let key = try SigningKey(contentsOf: RunDirectory(path).signingKey)
                let signature = key.sign(SignedStatement.history(summary.position))
                try file.append(try summary.append(.signature(LedgerSignature(signer: key.publicKey, signature: signature))))
            } else {
                standardError.write("note: nobody signs the retraction: the run directory holds no key")
            }
        } catch let error as LedgerSummary.RuleBroken {
            throw ProcessFailure(.badData, "\(archive.path): \(error.reason)")
        } catch {
            throw ProcessFailure(.inputOutput, "\(error)")
        }
        let bytes = parts.reduce(0) { $0 + $1.bytes }
        standardOutput.write("retracted \(bytes) bytes of \(named(parts)); replay, export and evaluate go without them")
    }

    /// Returns the machines that are meant, with the rounds that are still to be retracted.
    private func partsToGo(_ archive: LedgerArchive, _ rounds: Range<RoundNumber>) throws -> [Part] {
        let machines = archive.machines
        let byNumber = UInt32(machine).flatMap { number in machines.first { $0.machine == number } }
        let meant = byNumber.map { [$0] } ?? machines.filter { $0.name.utf8.elementsEqual(machine.utf8) }
        guard !meant.isEmpty else {
            let names = Set(machines.map(\.name)).sorted()
            let hint =
                nearestWord(to: machine, in: names).map { "did you mean \($0)?" }
                ?? "it has \(names.isEmpty ? "none" : names.joined(separator: ", "))"
            throw ProcessFailure(
                .usage, "\(archive.path): no machine has the number or the name \(machine)\n\(hint) (onebyte ledger show \(shellWord(path)))")
        }
        guard !rounds.isEmpty else {
            throw ProcessFailure(.usage, "\(archive.path): there is no round \(fromRound), but \(archive.history.nextRound) rounds")
        }
        let parts = meant.compactMap { machine -> Part? in
            let counts = archive.history.rounds.filter { rounds.contains($0.round) }.map { round in
                round.contributions.filter { $0.machine == MachineID(machine.machine) }.reduce(0) { $0 + $1.bytes.count }
            }.filter { $0 > 0 }
            return counts.isEmpty ? nil : Part(machine: machine, bytes: counts.reduce(0, +), rounds: counts.count)
        }
        guard !parts.isEmpty else {
            throw ProcessFailure(
                .usage, "\(archive.path): machine \(machine) has no bytes in rounds \(rounds.lowerBound) to \(rounds.upperBound - 1)")
        }
        return parts
    }

    private func confirm() throws {
        guard !yes else { return }
        guard isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
            throw ProcessFailure(.usage, "nothing is taken out without a yes\nsay --yes where nobody can be asked")
        }
        standardError.writeRaw("take them out? [y/N] ")
        guard ["y", "yes"].contains((readLine() ?? "").lowercased()) else { throw ProcessFailure(.usage, "nothing is taken out") }
    }

    private func named(_ parts: [Part]) -> String {
        parts.map { "machine \($0.machine.machine) (\(printable($0.machine.name, onOneLine: true)))" }.joined(separator: " and ")
    }

    /// Asks the coordinator, which holds the ledger, to write the records. All workers apply them.
    private func askCoordinator(_ parts: [Part], _ rounds: Range<RoundNumber>, after records: UInt64) async throws {
        let directory = RunDirectory(path)
        let machines = parts.map { MachineID($0.machine.machine) }
        var requests: [OperatorRequest] = machines.map { .retract($0, rounds: rounds) }
        if evict { requests.insert(contentsOf: machines.map { .evict($0) }, at: 0) }
        try directory.leave(requests)
        for _ in 0..<(Self.patienceSeconds * 10) {
            try await Task.sleep(for: .milliseconds(100))
            let written = Set(
                try LedgerArchive(path).entries.compactMap { entry -> MachineID? in
                    guard case .retraction(let retraction) = entry.record, entry.index >= records else { return nil }
                    return retraction.machine
                })
            if written.isSuperset(of: machines) {
                standardOutput.write("retracted \(named(parts)) in the running run; its workers take the bytes out")
                return
            }
        }
        directory.withdrawRequests()
        throw ProcessFailure(.temporary, "the coordinator has not answered in \(Self.patienceSeconds) s; its log says why")
    }
}
