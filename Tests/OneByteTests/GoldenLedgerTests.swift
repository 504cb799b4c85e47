import Core
import Foundation
import LanguageModel
import Testing

/// Specs and ledgers made by earlier versions, with their digests (Fixtures/golden/make_golden.sh and make_golden_3.sh).
struct Golden: Decodable, Sendable {
    struct Spec: Decodable, Sendable, CustomTestStringConvertible {
        var name: String
        /// SHA-256 of the canonical bytes.
        var sha256: String
        var testDescription: String { name }
        func bytes() throws -> [UInt8] { try Golden.bytes("specs/\(name).json") }
    }

    struct Ledger: Decodable, Sendable, CustomTestStringConvertible {
        struct Replayed: Decodable, Sendable {
            var round: RoundNumber
            /// Digest of the parameters before `round`.
            var digest: String
        }

        var name: String
        /// Name of the base model, in the fixtures of the language model's tests.
        var model: String
        /// SHA-256 of the canonical spec.
        var sha256: String
        var records: UInt64
        /// Hash chain after the last record.
        var chain: String
        /// Two digests in the middle and the last one.
        var digests: [Replayed]

        var testDescription: String { name }
        var path: String { "\(Golden.directory)/\(name)/ledger" }
        var base: String { Binary.packageRoot.appending(path: "Tests/LanguageModelTests/Fixtures/\(model)").path }
        func bytes() throws -> [UInt8] { try Golden.bytes("\(name)/ledger") }
        func spec() throws -> [UInt8] { try Golden.bytes("\(name)/spec.json") }
    }

    var specs: [Spec]
    var ledgers: [Ledger]

    static let directory = Binary.packageRoot.appending(path: "Tests/OneByteTests/Fixtures/golden").path
    /// Empty if a file can't be read; a test then fails.
    static let all: Golden = {
        let sets = ["golden.json", "golden-3.json"].compactMap { try? JSONDecoder().decode(Golden.self, from: Data(bytes($0))) }
        return sets.count == 2 ? Golden(specs: sets.flatMap(\.specs), ledgers: sets.flatMap(\.ledgers)) : Golden(specs: [], ledgers: [])
    }()

    static func bytes(_ name: String) throws -> [UInt8] { try [UInt8](Data(contentsOf: URL(filePath: "\(directory)/\(name)"))) }
}

/// Base and bytes give the model for as long as anybody keeps a ledger. So a ledger of an earlier version must give the same parameters
/// forever, whatever is renamed, moved or made faster.
@Suite struct GoldenLedgerTests {
    /// A decoded ledger of `golden`, with its base model's parameters on which it is replayed.
    private struct Run {
        let entries: [LedgerEntry]
        let summary: LedgerSummary
        let parameters: Parameters
        let directions: Directions

        init(_ golden: Golden.Ledger) throws {
            entries = try GoldenLedgerTests.entries(of: golden.bytes())
            var summary = try LedgerSummary(first: try #require(entries.first))
            var basis: RunBasis?
            for entry in entries.dropFirst() {
                try summary.fold(entry)
                if case .basis(let bytes) = entry.record { basis = try RunBasis(decoding: bytes) }
            }
            self.summary = summary
            let source = try ModelSource.open(golden.base)
            #expect(source.baseManifest(threads: 1) == summary.base)
            parameters = try source.makeParameters(source.trainedTensors(matching: summary.spec.train, basis: basis))
            directions = try Directions(summary.spec, tensors: parameters.tensors)
        }

        func perform(_ changes: [HistoryChange]) {
            for change in changes {
                switch change {
                case .apply(let round): parameters.apply([round], directions: directions, threads: 1)
                case .revert(let round): parameters.revert(round, directions: directions, threads: 1)
                case .replace(let old, let new): parameters.replace(old, with: new, directions: directions, threads: 1)
                }
            }
        }
    }

    private static func entries(of bytes: [UInt8]) throws -> [LedgerEntry] {
        var decoder = LedgerDecoder()
        decoder.push(bytes)
        var entries: [LedgerEntry] = []
        while let entry = try decoder.next() { entries.append(entry) }
        #expect(decoder.unread == 0)
        return entries
    }

    /// Returns the rounds that determine the parameters before `round`. Records from that round on do not count, except retractions and
    /// restorations of earlier rounds.
    private static func history(_ entries: [LedgerEntry], before round: RoundNumber) throws -> [RoundRecord] {
        var history = EffectiveHistory()
        var isThere = false
        for entry in entries {
            if case .round(let record) = entry.record, record.round >= round { isThere = true }
            if !isThere {
                _ = try history.fold(entry.record)
            } else {
                switch entry.record {
                case .retraction(let record):
                    _ = try history.fold(.retraction(Retraction(machine: record.machine, rounds: record.rounds.clamped(to: 0..<round))))
                case .restoration(let record):
                    _ = try history.fold(.restoration(Restoration(machine: record.machine, rounds: record.rounds.clamped(to: 0..<round))))
                default: break
                }
            }
        }
        #expect(history.nextRound == round)
        return history.rounds
    }

