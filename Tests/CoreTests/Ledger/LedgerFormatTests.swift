import Core
import Foundation
import Simulator
import TestSupport
import Testing

@Suite struct LedgerFormatTests {
    /// The records that Fixtures/ledger_reader.py, written from docs/reference/ledger.md alone, puts into its fixture.
    private static let expected: [LedgerRecord] = {
        func digest(_ byte: UInt8) -> Digest { Digest(bytes: [UInt8](repeating: byte, count: 32))! }
        func session(_ byte: UInt8) -> SessionFingerprint { SessionFingerprint(bytes: [UInt8](repeating: byte, count: 16))! }
        func round(_ number: UInt32, _ s: Int8, _ m: UInt16, _ e: Int8, _ parts: [(UInt32, UInt32, [Int8])]) -> LedgerRecord {
            .round(
                RoundRecord(
                    round: number, scaleExponent: s, step: StepSize(multiplier: m, exponent: e),
                    contributions: parts.map { Contribution(machine: MachineID($0.0), firstSample: $0.1, bytes: $0.2) }))
        }
        return [
            .baseManifest(
                BaseManifest(entries: [
                    .init(name: "model.norm.weight", shape: .vector(576), digest: digest(0xCD)),
                    .init(
                        name: "model.layers.29.mlp.down_proj.weight", shape: .matrix(rows: 576, columns: 1536), digest: digest(0xAB)),
                ])!),
            .basis([0, 1, 2, 3, 4, 5, 6]),
            .admission(
                Admission(
                    machine: MachineID(1), unixSeconds: 1_700_000_000, trains: true, evaluates: false, name: "größe",
                    session: session(0x11))),
            .admission(
                Admission(
                    machine: MachineID(300), unixSeconds: 1_700_000_001, trains: true, evaluates: true, name: "b",
                    session: session(0x22), publicKey: Array("key".utf8))),
            // The contributions are not in order. The ledger sorts them.
            round(0, -3, 40000, -20, [(300, 0, [-128, -127, 0]), (1, 0, [1, -2, 127])]),
            round(1, 2, 65535, 127, [(300, 200, [10]), (1, 3, [5, 6, 7]), (300, 3, [8, 9])]),
            .digest(DigestRecord(round: 2, position: 7, digest: digest(0xEE), machines: [MachineID(1), MachineID(300)])),
            .retraction(Retraction(machine: MachineID(300), rounds: 0..<2)),
            .rewind(Rewind(round: 1, rateShift: -1)),
            .validation(Validation(round: 2, position: 9, examples: 500, loss: 0.75, accuracy: 0.5, isTrialOver: true)),
            .rewind(Rewind(round: 1, rateShift: 0, isFinal: true)),
            .departure(Departure(machine: MachineID(300), unixSeconds: 1_700_000_002, reason: .lost)),
            round(2, 0, 0, 0, [(1, 100000, [-128])]),
            .end(RunEnd(unixSeconds: 1_700_000_003)),
        ]
    }()

    private static let expectedSpec = RunSpec(
        seed: 0x0123_4567_89AB_CDEF, train: ["layers.29"], dampedComponents: 4, basisDigest: .sha256([0, 1, 2, 3, 4, 5, 6]),
        learningRate: 0.04, rounds: 3, samplesPerRound: 6,
        task: TaskSpec(
            kind: .classification, template: "{text} It was",
            labels: [LabelWord(label: "0", word: " terrible"), LabelWord(label: "1", word: " great")], maxLength: 64),
        digestEvery: 2, minimumWorkers: 2, staleness: 1)

    @Test("Our ledger has the bytes of the second implementation, bit for bit")
    func fixture() throws {
        let theirs = try Samples.fixture("ledger-v1.bin")
        #expect(try Samples.ledger(Self.expectedSpec, Self.expected, format: 1) == theirs)
    }

