import Core
import Foundation
import Signing
import Simulator
import Testing

@Suite struct SignatureTests {
    private struct Case: Decodable {
        var seed: String
        var key: String
        var message: String
        var signature: String
    }

    private static func bytes(_ hex: String) throws -> [UInt8] {
        try stride(from: 0, to: hex.utf8.count, by: 2).map { place in
            let start = hex.index(hex.startIndex, offsetBy: place)
            return try #require(UInt8(hex[start..<hex.index(start, offsetBy: 2)], radix: 16))
        }
    }

    @Test("Signatures equal those of RFC 8032 and of another implementation, and wrong ones are refused")
    func knownAnswers() throws {
        let cases = try JSONDecoder().decode([Case].self, from: Data(Samples.fixture("ed25519.json")))
        #expect(cases.count == 16)
        for known in cases {
            let key = try #require(SigningKey(seed: Self.bytes(known.seed)))
            let message = try Self.bytes(known.message)
            let signature = key.sign(message)
            #expect(key.publicKey.description == known.key)
            #expect(signature.bytes == (try Self.bytes(known.signature)))
            #expect(Ed25519().isValid(signature, of: message, by: key.publicKey))
            #expect(!Ed25519().isValid(signature, of: message + [0], by: key.publicKey))
            #expect(!Ed25519().isValid(signature, of: message, by: SigningKey().publicKey))
            var other = signature.bytes
            other[known.message.utf8.count % 64] ^= 4
            #expect(!Ed25519().isValid(try #require(Signature(bytes: other)), of: message, by: key.publicKey))
        }
    }

    @Test("Commitments to data equal those of a second implementation")
    func commitments() throws {
        struct Known: Decodable {
            var secret: String
            var examples: [String]
            var root: String
        }
        let cases = try JSONDecoder().decode([Known].self, from: Data(Samples.fixture("commitments.json")))
        #expect(cases.count == 10)
        for known in cases {
            let examples = try known.examples.map { try Self.bytes($0) }
            let found = DataCommitment(examples: examples, secret: try Self.bytes(known.secret))
            #expect(found.root.description == known.root && Int(found.count) == examples.count, "\(examples.count) examples")
            #expect(examples.isEmpty || DataCommitment(examples: examples, secret: [0]).root != found.root)
        }
    }

    @Test("An admission holds the key and the commitment that a report brings")
    func admission() throws {
        let data = DataCommitment(examples: [[1], [2, 3]], secret: [9])
        let key = SigningKey().publicKey
        let admission = LedgerRecord.admission(
            Admission(
                machine: MachineID(3), unixSeconds: 5, trains: true, evaluates: false, name: "a", session: Samples.session(1).fingerprint,
                publicKey: [], signingKey: key, data: data))
        #expect(try LedgerRecord(kind: admission.kind.rawValue, payload: admission.payload()) == admission)
        for cut in 1...33 {
            // The record is whole without the commitment, or without both fields, and at no place in between.
            let payload = Array(admission.payload().dropLast(cut))
            #expect((try? LedgerRecord(kind: 4, payload: payload)) == nil || cut == 33, "\(cut)")
        }
        let report = Message.digestReport(
            DigestReport(
                position: 5, round: 2, digest: .sha256([1]), chain: 7,
                proof: ProofNonce(bytes: [UInt8](repeating: 5, count: 16)).map { .init(nonce: $0, answer: .sha256([2])) }, data: data))
        #expect(try Message(decoding: report.encoded()) == report)
    }

