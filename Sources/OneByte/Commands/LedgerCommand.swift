import ArgumentParser
import Core
import LanguageModel
import Training

struct LedgerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger",
        abstract: "Look into a run's ledger, check it, rebuild the parameters from it.",
        discussion: joined(
            """
            A ledger and its base model are the fine-tuned model.

              onebyte ledger show runs/reviews
              onebyte ledger verify runs/reviews/ledger
              onebyte ledger replay runs/reviews --model SmolLM2.gguf
              onebyte ledger retract runs/reviews --machine worker-3
              onebyte ledger restore runs/reviews --machine worker-3
              onebyte ledger rewind runs/reviews --before worker-3
            """),
        subcommands: [
            Show.self, LedgerVerify.self, LedgerAudit.self, LedgerMembership.self, Replay.self, LedgerRetract.self, LedgerRestore.self,
            LedgerRewind.self,
        ])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what a ledger holds.",
            discussion: joined(
                """
                The run's facts:

                  onebyte ledger show runs/reviews

                Record by record, for people or as JSON lines:

                  onebyte ledger show runs/reviews --records
                  onebyte ledger show runs/reviews --records --format json
                """))

        @Argument(help: ArgumentHelp("A ledger or a run directory.", valueName: "path")) var path: String
        @Flag(help: "One line for each record.") var records = false
        @Option(help: "text or json.") var format: OutputFormat = .text

        func run() throws {
            let archive = try LedgerArchive(path)
            if records {
                var rateShift = 0
                for entry in archive.entries {
                    if case .rewind(let rewind) = entry.record { rateShift += Int(rewind.rateShift) }
                    let rate = archive.summary.spec.learningRate * Double(sign: .plus, exponent: rateShift, significand: 1)
                    let row = LedgerRow(entry, learningRate: rate)
                    standardOutput.write(format == .json ? try row.json() : row.text)
                }
            } else {
                let facts = LedgerFacts(archive)
                standardOutput.write(format == .json ? try json(facts) : facts.text)
            }
        }
    }

    struct Replay: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Rebuild the parameters from base model and ledger alone, and print their digest.",
            discussion: joined(
                """
                The digest must be the one that the workers reported; where the ledger holds it, they are compared:

                  onebyte ledger replay runs/reviews --model SmolLM2.gguf

                Any round is a model:

                  onebyte ledger replay runs/reviews --model SmolLM2.gguf \\
                    --at-round 100 --threads 1
                """))

        @Argument(help: ArgumentHelp("A ledger or a run directory.", valueName: "path")) var path: String
        @Option(help: ArgumentHelp("The base model that the run began with.", valueName: "model")) var model: String
        @Option(help: ArgumentHelp("The parameters before this round, or best. (default: after the last)", valueName: "round"))
        var atRound: RoundChoice?
        @OptionGroup var threads: ThreadFlags

        func run() throws {
            let archive = try LedgerArchive(path, at: atRound)
            archive.warnIfTorn()
            standardOutput.write("\(try archive.judge(base: model, threads: threads.count))")
        }
    }
}

extension LedgerArchive {
    /// Builds the parameters from the base alone, compares their digest with the one that machines reported for these parameters, and
    /// writes the result to standard error.
    ///
    /// - Throws: `ProcessFailure` `.badData` if the digests differ: the replay is right, and the named machines are wrong.
    fileprivate func judge(base: String, threads: Int) throws -> Digest {
        let clock = ContinuousClock()
        let source = try openModel(base)
        let began = clock.now
        let parameters = try replay(on: source, threads: threads)
        let digest = parameters.digest(threads: threads)
        let what = "\(history.rounds.count) rounds, \(summary.samples) samples in \(fixed((clock.now - began) / .seconds(1), 2)) s"
        guard let reported = self.digest else {
            standardError.write("replayed \(what); the workers reported no digest at round \(history.nextRound)")
            return digest
        }
        guard reported.digest == digest else {
            throw ProcessFailure(
                .badData,
                "\(reported.machines.map { "\($0)" }.joined(separator: ", ")) reported \(reported.digest) at round \(reported.round), the replay gives \(digest)"
            )
        }
        standardError.write("replayed \(what); the same digest as \(reported.machines.count) machines reported at round \(reported.round)")
        return digest
    }
}