    @Test("The second implementation's bytes decode to the same records, in pieces of any size")
    func readFixture() throws {
        let bytes = try Samples.fixture("ledger-v1.bin")
        let all = try Samples.entries(of: bytes)
        #expect(all.count == Self.expected.count + 1)
        #expect(all.last?.position.offset == UInt64(bytes.count))
        #expect(all.last?.position.chain.description == "6549be2cd854cfee40821e99278d13162c1a415778e3f64eda6e0066e95a7728")
        let summary = try Samples.summary(of: bytes)
        #expect(summary.spec == Self.expectedSpec)
        #expect(summary.isEnded && summary.nextRound == 3 && summary.nextMachine == MachineID(301) && summary.rateShift == -1)
        for size in [1, 7, 16, 1000] {
            var decoder = LedgerDecoder()
            var entries: [LedgerEntry] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                decoder.push(bytes[start..<min(bytes.count, start + size)])
                while let entry = try decoder.next() { entries.append(entry) }
            }
            #expect(entries == all)
        }
    }

    @Test("The second implementation reads our ledgers", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")))
    func pythonReadsOurs() throws {
        var random = SeededRandom(seed: 1)
        let records: [LedgerRecord] =
            [.baseManifest(Samples.base), Samples.admission(1), Samples.admission(2)]
            + (0..<30).map { .round(Samples.randomRound($0, &random)) } + [
                .validation(Validation(round: 30, position: 34, examples: 5, loss: 1, accuracy: .nan, noise: 0.25, moved: .nan)),
                .retraction(Retraction(machine: MachineID(100), rounds: 0..<20)), .restoration(Restoration(machine: MachineID(100), rounds: 5..<9)),
                .end(RunEnd(unixSeconds: 1)), .rewind(Rewind(round: 28, rateShift: 0)),
            ]
        let bytes = try Samples.ledger(Samples.spec(rounds: 30), records)
        let file = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).ledger")
        try Data(bytes).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        func read(_ command: String) throws -> String {
            let process = Process()
            process.executableURL = URL(filePath: "/usr/bin/python3")
            process.arguments = [Samples.fixtureURL("ledger_reader.py").path(), command, file.path()]
            let pipe = Pipe()
            process.standardOutput = pipe
            try process.run()
            let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(process.terminationStatus == 0)
            return output
        }
        let chain = try #require(try Samples.entries(of: bytes).last?.position.chain)
        #expect(try read("verify") == "\(records.count + 1) records, chain \(chain)\n")
        // Both readers find the same history.
        var history = EffectiveHistory()
        for entry in try Samples.entries(of: bytes) { _ = try history.fold(entry.record) }
        struct Theirs: Decodable {
            struct Part: Decodable { let machine: UInt32, first: UInt32, q: [Int8] }
            let round: UInt32
            let contributions: [Part]
        }
        let theirs = try read("effective").split(separator: "\n").map { try JSONDecoder().decode(Theirs.self, from: Data($0.utf8)) }
        #expect(theirs.map(\.round) == history.rounds.map(\.round) && theirs.count == 28)
        #expect(
            theirs.map { $0.contributions.map { Contribution(machine: MachineID($0.machine), firstSample: $0.first, bytes: $0.q) } }
                == history.rounds.map(\.contributions))
    }

    @Test("Every flipped bit is noticed")
    func flips() throws {
        let bytes = try Samples.fixture("ledger-v1.bin")
        let all = try Samples.entries(of: bytes)
        for bit in 0..<8 * bytes.count {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            var decoder = LedgerDecoder()
            decoder.push(damaged)
            var entries: [LedgerEntry] = []
            do {
                while let entry = try decoder.next() { entries.append(entry) }
                // A length that now points beyond the end looks unfinished.
                #expect(entries.count < all.count, "bit \(bit)")
            } catch {}
            #expect(entries == Array(all.prefix(entries.count)), "bit \(bit)")
        }
    }

    @Test("A ledger cut anywhere gives its whole records and no error")
    func cuts() throws {
        let bytes = try Samples.fixture("ledger-v1.bin")
        let all = try Samples.entries(of: bytes)
        for cut in 0..<bytes.count {
            let entries = try Samples.entries(of: Array(bytes[..<cut]))
            #expect(entries == all.filter { $0.position.offset <= UInt64(cut) })
            let end = Int(entries.last?.position.offset ?? 0)
            if end > 0 { #expect(!LedgerFormat.holdsRecord(bytes[end..<cut].dropFirst())) }
        }
    }

    @Test("What follows a bad record tells damage from a torn append")
    func damage() throws {
        let bytes = try Samples.fixture("ledger-v1.bin")
        let all = try Samples.entries(of: bytes)
        for entry in all.dropLast() {
            var damaged = bytes
            damaged[Int(entry.offset) + 2] ^= 0x10
            #expect(LedgerFormat.holdsRecord(damaged[(Int(entry.offset) + 1)...]))
        }
    }

    @Test("Random records survive encoding", arguments: 0..<20)
    func roundTrip(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        for _ in 0..<200 {
            let record = Samples.randomRecord(&random)
            let payload = record.payload()
            let back = try LedgerRecord(kind: record.kind.rawValue, payload: payload)
            if case .round(let round) = record, case .round(let read) = back {
                #expect(Set(round.contributions) == Set(read.contributions))
                #expect(back.payload() == payload)
            } else {
                #expect(back == record)
            }
        }
    }

    @Test("Random and damaged payloads give errors, never a crash", arguments: 0..<20)
    func fuzz(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        for _ in 0..<2000 {
            var kind = UInt8.random(in: 0...12, using: &random)
            var payload = random.bytes(Int.random(in: 0...60, using: &random))
            if Bool.random(using: &random) {
                let record = Samples.randomRecord(&random)
                (kind, payload) = (record.kind.rawValue, record.payload())
                for _ in 0..<Int.random(in: 1...4, using: &random) where !payload.isEmpty {
                    payload[Int.random(in: 0..<payload.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
                if Bool.random(using: &random) { payload.removeLast(Int.random(in: 0...payload.count, using: &random)) }
            }
            if let record = try? LedgerRecord(kind: kind, payload: payload) {
                // Every payload that is understood has one spelling.
                #expect(record.payload() == payload)
            }
        }
    }

    @Test("A validation has both noise and movement or neither, and each is an amount or unknown")
    func validationNumbers() throws {
        func record(_ noise: Double, _ moved: Double) -> LedgerRecord {
            .validation(Validation(round: 2, position: 9, examples: 5, loss: 1, accuracy: .nan, noise: noise, moved: moved))
        }
        func read(_ payload: some Sequence<UInt8>) throws -> LedgerRecord {
            try LedgerRecord(kind: LedgerRecord.Kind.validation.rawValue, payload: Array(payload))
        }
        for (noise, moved) in [(0.25, 0.5), (0.25, .nan), (.nan, 0.5), (0, 1e12), (.nan, .nan)] as [(Double, Double)] {
            let payload = record(noise, moved).payload()
            #expect(try read(payload) == record(noise, moved))
            #expect(try read(payload).payload() == payload)
        }
        for value in [.infinity, -.infinity, 1e300, 1.01e12, -0.5] as [Double] {
            #expect(throws: WireError.self) { try read(record(value, 0.5).payload()) }
            #expect(throws: WireError.self) { try read(record(0.5, value).payload()) }
            // A coordinator does not continue such a ledger.
            let ledger = try Samples.ledger(Samples.spec(), [.baseManifest(Samples.base), record(.nan, value)])
            #expect(throws: (any Error).self) { try Samples.entries(of: ledger) }
        }
        #expect(throws: WireError.self) { try read(record(0.25, 0.5).payload().dropLast(8)) }
        let unknown = withUnsafeBytes(of: Double.nan.bitPattern.littleEndian) { Array($0) }
        #expect(throws: WireError.self) { try read(record(.nan, .nan).payload() + unknown) }
        #expect(throws: WireError.self) { try read(record(.nan, .nan).payload() + unknown + unknown) }
    }

    @Test("A count that asks for more than its bytes is refused before memory is taken")
    func hostileCounts() {
        let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F]
        #expect(throws: WireError.self) { try LedgerRecord(kind: 2, payload: huge) }
        #expect(throws: WireError.self) { try LedgerRecord(kind: 6, payload: [0, 0, 0, 0x80, 0] + huge) }
        #expect(throws: WireError.self) { try LedgerRecord(kind: 6, payload: [0, 0, 0, 0x80, 0, 1, 1] + huge + huge) }
        #expect(throws: LedgerError.notALedger) { try Samples.entries(of: Array("PK\u{3}\u{4}".utf8)) }
    }

    @Test("A spec without a command is spelt as before, one with a command reads back, and its two fields require each other")
    func specOfACommand() throws {
        var spec = Samples.spec()
        let plain = String(decoding: try spec.canonicalBytes(), as: UTF8.self)
        #expect(!plain.contains("writing") && !plain.contains("objective"))
        spec.task.objective = .command
        #expect(throws: RunSpecError.self) { try spec.validate() }
        spec.task.writing = Writing(maxTokens: 8, stopsAtNewline: true)
        let bytes = try spec.canonicalBytes()
        #expect(try RunSpec(canonicalBytes: bytes) == spec)
        #expect(String(decoding: bytes, as: UTF8.self).contains(#""objective":"command","writing":{"maxTokens":8,"stopsAtNewline":true}"#))
        spec.task.writing?.maxTokens = 0
        #expect(throws: RunSpecError.self) { try spec.validate() }
        spec.task = TaskSpec(kind: .text, maxLength: 8, writing: Writing())
        #expect(throws: RunSpecError.self) { try spec.validate() }
    }
}
