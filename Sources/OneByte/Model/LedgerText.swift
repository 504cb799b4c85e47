import Core
import Foundation

/// A summary of a ledger in a few lines.
struct LedgerFacts: Codable {
    var path: String
    var records: UInt64
    var bytes: UInt64
    var rounds: Int
    var roundsInForce: Int
    var samples: UInt64
    /// Number of admissions, including evaluators.
    var machines: Int
    var machineList: [LedgerMachine]
    var digest: String?
    var digestRound: Int?
    var bestRound: Int?
    var isComplete: Bool
    var unreadBytes: Int
    /// What the bytes have revealed; nil if the run is not private.
    var privacy: PrivacyReport?
    var chain: String
    var specDigest: String
    var spec: RunSpec

    init(_ archive: LedgerArchive) {
        let summary = archive.summary
        path = archive.path
        records = summary.position.records
        bytes = summary.position.offset
        rounds = Int(archive.history.nextRound)
        roundsInForce = archive.history.rounds.count
        samples = summary.samples
        machines = Int(summary.nextMachine.rawValue) - 1
        machineList = archive.machines
        digest = archive.lastDigest?.digest.description
        digestRound = archive.lastDigest.map { Int($0.round) }
        bestRound = summary.steering.best.map { Int($0.round) }
        isComplete = summary.isEnded
        unreadBytes = archive.unreadBytes
        privacy = PrivacyReport(archive)
        chain = summary.position.chain.description
        specDigest = summary.specDigest.description
        spec = summary.spec
    }

    var text: String {
        var lines: [String] = []
        func row(_ name: String, _ value: String) {
            lines.append(name + String(repeating: " ", count: max(1, 16 - name.count)) + value)
        }
        row(
            "ledger",
            "\(path), \(grouped(bytes)) bytes, \(grouped(records)) records\(unreadBytes > 0 ? ", \(unreadBytes) bytes torn off at the end" : "")")
        row("run", "\(specDigest), \(isComplete ? "complete" : "not complete")")
        row(
            "rounds",
            "\(grouped(roundsInForce)) of \(grouped(spec.rounds))\(roundsInForce < rounds ? ", and \(grouped(rounds - roundsInForce)) that were taken back" : "")"
        )
        if let bestRound { row("best round", "\(bestRound), by the validation loss") }
        row("samples", "\(grouped(samples)), one byte each")
        for (index, machine) in machineList.enumerated() { row(index == 0 ? "machines" : "", machine.text) }
        if machineList.isEmpty { row("machines", "none") }
        if let digest, let digestRound { row("digest", "\(digest) at round \(digestRound)") }
        if let privacy { row("privacy", privacy.text) }
        row("chain", chain)
        row("train", spec.train.joined(separator: ", "))
        row("perturbation", "\(spec.perturbation.rawValue)\(spec.dampedComponents > 0 ? ", shape \(spec.dampedComponents)" : ""), ε \(spec.epsilon)")
        row("learning rate", "\(significant(spec.learningRate)), \(spec.schedule.rawValue), warm-up \(spec.warmupRounds)")
        row("round", "\(spec.samplesPerRound) samples of \(spec.batchSize == RunSpecLimits.allExamples ? "all" : "\(spec.batchSize)") examples")
        row("seed", "\(spec.seed)")
        row("task", spec.task.kind.rawValue + (spec.task.template.map { ": \"\($0)\"" } ?? ""))
        for label in spec.task.labels ?? [] { row("", "\(label.label) → \"\(label.word)\"") }
        return lines.joined(separator: "\n")
    }
}

/// A record as one line.
struct LedgerRow {
    private let entry: LedgerEntry

    /// The run's rate from this record on, before its schedule.
    private let learningRate: Double

    init(_ entry: LedgerEntry, learningRate: Double) {
        self.entry = entry
        self.learningRate = learningRate
    }

    /// The record's facts in the order in which they are displayed.
    private var facts: [(name: String, value: String)] {
        switch entry.record {
        case .spec(let bytes): [("bytes", "\(bytes.count)")]
        case .baseManifest(let manifest): [("tensors", "\(manifest.entries.count)")]
        case .basis(let bytes): [("bytes", "\(bytes.count)")]
        case .admission(let admission):
            [
                ("machine", "\(admission.machine.rawValue)"), ("name", admission.name), ("trains", "\(admission.trains)"),
                ("evaluates", "\(admission.evaluates)"), ("time", Self.time(admission.unixSeconds)),
            ] + (admission.signingKey.map { [("key", $0.short)] } ?? [])
                + (admission.data.map { [("examples", "\($0.count)"), ("data", $0.root.short)] } ?? [])
                + (admission.precision.map { [("precision", $0.samples.rawValue), ("prefix-precision", $0.hiddenStates.rawValue)] } ?? [])
        case .departure(let departure):
            [("machine", "\(departure.machine.rawValue)"), ("reason", "\(departure.reason)"), ("time", Self.time(departure.unixSeconds))]
        case .round(let round):
            [
                ("round", "\(round.round)"), ("S", "\(round.scaleExponent)"), ("M", "\(round.step.multiplier)"), ("E", "\(round.step.exponent)"),
                ("samples", "\(round.contributions.reduce(0) { $0 + $1.bytes.count })"),
                ("valid", "\(round.contributions.reduce(0) { $0 + $1.validCount })"),
                ("machines", round.contributions.map { "\($0.machine.rawValue)" }.joined(separator: ",")),
            ]
        case .digest(let digest):
            [
                ("round", "\(digest.round)"), ("digest", "\(digest.digest)"),
                ("machines", digest.machines.map { "\($0.rawValue)" }.joined(separator: ",")),
            ]
        case .retraction(let retraction):
            [("machine", "\(retraction.machine.rawValue)"), ("rounds", "\(retraction.rounds.lowerBound)–\(retraction.rounds.upperBound)")]
        case .restoration(let restoration):
            [("machine", "\(restoration.machine.rawValue)"), ("rounds", "\(restoration.rounds.lowerBound)–\(restoration.rounds.upperBound)")]
        case .rewind(let rewind): [("round", "\(rewind.round)"), ("learningRate", "\(learningRate)"), ("final", "\(rewind.isFinal)")]
        case .validation(let validation):
            [
                ("round", "\(validation.round)"), ("examples", "\(validation.examples)"), ("loss", "\(validation.loss)"),
                ("accuracy", "\(validation.accuracy)"), ("trial", "\(validation.isTrialOver)"), ("noise", "\(validation.noise)"),
                ("moved", "\(validation.moved)"),
            ]
        case .end(let end): [("time", Self.time(end.unixSeconds))]
        case .signature(let signature): [("signer", "\(signature.signer)")]
        case .witnesses(let witnesses): [("machines", witnesses.entries.map { "\($0.machine.rawValue)" }.joined(separator: ","))]
        }
    }

    var text: String {
        "\(entry.index) \(entry.record.kind) " + facts.map { "\($0.name)=\(printable($0.value, onOneLine: true))" }.joined(separator: " ")
    }

    func json() throws -> String {
        var object = Dictionary(uniqueKeysWithValues: facts.map { ($0.name, $0.value) })
        object["index"] = "\(entry.index)"
        object["offset"] = "\(entry.offset)"
        object["kind"] = "\(entry.record.kind)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(object), as: UTF8.self)
    }

    private static func time(_ unixSeconds: UInt64) -> String {
        Date(timeIntervalSince1970: Double(unixSeconds)).formatted(.iso8601)
    }
}
