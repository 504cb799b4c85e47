import ArgumentParser
import Core
import Foundation
import LanguageModel
import Signing
import Training

struct LedgerAudit: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Compute some of a machine's bytes again, from base, ledger and that machine's data.",
        discussion: joined(
            """
            Whoever holds the data of a machine can tell whether its bytes are what these data give: some of its rounds are
            computed anew, at the parameters that the ledger gives before each, and held against the ledger:

              onebyte ledger audit runs/reviews --machine 2 \\
                --model SmolLM2.gguf --train-file reviews.jsonl --shard 2/3

            Another processor or another kernel may round a byte one off. Status 65 where fewer than nine in ten are within
            one. Bytes of 8-bit numbers may be farther off there: 65 where they differ by more than 15 % of their size.
            The precision is the one in which the machine said that it computed. Ledgers of earlier versions do not have it:
            give the worker's own precisions there. Give the model file that it had. The bytes of a private run contain
            noise that nobody can draw again: they can't be audited (79).
            A machine that turned its signs round is found with 50 bytes:

              onebyte ledger audit runs/reviews --machine 2 \\
                --model SmolLM2.gguf --train-file theirs.jsonl --bytes 50
            """))

    @Argument(help: ArgumentHelp("A ledger or a run directory.", valueName: "path")) var path: String
    @Option(help: ArgumentHelp("The machine's number.", valueName: "number")) var machine: UInt32
    @Option(help: ArgumentHelp("The base model that the run began with.", valueName: "model")) var model: String
    @Option(help: ArgumentHelp("The machine's training data, in the same order.", valueName: "file")) var trainFile: String
    @Option(help: ArgumentHelp("Only this part of them, such as 2/3.", valueName: "i/n")) var shard: DataShard?
    @Option(help: ArgumentHelp("How many bytes to look at, at least.", valueName: "number")) var bytes = 200
    @Option(
        help: ArgumentHelp(
            "The machine's signing key (or that in its --state-dir): compare the data with what it committed to, too.", valueName: "file"))
    var signingKey: String?
    @OptionGroup var objective: SettingFlags<ObjectiveSettings>
    @OptionGroup var processes: SettingFlags<ProcessSettings>
    @OptionGroup var threads: ThreadFlags
    @Option(help: "text or json.") var format: OutputFormat = .text

    func validate() throws {
        guard (1...1 << 24).contains(bytes) else { throw ValidationError("--bytes must be within 1…\(1 << 24)") }
    }

    func run() throws {
        let settings = try Settings(file: nil, flags: objective.settings + processes.settings)
        let records = try DataFile.read(trainFile, shard: shard ?? .whole)
        let archive = try LedgerArchive(path)
        archive.warnIfTorn()
        let spec = archive.summary.spec
        guard spec.staleness == 0 else {
            throw ProcessFailure(
                .usage, "\(archive.path): in a run with staleness a byte may be of earlier parameters than its round's, which the ledger does not say"
            )
        }
        guard spec.privacy == nil else {
            throw ProcessFailure(
                .unproven,
                "\(archive.path): the run is private: its bytes contain noise that nobody can draw again, so they can't be computed from data")
        }
        let admission = archive.admission(of: MachineID(machine))
        let precision = try settings.precision(ofMachine: machine, told: admission?.precision)
        let cache = try settings.prefixCache()
        let trainer = try LanguageModelTrainer(
            LanguageModelTrainer.Configuration(
                model: model,
                trainingExamples: { spec, source in try TaskEncoder(task: spec.task, model: source).encode(records).examples },
                threads: threads.count, precision: precision, cacheMemory: cache.memoryBytes, cacheDirectory: cache.directory,
                scoring: try settings.scoring(), dataSecret: try signingKey.map { try SigningKey(contentsOf: $0).dataSecret }))
        let base = try trainer.hashBase(TaskContext())
        if let manifest = archive.manifest, let first = manifest.differences(from: base).first {
            throw ProcessFailure(
                .configuration, "\(model) is not the base model of \(archive.path): \(first); give the model that the run began with")
        }
        let audit = try ByteAudit(of: MachineID(machine), in: archive, bytes: bytes, trainer: trainer)
        standardOutput.write(format == .json ? try json(audit) : audit.text)
        if signingKey != nil { try checkCommitment(of: trainer, admission?.data, archive) }
        guard audit.isPlausible(in: precision) else {
            throw ProcessFailure(
                .badData,
                ([
                    "\(archive.path): the bytes of machine \(machine) are not those of these data: \(audit.withinOne) of \(audit.bytes) within one, \(audit.sameSign) of \(audit.signed) with the same sign; they differ by \(fixed(100 * audit.difference, 1)) % of their size"
                ] + excuses(precision, admission, spec, audit)).joined(separator: "\n"))
        }
    }

    /// Returns what else than a lie can make bytes differ.
    private func excuses(_ precision: ComputePrecision, _ admission: Admission?, _ spec: RunSpec, _ audit: ByteAudit) -> [String] {
        var excuses: [String] = []
        if admission?.precision == nil {
            func other(_ precision: Precision) -> Precision { precision == .float ? .int8 : .float }
            excuses.append(
                "was it a worker with --precision \(other(precision.samples)) or --prefix-precision \(other(precision.hiddenStates))? The ledger does not say"
            )
        }
        if spec.batchSize != RunSpecLimits.allExamples, let first = audit.firstRound, first > 0 {
            excuses.append(
                "it came in round \(first): at first such a machine reads only examples whose hidden states are ready, and the ledger does not say which"
            )
        }
        return excuses
    }

    /// Compares the data with the machine's commitment.
    ///
    /// - Throws: `ProcessFailure` if the data are not those to which the machine committed before its first byte.
    private func checkCommitment(of trainer: LanguageModelTrainer, _ committed: DataCommitment?, _ archive: LedgerArchive) throws {
        guard let committed else {
            throw ProcessFailure(.unproven, "\(archive.path): machine \(machine) has committed to no data")
        }
        guard committed == trainer.dataCommitment else {
            throw ProcessFailure(
                .badData,
                "\(archive.path): machine \(machine) has committed to other data: \(committed.count) examples, root \(committed.root.short), not \(trainer.dataCommitment.map { "\($0.count), \($0.root.short)" } ?? "none")"
            )
        }
        standardError.write("the data are the \(committed.count) examples that machine \(machine) committed to when it was admitted")
    }
}

