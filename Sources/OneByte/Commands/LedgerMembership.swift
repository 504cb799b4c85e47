import ArgumentParser
import Core
import Foundation
import LanguageModel
import Synchronization
import Training

struct LedgerMembership: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "membership",
        abstract: "Attack a machine's bytes: how well do they tell which examples it trained on?",
        discussion: joined(
            """
            Measure what your own bytes reveal. The attacker knows what everybody who has the ledger can know: the base model, all
            directions, the parameters at each round. He tells the machine's examples from others by a likelihood ratio, once with other
            examples of the same kind to compare with, and once with all of the machine's other examples (the attacker
            of the definition of differential privacy):

              onebyte ledger membership runs/reviews --machine 2 \\
                --model SmolLM2.gguf --train-file reviews.jsonl --shard 2/3 \\
                --others other-reviews.jsonl

            The first half of the others is what the attacker knows, the second half is what he has to tell from the members.
            Only for runs whose samples read all examples (batch-size all).
            """))

    @Argument(help: ArgumentHelp("A ledger or a run directory.", valueName: "path")) var path: String
    @Option(help: ArgumentHelp("The machine's number.", valueName: "number")) var machine: UInt32
    @Option(help: ArgumentHelp("The base model that the run began with.", valueName: "model")) var model: String
    @Option(help: ArgumentHelp("The machine's training data: the members.", valueName: "file")) var trainFile: String
    @Option(help: ArgumentHelp("Only this part of them, such as 2/3.", valueName: "i/n")) var shard: DataShard?
    @Option(help: ArgumentHelp("Examples of the same kind that the machine did not train on.", valueName: "file")) var others: String
    @Option(help: ArgumentHelp("Use about this many bytes, of evenly spread rounds.", valueName: "number")) var bytes = 2048
    @OptionGroup var processes: SettingFlags<ProcessSettings>
    @OptionGroup var threads: ThreadFlags
    @Option(help: "text or json.") var format: OutputFormat = .text

    func validate() throws {
        guard (1...1 << 14).contains(bytes) else { throw ValidationError("--bytes must be within 1…\(1 << 14)") }
    }

    func run() throws {
        MatrixLibrary.setThreads(1)
        let settings = try Settings(file: nil, flags: processes.settings)
        let members = try DataFile.read(trainFile, shard: shard ?? .whole)
        let strangers = try DataFile.read(others)
        let archive = try LedgerArchive(path)
        archive.warnIfTorn()
        guard archive.summary.spec.batchSize == RunSpecLimits.allExamples else {
            throw ProcessFailure(.usage, "\(archive.path): this attack is for runs whose samples read all of a machine's examples (batch-size all)")
        }
        guard archive.summary.spec.staleness == 0 else {
            throw ProcessFailure(
                .usage, "\(archive.path): in a run with staleness a byte may be of earlier parameters than its round's, which the ledger does not say"
            )
        }
        // Examples that have nothing to learn from are left out of both.
        let counts = Mutex((members: 0, others: 0))
        guard strangers.count >= 4 else { throw ProcessFailure(.usage, "\(others): \(strangers.count) examples are too few to compare with") }
        let cache = try settings.prefixCache()
        let precision = try settings.precision(ofMachine: machine, told: archive.admission(of: MachineID(machine))?.precision)
        let trainer = try LanguageModelTrainer(
            LanguageModelTrainer.Configuration(
                model: model,
                trainingExamples: { spec, source in
                    let encoder = try TaskEncoder(task: spec.task, model: source)
                    let found = spec.privacy == nil ? try encoder.encode(members) : encoder.encodePrivately(members)
                    let (own, foreign) = (found.examples, try encoder.encode(strangers).examples)
                    counts.withLock { $0 = (own.count, foreign.count) }
                    return own + foreign
                },
                threads: threads.count, precision: precision, cacheMemory: cache.memoryBytes, cacheDirectory: cache.directory,
                privacy: archive.summary.spec.privacy.map { _ in PrivacyAccount() }))
        let base = try trainer.hashBase(TaskContext())
        if let manifest = archive.manifest, let first = manifest.differences(from: base).first {
            throw ProcessFailure(
                .configuration, "\(model) is not the base model of \(archive.path): \(first); give the model that the run began with")
        }
        var basis: [UInt8]?
        for case .basis(let bytes) in archive.entries.lazy.map(\.record) { basis = bytes }
        try trainer.prepare(archive.summary.spec, basis: basis, TaskContext())
        let found = counts.withLock { $0 }
        let view = try AttackerView(
            of: MachineID(machine), in: archive, bytes: bytes, trainer: trainer, members: found.members,
            divisor: archive.summary.spec.privacy == nil ? found.members : members.count, examples: found.members + found.others)
        let result = Findings(
            knowingTheKind: try view.attack(reference: found.others / 2), knowingTheOthers: view.informedAttack(reference: found.others / 2))
        standardOutput.write(format == .json ? try json(result) : Self.text(result, view))
    }

    /// The results of two attackers.
    private struct Findings: Codable {
        /// He knows other examples of the same kind.
        var knowingTheKind: MembershipResult
        /// He knows all of the machine's other examples.
        var knowingTheOthers: MembershipResult

        enum CodingKeys: String, CodingKey {
            case knowingTheKind = "knowing_the_kind"
            case knowingTheOthers = "knowing_the_others"
        }
    }

    private static func text(_ found: Findings, _ view: AttackerView) -> String {
        let (kind, others) = (found.knowingTheKind, found.knowingTheOthers)
        func row(_ attacker: String, _ result: MembershipResult) -> String {
            """
            who knows \(attacker): area under the curve \(fixed(result.auc, 3)), advantage \(fixed(result.advantage, 3)); \(fixed(100 * result.foundAtOnePercent, 1)) % of the members are found where 1 % of the others are called members
            """
        }
        return """
            \(grouped(view.observed.count)) bytes of \(grouped(view.rounds)) rounds against \(grouped(kind.members)) members and \(grouped(kind.others)) others, by an attacker
              \(row("other examples of the same kind", kind))
              \(row("all of the machine's other examples", others))
            By chance the area is 0.500 ± \(fixed(kind.aucErrorByChance, 3)). The advantage is the largest difference between the parts of members and of others that are called members.
            """
    }
}

