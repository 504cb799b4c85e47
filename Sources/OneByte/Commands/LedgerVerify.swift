import ArgumentParser
import Core
import LanguageModel
import Signing
import Training

struct LedgerVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check every record: checksums, hash chain, and that each follows from those before it.",
        discussion: joined(
            """
            Ends with status 0 for a whole ledger, 65 for one that is damaged or breaks a rule of its run:

              onebyte ledger verify runs/reviews && echo whole

            Where machines disagree, the replay is the judge: with the base model, the parameters are built from the
            ledger alone, and every digest that machines reported is held against them at its own position (65 where
            one differs, 79 where rounds are left that no digest covers):

              onebyte ledger verify runs/reviews --base SmolLM2.gguf

            Whoever has the file can make a consistent history of it, with all digests computed again; only signatures tell.
            With a list of public keys, one on each line with a name behind it (65 where none of them vouches for
            anything, 79 where rounds lie behind the last that one of them signed):

              onebyte ledger verify runs/reviews --signers trusted.pub
            """))

    @Argument(help: ArgumentHelp("A ledger or a run directory.", valueName: "path")) var path: String
    @Option(help: ArgumentHelp("The base model: replay, and compare the digests.", valueName: "model")) var base: String?
    @Option(help: ArgumentHelp("Public signing keys that you trust: say who vouches for what.", valueName: "file")) var signers: String?
    @OptionGroup var threads: ThreadFlags

    /// Number of findings that are shown; the rest is counted.
    private static let shown = 8

    func run() throws {
        let names = try signers.map { try SignerKey.names(contentsOf: $0) }
        let archive = try LedgerArchive(path)
        let vouchers = try checkRules(of: archive)
        if archive.unreadBytes > 0 {
            standardError.write(
                "warning: \(archive.path): \(archive.unreadBytes) bytes at the end are no whole record (a crash, or a coordinator at work); it will be cut back"
            )
        }
        let position = archive.summary.position
        let end = archive.summary.isEnded ? "complete" : "no end record: the run goes on, or the ledger was cut"
        standardOutput.write(
            "\(archive.path): whole: \(position.records) records, \(position.offset) bytes, \(archive.history.nextRound) rounds, \(end), chain \(position.chain)"
        )
        let standing = Vouching(vouchers, names: names)
        standardOutput.write(standing.text)
        // Both are reported. A wrong digest counts for more than one that could not be checked.
        var failures: [ProcessFailure] = []
        do {
            if names != nil { try standing.judge(archive) }
        } catch let failure as ProcessFailure {
            failures.append(failure)
        }
        do {
            if let base { try compare(archive, base: base) }
        } catch let failure as ProcessFailure {
            failures.append(failure)
        }
        guard let worst = failures.first(where: { $0.status != .unproven }) ?? failures.first else { return }
        for other in failures where other != worst { standardError.write(other.message) }
        throw worst
    }

    /// Checks that each record follows from those before it by the run's rules.
    ///
    /// - Returns: the keys whose signatures the ledger holds.
    private func checkRules(of archive: LedgerArchive) throws -> [LedgerVerifier.Voucher] {
        guard let first = archive.entries.first else { return [] }
        let verifier: LedgerVerifier
        do {
            var folded = try LedgerVerifier(first: first, checker: Ed25519())
            for entry in archive.entries.dropFirst() { try folded.fold(entry) }
            verifier = folded
        } catch {
            throw ProcessFailure(.badData, "\(archive.path): \(error)")
        }
        let findings = verifier.findings
        guard !findings.isEmpty else { return verifier.vouchers }
        throw ProcessFailure(
            .badData,
            "\(archive.path): \(findings.count) record\(findings.count == 1 ? " is" : "s are") not what the run's rules give\n"
                + Self.list(findings.map { "\($0)" }))
    }

    /// Compares what machines reported with the parameters from the base and the ledger.
    private func compare(_ archive: LedgerArchive, base: String) throws {
        let clock = ContinuousClock()
        let source = try openModel(base)
        let began = clock.now
        let comparison = try archive.compareDigests(on: source, threads: threads.count)
        let what =
            "replayed \(archive.history.rounds.count) rounds, \(archive.summary.samples) samples in \(fixed((clock.now - began) / .seconds(1), 2)) s"
        guard comparison.differing.isEmpty else {
            let lines = comparison.differing.map { record, replayed in
                let digests = record.digest.contrasted(with: replayed)
                let names = record.machines.map { "\($0)" }.joined(separator: ", ")
                return "\(names) reported \(digests.own) at round \(record.round), the replay gives \(digests.other)"
            }
            throw ProcessFailure(
                .badData,
                "\(archive.path): \(lines.count) of \(comparison.compared) digests are not those of the base and the ledger\n" + Self.list(lines))
        }
        guard comparison.compared > 0 else {
            throw ProcessFailure(
                .unproven, "\(what), digest \(comparison.last): no machine has reported a digest, so nothing could be compared")
        }
        let same = "\(what); all \(comparison.compared) digests that machines reported are the same"
        guard comparison.uncovered.isEmpty else {
            throw ProcessFailure(
                .unproven,
                "\(same), but \(comparison.uncovered.count) rounds lie behind the last of them: nothing could be compared there; digest \(comparison.last)"
            )
        }
        standardError.write("\(same), the last \(comparison.last)")
    }

    private static func list(_ lines: [String]) -> String {
        let more = lines.count > shown ? ["and \(lines.count - shown) more"] : []
        return (lines.prefix(shown) + more).map { "  \($0)" }.joined(separator: "\n")
    }
}