/// The result of computing some of a machine's bytes again.
struct ByteAudit: Codable, Hashable {
    let machine: UInt32
    var rounds = 0
    var bytes = 0
    var exact = 0
    /// Number of bytes that are equal or differ by one.
    var withinOne = 0
    /// Number of bytes that are nonzero in both places, and of those with the same sign.
    var signed = 0
    var sameSign = 0
    /// Number of bytes that the ledger has as "no value"; a filter may have replaced them.
    var withoutValue = 0
    /// The first round with bytes of the machine.
    var firstRound: RoundNumber?

    /// √(Σ(q − q')²/Σq'²) of bytes q computed again and q' in the ledger: about 0 for the same data, and 2 for reversed signs.
    var difference = 0.0
    private var squaredDifferences = 0.0
    private var squaredBytes = 0.0

    /// Part of the bytes that must be within one, if everything is computed in floats.
    private static let leastWithinOne = 0.9
    /// Largest `difference` of bytes that are made in 8-bit integers. Another processor's floats differ in their last bits, and where such a number is
    /// rounded to 8 bits it may fall to the other side.
    private static let largestDifference = 0.15
    /// Smallest number of rounds to check, if the machine has that many.
    private static let roundsLeast = 4

    private enum CodingKeys: String, CodingKey {
        case machine, rounds, bytes, exact
        case withinOne = "within_one"
        case signed
        case sameSign = "same_sign"
        case difference
        case withoutValue = "without_value"
        case firstRound = "first_round"
    }