/// What the holder of a ledger sees of one machine: its bytes, and what each candidate would have added to them.
struct AttackerView {
    /// The projected gradients that the bytes stand for.
    private(set) var observed: [Double] = []
    /// Variance of the noise on each of them: rounding to a byte, and the run's own noise.
    private(set) var noise: [Double] = []
    private(set) var rounds = 0
    /// The candidates' projected gradients along the same directions: the members first.
    private var vectors: [[Float]]
    private let members: Int
    private let divisor: Int

    /// - Parameters:
    ///   - trainer: is prepared for the run; its parameters are the base's.
    ///   - members: number of members, which are the trainer's first examples.
    ///   - divisor: the number by which the machine divides a sum over its members. In a private run records that say nothing count too.
    ///   - examples: number of all of the trainer's examples.
    /// - Throws: `ProcessFailure` if the machine has no bytes; errors from the trainer.
    init(
        of machine: MachineID, in archive: LedgerArchive, bytes wanted: Int, trainer: LanguageModelTrainer, members: Int, divisor: Int,
        examples: Int
    ) throws {
        self.members = members
        self.divisor = divisor
        vectors = Array(repeating: [], count: examples)
        var counts: [RoundNumber: Int] = [:]
        for case .round(let round) in archive.entries.lazy.map(\.record) {
            let count = round.contributions.filter { $0.machine == machine }.reduce(0) { $0 + $1.validCount }
            if count > 0 { counts[round.round] = count }
        }
        let numbers = counts.keys.sorted()
        guard let some = numbers.first.flatMap({ counts[$0] }), let last = numbers.last else {
            throw ProcessFailure(.usage, "\(archive.path): machine \(machine.rawValue) has no bytes with a value")
        }
        let number = min(numbers.count, max(1, wanted / some))
        let chosen = Set((0..<number).map { numbers[$0 * numbers.count / number] })
        var history = EffectiveHistory()
        var changes: [HistoryChange] = []
        for entry in archive.entries {
            if case .round(let round) = entry.record, chosen.contains(round.round) {
                try trainer.apply(changes)
                changes = []
                for contribution in round.contributions where contribution.machine == machine {
                    try look(at: contribution, of: round, archive.summary.spec.privacy, trainer)
                }
                rounds += 1
            }
            if case .round(let round) = entry.record, round.round == last { break }
            changes += try history.fold(entry.record)
        }
    }

    private mutating func look(
        at contribution: Contribution, of round: RoundRecord, _ privacy: Privacy?, _ trainer: LanguageModelTrainer
    ) throws {
        let valid = contribution.bytes.indices.filter { contribution.bytes[$0] != Contribution.noValue }
        let unit = Double(sign: .plus, exponent: Int(round.scaleExponent), significand: 1)
        let length = privacy.map { $0.clip * Double(contribution.bytes.count).squareRoot() }
        let deviation = (length ?? 0) * (privacy?.noiseMultiplier ?? 0) / Double(divisor)
        let first = contribution.firstSample
        let (last, overflow) = first.addingReportingOverflow(SampleNumber(clamping: contribution.bytes.count))
        guard !overflow else { return }
        for i in valid {
            observed.append(Double(contribution.bytes[i]) * unit)
            noise.append(unit * unit / 12 + deviation * deviation)
        }
        try trainer.visitExamples(Array(vectors.indices), machine: contribution.machine, samples: first..<last) { example, gradients in
            let size = gradients.reduce(0) { $0 + $1 * $1 }.squareRoot()
            // As in `ClippedSum`, a vector that is not finite counts as zeros.
            let factor = gradients.allSatisfy(\.isFinite) ? length.map { min(1, $0 / max(size, .leastNormalMagnitude)) } ?? 1 : 0
            for i in valid { vectors[example].append(factor > 0 ? Float(gradients[i] * factor) : 0) }
        }
    }

    /// The attacker who knows all of the machine's other examples.
    ///
    /// - Parameter reference: number of examples after the members to leave out, so that both attackers judge the same ones.
    func informedAttack(reference: Int) -> MembershipResult {
        let test = InformedMembershipTest(observed: observed, noise: noise, members: vectors[..<members], count: divisor)
        return MembershipResult(
            members: vectors[..<members].map { test.score($0, isMember: true) },
            others: vectors[(members + reference)...].map { test.score($0, isMember: false) })
    }

    /// - Parameter reference: number of the first examples after the members that the attacker knows.
    func attack(reference: Int) throws -> MembershipResult {
        let known = vectors[members..<members + reference].flatMap { $0 }
        let test = try MembershipTest(observed: observed, noise: noise, reference: known, count: divisor)
        return MembershipResult(
            members: vectors[..<members].map { test.score($0) }, others: vectors[(members + reference)...].map { test.score($0) })
    }
}
