import ArgumentParser
import Coordinator
import Core
import Foundation

struct LedgerRetract: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retract",
        abstract: "Take one machine's contributions out of a run, exactly.",
        discussion: joined(
            """
            A record is added that every worker and every replay applies; what is left is exactly what a run with the
            recorded steps, but without these bytes, gives. It is not the model that the others would have trained
            alone, because they continued from where these bytes had led. So the model may be worse than before. It
            recovers when the run continues. `onebyte ledger rewind --before NAME` goes back instead. Works on a run
            that is over or stopped, and on a running one, on the coordinator's host. `onebyte ledger show RUN` lists
            the machines:

              onebyte ledger show runs/reviews
              onebyte ledger retract runs/reviews --machine worker-2
              onebyte ledger restore runs/reviews --machine worker-2      # takes it back

            Only some rounds, and the machine is to leave the running run; a script says that it means it:

              onebyte ledger retract runs/reviews --machine worker-2 \\
                --from-round 120 --to-round 180 --evict --yes

            A name stands for all machines of that name: a worker that was started again is another machine.
            """))

    @Argument(help: ArgumentHelp("The run directory.", valueName: "directory")) var path: String
    @Option(help: ArgumentHelp("The worker's name, or the machine's number.", valueName: "machine")) var machine: String
    @Option(help: ArgumentHelp("The first round.", valueName: "round")) var fromRound: RoundNumber = 0
    @Option(help: ArgumentHelp("The last round. (default: the newest)", valueName: "round")) var toRound: RoundNumber?
    @Flag(help: "Remove the machine from the running run, too.") var evict = false
    @Flag(help: "Don't ask.") var yes = false

    func validate() throws {
        if let toRound, toRound < fromRound { throw ValidationError("--to-round is before --from-round") }
    }

    func run() async throws {
        let edit = try LedgerEdit(path)
        let machines = try edit.machines(machine)
        let rounds = try edit.rounds(from: fromRound, to: toRound)
        let parts = LedgerPart.of(machines, in: edit.archive.history.rounds.filter { rounds.contains($0.round) })
        guard !parts.isEmpty else {
            throw ProcessFailure(
                .usage, "\(edit.archive.path): machine \(machine) has no bytes in rounds \(rounds.lowerBound) to \(rounds.upperBound - 1)")
        }
        let canBeRestored = edit.archive.summary.format >= 3
        standardError.write(parts.map(\.text).joined(separator: "\n"))
        standardError.write(
            "in rounds \(rounds.lowerBound) to \(rounds.upperBound - 1); replay, export and evaluate will go without them, and \(canBeRestored ? "`onebyte ledger restore` puts them back" : "nothing brings them back")"
        )
        try LedgerEdit.confirm("take them out?", yes: yes, nothing: "nothing is taken out")
        let ids = parts.map { MachineID($0.machine.machine) }
        var requests: [OperatorRequest] = ids.map { .retract($0, rounds: LedgerEdit.wantedRounds(from: fromRound, to: toRound)) }
        if evict { requests.insert(contentsOf: ids.map { .evict($0) }, at: 0) }
        let isRunning = try await edit.apply(ids.map { .retraction(Retraction(machine: $0, rounds: rounds)) }, requests: requests) { records in
            Set(records.compactMap { if case .retraction(let retraction) = $0 { retraction.machine } else { nil } }).isSuperset(of: ids)
        }
        if isRunning {
            return standardOutput.write("retracted \(LedgerPart.named(parts)) in the running run; its workers take the bytes out")
        }
        if evict { standardError.write("note: --evict is for a running run; this one does not run, so there is no machine to evict") }
        let bytes = parts.reduce(0) { $0 + $1.bytes }
        standardOutput.write("retracted \(grouped(bytes)) bytes of \(LedgerPart.named(parts)); replay, export and evaluate go without them")
        if let worth = ModelWorth(before: edit.archive, path: path).text() { standardOutput.write(worth) }
        let directory = shellWord(edit.directory.path)
        if edit.archive.summary.isEnded, canBeRestored {
            standardOutput.write(
                """
                the others continued from where these bytes had led; to go back and train again without that machine:
                  onebyte ledger rewind \(directory) --before \(shellWord(machine))
                  onebyte cluster --resume \(directory)
                """)
        } else if !edit.archive.summary.isEnded {
            standardOutput.write("the model recovers when the run continues: onebyte cluster --resume \(directory)")
        }
    }
}

