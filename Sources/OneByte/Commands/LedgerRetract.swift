import ArgumentParser
import Coordinator
import Core
import Foundation
import Signing

struct LedgerRetract: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retract",
        abstract: "Take one machine's contributions out of a run, exactly.",
        discussion: """
            A record is added that every worker and every replay applies; what is left is exactly what a run with the
            recorded steps, but without these bytes, gives. Works on a run that is over or stopped, and on a running one,
            on the coordinator's host:

              onebyte ledger retract runs/reviews --machine 3

            Only some rounds, and the machine is to leave the running run:

              onebyte ledger retract runs/reviews --machine 3 --from-round 120 --to-round 180 --evict

            `onebyte ledger show RUN` lists the machines.
            """)

    @Argument(help: ArgumentHelp("The run directory.", valueName: "directory")) var path: String
    @Option(help: ArgumentHelp("The machine's number.", valueName: "number")) var machine: UInt32
    @Option(help: ArgumentHelp("The first round.", valueName: "round")) var fromRound: RoundNumber = 0
    @Option(help: ArgumentHelp("The last round. (default: the newest)", valueName: "round")) var toRound: RoundNumber?
    @Flag(help: "Remove the machine from the running run, too.") var evict = false

    private static let patienceSeconds = 30

    func validate() throws {
        if let toRound, toRound < fromRound { throw ValidationError("--to-round is before --from-round") }
    }

    func run() async throws {
        let archive = try LedgerArchive(path)
        let wanted = fromRound..<(toRound.map { $0 == .max ? $0 : $0 + 1 } ?? .max)
        let rounds = wanted.clamped(to: 0..<archive.history.nextRound)
        let counts = archive.history.rounds.filter { rounds.contains($0.round) }.map { round in
            round.contributions.filter { $0.machine == MachineID(machine) }.reduce(0) { $0 + $1.bytes.count }
        }.filter { $0 > 0 }
        let bytes = counts.reduce(0, +)
        guard bytes > 0 else {
            let range = rounds.isEmpty ? "there is no round \(fromRound)" : "machine \(machine) has no bytes in rounds \(rounds.lowerBound) to \(rounds.upperBound - 1)"
            throw ProcessFailure(.usage, "\(archive.path): \(range)")
        }
        let file: LedgerFile
        do {
            file = try LedgerFile.open(at: archive.path)
        } catch .locked {
            try await askCoordinator(wanted, after: archive.summary.position.records)
            return
        } catch {
            throw ProcessFailure(error.status, "\(error)")
        }
        guard !evict else {
            throw ProcessFailure(.usage, "--evict is for a running run; this one does not run, so that no machine is in it")
        }
        var summary = file.summary
        do {
            try file.append(try summary.append(.retraction(Retraction(machine: MachineID(machine), rounds: rounds))))
            // Who may write to the run directory holds its key, too; without one the retraction is vouched for by nobody.
            if summary.format >= 2, let key = try? SigningKey(contentsOf: RunDirectory(path).signingKey) {
                let signature = key.sign(SignedStatement.history(summary.position))
                try file.append(try summary.append(.signature(LedgerSignature(signer: key.publicKey, signature: signature))))
            }
        } catch let error as LedgerSummary.RuleBroken {
            throw ProcessFailure(.badData, "\(archive.path): \(error.reason)")
        } catch {
            throw ProcessFailure(.inputOutput, "\(error)")
        }
        standardOutput.write("retracted \(bytes) bytes of machine \(machine) in \(counts.count) rounds; replay, export and evaluate go without them")
    }

    /// The coordinator has the ledger: it writes the record, and all workers apply it.
    private func askCoordinator(_ rounds: Range<RoundNumber>, after records: UInt64) async throws {
        let directory = RunDirectory(path)
        var requests: [OperatorRequest] = [.retract(MachineID(machine), rounds: rounds)]
        if evict { requests.insert(.evict(MachineID(machine)), at: 0) }
        try directory.leave(requests)
        for _ in 0..<(Self.patienceSeconds * 10) {
            try await Task.sleep(for: .milliseconds(100))
            let isWritten = try LedgerArchive(path).entries.contains { entry in
                guard case .retraction(let retraction) = entry.record else { return false }
                return entry.index >= records && retraction.machine == MachineID(machine)
            }
            if isWritten {
                standardOutput.write("retracted machine \(machine) in the running run; its workers take its bytes out")
                return
            }
        }
        directory.withdrawRequests()
        throw ProcessFailure(.temporary, "the coordinator has not answered in \(Self.patienceSeconds) s; its log says why")
    }
}