    @Test("The golden ledgers hold every kind of record and every family of directions")
    func covered() throws {
        var kinds: Set<LedgerRecord.Kind> = []
        var families: Set<PerturbationFamily> = []
        var rewindsBeforeRetraction = 0
        for golden in Golden.all.ledgers {
            let entries = try Self.entries(of: golden.bytes())
            kinds.formUnion(entries.map(\.record.kind))
            families.insert(try LedgerSummary(first: #require(entries.first)).spec.perturbation)
            let last = entries.last { $0.record.kind == .retraction }
            if let last, entries.contains(where: { $0.record.kind == .rewind && $0.index < last.index }) { rewindsBeforeRetraction += 1 }
        }
        #expect(kinds == Set(LedgerRecord.Kind.allCases))
        #expect(families == Set(PerturbationFamily.allCases))
        #expect(rewindsBeforeRetraction > 0)
    }

    @Test("An earlier version's ledger decodes, and its records encode to the same file", arguments: Golden.all.ledgers)
    func decodes(golden: Golden.Ledger) throws {
        let bytes = try golden.bytes()
        let entries = try Self.entries(of: bytes)
        #expect(UInt64(entries.count) == golden.records)
        #expect(entries.last?.position.chain.description == golden.chain)
        let spec = try golden.spec()
        #expect(entries.first?.record == .spec(spec))
        var again = LedgerFormat.header(specDigest: .sha256(spec), version: try #require(entries.first).format)
        var position = LedgerFormat.start(header: again)
        for entry in entries {
            let (bytes, next) = position.appending(entry.record)
            again += bytes
            position = next
        }
        #expect(again == bytes)
    }

    @Test("The spec of an earlier version's run encodes to the same bytes, so that the run keeps its name", arguments: Golden.all.ledgers)
    func spec(golden: Golden.Ledger) throws {
        let bytes = try golden.spec()
        let spec = try RunSpec(canonicalBytes: bytes)
        #expect(try spec.canonicalBytes() == bytes)
        #expect(try spec.digest().description == golden.sha256)
    }

    @Test("An earlier version's ledger replays to the same digests, in the middle and at the end", arguments: Golden.all.ledgers, [1, 3])
    func replays(golden: Golden.Ledger, threads: Int) throws {
        #expect(Set(golden.digests.map(\.digest)).count == golden.digests.count, "rounds that change nothing prove nothing")
        for replayed in golden.digests {
            let run = try Run(golden)
            run.parameters.apply(try Self.history(run.entries, before: replayed.round), directions: run.directions, threads: threads)
            #expect(run.parameters.digest(threads: threads).description == replayed.digest, "before round \(replayed.round)")
        }
    }

    @Test("Followed record by record, an earlier version's ledger gives every digest that its machines reported", arguments: Golden.all.ledgers)
    func follows(golden: Golden.Ledger) throws {
        let run = try Run(golden)
        let reported = run.entries.reduce(into: [UInt64: [Digest]]()) { reported, entry in
            if case .digest(let record) = entry.record { reported[record.position, default: []].append(record.digest) }
        }
        #expect(!reported.isEmpty)
        var history = EffectiveHistory()
        var seen = 0
        for entry in run.entries {
            run.perform(try history.fold(entry.record))
            for digest in reported[entry.position.records] ?? [] {
                #expect(run.parameters.digest() == digest, "after \(entry.position.records) records")
                seen += 1
            }
        }
        #expect(seen == reported.values.reduce(0) { $0 + $1.count })
        #expect(run.parameters.digest().description == golden.digests.last?.digest)
    }

    @Test("The program verifies an earlier version's ledger and replays it to the same digests", arguments: Golden.all.ledgers)
    func program(golden: Golden.Ledger) async throws {
        let verified = try await Binary.run("ledger", "verify", golden.path, "--base", golden.base)
        #expect(verified.status == 0, "\(verified.errors)")
        #expect(verified.output.contains("chain \(golden.chain)\n"), "\(verified.output)")
        for replayed in golden.digests {
            let found = try await Binary.run("ledger", "replay", golden.path, "--model", golden.base, "--at-round", "\(replayed.round)")
            #expect(found.status == 0 && found.output == replayed.digest + "\n", "before round \(replayed.round): \(found)")
        }
    }
}