struct LedgerRestore: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Take a retraction back: put a machine's contributions into the run again, exactly.",
        discussion: joined(
            """
            A record is added. If nothing else has changed since, the model is to the last bit the one from before the
            retraction:


              onebyte ledger restore runs/reviews --machine worker-2
              onebyte ledger restore runs/reviews --machine worker-2 \\
                --from-round 120 --to-round 180 --yes
            """))

    @Argument(help: ArgumentHelp("The run directory.", valueName: "directory")) var path: String
    @Option(help: ArgumentHelp("The worker's name, or the machine's number.", valueName: "machine")) var machine: String
    @Option(help: ArgumentHelp("The first round.", valueName: "round")) var fromRound: RoundNumber = 0
    @Option(help: ArgumentHelp("The last round. (default: the newest)", valueName: "round")) var toRound: RoundNumber?
    @Flag(help: "Don't ask.") var yes = false

    func validate() throws {
        if let toRound, toRound < fromRound { throw ValidationError("--to-round is before --from-round") }
    }

    func run() async throws {
        let edit = try LedgerEdit(path)
        let summary = edit.archive.summary
        guard summary.format >= 3 else {
            throw ProcessFailure(
                .usage,
                "\(edit.archive.path) is of format \(summary.format), in which a retraction can't be taken back\nthe bytes stay out")
        }
        let rounds = try edit.rounds(from: fromRound, to: toRound)
        let ids = try edit.machines(machine).map { MachineID($0.machine) }.filter { summary.holdsRetracted(of: $0, in: rounds) }
        guard !ids.isEmpty else {
            throw ProcessFailure(
                .usage, "\(edit.archive.path): nothing of \(machine) was retracted from rounds \(rounds.lowerBound) to \(rounds.upperBound - 1)")
        }
        let names = ids.map { "\($0)" }.joined(separator: " and ")
        standardError.write(
            "the contributions of \(names) to rounds \(rounds.lowerBound) to \(rounds.upperBound - 1) come back, as far as they were retracted")
        try LedgerEdit.confirm("put them back?", yes: yes, nothing: "nothing is put back")
        let isRunning = try await edit.apply(
            ids.map { .restoration(Restoration(machine: $0, rounds: rounds)) },
            requests: ids.map { .restore($0, rounds: LedgerEdit.wantedRounds(from: fromRound, to: toRound)) }
        ) { records in
            Set(records.compactMap { if case .restoration(let restoration) = $0 { restoration.machine } else { nil } }).isSuperset(of: ids)
        }
        standardOutput.write("restored \(names)\(isRunning ? " in the running run; its workers put the bytes back" : "")")
        if !isRunning, let worth = ModelWorth(before: edit.archive, path: path).text() { standardOutput.write(worth) }
    }
}

struct LedgerRewind: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rewind",
        abstract: "Go back to the parameters before a round, or to before a machine's first byte.",
        discussion: joined(
            """
            The rounds from there on no longer count. They stay in the ledger, and their numbers are not used again. Even
            a complete run can then be resumed:

              onebyte ledger rewind runs/reviews --before worker-2
              onebyte cluster --resume runs/reviews

            To a round by its number:

              onebyte ledger rewind runs/reviews --to 120 --yes

            A rewind can't be taken back, but `--at-round` still reaches the void rounds.
            """))

    @Argument(help: ArgumentHelp("The run directory.", valueName: "directory")) var path: String
    @Option(help: ArgumentHelp("The parameters before this round.", valueName: "round")) var to: RoundNumber?
    @Option(help: ArgumentHelp("The parameters before the first byte of this worker.", valueName: "machine")) var before: String?
    @Flag(help: "Don't ask.") var yes = false

    func validate() throws {
        guard (to == nil) != (before == nil) else { throw ValidationError("say either --to ROUND or --before NAME") }
    }

    func run() async throws {
        let edit = try LedgerEdit(path)
        let archive = edit.archive
        let target = try to ?? firstRound(of: before ?? "", edit)
        guard target <= archive.history.nextRound else {
            throw ProcessFailure(.usage, "\(archive.path): there is no round \(target), but \(archive.history.nextRound) rounds")
        }
        guard !archive.summary.isEnded || archive.summary.format >= 3 else {
            throw ProcessFailure(
                .usage, "\(archive.path) is of format \(archive.summary.format), and complete; its end can't be taken back\nbegin another run")
        }
        let void = archive.history.rounds.filter { $0.round >= target }
        guard !void.isEmpty else {
            throw ProcessFailure(.usage, "\(archive.path): no round from \(target) on counts; there is nothing to go back over")
        }
        let bytes = void.reduce(0) { $0 + $1.contributions.reduce(0) { $0 + $1.bytes.count } }
        let names = Set(
            archive.machines.filter { machine in
                void.contains { $0.contributions.contains { $0.machine.rawValue == machine.machine } }
            }.map { printable($0.name, onOneLine: true) }
        ).sorted()
        standardError.write(
            "back to the parameters before round \(target): \(grouped(void.count)) rounds with \(grouped(bytes)) bytes of \(names.joined(separator: ", ")) no longer count, and can't be brought back"
        )
        try LedgerEdit.confirm("go back?", yes: yes, nothing: "nothing is taken back")
        let isRunning = try await edit.apply([.rewind(Rewind(round: target, rateShift: 0))], requests: [.rewind(target)]) { records in
            records.contains { if case .rewind(let rewind) = $0 { rewind.round == target } else { false } }
        }
        standardOutput.write("back to before round \(target)\(isRunning ? " in the running run" : "")")
        guard !isRunning else { return }
        if let worth = ModelWorth(before: archive, path: path).text() { standardOutput.write(worth) }
        standardOutput.write("to resume: onebyte cluster --resume \(shellWord(edit.directory.path))")
    }

    private func firstRound(of machine: String, _ edit: LedgerEdit) throws -> RoundNumber {
        let ids = Set(try edit.machines(machine).map { MachineID($0.machine) })
        // Retracted bytes count too, because the others continued from where they had led.
        for case .round(let round) in edit.archive.entries.lazy.map(\.record)
        where round.contributions.contains(where: { ids.contains($0.machine) }) {
            return round.round
        }
        throw ProcessFailure(.usage, "\(edit.archive.path): \(machine) has given no bytes")
    }
}
