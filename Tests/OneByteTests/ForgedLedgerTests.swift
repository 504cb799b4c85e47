import Core
import Foundation
import LanguageModel
import Signing
import TestSupport
import Testing

/// Forgeries by somebody who holds a ledger's file, and what `onebyte ledger verify` reports.
@Suite struct ForgedLedgerTests {
    /// A ledger of three machines and 30 rounds, with a digest every 5 rounds.
    private static let three = Golden.all.ledgers.first { $0.name == "filter-clip" }
    /// A ledger with rewinds, validations, and digests between them.
    private static let guarded = Golden.all.ledgers.first { $0.name == "guard" }

    private func verify(_ bytes: [UInt8], base: String? = nil, _ more: String...) async throws -> Binary.Outcome {
        let scratch = try Scratch()
        let path = "\(scratch.path)/ledger"
        try Data(bytes).write(to: URL(filePath: path))
        return try await Binary.run(["ledger", "verify", path] + (base.map { ["--base", $0] } ?? []) + more)
    }

    /// A forged ledger, and what `verify` and `verify --base` must report.
    struct Forgery: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// Exit status without and with the base model.
        let status: (alone: Int32, based: Int32)
        let says: (alone: String, based: String)
        let forge: @Sendable (inout ForgedLedger) throws -> Void

        init(
            _ name: String, alone: (status: Int32, says: String), based: (status: Int32, says: String),
            forge: @escaping @Sendable (inout ForgedLedger) throws -> Void
        ) {
            testDescription = name
            status = (alone.status, based.status)
            says = (alone.says, based.says)
            self.forge = forge
        }

