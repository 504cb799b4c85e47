import Coordinator
import Core
import Foundation
import Testing

/// Tests of what the command line does not trust.
@Suite struct TrustCommandTests {
    @Test("A coordinator that knows the base model pins it in the join string, and another model is refused before anything is sent")
    func pinnedBase() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let address = "ipc://\(scratch.path)/socket"
        let data = try scratch.reviews()
        let coordinator = Process()
        coordinator.executableURL = URL(filePath: Binary.path)
        coordinator.arguments = [
            "coordinator", "--directory", run, "--listen", address, "--base", Binary.tinyModel, "--kind", "text", "--train", "all", "--rounds", "10",
            "--damped-components", "none", "--events",
        ]
        let output = Pipe()
        coordinator.standardOutput = output
        coordinator.standardError = FileHandle.nullDevice
        try coordinator.run()
        defer { coordinator.terminate() }
        var line = Data()
        while !line.contains(0x0a) {
            let more = output.fileHandleForReading.availableData
            guard !more.isEmpty else { break }
            line += more
        }
        let first = line.prefix { $0 != 0x0a }
        guard case .listening(let listening) = try JSONDecoder().decode(CoordinatorProgress.self, from: first).event else {
            Issue.record("not listening")
            return
        }
        let base = try #require(listening.base)
        #expect(listening.signer != nil)
        let join = "\(address)?run=\(listening.run)&base=\(base)"
        let other = try await Binary.run(
            "worker", "--coordinator", join, "--model", Binary.tinyGGUF, "--train-file", data)
        #expect(other.status == 78 && other.errors.contains("the join string names"), "\(other)")
        // Without the digest in the join string, the ledger or the coordinator names the tensors that differ.
        let unnamed = try await Binary.run("worker", "--coordinator", address, "--model", Binary.tinyGGUF, "--train-file", data)
        #expect(unnamed.status == 78, "\(unnamed)")
        let ledger = try await Binary.run("ledger", "show", run, "--records")
        #expect(ledger.output.contains("baseManifest tensors="), "\(ledger)")
        let again = try await Binary.run("coordinator", "--directory", run, "--listen", "ipc://\(scratch.path)/other", "--base", Binary.tinyGGUF)
        #expect(again.status == 75 || again.status == 78, "\(again)")
    }

    @Test("A command from a run directory's file is not run unless the user asks for it")
    func commandOfARunDirectory() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/theirs"
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        let trace = "\(scratch.path)/ran"
        let golden = try #require(Golden.all.ledgers.first { $0.name == "command" })
        try FileManager.default.copyItem(atPath: golden.path, toPath: "\(run)/ledger")
        let prompts = try scratch.file("prompts.jsonl", #"{"prompt":"film number","completion":" 1"}"# + "\n")
        let file = try scratch.file(
            "theirs/run.toml",
            """
            model = "\(Binary.tinyModel)"
            [data]
            train-file = "\(prompts)"
            [task]
            kind = "completion"
            objective-command = "touch \(trace); cat"
            """)
        for arguments in [["evaluate", prompts, "--model", Binary.tinyModel, "--config", file], ["cluster", "--resume", run]] {
            let found = try await Binary.run(arguments)
            #expect(found.status == 64, "\(found)")
        }
        #expect(!FileManager.default.fileExists(atPath: trace))
    }

    @Test("Events with impossible numbers are ignored")
    func implausibleEvents() throws {
        let counts = #"{"rounds":{"messages":0,"bytes":0},"control":{"messages":0,"bytes":0}}"#
        let traffic = #"{"received":\#(counts),"sent":\#(counts),"connections":1,"dropped":0,"malformed":0}"#
        func round(samples: String = "8", seconds: String = "1", effective: String = "1", time: String = "5") -> String {
            #"{"time":\#(time),"event":"round","round":0,"machines":2,"samples":\#(samples),"noValue":0,"saturated":0,"meanMagnitude":1,"scaleExponent":0,"learningRate":1,"seconds":\#(seconds),"effectiveRounds":\#(effective),"samplesSoFar":8,"traffic":\#(traffic)}"#
        }
        func evaluation(_ accuracy: String) -> String {
            #"{"time":5,"event":"evaluation","machine":1,"name":"a","round":0,"examples":9,"loss":1,"accuracy":\#(accuracy)}"#
        }
        func isRead(_ json: String) -> Bool { (try? JSONDecoder().decode(CoordinatorProgress.self, from: Data(json.utf8))) != nil }
        #expect(isRead(round()) && isRead(evaluation("0.5")))
        for bad in [
            round(samples: "9223372036854775807"), round(samples: "-1"), round(seconds: "1e300"), round(effective: "9223372036854775807"),
            round(time: "1e300"), evaluation("1e300"), evaluation("-1e16"),
            #"{"time":5,"event":"worker","name":"a","phase":"training","progress":1e300,"applied":0}"#,
        ] { #expect(!isRead(bad), "\(bad)") }
    }

    @Test("Only its owner can read what a run leaves")
    func modes() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let found = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--directory", run, "--workers", "1", "--threads", "1", "--train-file", scratch.reviews(),
            "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train", "layers.2", "--damped-components", "none",
            "--rounds", "1", "--samples-per-round", "4", "--max-length", "64", "--evaluate-every", "0")
        #expect(found.status == 0, "\(found.errors)")
        for name in ["ledger", "metrics.jsonl", "run.json", "signing.key", ""] {
            let mode = try FileManager.default.attributesOfItem(atPath: "\(run)/\(name)")[.posixPermissions] as? Int
            #expect(mode.map { $0 & 0o077 } == 0, "\(name): \(String(mode ?? 0, radix: 8))")
        }
    }
}
