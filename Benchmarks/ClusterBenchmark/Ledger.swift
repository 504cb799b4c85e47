import ArgumentParser
import Coordinator
import Foundation

/// Measures how long a restarted coordinator takes to read its ledger.
struct Ledger: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Opening a ledger of very many rounds: seconds and memory.")

    @Option(help: "Rounds.") var rounds = 1_000_000
    @Option(help: "Machines in each round.") var machines = 3
    @Option(help: "Samples of a machine in a round.") var samples = 16
    @Option(help: ArgumentHelp("Where the ledger is written.", valueName: "path")) var directory = FileManager.default.temporaryDirectory.path

    func validate() throws {
        guard rounds > 0, machines > 0, machines <= 1024, samples > 0, samples <= 4096, rounds * samples < Int(Int32.max) else {
            throw ValidationError("machines are 1…1,024, samples 1…4,096, and a machine's samples in all below 2³¹")
        }
    }

    func run() throws {
        let scratch = try ScratchDirectory(in: directory)
        let path = scratch.path + "/ledger"
        let length = try SyntheticLedger.write(to: path, rounds: rounds, machines: machines, samples: samples)
        let node = try Child(["open-ledger", path])
        guard let opened = try node.next(OpenedLedger.self) else { throw ValidationError("the ledger could not be opened") }
        try node.wait()
        let key = rounds == 1_000_000 ? "ledger.million" : "ledger.\(rounds)"
        try Figure.print("\(key).bytes", Double(length), "bytes")
        try Figure.print("\(key).open_seconds", opened.seconds, "s")
        try Figure.print("\(key).rss_mb", opened.use.peakMegabytes, "MB")
    }
}

struct OpenedLedger: Codable {
    let seconds: Double
    let use: ProcessUse
}

/// Opens a ledger as a coordinator does, in a separate process.
struct OpenLedgerNode: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "open-ledger", shouldDisplay: false)

    @Argument var path: String

    func run() throws {
        let start = Date.now
        let file = try LedgerFile.open(at: path)
        try writeLine(OpenedLedger(seconds: Date.now.timeIntervalSince(start), use: ProcessUse.now))
        withExtendedLifetime(file) {}
    }
}