        /// Creates a forgery that is noticed without a model.
        init(_ name: String, says: String, forge: @escaping @Sendable (inout ForgedLedger) throws -> Void) {
            self.init(name, alone: (65, says), based: (65, says), forge: forge)
        }
    }

    static let forgeries: [Forgery] = [
        Forgery("one byte of a round", alone: (0, "whole"), based: (65, "the replay gives")) { $0.alterByte(ofRound: 15) },
        Forgery("E of a step three higher", says: "the step") { ledger in
            ledger.alter(round: 15) { round in
                let step = StepSize(multiplier: round.step.multiplier, exponent: round.step.exponent + 3)
                return RoundRecord(round: round.round, scaleExponent: round.scaleExponent, step: step, contributions: round.contributions)
            }
        },
        Forgery("M of a step one higher", says: "the step") { ledger in
            ledger.alter(round: 4) { round in
                let step = StepSize(multiplier: round.step.multiplier + 1, exponent: round.step.exponent)
                return RoundRecord(round: round.round, scaleExponent: round.scaleExponent, step: step, contributions: round.contributions)
            }
        },
        Forgery("S of a round one higher", says: "the step") { ledger in
            ledger.alter(round: 4) {
                RoundRecord(round: $0.round, scaleExponent: $0.scaleExponent + 1, step: $0.step, contributions: $0.contributions)
            }
        },
        Forgery("a byte, and an empty retraction at the end", says: "a retraction of nothing: machine 1") { ledger in
            ledger.alterByte(ofRound: 28)
            ledger.records.append(.retraction(Retraction(machine: MachineID(1), rounds: 0..<0)))
        },
        Forgery("a retraction of a machine that never was", says: "a retraction of nothing: machine 99") {
            $0.records.append(.retraction(Retraction(machine: MachineID(99), rounds: 0..<30)))
        },
        Forgery("the same retraction twice", says: "a retraction of nothing") { ledger in
            guard case .round(let round)? = ledger.place(ofRound: 0).map({ ledger.records[$0] }), let first = round.contributions.first else {
                return
            }
            let retraction = LedgerRecord.retraction(Retraction(machine: first.machine, rounds: 0..<3))
            ledger.records += [retraction, retraction]
        },
        Forgery("all digest records left out", alone: (0, "whole"), based: (79, "nothing could be compared")) { $0.mapDigests { _ in nil } },
        Forgery("those behind the forgery left out", alone: (0, "whole"), based: (79, "nothing could be compared there")) { ledger in
            ledger.alterByte(ofRound: 22)
            ledger.mapDigests { $0.round > 20 ? nil : $0 }
        },
        Forgery("a digest in the middle altered", alone: (0, "whole"), based: (65, "at round 15, the replay gives")) { ledger in
            ledger.mapDigests { digest in
                guard digest.round == 15 else { return digest }
                return DigestRecord(
                    round: digest.round, position: digest.position, digest: Digest.sha256([1]), machines: digest.machines)
            }
        },
        Forgery("a digest of a machine that was never admitted", says: "a digest of machine 99, which was never admitted") { ledger in
            ledger.mapDigests { DigestRecord(round: $0.round, position: $0.position, digest: $0.digest, machines: $0.machines + [MachineID(99)]) }
        },
        Forgery("a digest of a position where nothing changed", says: "where no parameters changed") { ledger in
            ledger.mapDigests { $0.round == 10 ? DigestRecord(round: 10, position: 3, digest: $0.digest, machines: $0.machines) : $0 }
        },
        Forgery("a digest of another round than its position's", says: "where round 10 is next") { ledger in
            ledger.mapDigests { $0.round == 10 ? DigestRecord(round: 9, position: $0.position, digest: $0.digest, machines: $0.machines) : $0 }
        },
        Forgery("a digest that nobody reported", says: "a digest that no machine has reported") { ledger in
            ledger.mapDigests { DigestRecord(round: $0.round, position: $0.position, digest: $0.digest, machines: []) }
        },
        Forgery(
            "cut off behind a round", alone: (0, "no end record: the run goes on, or the ledger was cut"),
            based: (79, "nothing could be compared there")
        ) {
            ledger in
            if let place = ledger.place(ofRound: 16) { ledger.records.removeSubrange((place + 1)...) }
        },
        Forgery("cut off, and an end put behind it", says: "the end of a run that has 17 of its 30 rounds") { ledger in
            if let place = ledger.place(ofRound: 16) { ledger.records.removeSubrange((place + 1)...) }
            ledger.records.append(.end(RunEnd(unixSeconds: 1_700_000_000)))
        },
        Forgery("a validation in a run that has none", says: "a validation in a run that is not steered") { ledger in
            let place = ledger.records.count - 1
            ledger.records.insert(.validation(Validation(round: 0, position: 1, examples: 9, loss: 0.01, accuracy: 0.99)), at: place)
        },
        Forgery("a rewind of nothing", says: "a rewind of nothing") { ledger in
            ledger.records.insert(.rewind(Rewind(round: 30, rateShift: 0)), at: ledger.records.count - 1)
        },
        Forgery("an early end in a run without patience", says: "by patience, which the run has none of") { ledger in
            ledger.records.insert(.rewind(Rewind(round: 20, rateShift: 0, isFinal: true)), at: ledger.records.count - 1)
        },
        Forgery("a machine that was never admitted gives bytes", says: "does not train or is not there") { ledger in
            ledger.alter(round: 12) { round in
                RoundRecord(
                    round: round.round, scaleExponent: round.scaleExponent, step: round.step,
                    contributions: round.contributions + [Contribution(machine: MachineID(99), firstSample: 0, bytes: [1])])
            }
        },
        Forgery("a sample twice", says: "committed twice") { ledger in
            ledger.alter(round: 12) { round in
                let again = round.contributions.map { Contribution(machine: $0.machine, firstSample: 0, bytes: $0.bytes) }
                return RoundRecord(round: round.round, scaleExponent: round.scaleExponent, step: round.step, contributions: again)
            }
        },
        Forgery("more samples than a round gives out", says: "at most 24 were given out") { ledger in
            ledger.alter(round: 29) { round in
                guard let last = round.contributions.last else { return round }
                let longer = Contribution(machine: last.machine, firstSample: last.firstSample, bytes: last.bytes + [0])
                return RoundRecord(
                    round: round.round, scaleExponent: round.scaleExponent, step: round.step,
                    contributions: round.contributions.dropLast() + [longer])
            }
        },
        Forgery("a round left out", says: "where round 12 is next") { ledger in
            if let place = ledger.place(ofRound: 12) { ledger.records.remove(at: place) }
        },
    ]

    @Test("A consistent forgery is noticed as soon as anything contradicts it", arguments: forgeries)
    func consistent(forgery: Forgery) async throws {
        let golden = try #require(Self.three)
        var ledger = try ForgedLedger(golden.bytes())
        #expect(ledger.bytes == (try golden.bytes()), "the forger itself changes nothing")
        try forgery.forge(&ledger)
        #expect(ledger.bytes != (try golden.bytes()))
        let alone = try await verify(ledger.bytes)
        #expect(alone.status == forgery.status.alone, "\(alone)")
        #expect((alone.output + alone.errors).contains(forgery.says.alone), "\(alone)")
        let based = try await verify(ledger.bytes, base: golden.base)
        #expect(based.status == forgery.status.based, "\(based)")
        #expect((based.output + based.errors).contains(forgery.says.based), "\(based)")
    }

    @Test("A damaged byte is noticed by the checksum, or by the hash chain if the checksum was corrected", arguments: [false, true])
    func damaged(mendsChecksum: Bool) async throws {
        let golden = try #require(Self.three)
        let ledger = try ForgedLedger(golden.bytes())
        let place = try #require(ledger.place(ofRound: 15))
        let found = try await verify(ledger.damaged(record: place, at: 9, mendsChecksum: mendsChecksum))
        #expect(found.status == 65, "\(found)")
        #expect(
            found.errors.contains("record \(place) at byte") && found.errors.contains(mendsChecksum ? "hash chain" : "CRC-32C"), "\(found.errors)")
    }

    @Test("A basis that is not the run's is noticed")
    func basis() async throws {
        let golden = try #require(Self.guarded)
        var ledger = try ForgedLedger(golden.bytes())
        let place = try #require(ledger.records.firstIndex { $0.kind == .basis })
        guard case .basis(var bytes) = ledger.records[place] else { return }
        bytes[bytes.count - 1] ^= 1
        ledger.records[place] = .basis(bytes)
        let found = try await verify(ledger.bytes)
        #expect(found.status == 65 && found.errors.contains("a basis that is not the spec's"), "\(found)")
    }

    @Test("Every digest is compared at its own position, before later rewinds and without later retractions")
    func positions() async throws {
        let golden = try #require(Self.guarded)
        let original = try ForgedLedger(golden.bytes())
        let digests = original.records.filter { $0.kind == .digest }.count
        let whole = try await verify(original.bytes, base: golden.base)
        #expect(whole.status == 0 && whole.errors.contains("all \(digests) digests"), "\(whole)")
        // A digest of rounds that were rewound later still states what the parameters were.
        var forged = original
        var isFirst = true
        forged.mapDigests { digest in
            defer { isFirst = false }
            return isFirst ? DigestRecord(round: digest.round, position: digest.position, digest: .sha256([7]), machines: digest.machines) : digest
        }
        let found = try await verify(forged.bytes, base: golden.base)
        #expect(found.status == 65 && found.errors.contains("1 of \(digests) digests"), "\(found)")
    }

    @Test("A forged validation of a steered run passes if the ledger is unsigned, unless its numbers are impossible")
    func validations() async throws {
        let golden = try #require(Self.guarded)
        func forged(_ change: (Validation) -> Validation) throws -> [UInt8] {
            var ledger = try ForgedLedger(golden.bytes())
            let place = try #require(ledger.records.lastIndex { $0.kind == .validation })
            if case .validation(let validation) = ledger.records[place] { ledger.records[place] = .validation(change(validation)) }
            return ledger.bytes
        }
        let plausible = try await verify(
            forged { Validation(round: $0.round, position: $0.position, examples: $0.examples, loss: 0.01, accuracy: 0.99) })
        #expect(plausible.status == 0, "\(plausible)")
        let impossible = try await verify(
            forged { Validation(round: $0.round, position: $0.position, examples: $0.examples, loss: 0.01, accuracy: 1e300) })
        #expect(impossible.status == 65 && impossible.errors.contains("accuracy"), "\(impossible)")
        let elsewhere = try await verify(
            forged { Validation(round: $0.round + 1, position: $0.position, examples: $0.examples, loss: 0.01, accuracy: 0.99) })
        #expect(elsewhere.status == 65 && elsewhere.errors.contains("a validation of round"), "\(elsewhere)")
    }

    @Test("A forged base manifest is reported with the first digits that differ, even if they are the last ones")
    func manifest() async throws {
        let golden = try #require(Self.three)
        var ledger = try ForgedLedger(golden.bytes())
        let place = try #require(ledger.records.firstIndex { $0.kind == .baseManifest })
        guard case .baseManifest(let manifest) = ledger.records[place], let last = manifest.entries.last else { return }
        var digest = last.digest.bytes
        digest[31] ^= 1
        let other = BaseManifest.Entry(name: last.name, shape: last.shape, digest: try #require(Digest(bytes: digest)))
        ledger.records[place] = .baseManifest(try #require(BaseManifest(entries: manifest.entries.dropLast() + [other])))
        let found = try await verify(ledger.bytes, base: golden.base)
        #expect(found.status == 78, "\(found)")
        let digests = last.digest.contrasted(with: other.digest)
        #expect(found.errors.contains("\(digests.own), not \(digests.other)"), "\(found.errors)")
    }

    @Test("A forged byte with recomputed digests is consistent: only a signature could contradict it")
    func recomputed() async throws {
        let golden = try #require(Self.three)
        let forged = try Self.withDigestsRecomputed(golden) { $0.alterByte(ofRound: 15) }
        let found = try await verify(forged.bytes, base: golden.base)
        #expect(found.status == 0, "\(found)")
    }

    /// Returns the ledger that a forger with the base model can make.
    static func withDigestsRecomputed(_ golden: Golden.Ledger, _ forge: (inout ForgedLedger) -> Void) throws -> ForgedLedger {
        var ledger = try ForgedLedger(golden.bytes())
        forge(&ledger)
        return try withDigestsRecomputed(ledger, base: golden.base)
    }

    static func withDigestsRecomputed(_ ledger: ForgedLedger, base: String = Binary.tinyModel) throws -> ForgedLedger {
        var ledger = ledger
        guard case .spec(let bytes)? = ledger.records.first else { return ledger }
        let spec = try RunSpec(canonicalBytes: bytes)
        let source = try ModelSource.open(base)
        let tensors = try source.trainedTensors(matching: spec.train, basis: nil)
        let parameters = try source.makeParameters(tensors)
        let directions = try Directions(spec, tensors: tensors)
        // A digest names the position of its round. The position moves if earlier records are left out, and rounds may stand between the
        // two.
        var history = EffectiveHistory()
        var states: [RoundNumber: (position: UInt64, digest: Digest)] = [0: (1, parameters.digest())]
        for (index, record) in ledger.records.enumerated() {
            parameters.apply(try history.fold(record), directions: directions, threads: 1)
            if record.changesParameters { states[history.nextRound] = (UInt64(index) + 1, parameters.digest()) }
            guard case .digest(let old) = record, let state = states[old.round] else { continue }
            ledger.records[index] = .digest(
                DigestRecord(round: old.round, position: state.position, digest: state.digest, machines: old.machines))
        }
        return ledger
    }
}

/// Tests of signed runs with the real program.
@Suite struct SignedLedgerTests {
    @Test("A run is signed and countersigned; one public key reveals a rewritten history")
    func signed() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let cluster = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--directory", run, "--workers", "2", "--threads", "1", "--train-file", scratch.reviews(),
            "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train", "layers.2", "--damped-components", "none",
            "--rounds", "10", "--samples-per-round", "8", "--digest-every", "5", "--learning-rate", "0.001", "--max-length", "64",
            "--evaluate-every", "0")
        #expect(cluster.status == 0, "\(cluster.errors)")
        let key = try String(contentsOfFile: "\(run)/signing.key.pub", encoding: .utf8).trimmingCharacters(in: .newlines)
        let attributes = try FileManager.default.attributesOfItem(atPath: "\(run)/signing.key")
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let bytes = try [UInt8](Data(contentsOf: URL(filePath: "\(run)/ledger")))
        let original = try ForgedLedger(bytes)
        #expect(original.records.count { $0.kind == .signature } == 3 && original.records.count { $0.kind == .witnesses } == 2)

        let report = try String(contentsOfFile: "\(run)/report.txt", encoding: .utf8)
        #expect(report.contains("signed by \(key)"), "\(report)")
        let json = try String(contentsOfFile: "\(run)/report.json", encoding: .utf8)
        #expect(json.contains("\"signer\" : \"\(key)\""), "\(json)")
        let log = try String(contentsOfFile: "\(run)/logs/worker-1.log", encoding: .utf8)
        #expect(log.contains("signed by \(key)"), "\(log)")

        let trusted = try scratch.file("trusted.pub", "# whom I trust\n\(key) the hospital\n")
        let strangers = try scratch.file("strangers.pub", "\(SigningKey().publicKey) somebody\n")
        func verify(_ ledger: ForgedLedger, _ more: String...) async throws -> Binary.Outcome {
            let path = "\(scratch.path)/forged"
            try Data(ledger.bytes).write(to: URL(filePath: path))
            return try await Binary.run(["ledger", "verify", path] + more)
        }
        let good = try await verify(original, "--base", Binary.tinyModel, "--signers", trusted)
        #expect(good.status == 0 && good.output.contains("(trusted: the hospital)") && good.output.contains("and the end"), "\(good)")
        #expect(good.output.contains("countersigned by machine 1") && good.output.contains("countersigned by machine 2"), "\(good.output)")
        let unknown = try await verify(original, "--signers", strangers)
        #expect(unknown.status == 65 && unknown.errors.contains("none of the 1 trusted keys"), "\(unknown)")

        // One byte is changed and all digests are recomputed; the old signatures belong to another history.
        var forged = original
        forged.alterByte(ofRound: 3)
        forged = try ForgedLedgerTests.withDigestsRecomputed(forged)
        let resigned = try await verify(forged, "--base", Binary.tinyModel)
        #expect(resigned.status == 65 && resigned.errors.contains("a signature of"), "\(resigned)")
        // Without any signature the ledger is consistent…
        forged.records.removeAll { $0.kind == .signature || $0.kind == .witnesses }
        forged = try ForgedLedgerTests.withDigestsRecomputed(forged)
        let bare = try await verify(forged, "--base", Binary.tinyModel)
        #expect(bare.status == 0 && bare.output.contains("nobody vouches"), "\(bare)")
        // …but no trusted key vouches for it, not even if it is signed anew by another key.
        let asked = try await verify(forged, "--base", Binary.tinyModel, "--signers", trusted)
        #expect(asked.status == 65 && asked.errors.contains("it is not signed"), "\(asked)")
        forged.sign(with: SigningKey())
        let other = try await verify(forged, "--signers", trusted)
        #expect(other.status == 65 && other.errors.contains("it is signed by others"), "\(other)")

        // The ledger is cut after the first signature and continued: only the rest lacks a signature.
        var cut = original
        let first = try #require(cut.records.firstIndex { $0.kind == .signature })
        cut.records.removeSubrange((first + 2)...)
        let tail = try await verify(cut, "--signers", trusted)
        #expect(tail.status == 79 && tail.errors.contains("lie behind the last"), "\(tail)")

        // A retraction on this host is signed too.
        let retracted = try await Binary.run("ledger", "retract", run, "--machine", "1", "--yes")
        #expect(retracted.status == 0, "\(retracted)")
        let after = try await Binary.run("ledger", "verify", run, "--base", Binary.tinyModel, "--signers", trusted)
        #expect(after.status == 0, "\(after)")
    }

    @Test("A signing key that others can read, or that is malformed, is refused")
    func keys() async throws {
        let scratch = try Scratch()
        let made = try await Binary.run("keygen", "--signing", "\(scratch.path)/a.key")
        #expect(made.status == 0 && made.output.count == 65, "\(made)")
        let again = try await Binary.run("keygen", "--signing", "\(scratch.path)/a.key")
        #expect(again.status == 73, "\(again)")
        let list = try scratch.file("list.pub", "no key at all\n")
        let golden = try #require(Golden.all.ledgers.first)
        let found = try await Binary.run("ledger", "verify", golden.path, "--signers", list)
        #expect(found.status == 78 && found.errors.contains("list.pub:1"), "\(found)")
        let missing = try await Binary.run("ledger", "verify", golden.path, "--signers", "\(scratch.path)/none")
        #expect(missing.status == 66, "\(missing)")
    }
}
