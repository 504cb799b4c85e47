import Core
import Foundation
import TestSupport
import Testing

@Suite struct LedgerAuditTests {
    private struct Found: Decodable {
        var machine: UInt32
        var bytes: Int
        var exact: Int
        var within_one: Int
        var signed: Int
        var same_sign: Int
    }

    @Test("A machine's data are compared with the commitment that it made when it was admitted")
    func commitment() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let data = try scratch.reviews(count: 16)
        let key = "\(scratch.path)/machine.key"
        try #require(try await Binary.run("keygen", "--signing", key).status == 0)
        let address = "ipc://\(scratch.path)/socket"
        let settings = [
            "--kind", "classification", "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train", "layers.2",
            "--damped-components", "none",
            "--rounds", "4", "--samples-per-round", "16", "--learning-rate", "0.01", "--max-length", "64", "--batch-size", "2",
        ]
        async let coordinator = Binary.run(["coordinator", "--directory", run, "--listen", address] + settings)
        let worker = try await Binary.run(
            "worker", "--coordinator", address, "--model", Binary.tinyModel, "--train-file", data, "--signing-key", key, "--threads", "1")
        #expect(worker.status == 0, "\(worker)")
        let ended = try await coordinator
        #expect(ended.status == 0, "\(ended)")
        func audit(_ file: String, _ signingKey: String = key) async throws -> Binary.Outcome {
            try await Binary.run(
                "ledger", "audit", run, "--machine", "1", "--model", Binary.tinyModel, "--train-file", file, "--signing-key", signingKey, "--threads",
                "1",
                "--bytes", "20")
        }
        let same = try await audit(data)
        #expect(same.status == 0 && same.errors.contains("the 16 examples that machine 1 committed to"), "\(same)")
        // With one more example than the machine had, either the bytes or the commitment show it.
        let other = try await audit(try scratch.reviews("more.jsonl", count: 17))
        #expect(other.status == 65, "\(other)")
        try #require(try await Binary.run("keygen", "--signing", "\(scratch.path)/another.key").status == 0)
        let foreign = try await audit(data, "\(scratch.path)/another.key")
        #expect(foreign.status == 65 && foreign.errors.contains("committed to other data"), "\(foreign)")
    }

    @Test("Bytes of any precision are computed again in the precision that the ledger has", arguments: ["float", "int8"], ["float", "int8"])
    func precisions(samples: String, hiddenStates: String) async throws {
        let scratch = try Scratch()
        let data = try scratch.reviews(count: 16)
        let run = "\(scratch.path)/run"
        let cluster = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--directory", run, "--workers", "1", "--threads", "1", "--train-file", data,
            "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train", "layers.2", "--damped-components", "none",
            "--rounds", "6", "--samples-per-round", "32", "--learning-rate", "0.01", "--max-length", "64", "--evaluate-every", "0",
            "--batch-size", "4", "--precision", samples, "--prefix-precision", hiddenStates)
        #expect(cluster.status == 0, "\(cluster.errors)")
        let audit = try await Binary.run(
            "ledger", "audit", run, "--machine", "1", "--model", Binary.tinyModel, "--train-file", data, "--threads", "1", "--format", "json")
        let found = try JSONDecoder().decode(Found.self, from: Data(audit.output.utf8))
        #expect(audit.status == 0 && found.bytes == 6 * 32 && found.exact == found.bytes, "\(audit)")
    }

    @Test("A machine's bytes are reproduced exactly, those of other data are not, and reversed signs are found with 50 bytes")
    func audit() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let data = try scratch.reviews(count: 48)
        let cluster = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--directory", run, "--workers", "2", "--threads", "1", "--train-file", data,
            "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train", "layers.2", "--damped-components", "none",
            "--rounds", "12", "--samples-per-round", "64", "--digest-every", "6", "--learning-rate", "0.01", "--max-length", "64",
            "--evaluate-every", "0", "--batch-size", "4")
        #expect(cluster.status == 0, "\(cluster.errors)")
        func audit(
            _ machine: Int, _ shard: String, ledger: String? = nil, kernels: String? = nil, _ more: String...
        ) async throws -> (Int32, Found) {
            let found = try await Binary.run(
                [
                    "ledger", "audit", ledger ?? run, "--machine", "\(machine)", "--model", Binary.tinyModel, "--train-file", data, "--shard", shard,
                    "--threads", "1", "--format", "json",
                ] + more, environment: kernels.map { ["ONEBYTE_KERNELS": $0] } ?? [:])
            return (found.status, try JSONDecoder().decode(Found.self, from: Data(found.output.utf8)))
        }
        for machine in 1...2 {
            let (status, found) = try await audit(machine, "\(machine)/2")
            #expect(status == 0 && found.bytes >= 200 && found.exact == found.bytes, "\(found)")
            // Another processor's kernels round sums elsewhere.
            let (elsewhere, near) = try await audit(machine, "\(machine)/2", kernels: "portable")
            #expect(elsewhere == 0 && near.bytes >= 200 && near.within_one == near.bytes, "\(near)")
        }
        let (other, foreign) = try await audit(1, "2/2")
        #expect(other == 65 && foreign.within_one * 10 < foreign.bytes * 9, "\(foreign)")

        // The machine sends its bytes with the opposite sign.
        var ledger = try ForgedLedger([UInt8](Data(contentsOf: URL(filePath: "\(run)/ledger"))))
        for number in 0..<12 as Range<UInt32> {
            ledger.alter(round: number) { round in
                let turned = round.contributions.map { contribution in
                    contribution.machine != MachineID(2)
                        ? contribution
                        : Contribution(
                            machine: contribution.machine, firstSample: contribution.firstSample,
                            bytes: contribution.bytes.map { $0 == .min ? $0 : -$0 })
                }
                return RoundRecord(round: round.round, scaleExponent: round.scaleExponent, step: round.step, contributions: turned)
            }
        }
        let path = "\(scratch.path)/forged"
        try Data(ledger.bytes).write(to: URL(filePath: path))
        let (status, liar) = try await audit(2, "2/2", ledger: path, "--bytes", "50")
        #expect(status == 65 && liar.bytes >= 50 && liar.same_sign * 4 < liar.signed, "\(liar)")

        // The ledger says the precision, so a flag that says another one is a mistake.
        let contradicted = try await Binary.run(
            "ledger", "audit", run, "--machine", "1", "--model", Binary.tinyModel, "--train-file", data, "--shard", "1/2", "--prefix-precision",
            "float")
        #expect(contradicted.status == 64 && contradicted.errors.contains("machine 1 computed in int8"), "\(contradicted)")
        #expect(try await Binary.run("ledger", "show", run, "--records").output.contains("prefix-precision"))
        let none = try await Binary.run(
            "ledger", "audit", run, "--machine", "7", "--model", Binary.tinyModel, "--train-file", data)
        #expect(none.status == 64 && none.errors.contains("machine 7 has no bytes"), "\(none)")
    }
}