    /// - Throws: `ProcessFailure` if the machine has no bytes in the ledger; errors from the trainer.
    init(of machine: MachineID, in archive: LedgerArchive, bytes wanted: Int, trainer: LanguageModelTrainer) throws {
        self.machine = machine.rawValue
        // Counts records as they were written, because a later retraction does not change what the machine sent.
        var counts: [RoundNumber: Int] = [:]
        for case .round(let round) in archive.entries.lazy.map(\.record) {
            let count = round.contributions.filter { $0.machine == machine }.reduce(0) { $0 + $1.validCount }
            if count > 0 { counts[round.round] = count }
        }
        firstRound = counts.keys.min()
        let chosen = Self.choice(of: counts, wanted)
        guard let last = chosen.max() else {
            throw ProcessFailure(.usage, "\(archive.path): machine \(machine.rawValue) has no bytes with a value")
        }
        var basis: [UInt8]?
        for case .basis(let bytes) in archive.entries.lazy.map(\.record) { basis = bytes }
        try trainer.prepare(archive.summary.spec, basis: basis, TaskContext())
        var history = EffectiveHistory()
        var changes: [HistoryChange] = []
        for entry in archive.entries {
            if case .round(let round) = entry.record, chosen.contains(round.round) {
                try trainer.apply(changes)
                changes = []
                for contribution in round.contributions where contribution.machine == machine { try check(contribution, of: round, trainer) }
                rounds += 1
                if round.round == last { break }
            }
            changes += try history.fold(entry.record)
        }
        if squaredBytes > 0 { difference = (squaredDifferences / squaredBytes).squareRoot() }
    }

    /// Chooses evenly spread rounds that together have the requested number of bytes.
    private static func choice(of counts: [RoundNumber: Int], _ wanted: Int) -> Set<RoundNumber> {
        let rounds = counts.keys.sorted()
        var number = min(rounds.count, roundsLeast)
        while number > 0 {
            let chosen = Set((0..<number).map { rounds[number == 1 ? 0 : $0 * (rounds.count - 1) / (number - 1)] })
            if number == rounds.count || chosen.reduce(0, { $0 + (counts[$1] ?? 0) }) >= wanted { return chosen }
            number = min(rounds.count, number * 2)
        }
        return []
    }

    private mutating func check(_ contribution: Contribution, of round: RoundRecord, _ trainer: LanguageModelTrainer) throws {
        let order = ComputeOrder(
            // Ordered as in a first round, so that no example is replaced by one whose hidden states are ready.
            round: 0, machine: contribution.machine, firstSample: contribution.firstSample, count: UInt32(contribution.bytes.count),
            scaleExponent: round.scaleExponent)
        let found = try trainer.compute(order, TaskContext()).bytes
        for (own, told) in zip(found, contribution.bytes) {
            guard told != Contribution.noValue else {
                withoutValue += 1
                continue
            }
            bytes += 1
            squaredDifferences += Double((Int(own) - Int(told)) * (Int(own) - Int(told)))
            squaredBytes += Double(Int(told) * Int(told))
            if own == told { exact += 1 }
            if abs(Int(own) - Int(told)) <= 1 { withinOne += 1 }
            if own != 0, told != 0, own != Contribution.noValue {
                signed += 1
                if (own > 0) == (told > 0) { sameSign += 1 }
            }
        }
    }

    /// Whether honest work on the same data in this precision, on whatever processor, gives such bytes.
    func isPlausible(in precision: ComputePrecision) -> Bool {
        Double(withinOne) >= Self.leastWithinOne * Double(bytes)
            || (precision != ComputePrecision() && difference <= Self.largestDifference)
    }

    var text: String {
        let none = withoutValue > 0 ? ", \(grouped(withoutValue)) have no value in the ledger" : ""
        return
            "machine \(machine): \(grouped(bytes)) bytes of \(rounds) rounds computed again: \(grouped(exact)) exactly, \(grouped(withinOne)) within one, \(grouped(sameSign)) of \(grouped(signed)) with the same sign; they differ by \(fixed(100 * difference, 1)) % of their size\(none)"
    }
}