    @Test("A signing key never prints its secret, and only the owner may read its file")
    func secrets() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).key").path
        defer { for end in ["", ".pub"] { try? FileManager.default.removeItem(atPath: path + end) } }
        let key = try SigningKey.kept(in: path)
        let secret = try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .newlines)
        #expect(secret.count == 64 && secret != "\(key.publicKey)")
        var printed = ""
        dump(key, to: &printed)
        #expect(!"\(key) \(String(reflecting: key)) \(printed)".contains(secret.prefix(16)))
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        #expect(try SigningKey.kept(in: path).publicKey == key.publicKey)
        #expect(throws: SigningKeyError.self) { try SigningKey().write(to: path) }
        #expect(try SignerKey.names(contentsOf: path + ".pub") == [key.publicKey: ""])
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
        #expect(throws: SigningKeyError.self) { try SigningKey(contentsOf: path) }
    }

    @Test("A ledger that another implementation signed verifies, bit for bit, and no longer once it is altered")
    func signedFixture() throws {
        let bytes = try Samples.fixture("signed.bin")
        let entries = try Samples.entries(of: bytes)
        #expect(entries.allSatisfy { $0.format == 2 })
        let records = entries.dropFirst().map(\.record)
        guard case .spec(let spec)? = entries.first?.record else { return }
        #expect(try Samples.ledger(RunSpec(canonicalBytes: spec), Array(records), format: 2) == bytes)
        func found(_ records: [LedgerRecord]) throws -> LedgerVerifier {
            let entries = try Samples.entries(of: Samples.ledger(RunSpec(canonicalBytes: spec), records, format: 2))
            var verifier = try LedgerVerifier(first: entries[0], checker: Ed25519())
            for entry in entries.dropFirst() { try verifier.fold(entry) }
            return verifier
        }
        func signatureFaults(_ verifier: LedgerVerifier) -> Int { verifier.findings.count { $0.reason.contains("signature") } }
        let whole = try found(records)
        #expect(signatureFaults(whole) == 0, "\(whole.findings)")
        #expect(whole.vouchers.map(\.machine) == [MachineID(1), MachineID(300), nil, nil])
        #expect(whole.vouchers.last?.coversEnd == true && whole.vouchers.first?.records == 7)
        // With another byte in the first round, every signature is of another history.
        let forged = records.map { record -> LedgerRecord in
            guard case .round(let round) = record, round.round == 0 else { return record }
            let contributions = round.contributions.map {
                Contribution(machine: $0.machine, firstSample: $0.firstSample, bytes: $0.bytes.map { $0 == 1 ? 2 : $0 })
            }
            return .round(RoundRecord(round: 0, scaleExponent: round.scaleExponent, step: round.step, contributions: contributions))
        }
        #expect(signatureFaults(try found(forged)) == 4)
    }

    @Test("A ledger of format 1 has no signatures, and a coordinator adds none")
    func format1() throws {
        let signature = LedgerRecord.signature(LedgerSignature(signer: SigningKey().publicKey, signature: SigningKey().sign([])))
        #expect(throws: LedgerError.self) { try Samples.entries(of: Samples.ledger(Samples.spec(), [signature], format: 1)) }
        #expect(try Samples.entries(of: Samples.ledger(Samples.spec(), [signature], format: 2)).count == 2)
        let old = try Samples.summary(of: Samples.ledger(Samples.spec(), [], format: 1))
        #expect(CoordinatorStateMachine(ledger: old, notary: SigningKey(), at: Timestamp(nanoseconds: 1)).signer == nil)
        let next = LedgerFormat.version + 1
        #expect(throws: LedgerError.version(next)) { try Samples.entries(of: Samples.ledger(Samples.spec(), [], format: next)) }
    }

    @Test("The coordinator signs at each digest and at the end, machines countersign, and wrong countersignatures are left out")
    func coordinator() throws {
        let keys = (1...2).map { _ in SigningKey() }
        let keeper = SigningKey()
        var run = try CoordinatorHarness(Samples.spec(rounds: 3, samplesPerRound: 4, minimumWorkers: 2), notary: keeper)
        for peer: UInt8 in 1...2 { run.join(peer, key: keys[Int(peer) - 1]) }
        for _ in 0..<3 { for peer: UInt8 in 1...2 { try run.answer(peer, machine: UInt32(peer)) } }
        // At the digest after round 3 the second machine's countersignature is of another digest.
        let position = run.machine.ledger.parameters
        for peer: UInt8 in 1...2 {
            let signed = SignedStatement.parameters(peer == 1 ? CoordinatorHarness.digest : .sha256([0]), at: position)
            run.tell(
                .received(
                    .digestReport(
                        DigestReport(
                            position: position.records, round: 3, digest: CoordinatorHarness.digest, chain: position.shortChain,
                            signature: keys[Int(peer) - 1].sign(signed))), from: PeerID([peer])))
        }
        for peer: UInt8 in 1...2 { run.tell(.received(run.heartbeat(peer), from: PeerID([peer]))) }
        let entries = try Samples.entries(of: run.disk)
        var verifier = try LedgerVerifier(first: entries[0], checker: Ed25519())
        for entry in entries.dropFirst() { try verifier.fold(entry) }
        #expect(verifier.findings.isEmpty, "\(verifier.findings)")
        #expect(verifier.vouchers.filter { $0.machine != nil }.map(\.signer) == [keys[0].publicKey])
        #expect(verifier.vouchers.filter { $0.signer == keeper.publicKey }.last?.coversEnd == true)
        #expect(run.notices.contains { if case .warning(let text) = $0 { text.contains("countersignature") } else { false } })
        #expect(run.sent.contains { if case .welcome(let welcome) = $0.message { welcome.signer == keeper.publicKey } else { false } })
    }

    @Test("Messages of an earlier version are understood: no key and no precision in the hello, no signature in the report")
    func earlierVersions() throws {
        let hello = Message.hello(Hello(session: Samples.session(1), name: "a", trains: true, evaluates: false, software: "old"))
        let text = String(decoding: hello.encoded(), as: UTF8.self)
        #expect(!text.contains("signingKey") && !text.contains("precision"))
        #expect(try Message(decoding: hello.encoded()) == hello)
        let report = DigestReport(position: 5, round: 2, digest: .sha256([1]), chain: 7)
        #expect(try Message(decoding: Message.digestReport(report).encoded()) == .digestReport(report))
        let signed = DigestReport(position: 5, round: 2, digest: .sha256([1]), chain: 7, signature: SigningKey().sign([1]))
        #expect(try Message(decoding: Message.digestReport(signed).encoded()) == .digestReport(signed))
        #expect(throws: WireError.self) { try Message(decoding: Message.digestReport(signed).encoded().dropLast()) }
    }
}
