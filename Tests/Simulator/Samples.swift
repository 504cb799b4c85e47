import Core
import TestSupport

/// Specs, records and ledgers for tests.
package enum Samples {
    package static func spec(
        rounds: Int = 10, samplesPerRound: Int = 6, minimumWorkers: Int = 1, digestEvery: Int = 3, evaluateEvery: Int = 4,
        roundDeadlineFactor: Double = 0, staleness: Int = 0, roundSeconds: Double? = nil,
        steering: Steering? = nil
    ) -> RunSpec {
        RunSpec(
            seed: 7, train: ["all"], learningRate: 0.01, rounds: rounds, samplesPerRound: samplesPerRound,
            task: TaskSpec(kind: .text, maxLength: 16), digestEvery: digestEvery, evaluateEvery: evaluateEvery,
            minimumWorkers: minimumWorkers, roundDeadlineFactor: roundDeadlineFactor, staleness: staleness,
            roundSeconds: roundSeconds, steering: steering)
    }

    package static let base = BaseManifest(entries: [
        .init(name: "a.weight", shape: .matrix(rows: 3, columns: 5), digest: .sha256([1])),
        .init(name: "b.weight", shape: .vector(4), digest: .sha256([2])),
    ])!

    package static func session(_ number: UInt8) -> SessionToken {
        SessionToken(bytes: [UInt8](repeating: number, count: SessionToken.byteCount))!
    }

    package static func admission(_ machine: UInt32, trains: Bool = true) -> LedgerRecord {
        .admission(
            Admission(
                machine: MachineID(machine), unixSeconds: 1, trains: trains, evaluates: !trains, name: "m\(machine)",
                session: session(UInt8(truncatingIfNeeded: machine)).fingerprint))
    }

    package static func round(_ number: RoundNumber, _ contributions: [(UInt32, UInt32, [Int8])]) -> LedgerRecord {
        .round(
            RoundRecord(
                round: number, scaleExponent: 0, step: StepSize(multiplier: 40000, exponent: -20),
                contributions: contributions.map { Contribution(machine: MachineID($0.0), firstSample: $0.1, bytes: $0.2) }))
    }

    /// Returns the bytes of a ledger of these records, after its spec.
    package static func ledger(_ spec: RunSpec, _ records: [LedgerRecord], format: UInt32 = LedgerFormat.version) throws -> [UInt8] {
        let canonical = try spec.canonicalBytes()
        var bytes = LedgerFormat.header(specDigest: .sha256(canonical), version: format)
        var position = LedgerFormat.start(header: bytes)
        for record in [.spec(canonical)] + records {
            let (more, next) = position.appending(record)
            bytes += more
            position = next
        }
        return bytes
    }

    package static func entries(of bytes: [UInt8]) throws -> [LedgerEntry] {
        var decoder = LedgerDecoder()
        decoder.push(bytes)
        var entries: [LedgerEntry] = []
        while let entry = try decoder.next() { entries.append(entry) }
        return entries
    }

    package static func summary(of bytes: [UInt8]) throws -> LedgerSummary {
        let entries = try entries(of: bytes)
        var summary = try LedgerSummary(first: entries[0])
        for entry in entries.dropFirst() { try summary.fold(entry) }
        return summary
    }

    package static func randomRecord(_ random: inout SeededRandom) -> LedgerRecord {
        let machine = MachineID(UInt32.random(in: 1...300, using: &random))
        switch Int.random(in: 0..<9, using: &random) {
        case 0: return .basis(random.bytes(Int.random(in: 0...40, using: &random)))
        case 1:
            let entries = (0..<Int.random(in: 0...5, using: &random)).map { index in
                BaseManifest.Entry(
                    name: "tensor.\(index)",
                    shape: Bool.random(using: &random)
                        ? .vector(Int.random(in: 0...9999, using: &random)) : .matrix(rows: index, columns: 300),
                    digest: random.digest())
            }
            return .baseManifest(BaseManifest(entries: entries)!)
        case 2: return admission(machine.rawValue, trains: Bool.random(using: &random))
        case 3:
            return .departure(
                Departure(
                    machine: machine, unixSeconds: random.next(), reason: Departure.Reason.allCases.randomElement(using: &random)!))
        case 4:
            let lower = UInt32.random(in: 0...100, using: &random)
            return .retraction(Retraction(machine: machine, rounds: lower..<lower + UInt32.random(in: 0...9, using: &random)))
        case 5:
            return .rewind(
                Rewind(round: machine.rawValue, rateShift: Int8.random(in: -128...127, using: &random), isFinal: Bool.random(using: &random)))
        case 7:
            return .validation(
                Validation(
                    round: machine.rawValue, position: random.next() >> 20, examples: 500,
                    loss: Double.random(in: 0...9, using: &random), accuracy: .nan, isTrialOver: Bool.random(using: &random)))
        case 6:
            return .digest(
                DigestRecord(
                    round: machine.rawValue, position: random.next() >> 20, digest: random.digest(),
                    machines: [1, 5, 300].map { MachineID($0) }))
        default: return .round(randomRound(machine.rawValue, &random))
        }
    }

    package static func randomRound(_ number: RoundNumber, _ random: inout SeededRandom) -> RoundRecord {
        var contributions: [Contribution] = []
        for machine in 1...UInt32.random(in: 1...4, using: &random) {
            let count = Int.random(in: 1...20, using: &random)
            contributions.append(
                Contribution(
                    machine: MachineID(machine * 100), firstSample: UInt32.random(in: 0...100_000, using: &random),
                    bytes: random.bytes(count).map { Int8(bitPattern: $0) }))
        }
        return RoundRecord(
            round: number, scaleExponent: Int8.random(in: -128...127, using: &random),
            step: StepSize(
                multiplier: UInt16.random(in: 32768...65535, using: &random), exponent: Int8.random(in: -128...127, using: &random)),
            contributions: contributions.shuffled(using: &random))
    }
}
