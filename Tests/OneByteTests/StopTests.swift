import Core
import Foundation
import Testing

/// A worker that is told to stop in the midst of long work ends within the time that docs/reference/protocol.md, "The end", says.
@Suite(.serialized) struct StopTests {
    /// Five seconds for the samples in hand and half a second for the rest, with some time for a busy machine.
    private static let atMost = Duration.seconds(9)

    private struct Running {
        let coordinator: Process
        let worker: Process
        let run: String
    }

    /// Starts a coordinator and a worker on a tiny model.
    private func start(_ scratch: borrowing Scratch, data: String, spec: [String], worker: [String]) throws -> Running {
        let run = "\(scratch.path)/run"
        let address = "ipc://\(scratch.path)/socket"
        func process(_ arguments: [String]) throws -> Process {
            let process = Process()
            process.executableURL = URL(filePath: Binary.path)
            process.arguments = arguments
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            return process
        }
        let coordinator = try process(["coordinator", "--directory", run, "--listen", address] + spec)
        return Running(
            coordinator: coordinator,
            worker: try process(
                ["worker", "--coordinator", address, "--model", Binary.tinyModel, "--train-file", data, "--threads", "1"] + worker), run: run)
    }

    /// Sends SIGTERM, and returns how long the process took to end.
    private func stop(_ process: Process) async throws -> Duration {
        let start = ContinuousClock.now
        kill(process.processIdentifier, SIGTERM)
        while process.isRunning, ContinuousClock.now - start < .seconds(60) { try await Task.sleep(for: .milliseconds(20)) }
        return ContinuousClock.now - start
    }

    private func wait(for condition: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(120)
        while try await !condition() {
            try #require(ContinuousClock.now < end)
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    @Test("SIGTERM in the midst of a batch of minutes, through all layers, ends a worker in seconds")
    func longBatch() async throws {
        let scratch = try Scratch()
        let text = Array(repeating: "a film", count: 12).joined(separator: " ")
        let data = try scratch.file(
            "long.jsonl", (0..<600).map { #"{"text":"\#(text) number \#($0)","label":\#($0 % 2)}"# + "\n" }.joined())
        // A worker looks up after 352 samples here, and each is 1,024 passes over a text.
        let running = try start(
            scratch, data: data,
            spec: [
                "--kind", "classification", "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train", "all",
                "--damped-components", "none", "--rounds", "10", "--samples-per-round", "352", "--batch-size", "512", "--evaluate-every", "0",
                "--learning-rate", "1e-5",
            ], worker: [])
        defer { running.coordinator.terminate() }
        try await wait { try await Binary.run("ledger", "show", running.run, "--records").output.contains("admission") }
        try await Task.sleep(for: .seconds(2))
        let taken = try await stop(running.worker)
        #expect(taken < Self.atMost, "\(taken)")
        #expect(taken > .seconds(3), "the batch was in hand: \(taken)")
        #expect(running.worker.terminationReason == .exit && running.worker.terminationStatus == 0, "\(running.worker.terminationStatus)")
    }

    @Test("SIGTERM while a program scores a worker's texts ends both in seconds")
    func scoring() async throws {
        let scratch = try Scratch()
        let prompts = try scratch.file("prompts.jsonl", (0..<24).map { #"{"prompt":"film number \#($0)","completion":" 1"}"# + "\n" }.joined())
        let pid = "\(scratch.path)/pid"
        let running = try start(
            scratch, data: prompts,
            spec: [
                "--kind", "completion", "--objective", "command", "--objective-max-tokens", "3", "--train", "layers.2", "--damped-components",
                "none", "--rounds", "10", "--samples-per-round", "8", "--evaluate-every", "0",
            ],
            worker: [
                "--objective-timeout", "600", "--objective-command", "echo $$ > '\(pid).part'; mv '\(pid).part' '\(pid)'; exec sleep 600",
            ])
        defer { running.coordinator.terminate() }
        try await wait { FileManager.default.fileExists(atPath: pid) }
        let scorer = try #require(pid_t(try String(contentsOfFile: pid, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)))
        try await wait { try await Binary.run("ledger", "show", running.run, "--records").output.contains("admission") }
        try await Task.sleep(for: .seconds(1))
        let taken = try await stop(running.worker)
        #expect(taken < Self.atMost, "\(taken)")
        #expect(running.worker.terminationReason == .exit && running.worker.terminationStatus == 0, "\(running.worker.terminationStatus)")
        #expect(kill(scorer, 0) == -1 && errno == ESRCH)
    }
}
